"""Gates say yes only on proof: everything that can be wrong with a judgement closes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from noria.config import GateConfig, GateRule
from noria.core.errors import NotFound
from noria.registry.evidence import Champion, Evidence
from noria.registry.facts import Verdict
from noria.registry.gates import Judgement, decide
from noria.registry.kinds import champion as champion_gate
from noria.registry.kinds import latency as latency_gate
from noria.registry.kinds import metric as metric_gate
from noria.registry.kinds import slices as slices_gate
from noria.registry.metrics import METRICS, why_absent
from noria.registry.records import VersionRecord, judgement
from noria.registry.scored import Sample
from noria.store.payload import decode, encode
from noria.store.workspace import Workspace

Register = Callable[..., VersionRecord]
Judge = Callable[..., Judgement]


def by_gate(found: Judgement) -> dict[str, Verdict]:
    return {verdict.gate: verdict for verdict in found.judged.verdicts}


def test_the_first_model_meets_absolute_limits_only_and_says_so(register: Register, judge: Judge) -> None:
    found = judge(register("weak").version)
    assert found.passed
    verdicts = by_gate(found)
    assert verdicts["metric auc"].limit == 0.55
    assert verdicts["champion auc"].text.startswith("no champion")
    assert found.judged.champion == 0


def test_a_better_challenger_passes_and_a_worse_one_is_refused_with_its_interval(
    ws: Workspace, register: Register, judge: Judge
) -> None:
    weak, strong = register("weak"), register("strong")
    found = judge(strong.version, weak.version)
    up = by_gate(found)["champion auc"]
    down = by_gate(judge(weak.version, strong.version))["champion auc"]
    assert up.passed
    assert not down.passed
    assert up.gain == pytest.approx(-(down.gain or 0))
    assert up.low is not None
    assert up.high is not None
    assert 0 < up.low < (up.gain or 0) < up.high
    assert down.n == 3000
    assert up.detectable is not None
    said = up.text.rpartition("; ")[2]
    assert said in (f"sees gains from {up.detectable:.4f}", f"admits losses up to {-up.detectable:.4f}")
    assert said in ws.objects.get_bytes(found.judged.report).decode()
    assert found.evaluation is not None
    kept = ws.objects.get_json(found.evaluation.document)["verdicts"]
    assert [each["detectable"] for each in kept if each["gate"] == "champion auc"] == [up.detectable]


def test_a_verdict_is_a_fact_with_policy_and_report(ws: Workspace, register: Register, judge: Judge) -> None:
    version = register("weak")
    found = judge(version.version)
    with ws.ledger.read() as tx:
        kept = judgement(tx, "m", version.version)
    assert kept is not None
    assert kept.passed
    assert kept.verdicts == found.judged.verdicts
    rules = ws.objects.get_json(kept.policy)
    assert rules["metrics"]["auc"]["min"] == 0.55
    page = ws.objects.get_bytes(kept.report).decode()
    assert page.startswith("<!doctype html>")
    assert f"{version.ref}" in page
    [fact] = ws.ledger.facts(kind="gate.judged")
    assert ("bundle", version.bundle) in fact.fact.inputs


class Constant(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Gives one score, or raises, or fails to load, once it is told to."""

    def __init__(self, value: float = 0.5, mood: str = "") -> None:
        self.value, self.mood = value, mood

    def fit(self, x: Any, y: Any) -> Constant:
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, x: Any) -> Any:
        if self.mood == "raises" and len(x) > 100:
            raise RuntimeError("out of sorts")
        score = np.full(len(x), math.nan if self.mood == "nan" and len(x) > 100 else self.value)
        return np.column_stack([1 - score, score])

    def predict(self, x: Any) -> Any:
        return self.predict_proba(x)[:, 1] > 0.5


def odd(mood: str) -> Constant:
    return Constant(mood=mood).fit(None, None)


@pytest.mark.parametrize(("mood", "words"), [("nan", "3000 of 3000 scores are not finite"), ("raises", "RuntimeError")])
def test_a_candidate_that_fails_is_refused(register: Register, judge: Judge, mood: str, words: str) -> None:
    found = judge(register(odd(mood)).version)
    assert not found.passed
    assert any(words in verdict.text for verdict in found.judged.verdicts if not verdict.passed)


@pytest.mark.parametrize("mood", ["nan", "raises"])
def test_a_champion_that_cannot_be_compared_closes_the_gate(register: Register, judge: Judge, mood: str) -> None:
    champion, candidate = register(odd(mood)), register("strong")
    found = judge(candidate.version, champion.version)
    assert not found.passed
    verdict = by_gate(found)["champion"]
    assert not verdict.passed
    assert "cannot be compared with" in verdict.text


