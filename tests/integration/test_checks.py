"""Checks as a project uses them: files, versions, other data sets, a command that says no."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import warm
from noria.bootstrap import open_workspace
from noria.checks import infer, quarantine, report, schemarun, suite, watch, wholes
from noria.checks.adapters import exchange
from noria.checks.suites.rules import Suite
from noria.config import DataConfig, Project
from noria.core.errors import ConfigError, Corrupt, GateClosed, NotFound, ProjectError, UsageError
from noria.data import versions
from noria.data.rows import read
from noria.faces.cli import show_checks
from noria.loop import pins
from noria.store import replay
from noria.store.workspace import Workspace

HEAD = 'dataset = "orders"\n'


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "project"
    (root / "checks").mkdir(parents=True)
    workspace = open_workspace(project=Project(name="test", root=root), actor="user:test")
    yield workspace
    assert replay.difference(workspace.ledger) == []


def orders(rows: int = 400, *, start: int = 0, **changes: Any) -> pa.Table:
    dice = np.random.default_rng(rows + start)
    table = pa.table(
        {
            "id": [f"o{i}" for i in range(start, start + rows)],
            "customer": pa.array(dice.integers(0, 50, rows)),
            "amount": np.round(dice.gamma(3, 20, rows), 2),
            "paid": np.round(dice.gamma(3, 5, rows), 2),
            "country": dice.choice(["DE", "FR", "PT"], rows),
            "at": pa.array(np.datetime64("2026-01-01", "us") + np.arange(start, start + rows).astype("timedelta64[m]")),
        }
    )
    for name, values in changes.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    return table


def add(
    ws: Workspace, table: pa.Table, name: str = "orders", file: str = "a.parquet", **roles: str
) -> versions.DatasetVersion:
    folder = ws.project.root / "data" / name
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / file)
    return versions.add(ws, str(folder), name, **roles)


def rules(ws: Workspace, text: str, name: str = "orders") -> Path:
    path = ws.project.root / "checks" / f"{name}.toml"
    path.write_text(HEAD.replace("orders", name) + text)
    return path


def failed(found: suite.ChecksReport) -> dict[tuple[str, str], Any]:
    return {(f.rule, f.column): f for f in found.findings if not f.passed}


ALL = """
[table]
key = "id"
time = "at"
min_rows = 10
closed = true

[columns.id]
type = "text"
nulls = 0.0
pattern = "^o[0-9]+$"
length = [2, 12]

[columns.customer]
references = "customers.id"

[columns.amount]
min = 0.0
max = 100000.0

[columns.paid]
nulls = 0.0

[columns.country]
allowed = ["DE", "FR", "PT"]

[columns.at]
order = "increasing"
earliest = "2025-01-01"

[[rows]]
name = "paid before it is due"
where = "paid <= amount * 100"

