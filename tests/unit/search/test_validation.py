"""Validation rows: kept from training, never the holdout, and refused where that cannot be known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import noria as nr
from noria.core.errors import UsageError
from noria.pipeline.define import PipelineDefinition, define
from noria.pipeline.step import Ref
from noria.search.validation import KEEP, keep_back, trial_pipeline

rows = nr.dataset("rows", key="id", time="at", label="y")


@nr.step
def split(table: Any) -> tuple[Any, Any]:
    return table, table


@nr.step
def three(table: Any) -> tuple[Any, Any, Any]:
    return table, table, table


@nr.step
def wash(table: Any) -> Any:
    return table


@nr.step
def train(table: Any, other: Any = None) -> Any:
    return table


def defined(body: Any) -> PipelineDefinition:
    return define(nr.pipeline(body), root=Path())


def trial(made: PipelineDefinition) -> PipelineDefinition:
    return trial_pipeline(made, share=0.2, time="at", key="id", seed=3)


def test_what_stands_beside_the_holdout_is_divided_before_anything_uses_it() -> None:
    def p() -> Any:
        fit, holdout = split(rows)
        return nr.model("m", train(wash(fit), [fit]), holdout=holdout)

    made = trial(defined(p))
    assert [node.name for node in made.nodes] == ["split", KEEP, "wash", "train"]
    assert made.node(KEEP).bindings["rows"] == Ref("split", 0)
    assert made.node("wash").bindings["table"] == Ref(KEEP, 0)
    assert list(made.node("train").references()) == [Ref("wash", 0), Ref(KEEP, 0)]
    assert made.model is not None
    assert made.model.holdout == Ref(KEEP, 1)


def test_a_holdout_from_elsewhere_leaves_the_one_table_of_training() -> None:
    def p() -> Any:
        return nr.model("m", train(wash(rows)), holdout=split(rows)[1])

    made = trial(defined(p))
    assert made.node("train").bindings["table"] == Ref(KEEP, 0)
    assert made.node(KEEP).bindings["rows"] == Ref("wash", 0)


def test_rows_of_the_pipelines_own_are_taken_as_they_are() -> None:
    def p() -> Any:
        fit, valid, holdout = three(rows)
        return nr.model("m", train(fit), holdout=holdout, validation=valid)

    made = trial(defined(p))
    assert [node.name for node in made.nodes] == ["three", "train"]
    assert made.model is not None
    assert made.model.holdout == Ref("three", 1)


def test_a_model_that_sees_what_it_is_judged_on_is_refused() -> None:
    def holdout_seen() -> Any:
        fit, holdout = split(rows)
        return nr.model("m", train(fit, holdout), holdout=holdout)

    def validation_seen() -> Any:
        fit, valid, holdout = three(rows)
        return nr.model("m", train(fit, wash(valid)), holdout=holdout, validation=valid)

    def the_same() -> Any:
        fit, holdout = split(rows)
        return nr.model("m", train(fit), holdout=holdout, validation=holdout)

    def unclear() -> Any:
        a, b, holdout = three(rows)
        return nr.model("m", train(a, b), holdout=holdout)

    for body, says in (
        (holdout_seen, "made from its holdout"),
        (validation_seen, "made from its validation rows"),
        (the_same, "the same rows"),
        (unclear, "not plain"),
    ):
        with pytest.raises(UsageError, match=says):
            trial(defined(body))


@settings(max_examples=80, deadline=None)
@given(
    count=st.integers(40, 300), keys=st.integers(1, 60), share=st.sampled_from([0.1, 0.2, 0.5]),
    seed=st.integers(0, 5), by=st.sampled_from(["time", "key", "draw"]), gaps=st.booleans(),
)  # fmt: skip
def test_no_row_is_on_both_sides_and_none_is_lost(
    count: int, keys: int, share: float, seed: int, by: str, gaps: bool
) -> None:
    rng = np.random.default_rng(seed)
    at = pd.Series(pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 50, count), unit="D"))
    if gaps:
        at = at.where(pd.Series(rng.random(count) > 0.2))
    table = pd.DataFrame({"row": range(count), "id": rng.integers(0, keys, count), "at": at})
    names = {"time": ("at", "id"), "key": ("", "id"), "draw": ("", "")}[by]
    if by == "key":
        if keys < 20:
            return  # a few keys may all fall on one side, which is refused: see below
        share = 0.5  # and so may all of twenty with a share of a tenth, one time in eight
    train_rows, kept = keep_back(table, share, *names, seed)
    assert sorted([*train_rows["row"], *kept["row"]]) == list(range(count))
    if by == "time":
        assert train_rows["at"].max() < kept["at"].min()
        assert len(kept) >= share * table["at"].notna().sum() * 0.99
        assert kept["at"].notna().all()
    if by == "key":
        assert not set(train_rows["id"]) & set(kept["id"])
    again = keep_back(table.copy(), share, *names, seed)
    assert list(again[1]["row"]) == list(kept["row"])


def test_a_side_without_rows_is_refused() -> None:
    one_key = pd.DataFrame({"id": [7] * 50, "at": pd.NaT})
    with pytest.raises(UsageError, match="leaves"):
        keep_back(one_key, 0.2, "", "id", 0)
    with pytest.raises(UsageError, match="leaves"):
        keep_back(one_key, 0.2, "at", "id", 0)


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(UsageError, match="list, not a table"):
        keep_back([1, 2], 0.2, "", "", 0)