def test_a_champion_whose_file_was_altered_closes_the_gate(ws: Workspace, register: Register, judge: Judge) -> None:
    champion, candidate = register("weak"), register("strong")
    from noria.packaging.bundle import read

    broken = next(e.digest for e in read(ws, champion.bundle).files.entries if e.path == "model.skops")
    path = next(p for p in (ws.project.state / "objects").rglob("*") if p.is_file() and broken[-20:] in p.name)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    found = judge(candidate.version, champion.version)
    assert not found.passed
    assert "cannot be compared with" in by_gate(found)["champion"].text


@pytest.mark.parametrize("rows", ["none", "one class", "no label column", "no labels", "foreign labels", "one row"])
def test_a_holdout_from_which_nothing_follows_closes_the_gate(
    register: Register, judge: Judge, holdout: pd.DataFrame, rows: str
) -> None:
    cases: Mapping[str, Any] = {
        "none": holdout.head(0),
        "one class": holdout[holdout["late"] == 0],
        "no label column": holdout.drop(columns="late"),
        "no labels": holdout.assign(late=None),
        "foreign labels": holdout.assign(late="perhaps"),
        "one row": holdout.head(1),
    }
    found = judge(register("strong").version, holdout=cases[rows])
    assert not found.passed
    assert not found.judged.verdicts[0].passed or not by_gate(found)["holdout"].passed


def test_a_metric_that_nobody_has_closes_the_gate(policy: Any, register: Register, judge: Judge) -> None:
    place = policy({"saved_revenue": {"min": 0.0}, "slices": {"karma": {"max_drop": 0.1}}})
    verdicts = by_gate(judge(register("strong").version, ws=place))
    assert "no metric has that name" in verdicts["metric saved_revenue"].text
    assert not verdicts["metric saved_revenue"].passed
    assert not verdicts["slices karma"].passed


@dataclass(frozen=True)
class Own:
    """A metric of the project's own."""

    function: Any
    name: str = "own"
    better: str = "higher"
    takes_rows: bool = True


def crash(y: Any, score: Any, rows: Any) -> float:
    raise ZeroDivisionError("by design")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (crash, "ZeroDivisionError"),
        (lambda y, score, rows: math.nan, "NaN"),
        (lambda y, score, rows: math.inf, "NaN"),
        (lambda y, score, rows: None, "TypeError"),
    ],
)
@pytest.mark.parametrize("is_ruled", [True, False])
def test_an_own_metric_that_is_broken_closes_the_gate(
    policy: Any, register: Register, judge: Judge, function: Any, words: str, is_ruled: bool
) -> None:
    place = policy({"own": {"min": -1e9}} if is_ruled else {"auc": {"min": 0.5}})
    found = judge(register("strong").version, ws=place, metrics=["auc", Own(function)])
    assert not found.passed
    assert any(words in verdict.text for verdict in found.judged.verdicts if not verdict.passed)


def test_an_own_metric_without_rows_is_judged_too(policy: Any, register: Register, judge: Judge) -> None:
    earned = Own(lambda y, score: float(y[score > 0.5].mean()), name="earned", takes_rows=False)
    for least, passed in ((0.0, True), (1.1, False)):
        place = policy({"earned": {"min": least}})
        assert judge(register("strong").version, ws=place, metrics=["auc", earned]).passed is passed


def test_an_own_metric_is_judged_on_the_rows_like_any_other(policy: Any, register: Register, judge: Judge) -> None:
    earned = Own(lambda y, score, rows: float((rows["distance"] * (score > 0.5)).sum()), name="earned")
    place = policy({"earned": {"min": 1.0, "champion": "not worse", "margin": 1e9}})
    weak, strong = register("weak"), register("strong")
    verdicts = by_gate(judge(strong.version, weak.version, ws=place, metrics=[earned]))
    assert verdicts["metric earned"].passed
    assert verdicts["champion earned"].passed
    assert verdicts["champion earned"].champion is not None


def test_a_metric_that_the_pipeline_does_not_know_is_an_error_verdict(register: Register, judge: Judge) -> None:
    found = judge(register("strong").version, metrics=["auk"])
    assert not found.passed
    assert "no metric 'auk'" in by_gate(found)["metrics"].text


def test_a_version_that_does_not_exist_is_not_judged(judge: Judge) -> None:
    with pytest.raises(NotFound):
        judge(3)


