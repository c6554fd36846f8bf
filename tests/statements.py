"""Makes `src/noria/store/sql/plans.jsonl`: how SQLite runs the statements of ordinary commands.

    python tests/statements.py        (make statements)

Commands are run in a throw-away project, and every query that a slice's records have is asked of an empty ledger,
while each plan is made anew by SQLAlchemy and noted. What is not met here is planned when it is first used, which
costs that command the import of SQLAlchemy and nothing else; so the list need not be whole.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import json
import os
import random
import runpy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from noria import plugins
from noria.faces.cli.main import run
from noria.governance.audit import verify
from noria.store.replay import difference, rebuild
from noria.store.sql.plans import FILE, plans
from noria.store.workspace import Workspace
from noria.testing import open_memory, random_payload

__all__ = ["lines"]

PIPELINE = """
import noria

@noria.step
def first() -> int:
    return 1

@noria.step
def second(value: int) -> int:
    return value + 1

@noria.pipeline
def whole():
    second(first())
"""
SCRIPT = """
import noria

with noria.start_run("by hand", params={"rate": 0.1}, tags={"kind": "small"}, note="a note") as run:
    for step in range(3):
        noria.log(loss=1.0 / (step + 1), step=step)
"""
COMMANDS = (
    "data add rows.csv", "data add rows.csv", "data add folder", "data status", "data list", "data log rows",
    "data show rows", "data tag rows good", "data checkout rows@1", "data diff rows@1 rows@1",
    "data remove-tag rows good", "run", "run", "runs", "runs", "status", "why", "runs",
    "experiments list", "tracking list", "pipeline logs", "audit verify", "admin rebuild", "monitoring alerts",
    "schedule list", "search list", "registry list", "token list",
)  # fmt: skip
"""What is typed, in this order; what a command refuses is no matter."""


VALUES: dict[str, Any] = {
    "str": "a", "int": 1, "float": 1.0, "bool": True, "str | None": "a", "int | None": 1, "float | None": 1.0,
    "Sequence[str]": ["a"], "Sequence[int]": [1], "Sequence[str] | None": ["a"], "Sequence[int] | None": [1],
    "Iterable[str]": ["a"], "Collection[str]": ["a"], "Set[str]": {"a"}, "list[str]": ["a"],
}  # fmt: skip
"""What a query of records is asked with, by what it says that it takes."""


def lines() -> list[str]:
    """The lines of the file: sorted, each a plan under the digest of its key."""
    known = plans()
    assert known.wanted is None, "somebody notes already"
    known.forget()
    known.wanted = {}
    try:
        with tempfile.TemporaryDirectory(prefix="noria-statements-") as folder:
            _commands(Path(folder))
        with tempfile.TemporaryDirectory(prefix="noria-statements-") as folder:
            ws = open_memory(root=Path(folder))
            _facts(ws)
            _questions(ws)
            _queue(ws)
            ws.ledger.database.close()
        found = known.wanted
    finally:
        known.wanted = None
        known.forget()
    return sorted(json.dumps([name, *told], separators=(",", ":")) for name, told in found.items())


def _commands(folder: Path) -> None:
    """Run the commands, in this process; each may be refused."""
    files = {"noria.toml": '[project]\nname = "statements"\n', "pipeline.py": PIPELINE, "script.py": SCRIPT}
    files |= {"rows.csv": "id,x\n1,2\n2,3\n", "folder/a.txt": "a", "folder/b.txt": "b"}
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    said = io.StringIO()
    for words in COMMANDS:
        with contextlib.chdir(folder), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            ended = run(words.split())
            print(f"-- {words}: {ended}")
    with contextlib.chdir(folder):
        runpy.run_path("script.py")
    if os.environ.get("SHOW"):
        print(said.getvalue())


def _facts(ws: Workspace) -> None:
    """Every kind of fact, some times, folded; and then the records made anew, compared and verified."""
    for kind in sorted(ws.ledger.slices.kinds):
        chance = random.Random(kind)
        for count in (1, 1, 3):
            with ws.ledger.transaction() as tx:
                for _ in range(count):
                    payload = random_payload(chance, ws.ledger.slices.kinds, kind)
                    tx.append(payload, inputs=[("thing", "thing/1")], actor="user:someone")
    assert rebuild(ws.ledger)
    assert difference(ws.ledger) == []
    assert verify(ws).ok
    for asked in ({}, {"kind": "a"}, {"subject": "a"}, {"ref": "a"}, {"kind": "a", "subject": "b"}):
        ws.ledger.facts(**asked)
    ws.ledger.bodies()
    ws.ledger.checkpoint()


def _questions(ws: Workspace) -> None:
    """Every query of every slice's records, with values of the types that it takes."""
    for name in plugins.names("slice"):
        records = importlib.import_module(f"{plugins.load('slice', name).__name__}.records")
        for query in (getattr(records, each) for each in records.__all__):
            if not inspect.isfunction(query):
                continue
            for given in _arguments(query):
                with ws.ledger.read() as reader:
                    query(reader, **given)


def _arguments(query: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """Arguments for a query, but the reader: what it must have, each thing that it may have, and all of them."""
    first, *others = inspect.signature(query).parameters.values()
    if first.annotation != "Reader":
        return
    values = {each.name: VALUES.get(str(each.annotation)) for each in others}
    needed = {each.name for each in others if each.default is inspect.Parameter.empty}
    if any(values[name] is None for name in needed):
        return
    known = [name for name, value in values.items() if value is not None]
    yield {name: values[name] for name in needed}
    for extra in [{name} for name in known if name not in needed] + [set(known)]:
        yield {name: values[name] for name in known if name in needed | extra}


def _queue(ws: Workspace) -> None:
    """What goes on in the queue."""
    jobs = ws.jobs
    for key in ("a", "a", "b"):
        jobs.enqueue("work", {}, key=key)
    for is_retried in (True, False):
        job = jobs.claim(["work"], owner="me")
        assert job is not None, "two wait"
        jobs.beat(job.id, "me")
        jobs.fail(job.id, "me", "it broke", retry=is_retried)
    jobs.enqueue("work", {}, key="c")
    job = jobs.claim(["work", "other"], owner="me")
    assert job is not None, "one waits"
    jobs.finish(job.id, "me")
    assert jobs.find("c") is not None
    assert len(jobs.waiting()) == 1
    for owner in ("me", "me"):
        assert jobs.acquire("run/1", owner=owner, ttl_s=9)
    jobs.leases("run/")
    jobs.forget("run/")
    jobs.release("run/1", "me")


if __name__ == "__main__":
    FILE.write_text("".join(f"{line}\n" for line in lines()), encoding="utf-8")
