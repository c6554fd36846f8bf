"""Samplers and pruners of Optuna (extra `search`), as functions of a history and a seed.

A study of Optuna's is made anew, in memory, for each question, so nothing of its state has to survive
a kill and nothing depends on the order in which parallel trials ended.
Source: random search, Bergstra & Bengio (JMLR 13, 2012); TPE, Bergstra et al. (NeurIPS 2011), as in
`optuna.samplers.TPESampler`; ASHA, Li et al. (MLSys 2020), as in `optuna.pruners.SuccessiveHalvingPruner`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noria.core.errors import UsageError
from noria.core.identity import JSON
from noria.core.lazy import lazy
from noria.pipeline.attempt.tried import Judge, Tried
from noria.pipeline.space import Dimension

__all__ = ["asha", "random", "tpe"]

optuna = lazy("optuna")

REDUCTION = 3
"""ASHA lets one in so many go on at each rung."""


def random(space: Mapping[str, Dimension], history: Sequence[Tried], *, seed: int, better: str) -> Mapping[str, JSON]:
    """Each parameter independently, uniform on its scale; the history does not matter."""
    _require()
    return _ask(optuna.samplers.RandomSampler(seed=seed), space, (), better)


def tpe(space: Mapping[str, Dimension], history: Sequence[Tried], *, seed: int, better: str) -> Mapping[str, JSON]:
    """Where good trials are dense and bad ones are not; at random for the first ten."""
    _require()
    return _ask(optuna.samplers.TPESampler(seed=seed), space, history, better)


def asha(history: Sequence[Tried], *, better: str) -> Judge:
    """Asynchronous successive halving: after a ninth and after a third of a whole trial, the best third goes on.

    How long a whole trial is, the first one that was done says; nothing is pruned before. Optuna's own
    guess (a hundredth) ends most trials at their first report, of which little can be known.
    """
    _require()
    whole = next((tried.reports[-1][0] for tried in history if tried.state == "done" and tried.reports), 0)
    if not whole:
        return _let_go
    least = max(1, whole // REDUCTION**2)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=least, reduction_factor=REDUCTION)
    study = _study(optuna.samplers.RandomSampler(seed=0), better, pruner)
    for tried in history:
        trial = study.ask()
        for step, value in tried.reports:
            trial.report(value, step)
            trial.should_prune()  # leaves the rungs that it reached
        study.tell(trial, tried.value if tried.state == "done" else None, _state(tried))
    trial = study.ask()

    def judge(step: int, value: float) -> bool:
        trial.report(value, step)
        return bool(trial.should_prune())

    return judge


def _let_go(step: int, value: float) -> bool:
    """Nothing is known yet."""
    return False


def _require() -> None:
    try:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
    except ImportError as error:
        raise UsageError("a search needs Optuna, which is not installed", hint="pip install 'noria[search]'") from error


def _ask(sampler: Any, space: Mapping[str, Dimension], history: Sequence[Tried], better: str) -> dict[str, JSON]:
    known = {name: _distribution(dimension) for name, dimension in space.items()}
    study = _study(sampler, better)
    for tried in history:
        if all(space[name].holds(tried.params.get(name)) for name in space):
            study.add_trial(
                optuna.trial.create_trial(
                    state=_state(tried),
                    value=tried.value if tried.state == "done" else None,
                    params={name: _inner(space[name], tried.params[name]) for name in space},
                    distributions=known,
                    intermediate_values=dict(tried.reports),
                )
            )
    params = study.ask(known).params
    return {name: _outer(space[name], params[name]) for name in space}


def _study(sampler: Any, better: str, pruner: Any = None) -> Any:
    direction = "maximize" if better == "higher" else "minimize"
    return optuna.create_study(direction=direction, sampler=sampler, pruner=pruner or optuna.pruners.NopPruner())


def _state(tried: Tried) -> Any:
    states = optuna.trial.TrialState
    return {"done": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[tried.state]


def _distribution(dimension: Dimension) -> Any:
    kinds = optuna.distributions
    if dimension.kind == "choice":
        return kinds.CategoricalDistribution(tuple(range(len(dimension.choices))))
    if dimension.kind == "int":
        step = int(dimension.step or 1)
        return kinds.IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log, step=step)
    return kinds.FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def _inner(dimension: Dimension, value: JSON) -> Any:
    """A choice goes by its place, so that 1 and True are two."""
    if dimension.kind == "choice":
        return next(
            place for place, each in enumerate(dimension.choices) if each == value and type(each) is type(value)
        )
    return value


def _outer(dimension: Dimension, value: Any) -> JSON:
    found: JSON = dimension.choices[value] if dimension.kind == "choice" else value
    return found
