"""What any model must do, whatever it is about: tests that its schema gives, each with what was seen.

Asked of a model as servers ask it, by rows: one row alone, with values missing, with values never seen (where its
signature says no to these it must refuse by the name of the column, and the case says which). It does not heed the
order of the rows, gives the same twice, knows neither the key nor the label, and keeps what noria.toml declares:
columns that may not matter, columns that may only push one way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from noria.config import BehaviourConfig
from noria.core.errors import NoriaError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.packaging.predictor import UNSEEN, Predictor
from noria.packaging.rows import Field, RowRefused
from noria.registry.scored import HasRoles, score

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
else:
    np, pd = lazy("numpy"), lazy("pandas")
stats = lazy("scipy.stats")

__all__ = ["Broken", "Case", "Seen", "Subject", "Test", "ask", "cases", "rows_of"]

ROWS = 200
SAME = 1e-9
"""Scores of equal rows may be this far apart: the tolerance that golden rows have in serving."""
AGAINST = 0.2
"""A declared direction holds if the mean follows it and at most this share of rows goes against it."""
NAMED = 5
"""So many columns are named in a line."""
TELLS_ALL = 0.999
"""A single input that ranks, or follows, the label better than this is the label under another name."""


@frozen(kw_only=True)
class Case:
    """One test: `group` is training or behaviour, `text` what was seen.

    `limit` says what the model does not do though the test holds: rows that it refuses by the name of a column.
    """

    group: str
    name: str
    ok: bool
    text: str
    limit: str = ""


@frozen(kw_only=True)
class Subject:
    """A model that was loaded anew, with its holdout, what the columns are, and what is declared of it."""

    predictor: Predictor
    holdout: pd.DataFrame
    roles: HasRoles
    declared: BehaviourConfig


@frozen
class Seen:
    """What a test saw, and the `limit` of the model that it met on the way."""

    text: str
    limit: str


Test = Callable[[Any, "list[dict[str, Any]]"], "str | Seen"]
"""Of a subject and some of its rows: gives what was seen; raises Broken if it is not as it must be."""


class Broken(Exception):
    """A test says no, and this is what it saw."""


def cases(subject: Subject) -> list[Case]:
    """Every test of a model, in order. A test that cannot be done says no."""
    rows = rows_of(subject)
    found = [ask("training", name, test, subject, rows) for name, test in _TRAINING.items()]
    found += [ask("behaviour", name, test, subject, rows) for name, test in _BEHAVIOUR.items()]
    for column in subject.declared.invariant:
        found.append(ask("behaviour", f"{column} does not matter", _invariant(column), subject, rows))
    for column, way in subject.declared.direction.items():
        found.append(ask("behaviour", f"more {column}, {way}", _direction(column, way), subject, rows))
    return found


def rows_of(subject: Subject) -> list[dict[str, Any]]:
    """Rows of the holdout, evenly spaced, as a caller would send them."""
    picked = subject.holdout.iloc[np.unique(np.linspace(0, len(subject.holdout) - 1, ROWS).astype(int))]
    return [dict(row) for row in subject.predictor.rows.plain(picked)]


def ask(group: str, name: str, test: Test, subject: Subject, rows: list[dict[str, Any]]) -> Case:
    """The outcome of one test; what the platform refuses is a no with its reason."""
    try:
        seen = test(subject, rows)
        text, limit = (seen, "") if isinstance(seen, str) else (seen.text, seen.limit)
        return Case(group=group, name=name, ok=True, text=text, limit=limit)
    except Broken as broken:
        return Case(group=group, name=name, ok=False, text=str(broken))
    except NoriaError as error:
        return Case(group=group, name=name, ok=False, text=error.message)


def _one_row(subject: Subject, rows: list[dict[str, Any]]) -> str:
    together = _scores(subject, rows)
    for place in range(0, len(rows), max(1, len(rows) // 20)):
        alone = _scores(subject, [rows[place]])
        _require_same(alone, together[place : place + 1], "a row alone has another score than among others")
    return "a row alone has the score that it has among others"


def _missing(subject: Subject, rows: list[dict[str, Any]]) -> str | Seen:
    return _changed_cells(subject, rows, lambda field: (None, not field.column.nullable), "a value missing")


def _unseen(subject: Subject, rows: list[dict[str, Any]]) -> str | Seen:
    texts = [f for f in subject.predictor.rows.fields if f.column.type in ("text", "category")]
    if not texts:
        return "no input is a text or a category"
    return _changed_cells(subject, rows, _unseen_value, "a value never seen")


def _unseen_value(field: Field) -> tuple[Any, bool] | None:
    is_text = field.column.type in ("text", "category") and all(isinstance(level, str) for level in field.levels)
    return (UNSEEN, field.strict) if is_text else None


def _changed_cells(
    subject: Subject, rows: list[dict[str, Any]], change: Callable[[Field], tuple[Any, bool] | None], what: str
) -> str | Seen:
    """In each column, one row of several gets a value: a finite score, or a refusal that names the column.

    A refusal is the model's signature at work and no fault, but whoever is to send such rows must hear of it.
    """
    asked, refused = 0, list[str]()
    for field in subject.predictor.rows.fields:
        given = change(field)
        if given is None:
            continue
        value, is_refused = given
        several = [dict(row) for row in rows[:5]]
        several[len(several) // 2][field.name] = value
        asked += 1
        try:
            scores = subject.predictor.predict(several)
        except RowRefused as error:
            if not is_refused or error.column != field.name:
                raise Broken(f"with {what} in {field.name}: {error.message}") from error
            refused.append(field.name)
            continue
        except NoriaError as error:
            raise Broken(f"with {what} in {field.name} it fails: {error.message}") from error
        if is_refused:
            raise Broken(f"{what} in {field.name} must be refused by its signature, and was answered")
        if not np.isfinite(scores).all():
            raise Broken(f"with {what} in {field.name} its score is not finite")
    text = f"{asked - len(refused)} columns answered, {len(refused)} refused by name"
    if not refused:
        return text
    more = f" and {len(refused) - NAMED} more" if len(refused) > NAMED else ""
    named = ", ".join(refused[:NAMED]) + more
    return Seen(f"{text}: {named}", f"it refuses rows with {what} in {named}")


def _order(subject: Subject, rows: list[dict[str, Any]]) -> str:
    places = list(range(len(rows)))[::-1]
    there, back = _scores(subject, rows), _scores(subject, [rows[place] for place in places])
    _require_same(there, back[places], "a row has another score when the rows are in another order")
    return f"{len(rows)} rows, forwards and backwards"


def _twice(subject: Subject, rows: list[dict[str, Any]]) -> str:
    first = _scores(subject, rows)
    for _ in range(2):
        _require_same(first, _scores(subject, rows), "the same rows have other scores when they are asked again")
    return "three times the same"


def _knows_no_key(subject: Subject, rows: list[dict[str, Any]]) -> str:
    names = {field.name for field in subject.predictor.rows.fields}
    roles = subject.roles
    for role, name in (("label", roles.label), ("key", roles.key)):
        if name and name in names:
            raise Broken(f"the {role} {name} is an input of the model")
    return f"{len(names)} inputs; neither {roles.label or 'the label'}{f' nor {roles.key}' if roles.key else ''}"


def _no_input_tells_all(subject: Subject, rows: list[dict[str, Any]]) -> str:
    """No single input ranks (or follows) the label perfectly, and no level of a text stands for one outcome."""
    sample = score(subject.predictor, subject.holdout, subject.roles.label)
    strongest, best = "", 0.0
    for field in subject.predictor.rows.fields:
        told = _strength(sample.rows[field.name], sample.y, sample.task)
        if told > best:
            strongest, best = field.name, told
        if told >= TELLS_ALL:
            raise Broken(f"the input {field.name} alone tells the label ({told:.4f}): it is not known at that time")
    return f"the strongest alone is {strongest} ({best:.3f})" if strongest else "no input says anything alone"


def _strength(column: pd.Series[Any], y: npt.NDArray[np.float64], task: str) -> float:
    """How well one column alone tells the outcome: 0 nothing, 1 everything; |2 AUC - 1| or |rank correlation|."""
    numbers = pd.to_numeric(column, errors="coerce") if not pd.api.types.is_bool_dtype(column) else column.astype(float)
    values = numbers.to_numpy(dtype="float64", na_value=np.nan)
    if not np.isfinite(values).any():  # a text: by the mean outcome of its levels, if they are not as many as the rows
        codes = pd.Series(column.astype(str).to_numpy())
        if codes.nunique() > max(2, len(codes) // 5):
            return 0.0
        values = codes.map(pd.Series(y).groupby(codes.to_numpy()).mean()).to_numpy(dtype="float64")
    known = np.isfinite(values)
    x, outcome = values[known], y[known]
    if len(x) < 20 or np.ptp(x) == 0 or np.ptp(outcome) == 0:
        return 0.0
    if task == "binary":
        statistic = stats.mannwhitneyu(x[outcome == 1], x[outcome == 0]).statistic
        return float(abs(2 * statistic / ((outcome == 1).sum() * (outcome == 0).sum()) - 1))
    return float(abs(stats.spearmanr(x, outcome).statistic))


def _invariant(column: str) -> Test:
    """Another value that was seen in this column leaves the score as it is."""

    def test(subject: Subject, rows: list[dict[str, Any]]) -> str:
        _require_input(subject, column)
        values = list(dict.fromkeys(row[column] for row in rows if row[column] is not None))
        if len(values) < 2:
            raise Broken(f"{column} has one value only in the holdout, so nothing can be changed")
        following = dict(zip(values, [*values[1:], values[0]], strict=True))
        changed = [{**row, column: following.get(row[column], values[0])} for row in rows]
        away = np.abs(_scores(subject, rows) - _scores(subject, changed))
        if away.max() > SAME:
            many = int((away > SAME).sum())
            raise Broken(f"{many} of {len(rows)} scores change with {column}, by up to {away.max():.3g}")
        return f"{len(rows)} scores stay as they are"

    return test


def _direction(column: str, way: str) -> Test:
    """One standard deviation more in this column moves the scores the declared way."""

    def test(subject: Subject, rows: list[dict[str, Any]]) -> str:
        field = _require_input(subject, column)
        known = [row for row in rows if isinstance(row[column], int | float) and not isinstance(row[column], bool)]
        if len(known) < 10:
            raise Broken(f"{column} has a number in {len(known)} rows only")
        step = float(np.std([row[column] for row in known])) or 1.0
        more = max(1, round(step)) if field.column.type == "int64" else step
        raised = [{**row, column: row[column] + more} for row in known]
        moved = (_scores(subject, raised) - _scores(subject, known)) * (1 if way == "up" else -1)
        against = float((moved < -SAME).mean())
        mean = float(moved.mean()) * (1 if way == "up" else -1)
        told = f"mean {mean:+.3g} for {more:.3g} more, {against:.0%} of rows against it"
        if not moved.mean() > 0 or against > AGAINST:
            raise Broken(told)
        return told

    return test


def _require_input(subject: Subject, column: str) -> Field:
    for field in subject.predictor.rows.fields:
        if field.name == column:
            return field
    raise Broken(f"the model has no input {column!r}")


def _scores(subject: Subject, rows: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.float64]:
    return subject.predictor.predict([dict(row) for row in rows])


def _require_same(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], text: str) -> None:
    away = float(np.max(np.abs(a - b), initial=0.0))
    if not away <= SAME:
        raise Broken(f"{text}, by up to {away:.3g}")


_TRAINING: Mapping[str, Test] = {
    "one row": _one_row,
    "missing values": _missing,
    "values never seen": _unseen,
}
_BEHAVIOUR: Mapping[str, Test] = {
    "order of rows": _order,
    "the same twice": _twice,
    "neither key nor label": _knows_no_key,
    "no input tells the label": _no_input_tells_all,
}
