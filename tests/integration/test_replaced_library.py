"""A project that replaces functions of the standard library that Noria calls too: the error names what it replaced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = """
import builtins, hashlib, json, os, textwrap, threading, time, unittest.mock, uuid
import noria as nr

def raises(*given, **named):
    raise RuntimeError("replaced")

def gives(*given, **named):
    return None

LINE

@nr.step
def one(x: int = 1) -> int:
    return x

@nr.pipeline
def flow():
    one()
"""
AT = TEXT.splitlines().index("LINE") + 1


def noria(root: Path, line: str, *more: str) -> subprocess.CompletedProcess[str]:
    (root / "noria.toml").write_text('[project]\nname = "t"\n')
    (root / "pipeline.py").write_text(TEXT.replace("LINE", line))
    command = [sys.executable, "-m", "noria", "run", *more]
    environment = {name: value for name, value in os.environ.items() if name != "NORIA_DEBUG"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("json.dumps = raises", "json.dumps with raises"),
        ("json.dumps = gives", "json.dumps with gives"),
        ("json.loads = unittest.mock.Mock(return_value=None)", "json.loads with a Mock"),
        ("textwrap.dedent = raises", "textwrap.dedent with raises"),
        ('setattr(hashlib, "sha256", raises)', "hashlib.sha256 with raises"),
        ("os.path.join = raises", "os.path.join with raises"),
        ("time.time = raises", "time.time with raises"),
        ("builtins.open = raises", "open with raises"),
        ("builtins.isinstance = raises", "isinstance with raises"),
        ("uuid.uuid4 = raises", "uuid.uuid4 with raises"),
        ("threading.Thread = raises", "threading.Thread with raises"),
    ],
)
def test_an_error_that_comes_of_a_replaced_function_names_it_and_its_line(line: str, what: str, tmp_path: Path) -> None:
    done = noria(tmp_path, line)
    assert done.returncode == 4, done.stderr
    told, where, following = done.stderr.splitlines()
    assert told.startswith(f"error: the project replaced {what}, and noria, which calls that, failed: ")
    assert where == f"where: {tmp_path}/pipeline.py:{AT}: {line}"
    assert following.startswith("next:  keep it to your own code; the traceback is in ")
    assert "Traceback" in Path(following.rpartition(" ")[2]).read_text()


def test_it_is_told_as_json_too(tmp_path: Path) -> None:
    done = noria(tmp_path, "json.dumps = raises", "--json")
    told = json.loads(done.stdout)["error"]
    assert (done.returncode, told["code"], "json.dumps with raises" in told["message"]) == (4, "project", True)


def test_a_clock_that_stands_still_is_not_the_runs(tmp_path: Path) -> None:
    done = noria(tmp_path, "time.monotonic = time.perf_counter = lambda: 0.0", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["seconds"] > 0
