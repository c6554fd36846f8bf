"""Rules on made-up columns, where the truth is known."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.checks import infer
from noria.checks.evaluate import Batch, check_column, most_by_chance
from noria.checks.facts import Finding
from noria.checks.misfits import misfits
from noria.checks.scanning import units
from noria.checks.scanning.profile import TableProfile, profile_column, profile_table
from noria.checks.suites.rules import ColumnRules, RowRule
from noria.checks.wholes import check_rows
from noria.data.forms import text


def array(values: Any) -> Any:
    return values if isinstance(values, pa.Array) else pa.array(values, from_pandas=True)


def batch(values: Any, accepted: Any = None, *, others: dict[str, Any] | None = None, file: str = "new.csv") -> Batch:
    table = pa.table({"x": array(values), **(others or {})})
    base = None if accepted is None else profile("old.csv", pa.table({"x": array(accepted)}))
    return Batch(file, table, profile(file, table), base)


def profile(file: str, table: pa.Table) -> TableProfile:
    return TableProfile(
        file=file, digest="", rows=table.num_rows, time_min="", time_max="", columns=profile_table(table)
    )


def learned(values: Any, drift: float = 0.5) -> ColumnRules:
    column = pa.chunked_array([array(values)])
    return infer._column(profile_column(column), role="", drift=drift)


def failed(rules: ColumnRules, new: Batch) -> dict[str, Finding]:
    return {f.rule: f for f in check_column("x", rules, new) if not f.passed and f.severity == "error"}


def dice() -> np.random.Generator:
    """The same numbers in every test, whatever the order of tests."""
    return np.random.default_rng(7)


RANDOM = dice()
COLD = np.round(RANDOM.normal(5, 5, 4000), 1) * 1.8 + 32
HOT = np.round(RANDOM.normal(26, 4, 4000), 1) * 1.8 + 32
AMOUNTS = RANDOM.lognormal(3, 1.2, 4000)
REAL = RANDOM.normal(1000, 5, 4000)


def test_a_hot_month_passes_and_the_same_month_in_celsius_does_not() -> None:
    rules = learned(COLD)
    assert failed(rules, batch(HOT, COLD)) == {}
    found = failed(rules, batch((HOT - 32) / 1.8, COLD))
    assert "resolution" in found
    assert found["resolution"].count > 3000
    assert "Celsius" in failed(rules, batch((COLD - 32) / 1.8, COLD))["resolution"].message


@pytest.mark.parametrize("conversion", units.CONVERSIONS, ids=lambda c: c.name)
def test_every_known_conversion_of_a_column_with_a_resolution_is_seen(conversion: units.Conversion) -> None:
    whole = np.round(dice().gamma(4, 200, 4000)) + 40
    found = failed(learned(whole), batch(whole * conversion.scale + conversion.shift, whole))
    assert found, conversion.name


@pytest.mark.parametrize(
    ("values", "factor"), [(REAL, 1.1), (REAL, 0.9), (AMOUNTS, 25.4), (AMOUNTS, 0.01), (AMOUNTS, 100.0)]
)
def test_a_column_without_a_resolution_is_judged_by_its_distance(values: Any, factor: float) -> None:
    rules = learned(values)
    assert rules.step is None
    assert failed(rules, batch(values, values)) == {}
    assert "unit" in failed(rules, batch(values * factor, values))


def test_what_cannot_be_told_from_growth_passes() -> None:
    """Real amounts times 1.6 without any resolution look like a good year; said in the docs."""
    assert failed(learned(AMOUNTS), batch(AMOUNTS * 1.6, AMOUNTS)) == {}


def test_a_coarser_resolution_is_seen_when_it_cannot_be_chance() -> None:
    counts = dice().integers(1, 9, 4000)
    found = failed(learned(counts), batch(counts * 100, counts))
    assert {"resolution", "range", "unit"} & set(found)
    halves = np.repeat([0.5, 1.0, 10.0], [10, 30, 4000])
    fine = np.append(halves, [0.12, 0.37, 0.06])
    assert failed(learned(fine), batch(halves, fine)) == {}, "a month without the rare fine values is fine"


def test_half_a_file_in_another_unit_is_named_by_its_rows() -> None:
    miles = dice().integers(80, 5000, 2000).astype(float)
    mixed = np.where(np.arange(2000) >= 1500, miles * 1.609344, miles)
    found = failed(learned(miles), batch(mixed, miles))["resolution"]
    assert found.count == pytest.approx(500, abs=15)
    assert 1500 <= found.rows[0] < 1510
    assert found.file == "new.csv"
    assert len(found.rows) == 10


def test_a_burst_of_nulls_is_counted_and_chance_is_not() -> None:
    whole = dice().integers(0, 100, 5000).astype(float)
    some = np.where(dice().random(5000) < 0.02, np.nan, whole)
    rules = learned(some)
    assert failed(rules, batch(some, some)) == {}
    burst = whole.copy()
    burst[100:600] = np.nan
    found = failed(rules, batch(burst, some))["nulls"]
    assert (found.count, found.rows, found.examples) == (500, tuple(range(100, 110)), ("null",))
    assert failed(rules, batch(burst[90:110][:12], some)) == {}, "two nulls in twelve rows prove nothing"


def test_nan_and_null_are_both_missing() -> None:
    rules = learned(np.arange(2000.0))
    missing = pa.array([1.0, None, float("nan")] * 1000)
    found = {f.rule for f in check_column("x", rules, batch(missing)) if not f.passed}
    assert "nulls" in found


def test_missing_values_need_their_reason() -> None:
    speed = dice().integers(0, 30, 4000).astype(float)
    gust = np.where(speed >= 15, speed * 1.5, np.nan)
    table = pa.table({"x": pa.array(gust, from_pandas=True), "speed": pa.array(speed)})
    profiles = profile_table(table)
    when, share = infer._reasons(table, profiles)["x"]
    assert (when.column, when.sign, share) == ("speed", ">=", 0.0)
    rules = infer._with_reason(learned(gust), when, share)
    assert failed(rules, batch(gust, others={"speed": speed})) == {}
    calm = np.where(speed < 20, np.nan, gust)
    calm_speed = np.where(speed < 20, np.minimum(speed, 14), speed)
    assert failed(rules, batch(calm, others={"speed": calm_speed})) == {}, "more calm hours, more missing gusts"
    assert "nulls when" in failed(
        rules, batch(np.where(dice().random(4000) < 0.2, np.nan, gust), others={"speed": speed})
    )
    assert "cannot be evaluated" in failed(rules, batch(gust))["nulls when"].message


@pytest.mark.parametrize("rows", [5, 99, 100])
def test_a_condition_that_no_row_meets_is_told_however_small_the_file_is(rows: int) -> None:
    rules = ColumnRules(when="y >= 8", nulls_when=0.0, null_run=3, null_run_when="y >= 8")
    found = check_column("x", rules, batch([1.0] * rows, others={"y": [1.0] * rows}))
    assert {(f.rule, f.passed, f.severity) for f in found} == {
        ("nulls when", False, "warn"), ("null run", False, "warn"),
    }  # fmt: skip
    assert all("there is no row where y >= 8" in f.message for f in found)


def test_a_condition_that_few_rows_meet_is_asked_of_them_and_warns() -> None:
    rules = ColumnRules(when="y >= 8", nulls_when=0.0)
    other = {"y": [9.0] * 50}
    assert all(f.passed for f in check_column("x", rules, batch([1.0] * 50, others=other)))
    few = check_column("x", rules, batch([1.0] * 47 + [None] * 3, others=other))
    assert [(f.rule, f.severity, f.count, f.rows) for f in few if not f.passed] == [
        ("nulls when", "warn", 3, (47, 48, 49))
    ]


def test_a_missing_or_retyped_column_fails_every_row() -> None:
    rules = learned(np.arange(100))
    missing = check_column("y", rules, batch(np.arange(10)))
    assert [(f.rule, f.passed, f.count) for f in missing] == [("missing column", False, 10)]
    retyped = check_column("x", rules, batch(["a"] * 10))
    assert [(f.rule, f.passed, f.count) for f in retyped] == [("type", False, 10)]
    empty = check_column("x", replace(rules, nulls=None), batch(pa.nulls(10)))
    assert "has no values" in empty[0].message


NUMERIC = {
    "range": [ColumnRules(min=3.0), ColumnRules(max=3.0)],
    "resolution": [ColumnRules(step=0.5), ColumnRules(step=0.5, offset=0.1)],
    "unit": [ColumnRules(unit=True, typical=(1.0, 2.0, 3.0, 4.0, 5.0), seen=(1.0, 2.0), drift=0.1)],
    "usual values": [ColumnRules(usual=(1.0, 2.0), usual_shares=(0.5, 0.4))],
}
OTHERS = {
    "text": pa.array(["a", "b"] * 5),
    "bool": pa.array([True, False] * 5),
    "time": pa.array([datetime.datetime(2024, 1, day, tzinfo=datetime.UTC) for day in range(1, 11)]),
    "other": pa.array([[1]] * 10),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("rule", NUMERIC)
def test_a_rule_about_numbers_fails_on_what_is_none(rule: str, kind: str) -> None:
    for rules in NUMERIC[rule]:
        assert failed(rules, batch(OTHERS[kind]))[rule].message == f"cannot be evaluated: the column is {kind}"
    assert failed(replace(NUMERIC[rule][0], type=kind), batch(OTHERS[kind])).keys() == {rule}
    assert failed(replace(NUMERIC[rule][0], nulls=1.0), batch(pa.nulls(10))) == {}, "no value breaks it"


@pytest.mark.parametrize("values", [OTHERS["time"], OTHERS["bool"], OTHERS["other"], pa.array(range(10))])
def test_known_texts_are_no_rule_for_other_values(values: pa.Array) -> None:
    rules = ColumnRules(levels=("a",), new_levels=0.0)
    assert "cannot be evaluated: the column is" in failed(rules, batch(values))["levels"].message
    assert failed(rules, batch(pa.array(["a"] * 10))) == {}


def test_infinite_values_and_far_strays_fail_and_a_single_slip_warns() -> None:
    values = dice().normal(50, 10, 4000)
    rules = learned(values)
    assert "range" in failed(rules, batch(np.where(np.arange(4000) == 7, np.inf, values), values))
    slip = np.where(np.arange(4000) == 7, 9999.0, values)
    found = [f for f in check_column("x", rules, batch(slip, values)) if not f.passed]
    assert [(f.rule, f.severity, f.count, f.rows) for f in found] == [("range", "warn", 1, (7,))]
    sentinel = np.where(np.arange(4000) % 50 == 0, -9999.0, values)
    assert failed(rules, batch(sentinel, values))["range"].count == 80


def test_a_hard_bound_allows_no_slip() -> None:
    rules = learned(np.append(dice().random(4000), [0.0, 1.0] * 100))
    assert (rules.min, rules.max) == (0.0, 1.0)
    found = failed(rules, batch(np.append(dice().random(4000), [1.001])))
    assert found["range"].count == 1


def test_new_levels_are_let_in_up_to_a_share() -> None:
    rules = learned(["AA", "UA", "DL"] * 1000)
    assert rules.levels == ("AA", "DL", "UA")
    assert failed(rules, batch(["AA"] * 970 + ["HA"] * 30)) == {}
    found = failed(rules, batch(["American"] * 500 + ["UA"] * 500))["levels"]
    assert (found.count, found.rows[0], found.examples) == (500, 0, ("American",))
    assert learned([f"N{i}" for i in range(500)]).levels == (), "an open set has no levels"


def test_a_frozen_column_is_seen() -> None:
    values = dice().integers(0, 100, 4000)
    assert "never were" in failed(learned(values), batch(np.full(4000, 50), values))["unit"].message
    months = np.repeat(np.arange(1, 13), 400)
    assert failed(learned(months), batch(np.full(400, 3), np.full(400, 2))) == {}, "each file is one month"


def test_a_code_that_is_constant_in_the_reference_may_move_on() -> None:
    rules = learned(np.full(4000, 1))
    for month in range(2, 13):
        assert failed(rules, batch(np.full(4000, month), np.full(4000, month - 1))) == {}


def test_severity_warn_never_fails() -> None:
    rules = replace(learned(np.arange(1000.0)), severity="warn")
    found = [f for f in check_column("x", rules, batch(np.full(1000, np.nan))) if not f.passed]
    assert found
    assert {f.severity for f in found} == {"warn"}


def test_unique_names_the_rows_that_share_a_value() -> None:
    found = failed(ColumnRules(type="text", unique=True), batch(["a", "b", "a", None, None]))["unique"]
    assert (found.count, found.rows) == (2, (0, 2))


def test_a_condition_on_rows_is_sql_and_fails_if_it_cannot_be_evaluated() -> None:
    rows = batch([1, 2, 3, None], others={"y": [1, 1, 5, 1]})
    found = check_rows(RowRule(name="order", where="x <= y"), rows)
    assert (found.passed, found.count, found.rows) == (False, 2, (1, 3))
    assert "1 of them because it is null (allow_nulls = true" in found.message
    allowed = check_rows(RowRule(name="order", where="x <= y", allow_nulls=True), rows)
    assert (allowed.passed, allowed.count, allowed.rows) == (False, 1, (1,))
    assert "null" not in allowed.message
    assert check_rows(RowRule(name="order", where="x <= y", share=0.5), rows).passed
    assert not check_rows(RowRule(name="order", where="x <= y", share=0.25), rows).passed
    for wrong in ("nosuch > 1", "x +", "x", "(select count(*) from read_csv('/etc/passwd')) > 0"):
        found = check_rows(RowRule(name="w", where=wrong), rows)
        assert wrong == "x" or (not found.passed and "cannot be evaluated" in found.message), wrong


numbers = st.one_of(
    st.none(),
    st.sampled_from([0.0, -0.0, 1.0, 1e-300, 1e300, float("inf"), float("-inf"), float("nan")]),
    st.floats(-1e9, 1e9),
    st.integers(-100, 100).map(float),
)


@given(st.lists(numbers, min_size=1, max_size=60), st.lists(numbers, min_size=1, max_size=60), st.integers(1, 40))
def test_any_column_is_judged_against_any_other_and_never_raises(
    reference: list[float | None], new: list[float | None], times: int
) -> None:
    rules = learned(pa.array(reference * times, pa.float64()))
    for finding in check_column("x", rules, batch(pa.array(new, pa.float64()), pa.array(reference, pa.float64()))):
        assert finding.passed or finding.count > 0
        assert all(0 <= row < len(new) for row in finding.rows)


@given(st.lists(numbers, min_size=1, max_size=60))
def test_a_reference_passes_its_own_rules_unless_it_is_infinite(values: list[float | None]) -> None:
    found = failed(learned(pa.array(values, pa.float64())), batch(pa.array(values, pa.float64())))
    assert not found or any(value is not None and abs(value) == float("inf") for value in values)


def test_chance_is_three_standard_errors() -> None:
    assert most_by_chance(0.0, 1000) == 0
    assert most_by_chance(0.05, 10_000) == pytest.approx(500 + 3 * (0.05 * 0.95 * 10_000) ** 0.5)


def test_a_silence_is_counted_among_the_rows_of_its_condition_and_names_its_rows() -> None:
    speed = np.arange(2000.0) % 10
    gust = np.where(speed >= 5, speed, np.nan)
    rules = ColumnRules(null_run=20, null_run_when="speed >= 5")
    assert failed(rules, batch(gust, others={"speed": speed})) == {}, "as usual: no gust in a calm"
    broken = gust.copy()
    broken[300:350] = np.nan
    found = failed(rules, batch(broken, others={"speed": speed}))["null run"]
    assert found.message == "null in 25 rows in a row, of those where speed >= 5 (at most 20)"
    assert (found.count, found.rows[:6]) == (25, (305, 306, 307, 308, 309, 315))
    assert failed(ColumnRules(null_run=60), batch(broken)) == {}
    unasked = failed(rules, batch(gust))["null run"]
    assert (unasked.message, unasked.rows) == ("cannot be evaluated: no column 'speed'", ())


def test_usual_values_that_are_gone_are_an_error_and_a_few_of_them_a_warning() -> None:
    values = dice().choice([2.0, 4.0, 6.0, 8.0], 4000)
    rules = ColumnRules(usual=(2.0, 4.0, 6.0, 8.0), usual_shares=(0.25,) * 4)
    assert failed(rules, batch(values)) == {}
    doubled = failed(rules, batch(values * 1.5))["usual values"]
    assert doubled.severity == "error"
    assert doubled.message.startswith("never 2, 4, 8, which were 75.0 % of the values")
    one = check_column("x", rules, batch(np.where(values == 2, 4, values)))
    assert [(f.rule, f.severity) for f in one if not f.passed] == [("usual values", "warn")]
    assert failed(rules, batch(values[:6] * 1.5)) == {}, "six rows prove nothing"
    many = failed(rules, batch(np.arange(70_000.0) + 0.5))["usual values"]
    assert many.message == "cannot be evaluated: too many different values"


PRICES = np.round(np.random.default_rng(3).gamma(2, 20, 4000) + 0.22, 2)


def test_prices_get_a_floor_that_a_turned_sign_breaks_and_a_refund_does_not() -> None:
    rules = learned(PRICES)
    assert (rules.floor, rules.min) == (0.0, None)
    assert failed(rules, batch(PRICES, PRICES)) == {}
    turned = failed(rules, batch(-PRICES, PRICES))["floor"]
    assert (turned.count, turned.message) == (4000, "4,000 values are below 0 (100.0 %): was the sign turned?")
    assert turned.examples[0] == str(-PRICES[0])
    refunds = check_column("x", rules, batch(np.where(np.arange(4000) % 100 == 0, -PRICES, PRICES), PRICES))
    told = [(each.rule, each.severity, each.count) for each in refunds if not each.passed]
    assert told == [("floor", "warn", 40)]
    assert failed(rules, batch(pa.array([-1.0]), PRICES)) == {}, "one row is no share"
    half = failed(rules, batch(np.where(np.arange(4000) % 10 < 6, -PRICES, PRICES), PRICES))
    assert half["floor"].count == 2400
    assert failed(ColumnRules(floor=0.0), batch(pa.array(["a"])))["floor"].message.endswith("the column is text")


@pytest.mark.parametrize(
    ("values", "floor"),
    [
        (np.linspace(10, 60, 4000), None),
        (PRICES - 5, None),
        (np.where(PRICES < 1, 0, PRICES), 0.0),
        (PRICES[:99], None),
        (np.zeros(4000), None),
        (np.where(np.arange(4000) % 50, PRICES, 0), None),
    ],
    ids=["temperature", "below zero", "a few zeros", "few rows", "constant", "many zeros have a bound"],
)
def test_only_a_scale_that_visibly_begins_at_zero_has_a_floor(values: Any, floor: float | None) -> None:
    assert learned(values).floor == floor


@pytest.mark.parametrize(
    ("wanted", "good", "bad", "words"),
    [
        ("number", ["1", "-2.5", "3e+5", "NA", None], ["abc", "02139"], "a number"),
        ("time", ["2026-01-31", "2026-01-31T05:00:00Z"], ["2026-02-30", "31/12/2020", "2026-01-31 25:00"], "a time"),
        ("bool", ["true", "False", "null"], ["yes"], "true or false"),
    ],
)
def test_a_column_that_is_text_for_some_values_names_these(
    wanted: str, good: list[str | None], bad: list[str], words: str
) -> None:
    values = good * 1000
    values[500:500] = bad
    rules = ColumnRules(type=wanted, nulls=0.5)
    plain = pa.array(values)
    for given_values in (plain, plain.dictionary_encode()):
        found = failed(rules, batch(given_values))["type"]
        assert (found.count, found.rows) == (len(bad), tuple(range(500, 500 + len(bad))))
        assert found.examples == tuple(bad)
        assert f"not written as {words}" in found.message
    all_of_it = failed(rules, batch(pa.array(["1", "2"] if wanted == "number" else ["NA"])))["type"]
    assert all_of_it.message == f"the column is text (string), not {wanted}"


@given(
    st.lists(
        st.one_of(
            st.from_regex(r"\A\s?[-+]?[0-9]{0,3}\.?[0-9]{0,3}([eE][-+]?[0-9]{1,2})?\s?\Z"),
            st.from_regex(r"\A20[0-9]{2}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2}Z?)?)?\Z"),
            st.sampled_from(["true", "FALSE", "TrUE", "", "NA", "none", "nan", "inf", "1e5", "1_000", "abc"]),
        ),
        min_size=1,
        unique=True,
    )
)
def test_a_text_is_a_misfit_if_reading_it_alone_says_so(words: list[str]) -> None:
    kinds = [text.kind_of(pa.array([word])) for word in words]
    forms = {"number": ("int64", "double", "decimal"), "time": ("date", "timestamp"), "bool": ("bool",)}
    for wanted, known in forms.items():
        said = [kind != "null" and not kind.startswith(known) for kind in kinds]
        assert misfits(pa.array(words), wanted).tolist() == said


def test_an_infinite_value_of_a_column_without_rules_is_no_fault() -> None:
    values = pa.array([1.0, float("inf"), 2.0])
    assert failed(ColumnRules(), batch(values)) == {}
    assert failed(ColumnRules(type="number"), batch(values))["range"].message == "values are infinite"


def test_a_blank_example_can_be_seen() -> None:
    found = failed(ColumnRules(levels=("a",), new_levels=0.0), batch(pa.array(["a", "", "  ", "b"])))["levels"]
    assert found.examples == ('""', '"  "', "b")
