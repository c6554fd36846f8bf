"""How much a table grows in the store when about 1 % of its rows change, in six ways.

A table that Noria stores (from a DataFrame, a query) is Parquet written for deduplication, and keyed
changes may be kept as deltas; a Parquet file that is added stays byte for byte what it is. The peers
store a changed file anew. Growth is new bytes in the store over the bytes of the table's own file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tools import Dvc, Noria

import noria
from noria.bootstrap import open_workspace
from noria.data.tabular import incremental

Edit = Callable[[pa.Table, np.random.Generator], pa.Table]
SHARE = 100
"""One in so many rows changes."""


def table(rows: int, seed: int = 0, first: int = 0) -> pa.Table:
    """Eight columns as in design notes §2: a key, a time, two codes, whole and real numbers, a text."""
    chance = np.random.default_rng(seed)
    stamps = np.int64(1_356_998_400_000_000) + np.cumsum(chance.integers(1, 20_000_000, rows))
    carriers = np.array([f"C{number}" for number in range(12)])
    airports = np.array([f"A{number:03d}" for number in range(100)])
    return pa.table(
        {
            "id": pa.array(np.arange(first, first + rows)),
            "at": pa.array(stamps, pa.timestamp("us", "UTC")),
            "carrier": pa.array(carriers[chance.integers(0, 12, rows)]),
            "origin": pa.array(airports[chance.integers(0, 100, rows)]),
            "distance": pa.array(chance.integers(80, 5000, rows)),
            "delay": pa.array(np.round(chance.normal(5, 30, rows))),
            "price": pa.array(np.round(chance.gamma(3.0, 80.0, rows), 2)),
            "tail": pa.array(np.char.add("N", chance.integers(10_000, 110_000, rows).astype(str))),
        }
    )


def _scattered(rows: pa.Table, chance: np.random.Generator) -> np.ndarray:
    return chance.random(len(rows)) < 1 / SHARE


def _middle(rows: pa.Table) -> tuple[int, int]:
    start = len(rows) // 2
    return start, start + len(rows) // SHARE


def _set(rows: pa.Table, column: str, values: np.ndarray) -> pa.Table:
    return rows.set_column(rows.column_names.index(column), column, pa.array(values))


def scattered_update(rows: pa.Table, chance: np.random.Generator) -> pa.Table:
    """One column of 1 % of the rows, all over the table."""
    which = _scattered(rows, chance)
    values = rows["delay"].to_numpy().copy()
    values[which] += 1
    return _set(rows, "delay", values)


def contiguous_update(rows: pa.Table, chance: np.random.Generator) -> pa.Table:
    """Two columns of 1 % of the rows, side by side."""
    start, end = _middle(rows)
    for column in ("delay", "price"):
        values = rows[column].to_numpy().copy()
        values[start:end] += 1
        rows = _set(rows, column, values)
    return rows


def insert_in_the_middle(rows: pa.Table, chance: np.random.Generator) -> pa.Table:
    """1 % new rows in the middle."""
    start, end = _middle(rows)
    new = table(end - start, seed=1, first=len(rows))
    return pa.concat_tables([rows.slice(0, start), new, rows.slice(start)])


def delete_in_the_middle(rows: pa.Table, chance: np.random.Generator) -> pa.Table:
    """1 % of the rows gone, side by side."""
    start, end = _middle(rows)
    return pa.concat_tables([rows.slice(0, start), rows.slice(end)])


def append(rows: pa.Table, chance: np.random.Generator) -> pa.Table:
    """1 % new rows at the end."""
    return pa.concat_tables([rows, table(len(rows) // SHARE, seed=2, first=len(rows))])


def scattered_delete(rows: pa.Table, chance: np.random.Generator) -> pa.Table:
    """1 % of the rows gone, all over the table."""
    return rows.filter(pa.array(~_scattered(rows, chance)))


EDITS: dict[str, Edit] = {
    "scattered update, 1 column": scattered_update,
    "contiguous update, 2 columns": contiguous_update,
    "insert 1 % in the middle": insert_in_the_middle,
    "delete 1 % in the middle": delete_in_the_middle,
    "append 1 %": append,
    "scattered delete of 1 %": scattered_delete,
}


def growth(folder: Path, rows: int, *, with_dvc: bool) -> dict[str, dict[str, float]]:
    """The growth of each edit, 0..1 of the file: stored by Noria whole, by key, as a file, and by DVC."""
    base = table(rows)
    file = folder / "base.parquet"
    pq.write_table(base, file, compression="zstd", row_group_size=1 << 20)
    size = file.stat().st_size
    start = _project(folder / "start", base)
    found = {}
    for name, edit in EDITS.items():
        edited = edit(base, np.random.default_rng(7))
        here = {
            "table": _grown(start, folder / "work", lambda root, e=edited: _whole(root, e)) / size,
            "by key": _grown(start, folder / "work", lambda root, e=edited: _keyed(root, base, e)) / size,
            "parquet file": _file_growth(Noria, folder / "work", file, edited) / size,
        }
        if with_dvc:
            here["dvc"] = _file_growth(Dvc, folder / "work", file, edited) / size
        found[name] = here
    return found


def _project(root: Path, rows: pa.Table) -> Path:
    root.mkdir()
    (root / "noria.toml").write_text('[project]\nname = "bench"\n')
    noria.add_data(rows, name="t", key="id", root=str(root))
    return root


def _grown(start: Path, work: Path, change: Callable[[Path], None]) -> int:
    """New bytes in the store of a copy of the project."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(start, work)
    tool = Noria(work, {})
    before = tool.stored()
    change(work)
    return tool.stored() - before


def _whole(root: Path, rows: pa.Table) -> None:
    noria.add_data(rows, name="t", root=str(root))


def _keyed(root: Path, base: pa.Table, edited: pa.Table) -> None:
    """The same edit told as what it is: rows by key that are new, other or gone."""
    gone = base.filter(pc.invert(pc.is_in(base["id"], value_set=edited["id"].combine_chunks())))
    at = pc.index_in(edited["id"], value_set=base["id"].combine_chunks())
    before = base.take(at)
    same = pc.and_(pc.equal(before["delay"], edited["delay"]), pc.equal(before["price"], edited["price"]))
    other = edited.filter(pc.invert(pc.fill_null(same, False)))
    if len(other):
        noria.upsert_data(other, name="t", key="id", root=str(root))
    if len(gone):
        keys = [str(key) for key in gone["id"].to_pylist()]
        incremental.delete(open_workspace(root), "t", key_values=keys)


def _file_growth(kind: type[Noria] | type[Dvc], work: Path, file: Path, edited: pa.Table) -> int:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    tool = kind(work, {})
    tool.start(str(work.parent / "nowhere"), "")
    shutil.copy(file, work / "t.parquet")
    tool.add("t.parquet")
    before = tool.stored()
    (work / "t.parquet").unlink()
    pq.write_table(edited, work / "t.parquet", compression="zstd", row_group_size=1 << 20)
    tool.add("t.parquet")
    return tool.stored() - before
