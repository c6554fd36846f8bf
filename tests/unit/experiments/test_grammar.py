"""MLflow's grammar of filters: what is read, and what is refused with what may stand there."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.core.errors import UsageError
from noria.experiments.grammar import Clause, Order, parse_filter, parse_order


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("", ()),
        ("metrics.auc > 0.8", (Clause("metric", "auc", ">", 0.8),)),
        ("metric.`a b` <= -1e-3", (Clause("metric", "a b", "<=", -0.001),)),
        ('params."lr rate" = "0.1"', (Clause("param", "lr rate", "=", "0.1"),)),
        ("tags.mlflow.source.name LIKE '%train%'", (Clause("tag", "mlflow.source.name", "LIKE", "%train%"),)),
        ("parameter.x ilike 'A_'", (Clause("param", "x", "ILIKE", "A_"),)),
        ("status = 'FINISHED'", (Clause("attribute", "status", "=", "FINISHED"),)),
        ("attributes.run_id IN ('a', 'b')", (Clause("attribute", "run", "IN", ("a", "b")),)),
        ("run.run_name NOT IN ('a')", (Clause("attribute", "name", "NOT IN", ("a",)),)),
        ("start_time >= 1700000000000", (Clause("attribute", "started_at", ">=", 1.7e12),)),
        ("tags.x IS NOT NULL AND params.y IS NULL",
         (Clause("tag", "x", "IS NOT NULL"), Clause("param", "y", "IS NULL"))),
        ("datasets.name = 'churn'", (Clause("dataset", "name", "=", "churn"),)),
        ("params.q = 'it''s'", (Clause("param", "q", "=", "it's"),)),
        ("metrics.a=1 and metrics.b!=2.5", (Clause("metric", "a", "=", 1.0), Clause("metric", "b", "!=", 2.5))),
        ("metrics.val/acc-1 > 0", (Clause("metric", "val/acc-1", ">", 0.0),)),
    ],
)  # fmt: skip
def test_a_filter_is_read(text: str, clauses: tuple[Clause, ...]) -> None:
    assert parse_filter(text) == clauses


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("metrics.auc > 'high'", "a number"),
        ("metrics.auc LIKE 'x'", "LIKE cannot be asked"),
        ("params.x > '1'", "> cannot be asked"),
        ("params.x = 1", "a text in quotes"),
        ("metrics.auc > 0.8 or metrics.auc < 0.1", "`and`"),
        ("metrics.auc > 0.8 and", "the end"),
        ("(metrics.auc > 0.8)", "a name such as"),
        ("model.x = 'a'", "nothing to search called 'model'"),
        ("attributes.stat = 'x'", "no attribute 'stat'"),
        ("attributes.run_id IN ()", "a text in quotes"),
        ("attributes.run_id IN ('a'", "`,` or `)`"),
        ("status IS NULL", "params and tags"),
        ("datasets.size = 'x'", "no 'size' to search"),
        ("metrics.auc > 1e999", "no finite number"),
        ("metrics.auc > 0.8; drop table", "cannot be read"),
        ("params.x = 'open", "cannot be read"),
        ("metrics.`` > 1", "not empty"),
    ],
)
def test_what_is_no_filter_is_refused_with_what_may_stand_there(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=r".") as raised:
        parse_filter(text)
    assert said in str(raised.value)


def test_an_order_is_read() -> None:
    assert parse_order(["metrics.auc DESC", "params.`a b`", "start_time asc", ""]) == (
        Order("metric", "auc", True),
        Order("param", "a b"),
        Order("attribute", "started_at"),
    )
    for text in ("metrics.auc DOWN", "datasets.name", "metrics.auc DESC DESC"):
        with pytest.raises(UsageError):
            parse_order([text])


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert all(clause.key for clause in parse_filter(text))


@given(key=st.text(st.characters(exclude_characters="`", exclude_categories=["Cs"]), min_size=1, max_size=30),
       value=st.text(st.characters(exclude_characters="'", exclude_categories=["Cs"]), max_size=30))  # fmt: skip
def test_any_name_in_backquotes_and_any_text_in_quotes_is_kept_as_it_is(key: str, value: str) -> None:
    assert parse_filter(f"tags.`{key}` = '{value}'") == (Clause("tag", key, "=", value),)
