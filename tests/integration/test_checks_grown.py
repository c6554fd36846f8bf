"""Tables that grew: what came is judged on its own beside the whole, however it came."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.bootstrap import open_workspace
from noria.checks import grown, infer, quarantine, suite, watch
from noria.checks.scanning.scan import scan, shape_of
from noria.checks.scanning.tally import Rows
from noria.config import Project
from noria.core.errors import NotFound
from noria.data import drop, versions
from noria.data.rows import read
from noria.data.tabular import incremental
from noria.store import replay
from noria.store.workspace import Workspace

RULES = """dataset = "orders"
[table]
key = "id"
time = "at"
[columns.amount]
nulls = 0.01
[columns.country]
levels = ["DE", "FR", "PT"]
new_levels = 0.02
[[rules]]
rule = "range"
column = "amount"
max = 500
share = 0.02
"""


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "project"
    (root / "checks").mkdir(parents=True)
    workspace = open_workspace(project=Project(name="test", root=root), actor="user:test")
    yield workspace
    assert replay.difference(workspace.ledger) == []


def month(number: int, rows: int = 5000, **changes: Any) -> pa.Table:
    dice = np.random.default_rng(number)
    first = number * 5000
    start = np.datetime64("2026-01-01", "us") + np.timedelta64(number * 5000, "m")
    table = pa.table(
        {
            "id": pa.array(np.arange(first, first + rows)),
            "amount": pa.array(np.round(dice.gamma(3, 20, rows), 2)),
            "country": pa.array(dice.choice(["DE", "FR", "PT"], rows)),
            "at": pa.array(start + np.arange(rows).astype("timedelta64[m]")),
        }
    )
    for name, values in changes.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    return table


def broken(number: int, rows: int = 5000) -> pa.Table:
    """A month in which a twentieth of each column is wrong."""
    good = month(number, rows)
    amount, country = good["amount"].to_pylist(), good["country"].to_pylist()
    amount[0::40] = [None] * len(amount[0::40])
    amount[20::40] = [1e6] * len(amount[20::40])
    country[7::20] = ["??"] * len(country[7::20])
    return month(number, rows, amount=amount, country=country)


WRONG = {("nulls", "amount"), ("levels", "country"), ("range", "amount")}


def add(ws: Workspace, table: pa.Table, form: str = "parquet") -> versions.DatasetVersion:
    place = ws.project.root / f"orders.{form}"
    pc.write_csv(table, place) if form == "csv" else pq.write_table(table, place, row_group_size=3000)
    return versions.add(ws, str(place), "orders", key="id", time="at")


def rules(ws: Workspace, text: str = RULES) -> None:
    (ws.project.root / "checks/orders.toml").write_text(text)


def failures(found: suite.ChecksReport) -> dict[tuple[str, str], Any]:
    return {(each.rule, each.column): each for each in found.findings if not each.passed}


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_broken_month_at_the_end_of_a_file_is_not_averaged_away(ws: Workspace, form: str) -> None:
    rules(ws)
    good = [month(number) for number in range(8)]
    add(ws, pa.concat_tables(good), form)
    assert suite.run(ws, "orders").ok
    add(ws, pa.concat_tables([*good, month(8)]), form)
    assert suite.run(ws, "orders").ok
    add(ws, pa.concat_tables([*good, month(8), broken(9)]), form)
    found = suite.run(ws, "orders")
    told = failures(found)
    assert not found.ok
    assert told.keys() == WRONG
    nulls = told[("nulls", "amount")]
    assert nulls.message.startswith("of the 5,000 rows that are new (from row 45,000 on): null in 2.5 % of rows")
    assert (nulls.count, nulls.total, nulls.rows[:3]) == (125, 5000, (45000, 45040, 45080))
    assert nulls.samples[0].values["id"] == "45000", "rows are numbered as in the file"
    assert told[("levels", "country")].rows[0] == 45007
    assert told[("levels", "country")].examples == ("??",)
    apart = quarantine.quarantine(ws, "orders")
    assert apart.failing == 500, "a null, a value and a country in each forty, and no good row of them twice"


def test_the_same_month_says_the_same_as_a_segment_of_its_own(ws: Workspace) -> None:
    rules(ws)
    add(ws, pa.concat_tables([month(number) for number in range(8)]))
    assert suite.run(ws, "orders").ok
    incremental.append_rows(ws, "orders", broken(8).to_reader(), "id")
    assert failures(suite.run(ws, "orders")).keys() == WRONG


def test_rules_that_were_edited_since_still_see_what_came(ws: Workspace) -> None:
    rules(ws)
    good = pa.concat_tables([month(number) for number in range(8)])
    add(ws, good)
    assert suite.run(ws, "orders").ok
    add(ws, pa.concat_tables([good, broken(8)]))
    assert failures(suite.run(ws, "orders")).keys() == WRONG
    rules(ws, RULES.replace("nulls = 0.01", "nulls = 0.1"))
    assert failures(suite.run(ws, "orders")).keys() == WRONG - {("nulls", "amount")}


def test_what_is_wrong_with_the_whole_is_told_once(ws: Workspace) -> None:
    rules(ws, RULES.replace("nulls = 0.01", "nulls = 0.0"))
    good = month(0)
    add(ws, good)
    assert suite.run(ws, "orders").ok
    add(ws, pa.concat_tables([good, broken(1)]))
    found = [each for each in suite.run(ws, "orders").findings if each.rule == "nulls"]
    assert [each.total for each in found] == [10_000]


def test_few_new_rows_prove_no_share(ws: Workspace) -> None:
    rules(ws)
    good = pa.concat_tables([month(number) for number in range(8)])
    add(ws, good)
    assert suite.run(ws, "orders").ok
    add(ws, pa.concat_tables([good, broken(8, 99)]))
    assert suite.run(ws, "orders").ok


def test_a_file_whose_past_was_corrected_is_divided_by_time(ws: Workspace) -> None:
    rules(ws)
    add(ws, pa.concat_tables([month(number) for number in range(8)]))
    assert suite.run(ws, "orders").ok
    corrected = month(0, amount=np.full(5000, 1.5))
    add(ws, pa.concat_tables([corrected, *[month(number) for number in range(1, 8)], broken(8)]))
    assert failures(suite.run(ws, "orders")).keys() == WRONG


def test_an_accepted_version_that_is_gone_leaves_its_times(ws: Workspace) -> None:
    rules(ws)
    good = pa.concat_tables([month(number) for number in range(8)])
    first = add(ws, good)
    assert suite.run(ws, "orders").ok
    add(ws, pa.concat_tables([good, broken(8)]))
    drop.drop(ws, first.ref, reason="too old", force=True)
    with pytest.raises(NotFound):
        versions.resolve(ws, first.ref)
    assert grown.accepted_parts(ws, "orders", first.version, first.tree) == {}
    assert failures(suite.run(ws, "orders")).keys() == WRONG


def test_rows_that_an_upsert_changed_are_judged_on_their_own_until_they_are_mended(ws: Workspace) -> None:
    rules(ws)
    add(ws, pa.concat_tables([month(number) for number in range(8)]))
    assert suite.run(ws, "orders").ok
    incremental.upsert_rows(ws, "orders", broken(3).to_reader())
    found = suite.run(ws, "orders")
    assert not found.ok, "2.5 % of an eighth is within every share of the whole"
    told = failures(found)
    assert told.keys() == WRONG
    assert all(each.message.startswith("of the 500 rows that were upserted: ") for each in told.values())
    nulls = told[("nulls", "amount")]
    assert (nulls.count, nulls.total, nulls.rows[:3]) == (125, 500, (15000, 15040, 15080))
    assert nulls.samples[0].values["id"] == "15000", "rows are numbered as in the file"
    assert told[("levels", "country")].rows[0] == 15007
    assert quarantine.quarantine(ws, "orders").failing == 500
    incremental.upsert_rows(ws, "orders", month(3).to_reader())
    assert suite.run(ws, "orders").ok
    bad = month(0, country=["??"] * 5000)
    incremental.upsert_rows(ws, "orders", bad.to_reader())
    assert failures(suite.run(ws, "orders"))[("levels", "country")].count == 5000


def test_an_upsert_is_judged_though_nothing_was_checked_before_and_over_all_files(ws: Workspace) -> None:
    rules(ws)
    add(ws, month(0))
    for number in range(1, 8):
        incremental.append_rows(ws, "orders", month(number).to_reader(), "id")
    bad = pa.concat_tables([broken(number).slice(0, 1000) for number in range(8)])
    incremental.upsert_rows(ws, "orders", bad.to_reader())
    told = failures(suite.run(ws, "orders"))
    assert told.keys() == WRONG
    levels = told[("levels", "country")]
    assert levels.message.startswith("of the 800 rows that were upserted: ")
    assert (levels.count, levels.file, levels.rows[0]) == (400, "orders.parquet", 7)
    apart = quarantine.quarantine(ws, "orders")
    assert (apart.failing, apart.whole) == (800, ()), "the rows of each file are found in it"


def test_each_upsert_is_judged_by_itself_and_an_accepted_one_not_again(ws: Workspace) -> None:
    rules(ws)
    add(ws, pa.concat_tables([month(number) for number in range(8)]))
    assert suite.run(ws, "orders").ok
    incremental.upsert_rows(ws, "orders", broken(0).to_reader())
    incremental.upsert_rows(ws, "orders", pa.concat_tables([month(11), month(12)]).to_reader())
    good = [month(number, amount=month(number + 20)["amount"]) for number in range(1, 8)]
    incremental.upsert_rows(ws, "orders", pa.concat_tables(good).to_reader())
    assert failures(suite.run(ws, "orders")).keys() == WRONG
    wide = RULES.replace("nulls = 0.01", "nulls = 0.5").replace("0.02", "0.6")
    rules(ws, wide)
    assert suite.run(ws, "orders").ok
    rules(ws)
    incremental.upsert_rows(ws, "orders", month(1).to_reader())
    assert suite.run(ws, "orders").ok, "what was accepted is not judged again"


def test_a_table_with_deletions_and_a_compacted_one_are_judged_as_before(ws: Workspace) -> None:
    rules(ws)
    add(ws, pa.concat_tables([month(number) for number in range(8)]))
    assert suite.run(ws, "orders").ok
    incremental.delete(ws, "orders", condition="id < 100 or (id >= 15000 and id < 15020)")
    assert suite.run(ws, "orders").ok
    incremental.upsert_rows(ws, "orders", broken(3).slice(21).to_reader())
    told = failures(suite.run(ws, "orders"))
    assert told.keys() == WRONG
    nulls = told[("nulls", "amount")]
    assert nulls.rows[0] == 15040 - 120, "rows that are gone are not counted"
    assert nulls.samples[0].values["id"] == "15040"
    incremental.upsert_rows(ws, "orders", month(3).slice(21).to_reader())
    incremental.compact(ws, "orders")
    assert suite.run(ws, "orders").ok
    incremental.upsert_rows(ws, "orders", broken(4).to_reader())
    told = failures(suite.run(ws, "orders"))
    assert told.keys() == WRONG
    assert told[("nulls", "amount")].samples[0].values["id"] == "20000"


@pytest.mark.parametrize("is_checked", [True, False])
def test_a_compaction_hides_no_upsert(ws: Workspace, is_checked: bool) -> None:
    rules(ws)
    add(ws, pa.concat_tables([month(number) for number in range(8)]))
    if is_checked:
        assert suite.run(ws, "orders").ok
    incremental.upsert_rows(ws, "orders", pa.concat_tables([month(9), broken(3)]).to_reader())
    incremental.compact(ws, "orders")
    told = failures(suite.run(ws, "orders"))
    assert told.keys() == WRONG
    assert told[("nulls", "amount")].message.startswith("of the 500 rows that were upserted: ")
    incremental.delete(ws, "orders", condition="id < 100")
    incremental.upsert_rows(ws, "orders", month(0).slice(4000, 500).to_reader())
    found = failures(suite.run(ws, "orders"))[("nulls", "amount")]
    assert (found.rows[0], found.samples[0].values["id"]) == (14_900, "15000")
    incremental.upsert_rows(ws, "orders", month(3).to_reader())
    assert suite.run(ws, "orders").ok, "mended"


def test_few_upserted_rows_prove_no_share(ws: Workspace) -> None:
    rules(ws)
    add(ws, pa.concat_tables([month(number) for number in range(8)]))
    assert suite.run(ws, "orders").ok
    incremental.upsert_rows(ws, "orders", month(0, 99, country=["??"] * 99).to_reader())
    assert suite.run(ws, "orders").ok
    incremental.upsert_rows(ws, "orders", month(1, 100, country=["??"] * 100).to_reader())
    assert failures(suite.run(ws, "orders")).keys() == {("levels", "country")}


@pytest.mark.parametrize("way", ["upsert", "append", "file"])
def test_what_an_upsert_brought_in_another_unit_is_seen_as_in_an_append(ws: Workspace, way: str) -> None:
    def weather(first: int, rows: int, scale: float = 1.0, shift: float = 0.0) -> pa.Table:
        dice = np.random.default_rng(first + rows)
        degrees = np.round(dice.normal(55, 15, rows), 1) * scale + shift
        start = np.datetime64("2026-01-01", "us") + np.arange(first, first + rows).astype("timedelta64[m]")
        ids, amounts = np.arange(first, first + rows), np.round(degrees, 1)
        return pa.table({"id": pa.array(ids), "amount": pa.array(amounts), "at": pa.array(start)})

    whole = weather(0, 20_000)
    add(ws, whole)
    infer.infer(ws, "orders")
    if way == "upsert":
        incremental.upsert_rows(ws, "orders", weather(4000, 2000).to_reader())
        assert suite.run(ws, "orders").ok
        incremental.upsert_rows(ws, "orders", weather(8000, 2000, 5 / 9, -160 / 9).to_reader())
    elif way == "append":
        assert suite.run(ws, "orders").ok
        incremental.append_rows(ws, "orders", weather(20_000, 2000, 5 / 9, -160 / 9).to_reader(), "id")
    else:
        assert suite.run(ws, "orders").ok
        add(ws, pa.concat_tables([whole, weather(20_000, 2000, 5 / 9, -160 / 9)]))
    told = failures(suite.run(ws, "orders"))
    assert "Fahrenheit became Celsius" in told[("unit", "amount")].message


def test_strays_among_many_rows_that_are_most_of_those_that_came_are_an_error(ws: Workspace) -> None:
    rules(ws, RULES.replace("nulls = 0.01", "unit = true\ntypical = [16, 35, 54, 78, 126]\nseen = [0.1, 300]"))
    good = pa.concat_tables([month(number) for number in range(8)])
    add(ws, good)
    assert suite.run(ws, "orders").ok
    amount = np.where(np.arange(2000) % 100 == 0, 1e6, 50.0)
    incremental.upsert_rows(ws, "orders", month(0, 2000, amount=amount).to_reader())
    told = [each for each in suite.run(ws, "orders").findings if (each.rule, each.column) == ("range", "amount")]
    assert [(each.severity, each.count) for each in told] == [("error", 20), ("warn", 20)]


def test_nulls_that_an_upsert_brought_are_watched(ws: Workspace) -> None:
    add(ws, month(0))
    for number in range(1, 8):
        incremental.append_rows(ws, "orders", month(number).to_reader(), "id")
    assert watch.watch(ws).ok
    incremental.upsert_rows(ws, "orders", month(0, amount=pa.nulls(5000, pa.float64())).to_reader())
    told = [(each.question, each.column) for each in watch.watch(ws).datasets[0].anomalies]
    assert ("nulls", "amount") in told


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_where_the_new_rows_begin_is_what_a_comparison_of_lists_says(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grown, "_ROWS", 7)
    root = tmp_path_factory.mktemp("grown")
    ws = open_workspace(project=Project(name="test", root=root), actor="user:test")
    old = data.draw(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab")), min_size=1, max_size=30))
    new = data.draw(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab")), max_size=20))
    kept = list(old)
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(old) - 1))
        kept[place] = (data.draw(st.integers(0, 3)), kept[place][1])
    kinds: list[pa.DataType] = [pa.int64(), pa.int32(), pa.float64()]
    kind = data.draw(st.sampled_from(kinds))
    group = data.draw(st.integers(1, 9))

    def stored(rows: list[tuple[int, str]], numbers: pa.DataType) -> read.Part:
        table = pa.table({"n": pa.array([n for n, _ in rows], numbers), "t": [t for _, t in rows]})
        pq.write_table(table, root / "x.parquet", row_group_size=group)
        return read.parts(ws, versions.add(ws, str(root / "x.parquet"), "x"))[0]

    before, part = stored(old, pa.int64()), stored(kept + new, kind)
    assert grown.begin_of_new(part, before, "", "") == (len(old) if kept == old else 0)


@pytest.mark.parametrize("begin", [0, 1, 2999, 3000, 3001, 8999, 9000, 9999])
def test_a_scan_from_a_row_on_shows_the_rest_and_numbers_it(tmp_path: Path, begin: int) -> None:
    table = month(0, 5000)
    table = pa.concat_tables([table, month(1, 5000)])
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=3000)
    seen: list[tuple[int, list[Any]]] = []

    class Looker:
        columns = frozenset(["id"])
        expressions = ()

        def look(self, rows: Rows) -> None:
            seen.append((rows.first, rows.batch.column("id").to_pylist()))

    shape = shape_of(tmp_path / "x.parquet", "x")
    scan(tmp_path / "x.parquet", "x", shape, [Looker()], begin=begin)  # type: ignore[list-item]  # it only looks
    told = [(first + at, value) for first, values in seen for at, value in enumerate(values)]
    assert told == [(number, number) for number in range(begin, 10_000)]
