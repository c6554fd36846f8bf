"""What the loop can decide."""

from __future__ import annotations

from noria.core.fact import fact

__all__ = ["FACTS", "ChallengerJudged", "RetrainDecided"]


@fact("retrain.decided", subject="model/{model}")
class RetrainDecided:
    """The policy looked at a window: decision is train, wait, or stopped; `triggers` are those that fired.

    `as_of` is event time; `dataset_version` is the newest version that was looked at. `rules` are
    all rules with their numbers, `+` those that fired.
    """

    model: str
    window: str
    as_of: str
    decision: str
    reason: str
    triggers: tuple[str, ...] = ()
    dataset_version: int = 0
    cost: float = 0.0
    dataset: str = ""
    rules: tuple[str, ...] = ()


@fact("challenger.judged", subject="model/{model}")
class ChallengerJudged:
    """A trained challenger was compared with the champion on the same newest labelled rows.

    Scores are mean log loss; gain = champion - challenger, with its interval [low, high] over n rows.
    `worth` and `cost` are in the policy's money over the expected traffic; decision is promote or refuse.
    `detectable` is the smallest true gain that would have been promoted in 4 of 5 cases; None where it is not known.
    """

    model: str
    window: str
    run: str
    champion: int
    challenger: int
    metric: str
    champion_score: float
    challenger_score: float
    gain: float
    low: float
    high: float
    n: int
    worth: float
    cost: float
    decision: str
    reason: str
    detectable: float | None = None


FACTS = (RetrainDecided, ChallengerJudged)