def test_slices_hold_back_a_model_that_a_group_pays_for(policy: Any, register: Register, judge: Judge) -> None:
    place = policy({"slices": {"auc": {"max_drop": 0.03, "min_rows": 100}}})
    weak, backward = register("weak"), register("backward")
    options = {"ws": place, "slices": ["carrier", "hour"]}
    refused = by_gate(judge(backward.version, weak.version, **options))["slices auc"]
    assert not refused.passed
    assert "slices fail" in refused.text
    assert by_gate(judge(register("strong").version, weak.version, **options))["slices auc"].passed


@pytest.mark.parametrize(
    ("slices", "words"), [(["airport"], "no column airport"), ([], "declares none"), (["late"], "nothing could be")]
)
def test_a_slice_rule_that_cannot_be_applied_says_no(
    policy: Any, register: Register, judge: Judge, slices: list[str], words: str
) -> None:
    place = policy({"slices": {"auc": {"max_drop": 0.03}}})
    weak, strong = register("weak"), register("strong")
    verdict = by_gate(judge(strong.version, weak.version, ws=place, slices=slices))["slices auc"]
    assert not verdict.passed
    assert words in verdict.text


def evidence(**changes: Any) -> Evidence:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 500).astype(float)
    sample = Sample(pd.DataFrame({"g": ["a", "b"] * 250}), y, np.clip(y * 0.2 + rng.random(500), 0, 1), 0.5, "binary")
    found = Evidence(
        policy=GateConfig(metrics={"auc": GateRule(min=0.1)}),
        sample=sample,
        champion=None,
        metrics=METRICS,
        slices=("g",),
        blocks=None,
        latencies_ms=lambda: [1.0, 2.0],
    )
    return replace(found, **changes)


@pytest.mark.parametrize(
    ("rule", "passed"), [(GateRule(min=0.1), True), (GateRule(min=0.99), False), (GateRule(max=0.1), False)]
)
def test_limits_are_limits(rule: GateRule, passed: bool) -> None:
    [verdict] = metric_gate.judge(evidence(policy=GateConfig(metrics={"auc": rule})))
    assert verdict.passed is passed


def test_not_worse_needs_proof_and_better_needs_more() -> None:
    base = evidence()
    same = Champion(1, base.sample.score, 0.5)
    noisy = Champion(1, np.random.default_rng(1).permutation(base.sample.score), 0.5)
    cases = [
        (GateRule(champion="not worse"), same, True),
        (GateRule(champion="better"), same, False),
        (GateRule(champion="better"), noisy, True),
        (GateRule(champion="not worse", margin=0.5), noisy, True),
    ]
    for rule, champion, passed in cases:
        [verdict] = champion_gate.judge(replace(base, policy=GateConfig(metrics={"auc": rule}), champion=champion))
        assert verdict.passed is passed, (rule, verdict.text)


@pytest.mark.parametrize("name", ["auc", "log_loss", "f1"])
def test_the_gate_prints_the_smallest_gain_that_it_would_have_seen(name: str) -> None:
    base = evidence()
    champion = Champion(1, np.clip(base.sample.score + np.random.default_rng(1).normal(0, 0.1, 500), 0, 1), 0.5)
    found = []
    for rule in (GateRule(champion="better"), GateRule(champion="not worse", margin=0.9)):
        policy = GateConfig(metrics={name: rule})
        [verdict] = champion_gate.judge(replace(base, policy=policy, champion=champion))
        found.append(verdict)
    better, not_worse = found
    assert better.detectable is not None
    assert not_worse.detectable is not None
    assert 0 < (better.gain or 0) - (better.low or 0) < better.detectable
    assert not_worse.detectable == pytest.approx(better.detectable - 0.9)
    assert better.text.endswith(f"; sees gains from {better.detectable:.4f}")
    assert not_worse.text.endswith(f"; admits losses up to {-not_worse.detectable:.4f}")


@pytest.mark.parametrize("rule", ["better", "not worse"])
@pytest.mark.parametrize("name", ["auc", "log_loss", "accuracy", "f1"])
def test_few_rows_or_one_class_close_the_gate_and_nothing_is_detectable(name: str, rule: str) -> None:
    """Two of each class in the right order beat a constant in every sixth case of luck, and show no spread."""
    policy = GateConfig(metrics={name: GateRule(champion=rule, margin=0.5)})
    for y in (np.array([0.0, 0, 1, 1]), np.zeros(50), np.repeat([0.0, 1.0], [50, 9])):
        sample = Sample(pd.DataFrame(index=range(len(y))), y, 0.2 + 0.6 * y, 0.5, "binary")
        told = evidence(policy=policy, sample=sample, champion=Champion(1, np.full(len(y), 0.4), 0.5))
        [verdict] = champion_gate.judge(told)
        assert not verdict.passed
        assert verdict.detectable is None
        assert "decide nothing, at least 10 of each are needed" in verdict.text


