"""Worker processes that a step forks or spawns: what they read is seen as if the step itself read it."""

from __future__ import annotations

from edits.case import Case, program

HERE = "from pathlib import Path\nHERE = Path(__file__).parent\n"
READER = HERE + "def get(n):\n    return (HERE / ''.join([n, '.txt'])).read_text()\n"
IMPORTER = "def get(n):\n    import importlib\n    return importlib.import_module(n.lower()).V\n"
GRID = """
import numpy as np
from inner import Shift
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

@nr.step
def work() -> object:
    x = np.arange(80.0).reshape(40, 2) % 7
    return cross_val_score(make_pipeline(Shift(), LogisticRegression()), x, x[:, 0] > 3, cv=2, n_jobs=2).tolist()
"""
SHIFT = """
from pathlib import Path
from sklearn.base import BaseEstimator

class Shift(BaseEstimator):
    def fit(self, x, y=None):
        return self

    def transform(self, x):
        return x % float((Path(__file__).parent / ''.join(['c', '.txt'])).read_text())
"""
POOL = """
import multiprocessing as mp
from inner import get

@nr.step
def work() -> object:
    with mp.get_context('%s').Pool(1) as pool:
        return pool.map(get, ['c', 'c'])
"""
FUTURES = """
import concurrent.futures as futures
import multiprocessing as mp
from inner import get

@nr.step
def work() -> object:
    with futures.ProcessPoolExecutor(1, mp_context=mp.get_context('spawn')) as pool:
        return list(pool.map(get, ['C', 'C']))
"""
JOBLIB = """
from inner import get
from joblib import Parallel, delayed

@nr.step
def work() -> object:
    return Parallel(n_jobs=2)(delayed(get)(n) for n in ['c', 'c'])
"""
FORK = """
import os
from inner import get

@nr.step
def work() -> object:
    out, into = os.pipe()
    if os.fork() == 0:
        os.write(into, get('c').encode())
        os._exit(0)
    os.wait()
    return os.read(out, 100).decode()
"""
TXT = {"c.txt": "1\n"}
EDIT = {"c.txt": ("1", "2")}
CASES: dict[str, Case] = {
    "file read in a forked pool": Case(program(POOL % "fork", inner=READER) | TXT, EDIT),
    "file read in a spawned pool": Case(program(POOL % "spawn", inner=READER) | TXT, EDIT),
    "file read below a fork server": Case(program(POOL % "forkserver", inner=READER) | TXT, EDIT),
    "file read by a fork": Case(program(FORK, inner=READER) | TXT, EDIT),
    "file read by joblib's workers": Case(program(JOBLIB, inner=READER) | TXT, EDIT),
    "file that joblib's workers do not read": Case(
        program(JOBLIB, inner=READER) | TXT | {"d.txt": "1"}, {"d.txt": ("1", "2")}
    ),
    "module imported in a spawned worker": Case(
        program(FUTURES, inner=IMPORTER, c="V = 1\n"), {"c.py": ("V = 1", "V = 2")}
    ),
    "module imported by joblib's workers": Case(
        program(JOBLIB, inner=IMPORTER, c="V = 1\n"), {"c.py": ("V = 1", "V = 2")}
    ),
    "file read by a transformer in a cross-validation": Case(
        program(GRID, inner=SHIFT) | {"c.txt": "3"}, {"c.txt": ("3", "5")}
    ),
}