[[rules]]
rule = "unique"
columns = ["id", "at"]
"""


def test_every_sort_of_rule_passes_on_good_data_and_names_its_rows_on_bad(ws: Workspace) -> None:
    add(ws, pa.table({"id": np.arange(50)}), "customers")
    add(ws, orders(), time="at", key="id")
    rules(ws, ALL)
    good = suite.run(ws, "orders")
    assert good.ok, failed(good)
    assert good.total >= 16
    bad = orders().to_pydict()
    bad["id"][3] = "x3"
    bad["customer"][5] = 77
    bad["amount"][7] = -1.0
    bad["paid"][9] = None
    bad["country"][11] = "XX"
    bad["at"][13] = bad["at"][2]
    bad["paid"][15] = bad["amount"][15] * 101
    bad["id"][17], bad["at"][17] = bad["id"][16], bad["at"][16]
    add(ws, pa.table(bad))
    found = failed(suite.run(ws, "orders"))
    rows = {key: finding.rows for key, finding in found.items()}
    assert rows == {
        ("pattern", "id"): (3,),
        ("references", "customer"): (5,),
        ("range", "amount"): (7,),
        ("nulls", "paid"): (9,),
        ("allowed", "country"): (11,),
        ("order", "at"): (13,),
        ("paid before it is due", ""): (7, 9, 15),
        ("unique", "id"): (16, 17),
        ("unique", "id, at"): (16, 17),
    }
    assert found["references", "customer"].examples == ("77",)
    assert found["allowed", "country"].message == "1 value is not among the 3 allowed"
    with pytest.raises(GateClosed):
        suite.require(ws, "orders")


ONE_OF_MANY = re.compile(
    r"\\b1 (rows|values|checks|columns|rules|warnings|keys|versions|files|others|distinct values)\\b"
)


def test_one_row_is_one_row_in_every_output_and_is_shown_with_its_number(ws: Workspace) -> None:
    add(ws, pa.table({"id": np.arange(50)}), "customers")
    bad = orders().to_pydict()
    bad["customer"][5], bad["amount"][7], bad["paid"][9], bad["country"][11] = 77, -1.0, None, "XX"
    bad["at"][13] = bad["at"][2]
    add(ws, pa.table(bad), time="at", key="id")
    rules(ws, ALL + '[[rules]]\nrule = "columns"\nmax = 1\n[[rules]]\nrule = "rows"\nmax = 1\n')
    found = suite.run(ws, "orders")
    shown = [
        show_checks.checks(msgspec.to_builtins(found)),
        Path(report.report(ws, "orders").to).read_text(),
        suite.stop_message(found),
        *(suite.in_words(finding) for finding in found.findings),
        *ws.ledger.facts(kind="checks.finished")[-1].payload.failures,
    ]
    assert [ONE_OF_MANY.findall(text) for text in shown] == [[]] * len(shown)
    assert "1 value is not in customers.id" in shown[0]
    by_rule = failed(found)
    one = by_rule["references", "customer"].samples
    assert [(sample.row, sample.values) for sample in one] == [(5, {"id": "o5", "customer": "77"})]
    pair = by_rule["paid before it is due", ""].samples[0]
    assert (pair.row, set(pair.values)) == (7, {"id", "amount", "paid"}), "every column that the rule looks at"
    assert "5 (77)" in shown[0]
    assert "<td class=x>77</td>" in shown[1]


def test_a_run_that_checks_stop_names_everything_that_is_wrong_and_the_page(ws: Workspace) -> None:
    add(ws, orders(), time="at", key="id")
    rules(ws, ALL.replace('references = "customers.id"', 'type = "number"'))
    bad = orders().to_pydict()
    bad["amount"][7:9], bad["paid"][9], bad["country"][11], bad["at"][13] = [-1.0, -2.0], None, "XX", bad["at"][2]
    bad["id"][3] = "x3"
    version = add(ws, pa.table(bad).rename_columns([name.replace("customer", "customer_no") for name in bad]))
    with pytest.raises(GateClosed) as caught:
        pins.checked(ws, {"orders": version})
    error = caught.value
    found = suite.latest(ws, "orders")
    assert found.failed == 8
    said = error.message.splitlines()
    assert len(said) <= 4, "with the page and the command it is six lines"
    assert "orders@2: 8 of" in said[0]
    assert "nothing was trained" in said[0]
    for column in ("customer", "amount", "paid", "country", "at", "id"):
        assert f"{column} (" in error.message, error.message
    assert re.search(r"and \d more: .*", said[-1])
    assert error.where == str(ws.project.state / "reports" / "orders@2.html")
    assert "What stopped it" in Path(error.where).read_text()
    assert error.hint == "noria data check orders@2"
    assert pins.check(ws, version).failures == tuple(map(suite.in_words, found.findings))


def test_a_missing_column_is_a_rule_of_its_own_and_names_the_nearest_one(ws: Workspace) -> None:
    add(ws, orders())
    rules(ws, '[columns.ammount]\ntype = "number"\nnulls = 0.0\n[columns.amount]\ntype = "number"\n')
    found = failed(suite.run(ws, "orders"))
    assert {key: f.message for key, f in found.items()} == {
        ("missing column", "ammount"): "no column 'ammount', did you mean 'amount'?"
    }
    rules(ws, '[columns.paid_at]\ntype = "number"\n[columns.paid]\ntype = "number"\n[columns.zzz]\nnulls = 0.0\n')
    renamed = add(
        ws, orders().rename_columns(["id", "customer", "amount", "paid", "country", "PaidAt"]), file="b.parquet"
    )
    said = {f.column: f.message for f in suite.run(ws, renamed.ref).findings if f.file == "b.parquet"}
    assert said["paid_at"] == "no column 'paid_at', did you mean 'PaidAt'?", "not 'paid', which has rules of its own"
    assert said["zzz"] == "no column 'zzz'"


def test_csv_and_json_lines_are_checked_like_parquet(ws: Workspace) -> None:
    folder = ws.project.root / "data" / "orders"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("zip,n\n02139,1\n10001,2\n")
    (folder / "b.jsonl").write_text('{"zip": "0213", "n": 3}\n{"zip": "94110", "n": null}\n')
    versions.add(ws, str(folder), "orders")
    rules(ws, '[columns.zip]\ntype = "text"\nlength = [5, 5]\n[columns.n]\nnulls = 0.0\n')
    found = failed(suite.run(ws, "orders"))
    assert {(key, f.file, f.rows) for key, f in found.items()} == {
        (("length", "zip"), "b.jsonl", (0,)),
        (("nulls", "n"), "b.jsonl", (1,)),
    }


def test_nothing_passes_by_being_skipped(ws: Workspace) -> None:
    add(ws, orders(50))
    path = rules(ws, "")
    empty = suite.run(ws, "orders")
    assert [(f.rule, f.passed) for f in empty.findings] == [("suite", False)]
    assert "no rules" in empty.findings[0].message
    path.write_text(HEAD + '[columns.nosuch]\nnulls = 0.5\n[[rows]]\nname = "r"\nwhere = "nosuch > 1"\n')
    assert set(failed(suite.run(ws, "orders"))) == {("missing column", "nosuch"), ("r", "")}
    path.write_text(HEAD + '[columns.id]\nreferences = "gone.id"\n')
    assert "no data set" in failed(suite.run(ws, "orders"))["references", "id"].message.replace("there is ", "")
    path.write_text(HEAD + "[columns.amount]\nshift = 0.1\n")
    assert "no profile of the reference" in failed(suite.run(ws, "orders"))["shift", "amount"].message
    path.write_text(HEAD + '[table]\nfresh = "1d"\n')
    assert "cannot be evaluated" in failed(suite.run(ws, "orders"))["fresh", ""].message
    path.write_text(HEAD + '[[rules]]\nrule = "rows"\ndataset = "orders"\n[leakage]\nholdout = "gone"\n')
    assert "cannot be evaluated" in failed(suite.run(ws, "orders"))["leakage", ""].message


@pytest.mark.parametrize(
    ("column", "rule", "name", "told"),
    [
        ("country", 'earliest = "2020-01-01"', "time", "'country' is text, not a time"),
        ("country", 'latest = "2020-01-01"', "time", "'country' is text, not a time"),
        ("amount", 'earliest = "2020-01-01"', "time", "'amount' is number, not a time"),
        ("country", "min = 3", "range", "the column is text"),
        ("at", "min = 3", "range", "the column is time"),
        ("at", "step = 0.5", "resolution", "the column is time"),
        ("amount", 'levels = ["a"]\nnew_levels = 0.0', "levels", "the column is number"),
    ],
)
def test_a_short_rule_for_another_type_is_never_left_out(
    ws: Workspace, column: str, rule: str, name: str, told: str
) -> None:
    add(ws, orders(50))
    rules(ws, f"[columns.{column}]\n{rule}\n")
    found = suite.run(ws, "orders")
    assert not found.ok
    assert failed(found)[name, column].message == f"cannot be evaluated: {told}"


def test_a_time_that_is_none_fails_as_every_other_wrong_rule(ws: Workspace) -> None:
    add(ws, orders(50))
    rules(ws, '[table]\ntime = "country"\n[columns.amount]\nmin = 0.0\n')
    found = suite.run(ws, "orders")
    assert not found.ok
    assert failed(found)["time", ""].message == "cannot be evaluated: column 'country' is string, not a time"


def test_empty_data_fail_and_an_empty_file_is_told(ws: Workspace) -> None:
    with pytest.raises(UsageError, match="no rows"):
        add(ws, orders(0))
    (ws.project.root / "data/orders/b.parquet").unlink(missing_ok=True)
    pq.write_table(orders(10), ws.project.root / "data/orders/b.parquet")
    version = versions.add(ws, str(ws.project.root / "data/orders"), "orders")
    rules(ws, "[columns.id]\nnulls = 0.0\n")
    found = suite.run(ws, "orders")
    none = wholes.check_table(ws, dataclasses.replace(version, rows=0), Suite(dataset="orders"), [], accepted_rows=0)
    assert [(f.rule, f.passed, f.message) for f in none] == [("rows", False, "0 rows, at least 1")]
    assert (found.ok, [(f.rule, f.severity, f.file) for f in found.findings]) == (True, [("rows", "warn", "a.parquet")])


def test_growth_columns_and_row_counts(ws: Workspace) -> None:
    add(ws, orders(100))
    rules(ws, '[table]\ngrow = 1.5\nkeep = 0.9\n[columns.id]\nnulls = 0.0\n[[rules]]\nrule = "rows"\nmax = 180\n')
    assert suite.run(ws, "orders").ok
    add(ws, orders(200))
    assert set(failed(suite.run(ws, "orders"))) == {("growth", ""), ("rows", "")}
    add(ws, orders(80))
    assert set(failed(suite.run(ws, "orders@3"))) == {("rows", "")}
    rules(ws, "[table]\nclosed = true\n[columns.id]\nnulls = 0.0\n")
    assert "customer, amount" in failed(suite.run(ws, "orders@1"))["columns", ""].message
    rules(ws, '[columns.id]\nnulls = 0.0\n[[rules]]\nrule = "rows"\nmin = 5000\nmax = 5000\n')
    assert failed(suite.run(ws, "orders@1"))["rows", ""].message == "100 rows, not 5,000"


def test_a_column_of_which_only_a_listed_rule_or_the_key_speaks_has_rules(ws: Workspace) -> None:
    add(ws, orders(100))
    listed = """[table]
