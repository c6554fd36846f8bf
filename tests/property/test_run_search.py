"""A search of runs gives what a plain reading of its clauses gives, and its pages are the whole, once each."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.core.errors import UsageError
from noria.experiments import search
from noria.experiments.facts import Dataset, RunDescribed, RunLogged, Summary
from noria.store.workspace import Workspace
from noria.testing import open_memory
from noria.tracking.facts import Code, RunFinished, RunStarted

RUNS = 60
TEXTS = ["Tree", "tree", "line%r", "x_y", "xzy", ""]
KEYS = ["metrics.a", "params.p", "attributes.run_name", "tags.t.dotted", "start_time"]
Row = dict[str, Any]


def summary(value: float) -> Summary:
    if math.isnan(value):
        return Summary(points=1, step=0, at_us=1, last=None, low=None, high=None, special="nan")
    return Summary(points=1, step=0, at_us=1, last=value, low=value, high=value)


def started(run: str, digest: str) -> RunStarted:
    return RunStarted(
        run=run, pipeline="p", cause="user", code=Code(), config=digest, environment=digest, seed=0, pins=(), owner=""
    )


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, list[Row]]]:
    """Sixty runs with few distinct values, so that equal ones are common, and the same as plain rows."""
    ws = open_memory(root=tmp_path_factory.mktemp("runs"))
    chance = random.Random(7)
    rows: list[Row] = []
    digest = ws.objects.put_json({})
    with ws.ledger.transaction() as tx:
        for number in range(RUNS):
            run = f"run_{number:03d}"
            metrics = {key: chance.choice([0.0, 0.25, 0.5, 1.0, math.nan]) for key in "ab" if chance.random() < 0.7}
            params = {key: chance.choice(TEXTS) for key in "pq" if chance.random() < 0.7}
            tags = {"t.dotted": chance.choice(["One", "one", "two"])} if chance.random() < 0.6 else {}
            datasets = [chance.choice(["churn", "flights"])] if chance.random() < 0.5 else []
            status = chance.choice(["finished", "failed", "lost"])
            day = 1 + number % 9
            tx.append(started(run, digest))
            tx.append(
                RunDescribed(
                    run=run,
                    name=f"n{number % 7}",
                    experiment="e",
                    parent="",
                    began=f"2026-01-{day:02d}T00:00:00.000000Z",
                )
            )
            tx.append(
                RunLogged(
                    run=run,
                    writer="w",
                    upto=1,
                    params=params,
                    tags=tags,
                    metrics={key: summary(value) for key, value in metrics.items()},
                    datasets=tuple(Dataset(name=name, version=1, tree=digest) for name in datasets),
                )
            )
            tx.append(RunFinished(run=run, status=status, reason="", seconds=1.0))
            rows.append({"run": run, "seq": number, "name": f"n{number % 7}", "status": status, "day": 1 + number % 9,
                         "metrics": metrics, "params": params, "tags": tags, "datasets": datasets})  # fmt: skip
    yield ws, rows
    ws.ledger.database.close()


def like(value: str, pattern: str, *, any_case: bool) -> bool:
    wild = {"%": ".*", "_": "."}
    text = "".join(wild.get(mark, re.escape(mark)) for mark in pattern)
    return re.fullmatch(text, value, re.DOTALL | (re.IGNORECASE if any_case else 0)) is not None


NUMBERS = {"=": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b, ">=": lambda a, b: a >= b}


@st.composite
def clauses(draw: st.DrawFn) -> tuple[str, Any]:
    """A condition as text, and as a plain function of a row."""
    kind = draw(st.sampled_from(["metric", "param", "tag", "name", "status", "data", "day"]))
    if kind == "metric":
        key, sign = draw(st.sampled_from("abc")), draw(st.sampled_from(sorted(NUMBERS)))
        value = draw(st.sampled_from([0.25, 0.5, 2]))
        return (
            f"metrics.{key} {sign} {value}",
            lambda row: key in row["metrics"] and NUMBERS[sign](row["metrics"][key], value),
        )
    if kind == "day":
        day = draw(st.integers(1, 9))
        return f"start_time >= '2026-01-{day:02d}'", lambda row: row["day"] >= day
    if kind == "data":
        name = draw(st.sampled_from(["churn", "flights", "other"]))
        return f"datasets.name = '{name}'", lambda row: name in row["datasets"]
    if kind == "status":
        word, ours = draw(st.sampled_from([("FINISHED", {"finished"}), ("KILLED", {"lost"}), ("failed", {"failed"})]))
        return f"status = '{word}'", lambda row: row["status"] in ours
    if kind == "name":
        names = draw(st.lists(st.sampled_from(["n1", "n2", "n6"]), min_size=1, max_size=2))
        quoted = ", ".join(f"'{name}'" for name in names)
        sign = draw(st.sampled_from(["IN", "NOT IN"]))
        return f"run_name {sign} ({quoted})", lambda row: (row["name"] in names) == (sign == "IN")
    group, key = ("params", draw(st.sampled_from("pqz"))) if kind == "param" else ("tags", "t.dotted")
    sign = draw(st.sampled_from(["=", "!=", "LIKE", "ILIKE", "IS NULL", "IS NOT NULL"]))
    if sign.startswith("IS"):
        return f"{group}.{key} {sign}", lambda row: (key in row[group]) == (sign == "IS NOT NULL")
    value = draw(st.sampled_from(["tree", "Tree", "x_y", "t%", "%n%", "line%", "*", "[a-z]*", "One", ""]))

    def fits(row: Row) -> bool:
        if key not in row[group]:
            return False
        found = row[group][key]
        if sign in ("LIKE", "ILIKE"):
            return like(found, value, any_case=sign == "ILIKE")
        return (found == value) == (sign == "=")

    return f"{group}.{key} {sign}" + f" '{value}'", fits


@given(
    chosen=st.lists(clauses(), max_size=3),
    size=st.integers(1, 25),
    order=st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), max_size=2),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_of_a_search_are_the_runs_that_fit_in_their_order(
    known: tuple[Workspace, list[Row]], chosen: list[tuple[str, Any]], size: int, order: list[tuple[str, bool]]
) -> None:
    ws, rows = known
    text = " and ".join(each for each, _ in chosen)
    expected = [row for row in rows if all(fits(row) for _, fits in chosen)]
    expected.sort(key=lambda row: -row["seq"])
    for name, is_descending in reversed(order):
        expected = ordered(expected, name, is_descending)
    got: list[str] = []
    page = ""
    asked = [f"{name} {'DESC' if is_descending else 'ASC'}" for name, is_descending in order]
    for _ in range(RUNS + 1):
        found = search.search_runs(ws, text, asked, limit=size, page=page)
        got += [each.run for each in found]
        page = found[-1].page if found else ""
        if not page:
            break
    assert got == [row["run"] for row in expected]


def ordered(rows: list[Row], name: str, is_descending: bool) -> list[Row]:
    """Sorted by one key, stable; NaN comes behind every number and rows without a value last, either way."""
    group, _, key = name.partition(".")
    value = {
        "metrics": lambda row: row["metrics"].get(key),
        "params": lambda row: row["params"].get(key),
        "tags": lambda row: row["tags"].get(key),
        "attributes": lambda row: row["name"],
        "start_time": lambda row: row["day"],
    }[group]

    def has(row: Row) -> bool:
        found = value(row)
        return found is not None and not (isinstance(found, float) and math.isnan(found))

    known = [row for row in rows if has(row)]
    groups = sorted({value(row) for row in known}, reverse=is_descending)
    others = sorted(itertools.filterfalse(has, rows), key=lambda row: value(row) is None)
    return [row for group in groups for row in known if value(row) == group] + others


@pytest.mark.parametrize("page", ["x", "e30", "bnVsbA", "WzEsMl0", "W1tdXQ", "\x00"])
def test_a_page_that_nobody_gave_is_refused(known: tuple[Workspace, list[Row]], page: str) -> None:
    with pytest.raises(UsageError):
        search.search_runs(known[0], page=page)


def test_a_list_shows_what_is_asked_for_and_no_more(known: tuple[Workspace, list[Row]]) -> None:
    ws, rows = known
    found = search.search_runs(ws, show=["metrics.a", "params.q"], limit=RUNS)
    by_name = {row["run"]: row for row in rows}
    for each in found:
        row = by_name[each.run]
        assert set(each.metrics) == {"a"} & set(row["metrics"])
        assert dict(each.params) == {key: value for key, value in row["params"].items() if key == "q"}
        assert each.tags == {}
    assert len(found) == RUNS
