"""Reading a rollout's policy."""

from __future__ import annotations

import json

import pytest

from noria.config import DeployConfig
from noria.core.errors import ConfigError
from noria.serving.plan import MINIMUM_REQUESTS, Plan, Step, parse_path, plan


def test_a_path_is_read_in_requests_and_in_durations() -> None:
    path = ("shadow 2000 requests", "shadow 1h", "canary 5% 30m", "canary 12.5 % 1 request", "100%")
    assert parse_path(path) == (
        Step("shadow", requests=2000),
        Step("shadow", requests=MINIMUM_REQUESTS, seconds=3600),
        Step("canary", share=0.05, requests=MINIMUM_REQUESTS, seconds=1800),
        Step("canary", share=0.125, requests=1),
        Step("full", share=1.0),
    )
    assert [step.text for step in parse_path(("canary 5% 10 requests", "100 %"))] == ["canary 5% 10 requests", "100%"]


@pytest.mark.parametrize(
    "path",
    [
        (),
        ("shadow 10 requests",),
        ("100%", "100%"),
        ("100%", "shadow 10 requests"),
        ("canary 25% 10 requests", "canary 5% 10 requests", "100%"),
        ("canary 0% 10 requests", "100%"),
        ("canary 100% 10 requests", "100%"),
        ("canary 5% 0 requests", "100%"),
        ("canary 5%", "100%"),
        ("canary five 10 requests", "100%"),
        ("shadow ten minutes", "100%"),
        ("blue green", "100%"),
    ],
)
def test_a_broken_path_is_refused(path: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError):
        parse_path(path)


@pytest.mark.parametrize("abort", [{"erors": 0.1}, {"errors": 0.0}, {"errors": 2.0}, {"p99_ms": 0.0}])
def test_a_broken_limit_is_refused(abort: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        plan(DeployConfig(abort=abort))


def test_a_plan_survives_the_ledger() -> None:
    made = plan(DeployConfig(abort={"errors": 0.01, "p99_ms": 20, "shadow_flips": 0.1}, deadline="2h"))
    assert Plan.from_json(json.loads(json.dumps(made.to_json()))) == made
    assert (made.slow_us, made.deadline_s) == (20_000, 7200)


def test_every_guard_that_can_fire_shares_the_level() -> None:
    assert plan(DeployConfig(path=("canary 5% 10 requests", "100%"))).guards == (
        "errors",
        "invalid",
        "slow",
        "sample ratio",
    )
    full = plan(DeployConfig(abort={"errors": 0.01, "invalid": 0.01, "shadow_flips": 0.1}))
    assert set(full.guards) == {
        "errors",
        "invalid",
        "slow",
        "sample ratio",
        "shadow errors",
        "shadow flips",
        "error share",
        "invalid share",
    }
