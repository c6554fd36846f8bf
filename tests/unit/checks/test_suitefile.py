"""A wrong suite is an error that names the key, the nearest right one, the file and the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.checks.suites.rules import KINDS, ColumnRules, Leakage, Rule, Suite, is_empty
from noria.checks.suites.suitefile import load, read_text, text_of
from noria.core.errors import ConfigError

HEAD = 'dataset = "d"\n\n[columns.fare]\ntype = "number"\n'


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("nuls = 0.1", 5, ["[columns.fare]", "nuls", "did you mean 'nulls'"]),
        ("nulls = 2.0", 5, ["columns.fare.nulls", "from 0 to 1"]),
        ("min = 'low'", 5, ["must be a number"]),
        ("pattern = '(?=x)'", 5, ["not a pattern (RE2)"]),
        ("order = 'up'", 5, ["increasing, decreasing"]),
        ("references = 'customers'", 5, ["DATASET.COLUMN"]),
        ("earliest = 'monday'", 5, ["monday"]),
        ("length = [1]", 5, ["needs 2 numbers"]),
        ("shift = 3.0", 5, ["from 0 to 1"]),
        ("when = 'x present'", 5, ["need each other"]),
        ("null_run = 0", 5, ["columns.fare.null_run", "at least 1"]),
        ("null_run_when = 'x present'", 5, ["needs null_run"]),
        ("null_run = 9\nnull_run_when = 'x ~ 3'", 6, ["null_run_when", "not a condition"]),
        ("usual = [1.0, 2.0]\nusual_shares = [0.5]", 5, ["usual", "for each value"]),
        ("usual = [1.0]\nusual_shares = [0.0]", 5, ["above 0"]),
        ("clump = 0.5", 5, ["clump", "at least 1"]),
        ("\n[[rules]]\nrule = 'ragne'\ncolumn = 'x'", 7, ["no rule 'ragne'", "did you mean 'range'"]),
        ("\n[[rules]]\nrule = 'range'\ncolumn = 'x'", 6, ["needs min, max or both"]),
        ("\n[[rules]]\nrule = 'range'\ncolumn = 'x'\nmn = 3", 9, ["did you mean 'min'"]),
        ("\n[[rules]]\nrule = 'range'\ncolumn = 'x'\nmin = 3\npattern = 'x'", 10, ["has no key 'pattern'"]),
        ("\n[[rules]]\nrule = 'in'\ncolumn = 'x'", 6, ["needs values"]),
        ("\n[[rules]]\nrule = 'not_null'\ncolumn = 'x'\nshare = 2", 9, ["from 0 to 1"]),
        ("\n[[rules]]\nrule = 'row'\ncondition = 'a >'", 8, ["not a condition on rows"]),
        ("\n[[rules]]\nrule = 'row'\ncondition = 'a > 1'\nwhere = 'sum(b) > 2'", 9, ["'sum' is not allowed"]),
        ("\n[[rows]]\nname = 'x'\nwhere = '(select 1) = 1'", 8, ["a subquery is not allowed"]),
        ("\n[[rows]]\nname = 'x'\nwehre = 'a > 1'", 8, ["did you mean 'where'"]),
        ("\n[[rules]]\nrule = 'statistic'\ncolumn = 'x'\nstatistic = 'avg'\nmin = 1", 9, ["mean, median"]),
        ("\n[leakage]\nignore = []", 6, ["needs holdout, label or both"]),
        ("\n[leakage]\nholdot = 'x'", 7, ["did you mean 'holdout'"]),
        ("\n[table]\nfresh = 'soon'", 7, ["not a duration"]),
        ("\n[tabel]\nkey = 'x'", 6, ["did you mean 'table'"]),
    ],
)
def test_a_mistake_names_the_key_the_nearest_one_the_file_and_the_line(
    tmp_path: Path, text: str, line: int, words: list[str]
) -> None:
    path = tmp_path / "d.toml"
    path.write_text(HEAD + text + "\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    said = str(caught.value)
    assert f"{path}, line {line}" in said
    assert len(said.splitlines()) <= 6
    for word in words:
        assert word in said, said


def test_what_is_no_toml_or_no_text_is_said(tmp_path: Path) -> None:
    path = tmp_path / "d.toml"
    path.write_bytes(b'dataset = "\xff"')
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(path)
    path.write_text("dataset = [")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(path)


def test_rules_survive_the_file() -> None:
    suite = Suite(
        dataset="d",
        pandera="schemas:S",
        columns={"t": ColumnRules(type="time", earliest="2020-01-01", latest="2030-01-01", order="increasing")},
        rules=(
            Rule(rule="in", column="a", values=(1.0, 2.5), share=0.1, where="b > 3", source="gx: x"),
            Rule(rule="in", column="c", values=("x", "y"), severity="warn", name="letters"),
            Rule(rule="range", column="t", min="2020-01-01", strict_min=True),
            Rule(rule="unique", columns=("a", "b")),
        ),
        leakage=Leakage(holdout="h@2", key="id", time="t", label="y", ignore=("z",)),
    )
    assert read_text(text_of(suite, "a comment"), "x") == suite


def test_an_empty_suite_is_known_to_be_empty() -> None:
    assert is_empty(Suite(dataset="d"))
    assert is_empty(read_text('dataset = "d"\n[columns.a]\n[table]\n', "x"))
    assert not is_empty(read_text('dataset = "d"\n[columns.a]\nnulls = 0.1\n', "x"))
    assert not is_empty(Suite(dataset="d", rules=(Rule(rule="not_null", column="a"),)))


def test_every_kind_has_a_column_a_list_of_columns_or_a_condition() -> None:
    for name, kind in KINDS.items():
        assert {"column", "columns", "condition", "dataset"} & {*kind.needs, *kind.may}, name
