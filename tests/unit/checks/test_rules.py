from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.checks.suites.rules import ColumnRules, RowRule, Suite, TableRules, When
from noria.checks.suites.suitefile import parse, text_of
from noria.core.errors import ConfigError

FULL = Suite(
    dataset="d",
    reference="d@1 abc",
    table=TableRules(key="id", time="t", min_rows=10, keep=0.25, fresh="24h", severity="warn"),
    columns={
        "a b": ColumnRules(
            type="number",
            nulls=0.1,
            when='c in ["x, y", "z"]',
            nulls_when=0.02,
            min=-1.5,
            max=3.0,
            step=0.1,
            offset=0.05,
            unit=True,
            drift=0.2,
            typical=(1.0, 2.0, 3.0, 4.0, 5.0),
            typical_nonzero=(1.0, 2.0, 3.0, 4.0, 5.0),
            seen=(0.5, 1e30),
        ),
        "c": ColumnRules(type="text", nulls=0.0, levels=('"quoted"', "x, y", "ü\t"), new_levels=0.5, unique=True),
    },
    rows=(RowRule(name="later", where="b > a", share=0.01, severity="warn"),),
)


def test_the_file_of_a_suite_says_the_suite() -> None:
    assert parse(tomllib.loads(text_of(FULL, "a comment\nof two lines")), "x") == FULL


names = st.text(min_size=1, max_size=8).filter(lambda text: text.isprintable())


@given(st.dictionaries(names, st.lists(st.text(max_size=5), max_size=3).map(tuple), max_size=4))
def test_any_names_and_levels_survive_the_file(columns: dict[str, tuple[str, ...]]) -> None:
    suite = Suite(dataset="d", columns={n: ColumnRules(type="text", levels=levels) for n, levels in columns.items()})
    assert parse(tomllib.loads(text_of(suite, "")), "x") == suite


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('datset = "d"', "did you mean 'dataset'"),
        ("[table]\nkey = 'id'", 'need dataset = "…"'),
        ('dataset = "d"\n[table]\nkye = "id"', "did you mean 'key'"),
        ('dataset = "d"\n[columns.a]\nnull = 0.1', "did you mean 'nulls'"),
        ('dataset = "d"\n[columns.a]\nnulls = "many"', "must be a number"),
        ('dataset = "d"\n[columns.a]\ntype = "numeric"', "not one of number"),
        ('dataset = "d"\n[columns.a]\nseverity = "fatal"', 'not "error" or "warn"'),
        ('dataset = "d"\n[columns.a]\nstep = 0', "above 0"),
        ('dataset = "d"\n[columns.a]\nunit = true', "needs typical and seen"),
        ('dataset = "d"\n[columns.a]\ntypical = [1, 2]', "needs 5 numbers"),
        ('dataset = "d"\n[columns.a]\nwhen = "b > 3"', "is not a condition"),
        ('dataset = "d"\n[[rows]]\nname = "x"', "needs where"),
        ('dataset = "d"\ncolumns = 3', "are tables"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_the_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(tomllib.loads(text), "checks/d.toml")
    assert message in str(caught.value)
    assert "checks/d.toml" in str(caught.value)


@pytest.mark.parametrize("text", ["wind speed >= 8.06", "x <= -0.5", "dewp present", 'carrier in ["AA", "U,A"]'])
def test_a_condition_reads_as_it_is_written(text: str) -> None:
    assert str(When.read(text)) == text