key = "id"
time = "at"
closed = true
[[rules]]
rule = "range"
column = "amount"
min = 0
where = "country = 'PT'"
[[rules]]
rule = "unique"
columns = ["id", "customer"]
[[rows]]
name = "cents"
where = "paid >= 0"
"""
    rules(ws, listed)
    told = failed(suite.run(ws, "orders"))["columns", ""].message
    assert told == "1 column without rules: country", "a condition on which rows are asked is no rule about its column"
    rules(ws, listed + '[[rules]]\nrule = "not_null"\ncolumn = "country"\n')
    assert suite.run(ws, "orders").ok


def test_the_one_word_that_makes_a_column_text_is_the_row_that_is_shown(ws: Workspace) -> None:
    prices = [f"{number % 90}.5" for number in range(22_000)]
    place = ws.project.root / "orders.csv"
    place.write_text("\n".join(["price", *prices]))
    versions.add(ws, str(place), "orders")
    infer.infer(ws, "orders")
    assert suite.run(ws, "orders").ok
    prices[20_000] = "abc"
    place.write_text("\n".join(["price", *prices]))
    versions.add(ws, str(place), "orders")
    found = failed(suite.run(ws, "orders"))["type", "price"]
    assert (found.count, found.total, found.rows, found.examples) == (1, 22_000, (20_000,), ("abc",))
    assert found.message.endswith("not number: 1 value is not written as a number (<0.1 % of rows)")
    assert found.samples[0].values["price"] == "abc"


def test_a_distribution_is_held_against_the_reference(ws: Workspace) -> None:
    add(ws, orders(3000))
    infer.infer(ws, "orders")
    path = ws.project.root / "checks/orders.toml"
    path.write_text(path.read_text().replace("[columns.amount]\n", "[columns.amount]\nshift = 0.1\n"))
    path.write_text(path.read_text().replace("[columns.country]\n", "[columns.country]\nshift = 0.1\n"))
    assert suite.run(ws, "orders").ok
    same = orders(3000, start=3000)
    add(ws, same, file="b.parquet")
    assert suite.run(ws, "orders").ok
    moved = same["amount"].to_numpy() * 1.6
    add(ws, orders(3000, start=6000, amount=np.round(moved, 2), country=["PT"] * 3000), file="c.parquet")
    found = failed(suite.run(ws, "orders"))
    assert {("shift", "amount"), ("shift", "country")} <= set(found)
    assert "from the reference's (at most 0.1)" in found["shift", "amount"].message
    (ws.project.root / "checks/.inferred/orders.profile.json").write_text("{")
    with pytest.raises(Corrupt):
        suite.run(ws, "orders@1")


def test_a_report_is_used_again_only_while_nothing_it_looked_at_has_changed(ws: Workspace) -> None:
    add(ws, pa.table({"id": np.arange(50)}), "customers")
    add(ws, orders())
    rules(ws, '[columns.customer]\nreferences = "customers.id"\n')
    assert suite.run(ws, "orders").ok
    head = ws.ledger.head()
    assert suite.run(ws, "orders").ok
    assert ws.ledger.head() == head
    add(ws, pa.table({"id": np.arange(10)}), "customers")
    found = suite.run(ws, "orders")
    assert not found.ok, "another version of the data set that it refers to"
    assert failed(found)["references", "customer"].count > 100


def test_python_functions_stop_data_and_are_asked_every_time(ws: Workspace) -> None:
    add(ws, orders())
    rules(ws, "[columns.id]\nnulls = 0.0\n")
    (ws.project.root / "checks" / "mine.py").write_text(
        "import noria as nr\nimport pandas as pd\n\n"
        "@nr.check('orders', columns=['amount', 'paid'])\n"
        "def paid_is_less(rows: pd.DataFrame):\n    return rows['paid'] < rows['amount'] + 60\n"
    )
    found = suite.run(ws, "orders")
    pairs = orders().select(["amount", "paid"]).to_pandas()
    expected = np.flatnonzero(~(pairs["paid"] < pairs["amount"] + 60))
    assert (found.ok, set(failed(found))) == (len(expected) == 0, {("paid_is_less", "")} if len(expected) else set())
    (ws.project.root / "checks" / "mine.py").write_text(
        "import noria as nr\n@nr.check('orders')\ndef never(rows):\n    return rows.num_rows > 10**6\n"
    )
    assert set(failed(suite.run(ws, "orders"))) == {("never", "")}
    (ws.project.root / "checks" / "mine.py").write_text("1 / 0\n")
    with pytest.raises(ProjectError):
        suite.run(ws, "orders")


def test_failing_rows_are_set_apart_and_the_rest_passes(ws: Workspace) -> None:
    add(ws, orders(), key="id", time="at")
    rules(ws, ALL.replace('[columns.customer]\nreferences = "customers.id"\n', "[columns.customer]\nnulls = 0.0\n"))
    assert suite.run(ws, "orders").ok
    bad = orders(300, start=400).to_pydict()
    bad["id"][3], bad["amount"][7], bad["country"][11] = "x3", -1.0, "XX"
    bad["id"][20] = "o5"  # also in the file that was accepted before
    bad["amount"][11] = -2.0
    add(ws, pa.table(bad), file="b.parquet")
    assert not suite.run(ws, "orders").ok
    found = quarantine.quarantine(ws, "orders")
    assert (found.rows, found.failing, found.quarantine, found.clean) == (
        700,
        4,
        "orders.quarantine@1",
        "orders.clean@1",
    )
    apart = read.table(ws, versions.resolve(ws, "orders.quarantine"))
    assert apart["id"].to_pylist() == ["x3", bad["id"][7], bad["id"][11], "o5"]
    clean = versions.resolve(ws, "orders.clean")
    assert (clean.rows, clean.key, clean.time) == (696, "id", "at")
    rules(ws, (ws.project.root / "checks/orders.toml").read_text().replace(HEAD, ""), "orders.clean")
    assert suite.run(ws, "orders.clean").ok
    assert not suite.latest(ws, "orders").ok, "the version that was checked is as it was"
    again = quarantine.quarantine(ws, "orders")
    assert (again.quarantine, again.clean) == (found.quarantine, found.clean), "the same rows are the same version"


def test_a_rule_about_the_whole_accuses_no_row(ws: Workspace) -> None:
    add(ws, orders(100))
    rules(ws, "[table]\nmin_rows = 1000\n[columns.id]\nnulls = 0.0\n")
    found = quarantine.quarantine(ws, "orders")
    assert (found.failing, found.quarantine, found.whole) == (0, "", ("table: rows: 100 rows, at least 1,000",))


def test_leakage_between_training_and_holdout(ws: Workspace) -> None:
    dice = np.random.default_rng(1)
    late = dice.integers(0, 2, 600)
    train = (
        orders(600)
        .append_column("late", pa.array(late))
        .append_column("delay", pa.array(late * 30.0 + dice.random(600)))
    )
    train = train.append_column("verdict", pa.array(np.where(late == 1, "y", "n")))
    train = train.append_column("hint", pa.array(late * 1.0 + dice.normal(0, 2, 600)))
    hold = orders(200, start=600).append_column("late", pa.array(dice.integers(0, 2, 200)))
    mixed = pa.concat_tables([hold, train.slice(100, 7).select(hold.column_names)])
    add(ws, train, time="at")
    add(ws, hold, "holdout", time="at")
    text = '[leakage]\nholdout = "holdout"\ntime = "at"\n'
    rules(ws, text)
    assert suite.run(ws, "orders").ok
    add(ws, mixed, "holdout", time="at")
    found = failed(suite.run(ws, "orders"))
    assert set(found) == {("leakage: duplicates", ""), ("leakage: time", "at")}
    assert found["leakage: duplicates", ""].rows == tuple(range(100, 107))
    assert "7 rows of holdout@2" in found["leakage: duplicates", ""].message
    rules(ws, '[leakage]\nholdout = "holdout"\nduplicates = 0.05\n')
    assert suite.run(ws, "orders").ok, "7 of 207 are less than 5 %"
    rules(ws, '[leakage]\nholdout = "holdout"\nkey = "id"\nlabel = "late"\n')
    found = failed(suite.run(ws, "orders"))
    assert set(found) == {
        ("leakage: duplicates", "id"), ("leakage: copies", "delay"), ("leakage: copies", "verdict"),
    }  # fmt: skip
    assert "area under the ROC curve 1.0000" in found["leakage: copies", "delay"].message
    rules(ws, '[leakage]\nlabel = "late"\nignore = ["delay", "verdict"]\n')
    assert suite.run(ws, "orders").ok, "an id, a time and a weak hint are no copies"
    rules(ws, '[leakage]\nlabel = "nosuch"\n')
    assert "no column" in failed(suite.run(ws, "orders"))["leakage: copies", "nosuch"].message


def test_a_number_as_label_is_copied_by_what_orders_it_alike(ws: Workspace) -> None:
    amounts = orders(500)["amount"].to_numpy()
    table = orders(500).append_column("cents", pa.array((amounts * 100) ** 1.5))
    add(ws, table)
    rules(ws, '[leakage]\nlabel = "amount"\n')
    assert set(failed(suite.run(ws, "orders"))) == {("leakage: copies", "cents")}


def test_a_pandera_schema_checks_alone_and_as_part_of_a_suite(ws: Workspace) -> None:
    (ws.project.root / "schemas.py").write_text(
        "import pandera.pandas as pa\nOrders = pa.DataFrameSchema({'amount': pa.Column(float, pa.Check.ge(0)),"
        " 'country': pa.Column(str, pa.Check.isin(['DE', 'FR', 'PT']))})\n"
    )
    add(ws, orders())
    assert schemarun.check_schema(ws, "orders", "schemas:Orders").ok
    rules(ws, 'pandera = "schemas:Orders"\n')
    assert suite.run(ws, "orders").ok
    add(ws, orders(country=["XX"] * 400))
    alone = schemarun.check_schema(ws, "orders", "schemas:Orders")
    assert (alone.ok, {f.column for f in alone.findings}) == (False, {"country"})
    inside = suite.run(ws, "orders")
    assert (inside.ok, {f.column for f in inside.findings}) == (False, {"country"})
    assert "PYARROW_IGNORE_TIMEZONE" not in os.environ, "pandera sets it, and pyarrow then drops offsets"
    moment = datetime.datetime(2020, 1, 1, 10, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    assert pa.array([moment], pa.timestamp("us", tz="UTC"))[0].as_py() == moment
    rules(ws, 'pandera = "schemas:Gone"\n')
    with pytest.raises(NotFound):
        suite.run(ws, "orders")


def test_rules_of_other_tools_are_added_once_and_refusals_are_written_down(ws: Workspace) -> None:
    add(ws, orders())
    path = rules(ws, "[columns.id]\nnulls = 0.0  # mine\n")
    text = json.dumps(
        {
            "name": "s",
            "expectations": [
                {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id"}},
                {
                    "type": "expect_column_values_to_be_in_set",
                    "kwargs": {"column": "country", "value_set": ["DE"], "mostly": 0.5},
                },
                {"type": "expect_column_values_to_be_dateutil_parseable", "kwargs": {"column": "at"}},
            ],
        }
    )
    (ws.project.root / "suite.json").write_text(text)
    found = exchange.import_rules(ws, "gx", "suite.json", "orders")
    assert (found.mapped, found.refused, found.added) == (2, 1, 2)
    written = path.read_text()
    assert "nulls = 0.0  # mine" in written
    assert "# refused: expect_column_values_to_be_dateutil_parseable (at): no rule here says the same" in written
    again = exchange.import_rules(ws, "gx", "suite.json", "orders")
    assert (again.added, path.read_text()) == (0, written)
    report_ = suite.run(ws, "orders")
    assert set(failed(report_)) == {("column values to be in set", "country")}
    exported = exchange.export_rules(ws, "pandera", "orders", to=str(ws.project.root / "out.py"))
    compile(Path(exported.to).read_text(), exported.to, "exec")
    fresh = exchange.import_rules(ws, "gx", "suite.json", "customers")
    assert (ws.project.root / "checks/customers.toml").is_file()
    assert fresh.added == 2


def test_versions_are_watched_before_any_model_sees_them(ws: Workspace) -> None:
    for index in range(8):
        add(ws, orders(500 + index, start=index))
    assert watch.watch(ws).ok
    burst = orders(509).to_pydict()
    burst["amount"][100:300] = [None] * 200
    add(ws, pa.table(burst))
    found = watch.watch(ws, "orders")
    assert (found.ok, [(a.question, a.column, a.severity) for a in found.datasets[0].anomalies]) == (
        False, [("nulls", "amount", "error")],
    )  # fmt: skip
    add(ws, orders(90).drop_columns(["paid"]))
    questions = {(a.question, a.column, a.severity) for a in watch.watch(ws).datasets[0].anomalies}
    assert {("volume", "", "error"), ("schema", "paid", "error")} <= questions
    assert ("nulls", "amount", "error") not in questions, "an old anomaly is not the newest version's"


def test_a_count_of_nulls_that_was_altered_or_cleared_away_is_made_again(ws: Workspace) -> None:
    for index in range(7):
        add(ws, orders(500 + index, start=index))
    first = watch.watch(ws)
    notes = sorted((ws.project.state / "cache" / "nulls").iterdir())
    notes[0].write_text("{")
    notes[1].unlink()
    assert watch.watch(ws) == first
    assert sorted((ws.project.state / "cache" / "nulls").iterdir()) == notes


def test_the_page_holds_everything_and_fetches_nothing(ws: Workspace) -> None:
    bad = orders().to_pydict()
    bad["country"][4] = '<script>alert("x")</script>'
    add(ws, orders())
    rules(ws, '[columns.country]\nallowed = ["DE", "FR", "PT"]\n[columns.amount]\nmin = 0.0\n')
    suite.run(ws, "orders")
    add(ws, pa.table(bad), file="b.parquet")
    assert not suite.run(ws, "orders").ok
    made = report.report(ws, "orders")
    assert Path(made.to) == ws.project.state / "reports" / "orders@2.html"
    page = Path(made.to).read_text()
    assert "<script" not in page
    for part in ("&lt;script&gt;", "allowed", "0.2 %", "Row numbers", ">4<", "<svg", "b.parquet", "DE 3"):
        assert part in page, part
    for word in ("http://", "https://", "src=", "@import", "url("):
        assert word not in page


def test_a_key_in_a_far_file_is_found_on_disk_too(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    add(ws, orders())
    rules(ws, '[table]\nkey = "id"\n')
    assert suite.run(ws, "orders").ok
    add(ws, orders(100, start=395), file="b.parquet")
    usual = failed(suite.run(ws, "orders"))["unique", "id"]
    monkeypatch.setattr(wholes, "KEY_ROWS_MAX", 100)
    rules(ws, '[table]\nkey = "id"\n\n')
    found = failed(suite.run(ws, "orders"))["unique", "id"]
    assert (usual.rows, usual.count, usual.file, usual.message) == (
        (0, 1, 2, 3, 4), 5, "b.parquet", "10 rows share their key with another row",
    )  # fmt: skip
    both = ": row 395 of a.parquet, row 0 of b.parquet"
    assert (found.message, found.examples[0]) == (usual.message + both, "o395"), "other rules: both files are new"


@pytest.mark.parametrize("most", [10**9, 10])
def test_a_key_without_any_value_does_not_pass(ws: Workspace, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Whether keys are compared in memory or (`most`) on disk."""
    monkeypatch.setattr(wholes, "KEY_ROWS_MAX", most)
    empty, one = pa.nulls(400, pa.string()), pa.array([None, *(f"o{i}" for i in range(399))])
    add(ws, orders(id=empty))
    rules(ws, '[columns.id]\nunique = true\n[[rules]]\nrule = "unique"\ncolumns = ["id"]\nname = "named"\n')
    found = failed(suite.run(ws, "orders"))
    said = "cannot be evaluated: the column has no values (allow_empty = true lets that pass)"
    assert {key: (f.message, f.file) for key, f in found.items()} == {
        ("unique", "id"): (said, "a.parquet"), ("named", "id"): (said, "a.parquet"),
    }  # fmt: skip
    allowed = "[columns.id]\nunique = true\nnulls = 1.0\n"
    rules(ws, allowed + '[[rules]]\nrule = "unique"\ncolumns = ["id"]\nallow_empty = true\n')
    assert suite.run(ws, "orders").ok
    add(ws, orders(id=one))
    rules(ws, "[columns.id]\nunique = true\n")
    assert suite.run(ws, "orders").ok, "a null repeats nothing"
    rules(ws, '[table]\nkey = "id"\n')
    found = failed(suite.run(ws, "orders"))
    assert [(f.message, f.rows) for f in found.values()] == [("a row has no key", (0,))], "every row has a key"


