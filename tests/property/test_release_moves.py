"""For any sequence of moves: records equal the fold of the facts, and production is never two."""

from __future__ import annotations

import math
import shutil
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from noria.core.errors import Conflict, GateClosed, NotFound
from noria.registry import records, release
from noria.registry.facts import GateJudged, ReleaseMade, VersionRegistered
from noria.registry.gates import policy_digest
from noria.registry.metrics import METRICS
from noria.registry.paired import delong
from noria.registry.release import TRANSITIONS
from noria.store.replay import difference
from noria.testing.workspace import open_memory

STATES = sorted(TRANSITIONS)
MOVES = st.lists(st.tuples(st.integers(1, 3), st.sampled_from(STATES), st.sampled_from(["local", "prod"])), max_size=25)


@given(moves=MOVES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_records_are_the_fold_of_the_facts_and_production_is_one(moves: list[tuple[int, str, str]]) -> None:
    ws = open_memory()
    policy = policy_digest(ws, "m")
    with ws.ledger.transaction() as tx:
        for number in (1, 2, 3):
            tx.append(
                VersionRegistered(
                    model="m", version=number, bundle=f"sha256:{number:064x}", run="r", metrics={}, pins=()
                )
            )
            tx.append(
                GateJudged(
                    model="m",
                    version=number,
                    champion=number - 1,
                    passed=number != 3,
                    verdicts=(),
                    policy=policy,
                    report="",
                )
            )
            tx.append(ReleaseMade(model="m", release=number, version=number, content=f"sha256:{number:064x}"))
    for number, state, environment in moves:
        head = ws.ledger.head()
        try:
            moved = release.move(ws, "m", number, state, environment=environment)
        except (Conflict, GateClosed, NotFound):
            assert ws.ledger.head() == head
        else:
            assert moved.state == state
        with ws.ledger.read() as tx:
            for name in ("local", "prod"):
                live = records.production(tx, "m", name)  # asserts that there are not two
                assert live is None or live.release != 3
                assert len(records.in_flight(tx, "m", name)) <= 1
    assert difference(ws.ledger) == []
    shutil.rmtree(ws.project.root)


LABELS = arrays.arrays(np.int8, st.integers(2, 60), elements=st.integers(0, 1))


@given(labels=LABELS, data=st.data())
@settings(deadline=None)
def test_ranking_metrics_are_scikit_learns_for_any_labels_and_ties(labels: Any, data: st.DataObject) -> None:
    grid = st.integers(0, 8).map(lambda value: value / 8)
    score = np.array(data.draw(st.lists(grid, min_size=len(labels), max_size=len(labels))))
    y = labels.astype(float)
    both = 0 < y.sum() < len(y)
    auc = METRICS["auc"].of(y, score)
    assert (auc == pytest.approx(roc_auc_score(y, score), abs=1e-12)) if both else math.isnan(auc)
    if y.any():
        assert METRICS["average_precision"].of(y, score) == pytest.approx(average_precision_score(y, score), abs=1e-12)
    assert METRICS["log_loss"].of(y, score) == pytest.approx(log_loss(y, score, labels=[0, 1]), abs=1e-12)


@given(labels=LABELS, seed=st.integers(0, 99))
@settings(deadline=None)
def test_delong_is_antisymmetric_and_blind_to_the_scale_of_scores(labels: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, a, b = labels.astype(float), rng.random(len(labels)), np.round(rng.random(len(labels)), 1)
    forth, back, scaled = delong(y, a, b), delong(y, b, a), delong(y, a / 4, b**2)
    if not forth.is_defined:
        assert not back.is_defined
        return
    assert forth.gain == pytest.approx(-back.gain, abs=1e-12)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low), abs=1e-12)
    assert (forth.low, forth.high) == pytest.approx((scaled.low, scaled.high), abs=1e-9)
