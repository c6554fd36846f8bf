"""A version that would refuse what callers send the champion does not pass, and says which columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from noria.config import GateConfig
from noria.core.schema import Column
from noria.registry.evidence import Champion, Evidence
from noria.registry.kinds import inputs as inputs_gate
from noria.registry.metrics import METRICS
from noria.registry.scored import Sample

BEFORE = (Column("fee", "float64", nullable=True), Column("plan", "text"), Column("age", "int64"))


def judged(after: tuple[Column, ...], *, rule: str = "same", has_champion: bool = True) -> list[tuple[bool, str]]:
    sample = Sample(pd.DataFrame({"fee": [1.0, 2.0]}), np.array([0.0, 1.0]), np.array([0.1, 0.9]), 0.5, "binary")
    evidence = Evidence(
        policy=GateConfig(inputs=rule),
        sample=sample,
        champion=Champion(1, sample.score, 0.5, BEFORE) if has_champion else None,
        metrics=METRICS,
        slices=(),
        blocks=None,
        latencies_ms=lambda: [],
        inputs=after,
    )
    return [(verdict.passed, verdict.text) for verdict in inputs_gate.judge(evidence)]


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ((*BEFORE, Column("segment", "text", nullable=True)), "it needs segment, which they do not hold"),
        (BEFORE[1:], "it knows no fee, which they hold"),
        ((Column("fee", "float64"), *BEFORE[1:]), "fee may no longer be null"),
        ((BEFORE[0], Column("plan", "int64"), BEFORE[2]), "plan was text and is int64"),
        ((Column("fee", "int64", nullable=True), *BEFORE[1:]), "fee was float64 and is int64"),
    ],
)
def test_a_candidate_that_would_refuse_requests_is_closed_out(after: tuple[Column, ...], said: str) -> None:
    [(passed, text)] = judged(after)
    assert not passed
    assert said in text
    assert 'inputs = "any"' in text
    assert judged(after, rule="any") == []
    assert judged(after, has_champion=False) == []


@pytest.mark.parametrize(
    "after",
    [
        BEFORE,
        tuple(reversed(BEFORE)),
        (BEFORE[0], Column("plan", "text", nullable=True), BEFORE[2]),
        (*BEFORE[:2], Column("age", "float64")),
    ],
)
def test_a_candidate_that_takes_as_much_or_more_passes(after: tuple[Column, ...]) -> None:
    [(passed, _)] = judged(after)
    assert passed