def test_a_new_month_without_any_key_is_named_beside_months_that_have_them(ws: Workspace) -> None:
    add(ws, orders())
    rules(ws, "[columns.id]\nunique = true\n")
    assert suite.run(ws, "orders").ok
    add(ws, orders(200, start=400, id=pa.nulls(200, pa.string())), file="b.parquet")
    found = failed(suite.run(ws, "orders"))["unique", "id"]
    assert (found.file, found.count, found.severity) == ("b.parquet", 200, "error")


def test_times_beyond_tomorrow_say_what_allows_them(ws: Workspace) -> None:
    ahead = np.datetime64(datetime.datetime.now(datetime.UTC).replace(tzinfo=None), "us") + np.timedelta64(700, "D")
    late = orders().to_pydict()
    late["at"][7] = ahead.astype(object)
    add(ws, pa.table(late), time="at")
    rules(ws, '[table]\ntime = "at"\n')
    found = failed(suite.run(ws, "orders"))["time range", "at"]
    assert found.message.endswith('after tomorrow; where that is right: [table] ahead = "700d" in checks/orders.toml')
    edit = found.message.rpartition("[table] ")[2].partition(" in ")[0]
    rules(ws, f'[table]\ntime = "at"\n{edit}\n')
    assert suite.run(ws, "orders").ok
    rules(ws, '[table]\ntime = "at"\nahead = "600d"\n')
    assert "further ahead than 600d" in failed(suite.run(ws, "orders"))["time range", "at"].message
    rules(ws, '[table]\ntime = "at"\nahead = "soon"\n')
    with pytest.raises(ConfigError, match="not a duration"):
        suite.run(ws, "orders")
    (ws.project.root / "checks" / "orders.toml").unlink()
    infer.infer(ws, "orders")
    assert ("time range", "at") in failed(suite.run(ws, "orders")), "a slip of the pen is not learned"


