"""The plan of a rollout: the policy's path and guards, resolved once and written into the ledger.

A path is read from `[model.NAME.deploy]` as texts. `N requests` counts requests of the candidate
(answers compared, for a shadow). Nothing here decides; rollout.py folds a log through a plan.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from noria.config import DeployConfig
from noria.core.clock import duration
from noria.core.errors import ConfigError
from noria.core.frozen import frozen
from noria.core.identity import JSON

__all__ = ["ABORT_KEYS", "Plan", "Step", "parse_path", "plan"]

ABORT_KEYS = ("errors", "p99_ms", "invalid", "shadow_flips")
_STEP = re.compile(r"(?:(shadow)|canary\s+(\d+(?:\.\d+)?)\s*%)\s+(?:(\d+)\s+requests?|(\S+))")
_FULL = re.compile(r"100\s*%")
MINIMUM_REQUESTS = 100
"""What a step given as a duration needs all the same: it never passes on no data."""


@frozen
class Step:
    """One step: a shadow, a canary with a share 0..1, or full traffic; its length in requests or seconds."""

    kind: Literal["shadow", "canary", "full"]
    share: float = 0.0
    requests: int = 0
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """As it is written in a path."""
        if self.kind == "full":
            return "100%"
        head = "shadow" if self.kind == "shadow" else f"canary {self.share * 100:g}%"
        return f"{head} {self.seconds:g}s" if self.seconds else f"{head} {self.requests} requests"


@frozen(kw_only=True)
class Plan:
    """Steps, and the levels of the tests.

    `alpha` bounds the chance that a harmless candidate is ever rolled back, over all guards and
    looks; `beta` that one at least `margin` times as bad is promoted, for each guard. `slow_us` is
    the latency above which a request counts as slow (None: to be frozen from the shadow step, or
    no guard), `errors`, `invalid` and `flips` are absolute limits (shares; None: no such guard).
    """

    steps: tuple[Step, ...]
    alpha: float = 0.05
    beta: float = 0.05
    ratio: float = 1.0
    margin: float = 1.5
    slow_margin: float = 3.0
    slow_us: int | None = None
    errors: float | None = None
    invalid: float | None = None
    flips: float | None = None
    absence: float = 0.05
    least_events: int = 20
    deadline_s: float = 86400.0

    @property
    def guards(self) -> tuple[str, ...]:
        """The names of everything that can raise an alarm; they share `alpha` evenly."""
        found = ["errors", "invalid", "slow", "sample ratio"]
        if any(step.kind == "shadow" for step in self.steps):
            found.append("shadow errors")
            found += ["shadow flips"] if self.flips is not None else []
        found += ["error share"] if self.errors is not None else []
        found += ["invalid share"] if self.invalid is not None else []
        return tuple(found)

    def margin_of(self, guard: str) -> float:
        """The risk ratio that may not be promoted. Latency comes in few, shared shocks, so its margin is wider."""
        return self.slow_margin if guard == "slow" else self.margin

    def to_json(self) -> dict[str, JSON]:
        """The plan as a fact keeps it."""
        found: dict[str, JSON] = asdict(self)
        return {**found, "guards": list(self.guards)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Plan:
        """The plan of a fact."""
        fields = {key: item for key, item in value.items() if key not in ("steps", "guards")}
        return Plan(steps=tuple(Step(**step) for step in value["steps"]), **fields)


def parse_path(path: tuple[str, ...], *, where: str = "") -> tuple[Step, ...]:
    """The steps of a path. Raises: ConfigError naming the item that is wrong."""
    steps = tuple(_step(item, where) for item in path)
    if not steps or steps[-1].kind != "full" or any(step.kind == "full" for step in steps[:-1]):
        raise ConfigError('a rollout path ends with "100%", and only there', where=where)
    shares = [step.share for step in steps if step.kind == "canary"]
    if shares != sorted(shares):
        raise ConfigError("the shares of a rollout path may not shrink", where=where)
    return steps


def plan(config: DeployConfig, *, where: str = "", slow_us: int | None = None) -> Plan:
    """The plan that a policy describes. Raises: ConfigError naming the key or item that is wrong."""
    for key, value in config.abort.items():
        if key not in ABORT_KEYS:
            raise ConfigError(f"abort has no key {key!r}", where=where, hint=f"valid keys: {', '.join(ABORT_KEYS)}")
        if key != "p99_ms" and not 0.0 < value < 1.0:
            raise ConfigError(f"abort.{key} is a share between 0 and 1, not {value:g}", where=where)
    limit_ms = config.abort.get("p99_ms")
    if limit_ms is not None and limit_ms <= 0:
        raise ConfigError(f"abort.p99_ms must be above 0, not {limit_ms:g}", where=where)
    try:
        deadline_s = duration(config.deadline).total_seconds()
    except ValueError as error:
        raise ConfigError(f"deadline: {error}", where=where) from error
    return Plan(
        steps=parse_path(tuple(config.path), where=where),
        slow_us=slow_us if limit_ms is None else int(limit_ms * 1000),
        errors=config.abort.get("errors"),
        invalid=config.abort.get("invalid"),
        flips=config.abort.get("shadow_flips"),
        deadline_s=deadline_s,
    )


def _step(item: str, where: str) -> Step:
    text = item.strip()
    if _FULL.fullmatch(text):
        return Step("full", share=1.0)
    found = _STEP.fullmatch(text)
    wrong = ConfigError(
        f"rollout step {item!r} is not understood",
        where=where,
        hint='e.g. "shadow 200 requests", "shadow 1h", "canary 5% 200 requests", "canary 25% 1h", "100%"',
    )
    if found is None:
        raise wrong
    shadow, share_text, requests, length = found.groups()
    share = float(share_text or 0) / 100.0
    if not shadow and not 0.0 < share < 1.0:
        raise ConfigError(f"rollout step {item!r}: a canary's share is between 0 and 100 %", where=where)
    if requests is not None:
        if int(requests) < 1:
            raise ConfigError(f"rollout step {item!r} needs at least one request", where=where)
        return Step("shadow" if shadow else "canary", share=share, requests=int(requests))
    try:
        seconds = duration(length).total_seconds()
    except ValueError as error:
        raise wrong from error
    return Step("shadow" if shadow else "canary", share=share, requests=MINIMUM_REQUESTS, seconds=seconds)
