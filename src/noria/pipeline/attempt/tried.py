"""The seams of a search: who proposes parameters, and who says that a trial is not worth going on with.

Both see only a history that the study hands them: the trials up to a set number, never those that
happen to be over. So what they answer depends on the seed and on results, not on who was faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.pipeline.space import Dimension

__all__ = ["Judge", "Pruner", "Sampler", "Tried", "read_tried", "written"]


@frozen(kw_only=True)
class Tried:
    """A trial that is over: `state` is done, pruned or failed; `reports` are (step, value) in their order."""

    number: int
    params: Mapping[str, JSON]
    state: str
    value: float | None
    reports: tuple[tuple[int, float], ...] = ()


class Sampler(Protocol):
    """Proposes the parameters of the next trial. Deterministic: all chance comes from `seed`."""

    def __call__(
        self, space: Mapping[str, Dimension], history: Sequence[Tried], *, seed: int, better: str
    ) -> Mapping[str, JSON]:
        """Values for every dimension. `better` is "higher" or "lower"."""
        ...


class Judge(Protocol):
    """Judges one trial as it goes."""

    def __call__(self, step: int, value: float) -> bool:
        """Whether the trial is to end here."""
        ...


class Pruner(Protocol):
    """Makes the judge of a trial, knowing those before it."""

    def __call__(self, history: Sequence[Tried], *, better: str) -> Judge:
        """A judge for one trial; reports come to it in their order."""
        ...


def written(tried: Tried) -> dict[str, JSON]:
    """A trial as JSON."""
    return {
        "number": tried.number,
        "params": dict(tried.params),
        "state": tried.state,
        "value": tried.value,
        "reports": [[step, value] for step, value in tried.reports],
    }


def read_tried(document: Mapping[str, Any]) -> Tried:
    """A trial from its JSON."""
    reports = tuple((int(step), float(value)) for step, value, *_ in document["reports"] if value is not None)
    values = {name: document[name] for name in ("number", "params", "state", "value")}
    return Tried(**values, reports=reports)