def test_what_was_too_far_ahead_is_asked_again_when_time_went_on(ws: Workspace, tmp_path: Path) -> None:
    class Later:
        def now(self) -> datetime.datetime:
            return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=9)

    soon = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(days=5)
    late = orders().to_pydict()
    late["at"][7] = soon
    add(ws, pa.table(late), time="at")
    rules(ws, '[table]\ntime = "at"\n')
    assert not suite.run(ws, "orders").ok
    later = dataclasses.replace(ws, clock=Later())
    assert suite.run(later, "orders").ok


PEAK = """
import sys
from pathlib import Path
from noria.bootstrap import open_workspace
from noria.checks import suite
from noria.config import Project
ws = open_workspace(project=Project(name="t", root=Path(sys.argv[1])), actor="user:t")
assert suite.run(ws, sys.argv[2]).ok
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024)
"""


def test_memory_does_not_grow_with_the_file(ws: Workspace) -> None:
    """Ten times the rows (160 MB as columns) may cost what their hashes take, and little more."""
    dice = np.random.default_rng(1)
    peaks = []
    for rows in (250_000, 2_500_000):
        columns: dict[str, Any] = {f"x{i}": dice.integers(0, 10**6, rows).astype(float) for i in range(8)}
        add(ws, pa.table({"id": np.arange(rows), **columns}), file="big.parquet")
        lines = "".join(f"[columns.x{i}]\nnulls = 0.0\nmin = 0.0\nmax = 1000000.0\n" for i in range(8))
        rules(ws, f'[table]\nkey = "id"\nkeep = 0.0\n{lines}')
        script = [sys.executable, "-c", PEAK, str(ws.project.root), "orders"]
        done = subprocess.run(script, capture_output=True, text=True, check=True, timeout=120)
        peaks.append(int(done.stdout))
    assert peaks[1] < 300, peaks
    assert peaks[1] - peaks[0] < 100, peaks


