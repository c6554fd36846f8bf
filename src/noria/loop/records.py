"""Records of the loop: what the policy decided of each window and data version, and each challenger's judgement."""

from __future__ import annotations

from dataclasses import asdict

from noria.core.fact import Stored
from noria.core.frozen import frozen
from noria.loop.facts import ChallengerJudged, RetrainDecided
from noria.store.ledger import Reader, Transaction
from noria.store.rows import parsed
from noria.store.sql.words import JSON, BigInteger, Column, Float, Index, Integer, Row, Text, select
from noria.store.tables import project, record_table

__all__ = [
    "PROJECTIONS",
    "TABLES",
    "DecisionRecord",
    "JudgedRecord",
    "decision",
    "decision_by_seq",
    "decisions",
    "judged",
    "judgements",
]

_decision = record_table(
    "retrain_decision",
    Column("model", Text, primary_key=True),
    Column("window", Text, primary_key=True),
    Column("dataset", Text, primary_key=True),
    Column("dataset_version", Integer, primary_key=True, autoincrement=False),
    Column("as_of", Text, nullable=False),
    Column("decision", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("triggers", JSON, nullable=False),
    Column("rules", JSON, nullable=False),
    Column("cost", Float, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("at", Text, nullable=False),
    Index("retrain_decision_seq", "model", "seq"),
)
_judged = record_table(
    "challenger_judged",
    Column("model", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("window", Text, nullable=False),
    Column("champion", Integer, nullable=False),
    Column("challenger", Integer, nullable=False),
    Column("metric", Text, nullable=False),
    Column("champion_score", Float, nullable=False),
    Column("challenger_score", Float, nullable=False),
    Column("gain", Float, nullable=False),
    Column("low", Float, nullable=False),
    Column("high", Float, nullable=False),
    Column("n", Integer, nullable=False),
    Column("worth", Float, nullable=False),
    Column("cost", Float, nullable=False),
    Column("decision", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detectable", Float, nullable=True),
    Column("seq", BigInteger, nullable=False),
    Column("at", Text, nullable=False),
    Index("challenger_judged_seq", "model", "seq"),
)

TABLES = (_decision, _judged)


@frozen(kw_only=True)
class DecisionRecord:
    """What the policy decided of one window, seeing one version of the data."""

    model: str
    window: str
    dataset: str
    dataset_version: int
    as_of: str
    decision: str
    reason: str
    triggers: tuple[str, ...]
    rules: tuple[str, ...]
    cost: float
    seq: int
    at: str

    @property
    def ref(self) -> str:
        """What a run that it asked for names as its cause: `retrain/7`."""
        return f"retrain/{self.seq}"


@frozen(kw_only=True)
class JudgedRecord:
    """How a challenger did against the champion; releases are numbered, scores are mean log loss.

    `detectable` is the smallest true gain that would have been promoted in 4 of 5 cases, where it is known.
    """

    model: str
    run: str
    window: str
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
    detectable: float | None
    seq: int
    at: str


@project(RetrainDecided)
def _retrain_decided(tx: Transaction, fact: Stored[RetrainDecided]) -> None:
    values = asdict(fact.payload)
    values["triggers"], values["rules"] = list(values["triggers"]), list(values["rules"])
    tx.upsert(_decision, **values, seq=fact.seq, at=fact.at)


@project(ChallengerJudged)
def _challenger_judged(tx: Transaction, fact: Stored[ChallengerJudged]) -> None:
    tx.upsert(_judged, **asdict(fact.payload), seq=fact.seq, at=fact.at)


PROJECTIONS = (_retrain_decided, _challenger_judged)


def decision(tx: Reader, model: str, window: str, dataset: str, version: int) -> DecisionRecord | None:
    """What was decided of a window with one version of the data, or None."""
    found = tx.first(
        select(_decision).where(
            _decision.c.model == model,
            _decision.c.window == window,
            _decision.c.dataset == dataset,
            _decision.c.dataset_version == version,
        )
    )
    return None if found is None else _decision_of(found)


def decision_by_seq(tx: Reader, seq: int) -> DecisionRecord | None:
    """The decision that a fact recorded, or None."""
    found = tx.first(select(_decision).where(_decision.c.seq == seq))
    return None if found is None else _decision_of(found)


def decisions(tx: Reader, model: str, *, window: str = "", limit: int = 1000) -> list[DecisionRecord]:
    """Decisions of a model, newest first; only those of one window if it is given."""
    query = select(_decision).where(_decision.c.model == model)
    if window:
        query = query.where(_decision.c.window == window)
    return [_decision_of(row) for row in tx.rows(query.order_by(_decision.c.seq.desc()).limit(limit))]


def judged(tx: Reader, model: str, run: str) -> JudgedRecord | None:
    """How the challenger of a run was judged, or None."""
    found = tx.first(select(_judged).where(_judged.c.model == model, _judged.c.run == run))
    return None if found is None else JudgedRecord(**found._mapping)


def judgements(tx: Reader, model: str, *, limit: int = 1000) -> list[JudgedRecord]:
    """Every judgement of a challenger, newest first."""
    query = select(_judged).where(_judged.c.model == model).order_by(_judged.c.seq.desc()).limit(limit)
    return [JudgedRecord(**row._mapping) for row in tx.rows(query)]


def _decision_of(row: Row[tuple[object, ...]]) -> DecisionRecord:
    values = dict(row._mapping)
    for name in ("triggers", "rules"):
        found = values[name]
        values[name] = tuple(parsed(found) if isinstance(found, str) else found)
    return DecisionRecord(**values)