def test_scores_that_all_tie_are_not_better_and_nothing_is_detectable() -> None:
    base, tied = evidence(), np.full(500, 0.5)
    told = replace(
        base,
        policy=GateConfig(metrics={"auc": GateRule(champion="better")}),
        sample=replace(base.sample, score=tied),
        champion=Champion(1, tied, 0.5),
    )
    [verdict] = champion_gate.judge(told)
    assert (verdict.passed, verdict.detectable) == (False, None)
    assert "sees" not in verdict.text


def test_a_verdict_of_an_older_ledger_reads_without_a_detectable_gain() -> None:
    old = {"gate": "champion auc", "passed": True, "text": "yes", "gain": 0.1, "low": 0.0, "high": 0.2, "n": 10}
    found = decode(Verdict, old)
    assert (found.gain, found.n, found.detectable) == (0.1, 10, None)
    assert decode(Verdict, encode(replace(found, detectable=0.02))).detectable == 0.02


def test_latency_is_the_p99_and_nothing_timed_is_a_no() -> None:
    policy = GateConfig(latency_p99_ms=5.0)
    times = [1.0] * 98 + [9.0, 9.0]
    [slow] = latency_gate.judge(evidence(policy=policy, latencies_ms=lambda: times))
    assert not slow.passed
    [fast] = latency_gate.judge(evidence(policy=policy))
    assert fast.passed
    [none] = latency_gate.judge(evidence(policy=policy, latencies_ms=lambda: []))
    assert not none.passed
    assert latency_gate.judge(evidence()) == []


def test_a_gate_that_crashes_is_a_no() -> None:
    def broken() -> list[float]:
        raise OSError("no clock")

    verdicts = decide(evidence(policy=GateConfig(latency_p99_ms=1.0), latencies_ms=broken))
    [verdict] = [v for v in verdicts if v.gate == "latency"]
    assert not verdict.passed
    assert "OSError: no clock" in verdict.text


def test_honest_small_slices_seldom_refuse_a_model_that_is_equal() -> None:
    rng = np.random.default_rng(2)
    policy = GateConfig(slices={"auc": {"max_drop": 0.02, "min_rows": 100}})
    refused = 0
    for _ in range(60):
        truth = rng.random(3000)
        y = (rng.random(3000) < truth).astype(float)
        first, second = (np.clip(truth + rng.normal(0, 0.2, 3000), 0, 1) for _ in range(2))
        rows = pd.DataFrame({"g": [str(value) for value in rng.integers(0, 20, 3000)]})
        sample = Sample(rows, y, second, 0.5, "binary")
        [verdict] = slices_gate.judge(evidence(policy=policy, sample=sample, champion=Champion(1, first, 0.5)))
        refused += not verdict.passed
    assert refused / 60 < 0.15


def test_no_rules_at_all_still_need_a_sound_holdout(policy: Any, register: Register, judge: Judge) -> None:
    place = policy({})
    version = register("strong")
    assert judge(version.version, ws=place).passed
    assert not judge(register(odd("nan")).version, ws=place).passed


def test_a_version_with_other_columns_than_the_champion_is_refused_unless_callers_change_with_it(
    register: Register, judge: Judge, policy: Callable[..., Workspace]
) -> None:
    weak, strong = register("weak"), register("strong")
    rules = {"auc": {"min": 0.55}}
    refused = by_gate(judge(strong.version, weak.version, ws=policy(rules)))["inputs"]
    assert not refused.passed
    assert "hour" in refused.text
    assert judge(strong.version, weak.version, ws=policy({**rules, "inputs": "any"})).passed
    assert by_gate(judge(weak.version, weak.version, ws=policy(rules)))["inputs"].passed


@pytest.mark.parametrize(
    ("name", "task", "said"),
    [
        ("rsme", "regression", "did you mean rmse?"),
        ("log_los", "binary", "did you mean log_loss?"),
        ("saved_mony", "binary", "did you mean saved_money?"),
        ("rmse", "binary", "a metric of regression models"),
        ("zzzz", "binary", "there are "),
    ],
)
def test_a_metric_that_was_not_measured_names_the_one_that_was_meant(name: str, task: str, said: str) -> None:
    assert said in why_absent(name, ["saved_money"], task)
