"""The account of two runs, the command after it, and what a metric's name says of which way is better."""

from __future__ import annotations

from dataclasses import replace

import pytest

from noria.project.compared.account import account, next_command
from noria.project.compared.inputs import Input
from noria.project.compared.logged import Logged, better_of
from noria.project.compared.scoring import Scored
from noria.registry.contrast import Flipped, Gap, Part
from noria.tracking.facts import Code
from noria.tracking.records import RunRecord

AUC = Gap(metric="auc", better="higher", a=0.8, b=0.85, difference=0.05, low=0.03, high=0.07, is_beyond_chance=True)
SCORED = Scored(
    a="m:1", b="m:2", task="binary", told="the holdout of m:2", data=("rows@1",), rows=900, of=1000, positives=400,
    level=0.95, is_new=True, metrics=(AUC,), slices=(), column="", is_exact=True,
    flips=Flipped(n=900, same=850, ways=(("called now", 30, 20), ("called no more", 20, 15))),
)  # fmt: skip
CONFIGURED = Input(kind="configuration", name="train.rate", a="0.1", b="0.2")
CODE = Input(kind="code", name="step train", file="pipeline.py", change="changed")
DATA = Input(kind="data", name="rows", a="rows@1", b="rows@2", added=5, removed=0, changed=2, columns=("fee",))
PACKAGE = Input(kind="environment", name="scikit-learn", a="1.8.0", b="1.9.1")


def part(level: str, difference: float, share: float | None, *, is_beyond: bool = True) -> Part:
    return Part(
        metric="auc", column="area", level=level, n=300, a=0.8, b=0.8 + difference, difference=difference,
        low=difference - 0.01, high=difference + 0.01, confidence=0.99, is_beyond_chance=is_beyond, share=share,
    )  # fmt: skip


def told(scored: Scored | None = SCORED, *inputs: Input, logged: tuple[Logged, ...] = (), is_known: bool = True) -> str:
    found = account("m:1", "m:2", scored, logged=logged, inputs=inputs, notes=("why not",), is_known=is_known)
    return " ".join(found)


def run(name: str, commit: str = "") -> RunRecord:
    return RunRecord(
        run=name, pipeline="p", status="finished", cause="user", reason="", started_at="", finished_at="", seconds=1.0,
        actor="", owner="", code=Code(commit=commit), config="", environment="", seed=0, pins=(),
    )  # fmt: skip


def test_one_kind_that_differs_is_the_cause_of_what_is_beyond_chance() -> None:
    text = told(SCORED, CONFIGURED)
    assert "+0.05, 95% [+0.03, +0.07]. m:2 is better, beyond chance." in text
    assert "Only one kind of input differs: configuration (train.rate 0.1 → 0.2). It is the cause" in text
    assert "They call 50 rows of 900 otherwise; m:2 is right on 35 of these, m:1 on 15." in text


def test_nothing_is_a_cause_of_what_is_within_chance_or_was_only_logged() -> None:
    chance = replace(SCORED, metrics=(replace(AUC, low=-0.01, is_beyond_chance=False),))
    assert "neither is shown to be better" in told(chance, CONFIGURED)
    assert "the cause" not in told(chance, CONFIGURED)
    numbers = (Logged(metric="loss", better="lower", a=0.5, b=0.4, difference=-0.1),)
    text = told(None, CONFIGURED, logged=numbers)
    assert "loss was logged as 0.5000 by m:1 and 0.4000 by m:2: -0.1, in favour of m:2" in text
    assert "the cause" not in text


def test_several_kinds_are_candidates() -> None:
    text = told(SCORED, CODE, CONFIGURED, DATA)
    assert "3 kinds of input differ, so none can be called the cause" in text
    assert "code (step train in pipeline.py)" in text
    assert "data (rows@1 → rows@2: 5 rows added, 2 rows changed; columns fee)" in text


def test_without_any_difference_chance_is_left_and_without_runs_nothing_is_known() -> None:
    assert "Nothing on record differs" in told()
    assert "cannot be compared" in told(is_known=False)
    assert told(None).startswith("No metric of m:1 and m:2 can be compared: why not.")


def test_the_groups_that_carry_a_difference_are_named_and_what_goes_against_it() -> None:
    rows = (part("south", 0.2, 0.9), part("north", 0.02, 0.2), part("east", -0.03, -0.1))
    text = told(replace(SCORED, slices=rows, column="area"))
    assert "It arises by area: south carries 90% of it (+0.2 on 300 rows); north carries 20% of it" in text
    assert "Against it goes east -0.03 [-0.04, -0.02] on 300 rows." in text
    spread = told(replace(SCORED, slices=rows, column=""))
    assert "It is spread over the rows" in spread


def test_the_command_that_tells_candidates_apart_fits_them() -> None:
    def after(*inputs: Input, made_by: str = "pipeline", version: str = "m:2") -> str:
        return next_command(run("run_a", "c" * 40), run("run_b", "d" * 40), inputs, made_by=made_by, version=version)

    assert after(CODE, CONFIGURED) == "noria run -p train.rate=0.1"
    assert after(CODE, PACKAGE) == "noria reproduce run_a --environment here"
    assert after(CODE, DATA) == f"git checkout {'c' * 12} -- pipeline.py && noria run"
    assert after(replace(CODE, file=""), DATA) == "noria reproduce run_a"
    assert after(DATA) == "noria data diff rows@1 rows@2"
    assert after(CONFIGURED) == "noria registry report m:2"
    assert after(CONFIGURED, version="") == "noria explain run_b"
    assert after() == "noria reproduce run_a"
    assert after(CODE, DATA, made_by="recording") == "noria experiments plot run_a run_b"
    assert next_command(None, run("run_b"), (), made_by="pipeline", version="") == ""


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("auc", "higher"),
        ("log_loss", "lower"),
        ("val_loss", "lower"),
        ("validation/accuracy", "higher"),
        ("train-rmse", "lower"),
        ("length", ""),
        ("accuracy_loss", ""),
    ],
)
def test_a_name_says_which_way_is_better_or_nothing(name: str, better: str) -> None:
    assert better_of(name) == better
