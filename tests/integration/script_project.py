"""A folder with a table, and scripts that run in it by python and by Noria: what the tests of scripts share."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import warm
from noria.bootstrap import open_workspace
from noria.scripts import records as scripts
from noria.store.workspace import Workspace
from noria.tracking import records as tracking
from noria.tracking.records import RunRecord

TABLE = """
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
rows = pd.read_csv("data.csv")
X_train, X_test, y_train, y_test = train_test_split(rows[["age", "fee"]], rows["churned"], random_state=0)
"""


def made_in(tmp_path: Path) -> Path:
    """A project with data.csv: 400 rows of age and fee, and churned, which follows from them."""
    chance = np.random.default_rng(0)
    age, fee = chance.integers(18, 80, 400), chance.uniform(5, 60, 400).round(2)
    churned = ((age / 80 + fee / 60 + chance.normal(0, 0.3, 400)) > 1.2).astype(int)
    place = tmp_path / "a project"
    place.mkdir()
    pd.DataFrame({"age": age, "fee": fee, "churned": churned}).to_csv(place / "data.csv", index=False)
    (place / "noria.toml").write_text('[project]\nname = "scripts"\n')
    return place


def notebook(path: Path, cells: list[str]) -> bytes:
    """A notebook of a heading and some code cells; its bytes."""
    code = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "source": cell, "outputs": [], "execution_count": None}
        for n, cell in enumerate(cells)
    ]
    document: dict[str, Any] = {
        "cells": [{"cell_type": "markdown", "id": "top", "metadata": {}, "source": "# A heading"}, *code],
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(document))
    return path.read_bytes()


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NORIA_")}
    return {**kept, **more}


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )


def noria(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return warm.noria(*words, cwd=folder, env=environment(**more))


def both(folder: Path, text: str, *arguments: str, name: str = "train.py") -> subprocess.CompletedProcess[str]:
    """Run a script by python and by Noria; what it prints must be the same."""
    (folder / name).write_text(text)
    plain = python(folder, name, *arguments)
    found = noria(folder, "run", name, *(["--", *arguments] if arguments else []))
    assert found.stdout.startswith(plain.stdout), found.stdout + found.stderr
    assert found.stderr.startswith(plain.stderr), found.stderr
    assert found.stderr.count("Traceback") == plain.stderr.count("Traceback")
    assert (found.returncode in (0, 1)) == (plain.returncode == 0), found.stderr
    if plain.returncode:
        assert found.returncode == 4
    return found


def last(folder: Path) -> tuple[Workspace, RunRecord, Mapping[str, Any]]:
    """The newest run, and the document of what its script did."""
    ws = open_workspace(folder)
    with ws.ledger.read() as tx:
        run = tracking.newest(tx)
        assert run is not None
        found = scripts.captured(tx, run.run)
    return ws, run, {} if found is None else ws.objects.get_json(found.document)


def sha(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """`noria up` on a free port: its address."""
    server = subprocess.Popen(
        [sys.executable, "-m", "noria", "up", "--port", "0"],
        cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while True:
            assert server.poll() is None
            assert time.monotonic() < deadline
            try:
                url = str(json.loads((folder / ".noria" / "up.json").read_text())["url"])
                with urllib.request.urlopen(f"{url}/healthz", timeout=2):
                    break
            except (OSError, ValueError):
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait(60)


def predicted(url: str, model: str, row: dict[str, Any], name: str) -> float:
    """The score that a server gives a row; `name` is the id of the request."""
    body = json.dumps({"id": name, "row": row}).encode()
    request = urllib.request.Request(f"{url}/predict/{model}", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return float(json.load(answer)["score"])