# --- the command -----------------------------------------------------------------------------------


def noria(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return warm.noria(*words, cwd=root, timeout=120)


def test_the_command_says_no_with_1_and_a_broken_suite_with_2(tmp_path: Path) -> None:
    (tmp_path / "noria.toml").write_text('[project]\nname = "p"\n')
    pq.write_table(orders(2000), tmp_path / "orders.parquet")
    assert noria(tmp_path, "data", "add", "orders.parquet", "--name", "orders").returncode == 0
    first = noria(tmp_path, "data", "check", "orders", "--infer")
    assert (first.returncode, "checks/orders.toml  written" in first.stdout) == (0, True), first.stdout + first.stderr
    bad = orders(2000).to_pydict()
    bad["amount"][10:400] = [None] * 390
    pq.write_table(pa.table(bad), tmp_path / "orders.parquet")
    noria(tmp_path, "data", "add", "orders.parquet", "--name", "orders")
    said = noria(tmp_path, "data", "check", "orders", "--quarantine")
    assert said.returncode == 1
    for part in (
        "STOP orders@2",
        "amount",
        "nulls",
        "390 rows (19.5 %) of orders.parquet: 10, 11, 12 …",
        "390 rows → orders.quarantine@1",
        "page ",
    ):
        assert part in said.stdout, said.stdout
    assert (tmp_path / ".noria/reports/orders@2.html").is_file()
    plain = noria(tmp_path, "data", "check", "orders", "--json")
    assert (plain.returncode, json.loads(plain.stdout)["ok"]) == (1, False)
    path = tmp_path / "checks/orders.toml"
    path.write_text(path.read_text().replace("[columns.amount]\ntype", "[columns.amount]\ntpye"))
    wrong = noria(tmp_path, "data", "check", "orders")
    assert wrong.returncode == 2
    assert "did you mean 'type'?" in wrong.stderr
    assert "line " in wrong.stderr
    assert noria(tmp_path, "data", "check", "orders", "--accept").returncode == 2
    watched = noria(tmp_path, "data", "watch")
    assert (watched.returncode, "orders@2" in watched.stdout) == (0, True)


def test_inferring_again_shows_a_diff_and_accept_takes_it(tmp_path: Path) -> None:
    (tmp_path / "noria.toml").write_text('[project]\nname = "p"\n')
    pq.write_table(orders(2000), tmp_path / "orders.parquet")
    noria(tmp_path, "data", "add", "orders.parquet", "--name", "orders")
    noria(tmp_path, "data", "check", "orders", "--infer")
    path = tmp_path / "checks/orders.toml"
    path.write_text(path.read_text().replace("[columns.paid]\n", "[columns.paid]\n# watched by finance\n", 1))
    pq.write_table(orders(2000, country=["DE", "SE"] * 1000), tmp_path / "orders.parquet")
    noria(tmp_path, "data", "add", "orders.parquet", "--name", "orders")
    before = path.read_text()
    shown = noria(tmp_path, "data", "check", "orders", "--infer")
    assert '- columns.country.levels = ["DE", "FR", "PT"]' in shown.stdout
    assert '+ columns.country.levels = ["DE", "SE"]' in shown.stdout
    assert path.read_text() == before
    taken = noria(tmp_path, "data", "check", "orders", "--infer", "--accept")
    assert taken.returncode == 0, taken.stdout + taken.stderr
    assert 'levels = ["DE", "SE"]' in path.read_text()
    assert "# watched by finance" in path.read_text()


def test_configured_freshness_is_inferred_and_judged(tmp_path: Path) -> None:
    config = {"orders": DataConfig(fresh="24h")}
    ws = open_workspace(project=Project(name="t", root=tmp_path, data=config), actor="user:test")
    add(ws, orders(), time="at")
    infer.infer(ws, "orders")
    assert 'fresh = "24h"' in (tmp_path / "checks/orders.toml").read_text()
    assert ("fresh", "at") in failed(suite.run(ws, "orders")) or ws.clock.now().year < 2026


def test_a_suite_with_a_typo_stops_before_anything_is_read(ws: Workspace) -> None:
    add(ws, orders())
    rules(ws, "[columns.id]\nnuls = 0.0\n")
    head = ws.ledger.head()
    with pytest.raises(ConfigError):
        suite.run(ws, "orders")
    assert ws.ledger.head() == head


def test_a_folder_of_files_is_watched_by_its_files(ws: Workspace) -> None:
    photos = ws.project.root / "photos"
    photos.mkdir()
    for number in range(12):
        (photos / f"{number}.jpg").write_bytes(b"\xff\xd8" + bytes([number]))
    versions.add(ws, "photos", "photos")
    [found] = watch.watch(ws, "photos").datasets
    assert (found.ok, found.rows, found.unit, found.anomalies) == (True, 12, "file", ())
    for number in range(10):
        (photos / f"{number}.jpg").unlink()
    versions.add(ws, "photos", "photos")
    [found] = watch.watch(ws, "photos").datasets
    assert [anomaly.message for anomaly in found.anomalies] == ["2 files, 12 before; 1 earlier version says little"]


@pytest.mark.parametrize(
    "text", ["[columns.amount]\nmin = nan\n", '[[rules]]\nrule = "range"\ncolumn = "amount"\nmax = nan\n']
)
def test_a_bound_that_is_no_number_is_refused(ws: Workspace, text: str) -> None:
    add(ws, orders())
    path = rules(ws, text)
    with pytest.raises(ConfigError, match="is nan, which nothing can be compared with") as refused:
        suite.run(ws, "orders")
    assert str(path) in refused.value.where


def test_a_suite_about_another_data_set_is_refused(ws: Workspace) -> None:
    add(ws, orders())
    path = rules(ws, "[columns.id]\nnulls = 0.0\n")
    path.write_text(path.read_text(encoding="utf-8").replace('dataset = "orders"', 'dataset = "zzz"'), encoding="utf-8")
    with pytest.raises(ConfigError, match="the checks are about 'zzz', and the file is that of 'orders'"):
        suite.run(ws, "orders")
