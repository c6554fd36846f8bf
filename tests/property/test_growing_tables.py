"""Append, upsert, delete and compact equal a plain Python dict of rows, in its order, after any sequence of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.data import records
from noria.data.commit import commit
from noria.data.forms import logical
from noria.data.rows import read
from noria.data.tabular import incremental, tables
from noria.store.replay import difference
from noria.store.workspace import Workspace
from noria.testing import open_memory

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64()),
        pa.field("x", pa.float64()),
        pa.field("s", pa.string()),
        pa.field("l", pa.list_(pa.int8())),
    ]
)
ROLES = {"key": "id", "time": "", "label": ""}

ids = st.integers(0, 12)
values = st.fixed_dictionaries(
    {
        "x": st.one_of(st.none(), st.sampled_from([0.0, -0.0, 1.5, float("nan")])),
        "s": st.one_of(st.none(), st.sampled_from(["", "a", "02139"])),
        "l": st.one_of(st.none(), st.lists(st.integers(-3, 3), max_size=2)),
    }
)
batches = st.dictionaries(ids, values, min_size=1, max_size=5)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("upsert"), batches),
        st.tuples(st.just("delete"), st.sets(ids, min_size=1, max_size=4)),
        st.tuples(st.just("where"), st.sampled_from(["x is null", "s = 'a'", "id >= 6 and id < 9"])),
        st.tuples(st.just("compact"), st.none()),
    ),
    max_size=7,
)


def table(model: dict[int, dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([{"id": key, **row} for key, row in model.items()], schema=SCHEMA)


def fits(condition: str, key: int, row: dict[str, Any]) -> bool:
    found = {"x is null": row["x"] is None, "s = 'a'": row["s"] == "a", "id >= 6 and id < 9": 6 <= key < 9}
    return bool(found[condition])


@pytest.fixture(scope="module")
def fresh() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    open_memory(root=folder / "p").ledger.database.close()
    yield folder
    shutil.rmtree(folder)


def apply(ws: Workspace, model: dict[int, dict[str, Any]], step: tuple[str, Any]) -> None:
    kind, given_ = step
    if kind == "upsert":
        before = dict(model)
        model.update(given_)
        done = incremental.upsert_rows(ws, "t", table(given_).to_reader(max_chunksize=2))
        assert done.inserted == len(given_.keys() - before.keys())
        assert done.inserted + done.updated + done.unchanged == len(given_)
    elif kind == "delete":
        gone = given_ & model.keys()
        for key in gone:
            del model[key]
        deleted = incremental.delete(ws, "t", key_values=[str(key) for key in given_])
        assert (deleted.deleted, deleted.missing) == (len(gone), len(given_ - gone))
    elif kind == "where":
        gone = {key for key, row in model.items() if fits(given_, key, row)}
        for key in gone:
            del model[key]
        assert incremental.delete(ws, "t", condition=given_).deleted == len(gone)
    else:
        content = newest(ws).content
        assert incremental.compact(ws, "t").dataset.content == content


def newest(ws: Workspace) -> records.DatasetVersion:
    with ws.ledger.read() as tx:
        found = records.newest(tx, "t")
    assert found is not None
    return found


@given(first=batches, sequence=steps, data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_growing_table_is_a_dict_of_rows(
    fresh: Path, first: dict[int, dict[str, Any]], sequence: list[tuple[str, Any]], data: st.DataObject
) -> None:
    root = fresh / "example"
    shutil.copytree(fresh / "p", root)
    ws = open_memory(root=root)
    try:
        model = dict(first)
        commit(ws, "t", tables.store(ws, table(model), "t"), roles=ROLES, source="test")
        for step in sequence:
            apply(ws, model, step)
            version = newest(ws)
            expected = table(model)
            found = read.table(ws, version)
            assert logical.digest(found) == logical.digest(expected) == version.content
            assert version.rows == len(model)
        low = data.draw(st.integers(0, len(model)))
        high = data.draw(st.integers(low, len(model) + 2))
        part = read.table(ws, newest(ws), columns=["s", "id"], rows=(low, high))
        assert part.to_pylist() == table(model).select(["s", "id"]).slice(low, high - low).to_pylist()
        chosen = read.table(ws, newest(ws), columns=["id"], condition="s = 'a' or x is null")
        assert chosen["id"].to_pylist() == [k for k, row in model.items() if row["s"] == "a" or row["x"] is None]
        assert difference(ws.ledger) == []
    finally:
        ws.ledger.database.close()
        shutil.rmtree(root)
