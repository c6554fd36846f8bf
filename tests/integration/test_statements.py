"""Commands run without SQLAlchemy: what is shipped are the plans that it makes, and ordinary ones need no other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import statements
from noria.store.sql.plans import DIGEST_BYTES, FILE

SPY = (
    "import atexit, sys\n"
    "atexit.register(lambda: print('sqlalchemy' in sys.modules, file=open('spied', 'a')))\n"
    "from noria.__main__ import main\n"
    "sys.argv[0] = 'noria'\n"
    "main()\n"
)
CLIENT = (
    "import sys, noria\n"
    "with noria.start_run('by hand', params={'rate': 0.1}) as run:\n"
    "    noria.log({'loss': 0.5})\n"
    "print('sqlalchemy' in sys.modules, file=open('spied', 'a'))\n"
)
PROJECT = {
    "noria.toml": '[project]\nname = "small"\n',
    "rows.csv": "id,x\n1,2\n2,3\n",
    "pipeline.py": statements.PIPELINE,
}


def project(folder: Path) -> Path:
    for name, content in PROJECT.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def test_the_shipped_plans_are_those_that_sqlalchemy_makes_now() -> None:
    shipped = {line[2 : 2 + 2 * DIGEST_BYTES]: line for line in FILE.read_text(encoding="utf-8").splitlines()}
    made = {line[2 : 2 + 2 * DIGEST_BYTES]: line for line in statements.lines()}
    hint = "a table or a query has changed: make statements"
    assert sorted(shipped) == sorted(made), hint
    assert shipped == made, hint
    assert list(shipped.values()) == sorted(shipped.values())


@pytest.mark.parametrize("client", [False, True])
def test_a_fresh_project_is_filled_run_and_read_without_sqlalchemy(tmp_path: Path, client: bool) -> None:
    folder = project(tmp_path)
    commands = [[SPY, *words.split()] for words in ("data add rows.csv", "run", "run", "status", "runs", "why")]
    commands = [[CLIENT]] * 2 if client else commands
    for words in commands:
        done = subprocess.run(
            [sys.executable, "-c", *words], cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
    assert (folder / "spied").read_text().split() == ["False"] * len(commands)


def test_without_the_shipped_plans_commands_do_the_same(tmp_path: Path) -> None:
    folder = project(tmp_path)
    lacking = f"from noria.store.sql import plans; plans.FILE = plans.Path({str(tmp_path / 'none')!r})\n"
    for words in ("data add rows.csv", "run", "status"):
        done = subprocess.run(
            [sys.executable, "-c", lacking + SPY, *words.split()],
            cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert (folder / "spied").read_text().split() == ["True"] * 3
    found = subprocess.run(
        [sys.executable, "-m", "noria", "runs", "--json"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert json.loads(found.stdout)


def test_a_forked_process_neither_uses_nor_closes_the_connections_of_the_other(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from noria.testing import open_memory\n"
        "from pathlib import Path\n"
        "ws = open_memory(root=Path(sys.argv[1]))\n"
        "database = ws.ledger.database\n"
        "ws.ledger.head()\n"
        "before = set(map(id, database._pool._idle))\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    ws.ledger.head()\n"
        "    inside = set(map(id, database._pool._idle))\n"
        "    os._exit(len(before & inside) + 2 * len(database._left) + 4 * (not before))\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2\n"
        "assert set(map(id, database._pool._idle)) == before and ws.ledger.head() == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
