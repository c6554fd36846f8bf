"""A process that works on a workspace until somebody kills it. Run by the kill tests as a script.

Each acknowledged step is printed after the call that made it has returned, so that the tests can hold
what was promised against what is there.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from noria.bootstrap import open_workspace
from noria.config import Project
from noria.governance.facts import ApprovalGiven
from noria.store import failpoint
from noria.store.collect import DAY_S, collect
from noria.store.database import Database, database_url
from noria.store.leases import Leases
from noria.store.linelog import LineWriter
from noria.store.replay import rebuild
from noria.store.seen import Seen
from noria.store.slices import load_slices
from noria.store.start import start
from noria.store.tree import Entry, Tree, write_tree
from noria.store.workspace import Workspace

GARBAGE_BYTES = 50_000
LOADED = ("numpy", "pyarrow.parquet", "pandas", "noria.engines.objects.file", "noria.store.chunks", "noria.store.packs")
"""What the work takes up late, and what took up more of a victim's life than its work did."""


ROWS = [b",%d,%d\n" % (row, row * row) for row in range(70_000)]


def acknowledge(*words: object) -> None:
    print(*words, flush=True)


def work(root: Path, rounds: int) -> None:
    """Objects, facts, jobs, leases, lines, metrics, a rebuild: every store operation, in rounds."""
    ws = open_workspace(project=Project(name="victim", root=root))
    acknowledge("open")
    lines = LineWriter(root / "lines.log")
    for number in range(rounds):
        content = f"{ws.ledger.head()} {number} ".encode() * 1000
        digest = ws.objects.put_bytes(content)
        acknowledge("object", digest)
        with ws.ledger.transaction() as tx:
            for role in ("one", "two"):
                given = tx.append(ApprovalGiven(about="a", digest=digest, role=role), outputs=[("content", digest)])
        acknowledge("fact", given.seq)
        key = f"job-{number}"
        ws.jobs.enqueue("work", {"number": number}, key=key)
        acknowledge("job", key)
        if ws.jobs.acquire("owner", owner="victim", ttl_s=0.05):
            job = ws.jobs.claim(["work"], owner="victim", lease_s=0.05)
            if job is not None:
                ws.jobs.finish(job.id, "victim")
                acknowledge("finished", job.id)
        with_batches(ws, root, number)
        lines.append([b"first", f"line {number}".encode()])
        acknowledge("line", f"line {number}")
        stream = f"run/r{number}"
        if not any(fact.payload.about == stream for fact in ws.ledger.facts(subject=stream)):
            with_metrics(ws, stream)
    sweep(ws)
    rebuild(ws.ledger)
    acknowledge("done")


def with_batches(ws: Workspace, root: Path, number: int) -> None:
    """Small objects in a pack, a large one in chunks, a tree of them; all under a lease, then a fact."""
    large = root / "large.csv"
    large.write_bytes((b"%d" % number).join([b"", *ROWS]))
    with Leases(ws.project.state / "leases").hold("victim"):
        names = ws.objects.put_many([f"{ws.ledger.head()} {number} {item}".encode() * 99 for item in range(40)])
        names.append(ws.objects.put_file(large))
        entries = [Entry(f"f{place:02d}", name, 1) for place, name in enumerate(names)]
        tree = write_tree(ws.objects, Tree(tuple(entries)))
        with ws.ledger.transaction() as tx:
            tx.append(ApprovalGiven(about="tree", digest=tree, role="r"), outputs=[("content", tree)])
    acknowledge("tree", tree)


def sweep(ws: Workspace) -> None:
    """Garbage is made and taken away, as if each collection came ten days after the one before."""
    leases = Leases(ws.project.state / "leases")

    def roots() -> list[str]:
        return [name for name, size in ws.objects.store.list() if size != GARBAGE_BYTES]

    ws.objects.put_many([os.urandom(GARBAGE_BYTES) for _ in range(240)])
    for days in (10, 20):
        collect(ws.objects, roots, leases, now=time.time() + days * DAY_S, dry_run=False)
        acknowledge("swept", days)


def with_metrics(ws: Workspace, stream: str) -> None:
    writer = ws.series.writer(stream)
    writer.log("loss", 0.5)
    writer.close()
    sealed = ws.series.seal(stream)
    assert sealed is not None
    with ws.ledger.transaction() as tx:
        tx.append(ApprovalGiven(about=stream, digest=sealed.digest, role="metrics"))
    ws.series.discard(stream)


def migrate(root: Path, migrations: Path) -> None:
    """Bring the ledger to revision 0003 of the test's own migrations."""
    project = Project(name="victim", root=root)
    database = Database(database_url("", project.state))
    slices = load_slices()
    start(database, slices, Seen(project.state / "seen"), "victim", schema="0004", migrations=migrations)
    acknowledge("done")


def run(arguments: list[str]) -> None:
    if arguments[0] == "work":
        work(Path(arguments[1]), int(arguments[2]))
    elif arguments[0] == "open":
        open_workspace(project=Project(name="victim", root=Path(arguments[1])))
        acknowledge("done")
    else:
        migrate(Path(arguments[1]), Path(arguments[2]))


def serve() -> None:
    """Fork a victim for each line of JSON; print how it ended.

    A line is [output file, seconds to live or null, the failpoint that is armed or "", arguments…].

    The libraries are loaded once, so that a kill at a random moment hits the work and not the imports.
    """
    load_slices()
    for name in LOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        output, lifetime_s, armed, *arguments = json.loads(line)
        child = os.fork()
        if child == 0:
            handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            code = 1
            os.environ["NORIA_FAILPOINT"] = armed
            importlib.reload(failpoint)  # it reads its variable when it is loaded
            try:
                run(arguments)
                code = 0
            finally:
                if code:
                    traceback.print_exc()
                os._exit(code)
        if lifetime_s is not None:
            time.sleep(lifetime_s)
            os.kill(child, signal.SIGKILL)
        acknowledge(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        run(sys.argv[1:])
