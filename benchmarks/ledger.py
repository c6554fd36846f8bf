"""Rates of the ledger: facts one a transaction and in batches, reading, verifying, folding again.

Floor: plain rows in the same SQLite, with the same durability and transaction size.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from noria.data.facts import DatasetCommitted
from noria.governance.audit import verify
from noria.store.replay import rebuild
from noria.store.workspace import Workspace
from noria.testing.workspace import open_memory

SINGLE = 300
BATCHES = 10
BATCH = 200


def rate(work: Callable[[], int]) -> float:
    """How many a second."""
    start = time.perf_counter()
    count = work()
    return count / (time.perf_counter() - start)


def fact(number: int) -> DatasetCommitted:
    """A fact as `noria data add` appends it."""
    return DatasetCommitted(name=f"set{number % 50}", version=number, tree=f"sha256:{number:064x}", rows=number)


def singles(ws: Workspace) -> int:
    """One fact a transaction."""
    for number in range(SINGLE):
        with ws.ledger.transaction() as tx:
            tx.append(fact(number), outputs=[("tree", f"sha256:{number:064x}")])
    return SINGLE


def batches(ws: Workspace) -> int:
    """Many facts a transaction."""
    for batch in range(BATCHES):
        with ws.ledger.transaction() as tx:
            for place in range(BATCH):
                number = SINGLE + batch * BATCH + place
                tx.append(fact(number), outputs=[("tree", f"sha256:{number:064x}")])
    return BATCHES * BATCH


def plain(folder: Path, total: int, each: int) -> int:
    """Rows of the same size, `each` a transaction, in a bare SQLite file in WAL mode."""
    connection = sqlite3.connect(folder / f"plain{each}.db", isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    connection.execute("create table fact (seq integer primary key, body text)")
    for start in range(0, total, each):
        connection.execute("begin immediate")
        connection.executemany("insert into fact values (?, ?)", [(n, "x" * 500) for n in range(start, start + each)])
        connection.execute("commit")
    connection.close()
    return total


def main() -> None:
    """Print each figure and its ratio to the floor."""
    ws = open_memory()
    folder = Path(tempfile.mkdtemp())
    total = SINGLE + BATCHES * BATCH
    for name, found, floor in (
        ("one a transaction", rate(lambda: singles(ws)), rate(lambda: plain(folder, SINGLE, 1))),
        (f"{BATCH} a transaction", rate(lambda: batches(ws)), rate(lambda: plain(folder, BATCHES * BATCH, BATCH))),
    ):
        print(f"append, {name:20} {found:9,.0f} facts/s   1/{floor / found:.0f} of plain rows ({floor:,.0f}/s)")
    read = rate(lambda: len(ws.ledger.facts(limit=total)))
    checked = rate(lambda: verify(ws).size)
    folded = rate(lambda: rebuild(ws.ledger))
    print(f"read                         {read:9,.0f} facts/s")
    print(f"audit verify                 {checked:9,.0f} facts/s   {read / checked:.1f} x the time of reading")
    print(f"fold the records again       {folded:9,.0f} facts/s   {read / folded:.1f} x the time of reading")
    shutil.rmtree(folder)
    shutil.rmtree(ws.project.root)


if __name__ == "__main__":
    main()
