"""Whether every policy of noria.toml can be carried out: asked when a command opens the project.

A typo in a window or a trigger would else show weeks later, in a log that nobody reads. Each text is
read by the function that will read it when it counts; nothing is kept.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from noria.config import CONFIG_NAME, MonitorConfig, Project, RetrainConfig
from noria.core.errors import ConfigError, UsageError
from noria.core.lazy import lazy

if TYPE_CHECKING:
    from noria.loop import policy
    from noria.monitoring import budget, window
    from noria.serving import plan
else:  # a project without models has nothing for them to read
    policy, plan = lazy("noria.loop.policy"), lazy("noria.serving.plan")
    budget, window = lazy("noria.monitoring.budget"), lazy("noria.monitoring.window")

__all__ = ["require"]

WATCHED = ("auc", "log_loss", "rmse", "mae", "skill")
"""The metrics that are measured of each window, so that a trigger may name them; a test holds it to the truth."""


def require(project: Project) -> None:
    """Raises: ConfigError naming the file, the table, and what would be right."""
    file = project.root / CONFIG_NAME
    for name, model in project.models.items():
        plan.plan(model.deploy, where=f"{file} [model.{name}.deploy]")
        _monitor(model.monitor, f"{file} [model.{name}.monitor]")
        _retrain(model.retrain, f"{file} [model.{name}.retrain]")


def _monitor(found: MonitorConfig, where: str) -> None:
    _read(lambda: window.days_of(found.window), "window", where, 'such as "day", "week", "month" or "14d"')
    _read(lambda: budget.budget_of(found.false_alarms), "false_alarms", where)


def _retrain(found: RetrainConfig, where: str) -> None:
    for text in found.when:
        trigger = policy.parse_trigger(text, where=where)
        if trigger.kind == "limit" and trigger.metric not in WATCHED:
            raise ConfigError(
                f"when has {text!r}, and no window is measured by {trigger.metric!r}",
                where=where,
                hint=_near(trigger.metric, WATCHED),
            )


def _read(act: Callable[[], object], key: str, where: str, hint: str = "") -> None:
    try:
        act()
    except UsageError as error:
        raise ConfigError(f"{key}: {error.message}", where=where, hint=error.hint or hint) from error


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(sorted(known))}"
