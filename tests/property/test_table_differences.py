"""A difference of two versions, and a three-way merge of keyed rows, equal what brute force over plain rows says."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from noria.core.errors import UsageError
from noria.data import diff
from noria.data.commit import commit
from noria.data.records import DatasetVersion
from noria.data.tabular import incremental, segments, tables
from noria.store.workspace import Workspace
from noria.testing import open_memory

SCHEMA = pa.schema([pa.field("id", pa.int64()), pa.field("x", pa.float64()), pa.field("s", pa.string())])
Row = tuple[float | None, str | None]
rows = st.tuples(
    st.one_of(st.none(), st.sampled_from([0.0, -0.0, 1.0, float("nan")])), st.one_of(st.none(), st.sampled_from("ab"))
)
models = st.dictionaries(st.integers(0, 9), rows, min_size=1, max_size=8)


def table(model: dict[int, Row]) -> pa.Table:
    return pa.Table.from_pylist([{"id": k, "x": x, "s": s} for k, (x, s) in model.items()], schema=SCHEMA)


def token(value: object) -> str:
    return repr(value)


def same(one: object, other: object) -> bool:
    return token(one) == token(other)


def said(value: object) -> str | None:
    """A value as a difference tells it."""
    return None if value is None else str(value)


@pytest.fixture(scope="module")
def fresh() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    open_memory(root=folder / "p").ledger.database.close()
    yield folder
    shutil.rmtree(folder)


def opened(fresh: Path) -> Workspace:
    root = fresh / "example"
    shutil.copytree(fresh / "p", root)
    return open_memory(root=root)


def added(ws: Workspace, rows_: pa.Table, key: str) -> DatasetVersion:
    roles = {"key": key, "time": "", "label": ""}
    return commit(ws, "t", tables.store(ws, rows_, "t"), roles=roles, source="test")


@given(before=models, after=models, by_delta=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_difference_by_key_is_what_brute_force_says(
    fresh: Path, before: dict[int, Row], after: dict[int, Row], by_delta: bool
) -> None:
    ws = opened(fresh)
    try:
        first = added(ws, table(before), "id")
        if by_delta:  # the same change as segments: only the rows that deltas touch are compared
            gone = [str(k) for k in before.keys() - after.keys()]
            if gone:
                incremental.delete(ws, "t", key_values=gone)
            second = incremental.upsert_rows(ws, "t", table(after).to_reader()).dataset
        else:
            second = added(ws, table(after), "id")
        found = diff.diff(ws, first.ref, second.ref).rows
        common = before.keys() & after.keys()
        changed = {k for k in common if not same(before[k], after[k])}
        assert (found.added, found.removed, found.changed) == (
            len(after.keys() - before.keys()),
            len(before.keys() - after.keys()),
            len(changed),
        )
        assert set(found.changed_keys) <= {str(k) for k in changed}
        assert len(found.changed_keys) == min(len(changed), 5)
        columns: Counter[str] = Counter()
        for k in changed:
            columns.update(n for n, a, b in zip("xs", before[k], after[k], strict=True) if not same(a, b))
        assert dict(found.changed_columns) == dict(columns)
        assert list(found.changed_values) == [
            (str(k), name, said(before[k]["xs".index(name)]), said(after[k]["xs".index(name)]))
            for k in sorted(changed)[:5]
            for name, _ in found.changed_columns
            if not same(before[k]["xs".index(name)], after[k]["xs".index(name)])
        ]
    finally:
        ws.ledger.database.close()
        shutil.rmtree(fresh / "example")


lists = st.lists(st.tuples(st.integers(0, 2), rows), min_size=1, max_size=10)


@given(before=lists, after=lists)
@example(before=[(0, (None, None))], after=[(2, (1.0, None)), (2, (float("nan"), None))])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_difference_without_a_key_is_that_of_two_multisets(
    fresh: Path, before: list[tuple[int, Row]], after: list[tuple[int, Row]]
) -> None:
    ws = opened(fresh)
    try:
        made = [
            pa.Table.from_pylist([{"id": k, "x": x, "s": s} for k, (x, s) in rows_], schema=SCHEMA)
            for rows_ in (before, after)
        ]
        first, second = (added(ws, rows_, "") for rows_ in made)
        found = diff.diff(ws, first.ref, second.ref).rows
        mine, theirs = Counter(map(token, before)), Counter(map(token, after))
        if first.ref != second.ref:
            assert (found.added, found.removed) == ((theirs - mine).total(), (mine - theirs).total())
    finally:
        ws.ledger.database.close()
        shutil.rmtree(fresh / "example")


def brute(base: dict[int, Row], ours: dict[int, Row], theirs: dict[int, Row]) -> tuple[dict[int, Row], set[int]]:
    merged: dict[int, Row] = {}
    conflicts: set[int] = set()
    for k in [*ours, *(k for k in theirs if k not in ours), *(k for k in base if k not in ours and k not in theirs)]:
        b, o, t = base.get(k), ours.get(k), theirs.get(k)
        if same(o, t) or same(t, b):
            chosen = o
        elif same(o, b):
            chosen = t
        else:
            chosen = o
            conflicts.add(k)
        if chosen is not None:
            merged[k] = chosen
    return merged, conflicts


@given(base=models, ours=models, theirs=models)
@settings(max_examples=300, deadline=None)
def test_a_merge_of_rows_is_what_brute_force_says(
    base: dict[int, Row], ours: dict[int, Row], theirs: dict[int, Row]
) -> None:
    merged, conflicts = segments.merge_rows(table(base), table(ours), table(theirs), "id")
    expected, quarrels = brute(base, ours, theirs)
    assert [token(tuple(row.values())) for row in merged.to_pylist()] == [
        token((k, *row)) for k, row in expected.items()
    ]
    assert set(conflicts) == {str(k) for k in quarrels}


def test_a_key_of_two_columns_merges_and_one_that_repeats_is_refused() -> None:
    def made(rows_: list[tuple[int, str, int]]) -> pa.Table:
        return pa.table({"a": [r[0] for r in rows_], "b": [r[1] for r in rows_], "v": [r[2] for r in rows_]})

    base = made([(1, "x", 1), (1, "y", 2)])
    merged, conflicts = segments.merge_rows(
        base, made([(1, "x", 9), (1, "y", 2)]), made([(1, "x", 1), (1, "y", 3), (2, "x", 4)]), ["a", "b"]
    )
    assert merged.to_pydict() == {"a": [1, 1, 2], "b": ["x", "y", "x"], "v": [9, 3, 4]}
    assert conflicts == []
    with pytest.raises(UsageError, match="twice in ours"):
        segments.merge_rows(base.slice(0, 1), base, base, "a")
