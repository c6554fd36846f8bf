"""From the models that a script left to versions, verdicts and releases.

Runs in a process of its own, since it loads what the script pickled. The gates are those of noria.toml, on
the labelled rows that the script itself scored the model on. Rows that the model was trained on are no
holdout; without a holdout a gate that was asked for says no. Where none was asked for, the verdict on record
says so, and holds what could be checked: the stored model answers as the script's own did.
"""

from __future__ import annotations

import math
import pickle
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria import plugins
from noria.config import CardConfig, GateConfig, ModelConfig
from noria.core.errors import GateClosed, NoriaError, UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.core.printable import error_line
from noria.data import versions as datasets
from noria.governance import policy
from noria.loop import baseline, pins
from noria.loop.holdout import Roles
from noria.loop.outcome import ModelLine, Question
from noria.loop.recent import known_of
from noria.packaging.bundle import build, load
from noria.packaging.flavor import Bundle
from noria.packaging.predictor import Predictor
from noria.registry import gates, release, unasked, versions
from noria.registry import records as registry
from noria.registry.facts import Verdict
from noria.scripts.capture import Captured, Fit, ModelSeen, collect
from noria.store.workspace import Workspace
from noria.tracking import records as tracking
from noria.tracking.facts import Pin

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np, pd = lazy("numpy"), lazy("pandas")

__all__ = ["Packed", "names_of", "packed", "ship"]

SAME = 1e-9
"""How far the stored model's answers may be from those of the script's own."""
OVERLAP_MAX = 0.5
"""The share of training rows among the scored rows above which those are no holdout."""
_METRICS = {"binary": ("auc", "log_loss"), "regression": ("mae", "rmse")}


def ship(ws: Workspace, question: Question, *, script_folder: str) -> list[ModelLine]:
    """Pack, judge and release every model of a capture, in the order in which they were left."""
    captured = collect(Path(question.folder))
    sys.path.insert(0, script_folder)  # what the model names by reference is where the script found it
    names = names_of(captured.models, question.model)
    return [_shipped(ws, question, captured, seen, name) for seen, name in zip(captured.models, names, strict=True)]


def names_of(models: Sequence[ModelSeen], asked: str) -> list[str]:
    """What each model is called: as asked if there is one, else as its file or variable is."""
    if asked and len(models) > 1:
        plain = {_plain_name(model) for model in models}
        if asked not in plain:
            raise UsageError(
                f"the script left {len(models)} models: which one is {asked!r}?",
                hint=f"--model takes one of: {', '.join(sorted(plain))}; or leave it out, and all are kept",
            )
    return [asked if asked and len(models) == 1 else _plain_name(model) for model in models]


def _plain_name(model: ModelSeen) -> str:
    """As the file or the variable is called; what a name of a model cannot hold is a dash.

    Letters beyond ASCII stay: a name without them would be another word, so such a model is refused by name.
    """
    text = Path(model.path).name.partition(".")[0] if model.path else model.variable
    if not text.isascii():
        return text
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text).strip("-._") or "model"


@frozen(kw_only=True)
class Packed:
    """A model of a capture as a bundle: what it answers by, the rows that it was fitted on and those it is tested with.

    `holdout` are the labelled rows that it was scored on, None without, and `why` there are none.
    """

    model: Any
    rows: pd.DataFrame
    holdout: pd.DataFrame | None
    label: str
    why: str
    bundle: Bundle

    @property
    def frame(self) -> pd.DataFrame:
        """The rows that the bundle was made with."""
        return self.rows if self.holdout is None else self.holdout


def packed(ws: Workspace, captured: Captured, seen: ModelSeen, *, name: str, run: str, environment: str) -> Packed:
    """Make a bundle of a model that a script left. Raises: NoriaError if it cannot be served, with why."""
    fit = _fit_of(captured, seen)
    rows = _rows(fit)
    model = _adapted(_attempt(lambda: _read(seen.kept), "it cannot be loaded again"), fit)
    holdout, label, why = _holdout(captured, seen.number, rows)
    bundle = build(
        ws,
        model,
        holdout=rows if holdout is None else holdout,
        run=run,
        label=label,
        environment=environment,
        name=name,
    )
    return Packed(model=model, rows=rows, holdout=holdout, label=label, why=why, bundle=bundle)


def _fit_of(captured: Captured, seen: ModelSeen) -> Fit | None:
    return next((fit for fit in reversed(captured.fits) if fit.number and fit.number == seen.number), None)


def _shipped(ws: Workspace, question: Question, captured: Captured, seen: ModelSeen, name: str) -> ModelLine:
    root = ws.project.root.resolve()
    source = _relative(root, seen.path) if seen.path else f"variable {seen.variable}"
    line = ModelLine(model=name, type=seen.name, source=source, asked=_is_asked(ws, name))
    try:
        if not name.isascii():
            raise UsageError(
                f"{name[:100]!r} cannot be a model's name: letters of ASCII, digits, - _ and . only; "
                "name the file or variable so, or with one model say --model NAME"
            )
        _require_name(ws, question, name)
        with ws.ledger.read() as tx:
            run = tracking.run(tx, question.run)
        assert run is not None, "the run that is being shipped is on record"
        kept = packed(ws, captured, seen, name=name, run=question.run, environment=run.environment)
        made = _judged(ws, question, captured, line, kept, seen.number)
    except GateClosed as error:
        return replace(line, is_refused=True, note=error.message)
    except NoriaError as error:
        return replace(line, note=f"cannot be served: {error.line}")
    fit = _fit_of(captured, seen)
    if fit is not None and fit.after:
        told = f"it takes what {fit.after} gave: fit both as one pipeline, and it takes your rows"
        made = replace(made, note="; ".join(filter(None, [made.note, told])))
    return made


def _judged(
    ws: Workspace, question: Question, captured: Captured, line: ModelLine, kept: Packed, number: int
) -> ModelLine:
    bundle, holdout, frame, label, why = kept.bundle, kept.holdout, kept.frame, kept.label, kept.why
    with ws.ledger.read() as tx:
        live = registry.production(tx, line.model)
    predictor = load(ws, bundle.digest)
    same = _same_answers(kept.model, predictor, kept.rows)
    _require_checked(ws, question.pins)
    found = {pin.dataset: datasets.resolve(ws, f"{pin.dataset}@{pin.version}") for pin in question.pins}
    metrics = {m.name: m.values[-1] for m in captured.metrics if m.number in (0, number)}
    registered = versions.register(
        ws,
        bundle,
        model=line.model,
        run=question.run,
        metrics={key: value for key, value in metrics.items() if math.isfinite(value)},
        pins=question.pins,
    )
    champion = live.version if live is not None and live.version != registered.version else 0
    line = replace(line, version=registered.version, champion=champion, size_bytes=bundle.size_bytes)
    line = replace(line, inputs=len(bundle.fields), holdout=0 if holdout is None else len(holdout))
    if line.asked or holdout is not None:
        judged = gates.judge(
            ws,
            line.model,
            registered.version,
            holdout=frame,
            roles=Roles(label=label),
            champion=champion or None,
            metrics=_METRICS[bundle.task],
            data={"holdout": f"{len(frame)} rows that {question.script} scored it on", "run": question.run},
            known=known_of(ws, line.model, question.run, found, frame, Roles(label=label)),
        ).judged
    else:
        judged = unasked.record(ws, registered, champion=champion, verdicts=[same])
    if not same.passed:
        judged = unasked.record(ws, registered, champion=champion, verdicts=[*judged.verdicts, same])
    base = baseline.make(ws, predictor, found, frame, roles=Roles(label=label), model=line.model)
    made = release.make(ws, line.model, registered.version, baseline=base)
    refusal = next((f"{v.gate}: {v.text}" for v in judged.verdicts if not v.passed), "")
    return replace(
        line,
        release=made.release,
        state=made.state,
        gates=judged.verdicts,
        is_refused=not judged.passed,
        note=f"{refusal} ({why})" if refusal and why else refusal or why,
    )


def _adapted(model: Any, fit: Fit | None) -> Any:
    """A library's own model as one that answers for rows."""
    library = type(model).__module__.partition(".")[0]
    if fit is not None and library not in plugins.names("adapter") and hasattr(model, "forward"):
        library = "torch"  # a network of a class of the script's own
    if isinstance(model, Path):
        library = model.suffix.removeprefix(".")
    if library not in plugins.names("adapter"):
        return model
    return plugins.load("adapter", library)(model, {} if fit is None else fit.params)


def _relative(root: Path, path: str) -> str:
    real = Path(path).resolve()
    return real.relative_to(root).as_posix() if real.is_relative_to(root) else str(real)


def _is_asked(ws: Workspace, name: str) -> bool:
    return policy.of(ws, name).config.gate != GateConfig()


def _require_name(ws: Workspace, question: Question, name: str) -> None:
    """A name stands for one model: not for that of another script, and rules under a name bind somebody.

    Raises: GateClosed.
    """
    hint = f"--model NAME says what {question.script} makes"
    with ws.ledger.read() as tx:
        known = set(registry.models(tx))
        newest = registry.version(tx, name, 0)
        before = tracking.run(tx, newest.run) if newest is not None else None
    if before is not None and before.code.entry != question.script and not question.model:
        raise GateClosed(f"the model {name} is made by {before.code.entry}; nothing was registered ({hint})")
    # Neither a permission nor a card asks anything of a model.
    bare = {each: replace(found, allow_pickle=False, card=CardConfig()) for each, found in ws.project.models.items()}
    rules = {each for each, found in bare.items() if found != ModelConfig()}
    orphans = sorted(rules - known - {name})
    if orphans and name not in ws.project.models and not (ws.project.root / ws.project.pipeline).is_file():
        raise GateClosed(
            f"noria.toml has rules for {orphans[0]}, which no run has made, and none for {name}; "
            f"nothing was registered ({hint})"
        )


def _require_checked(ws: Workspace, used: Sequence[Pin]) -> None:
    """Data whose checks failed are used by nobody. Raises: GateClosed."""
    for pin in used:
        line = pins.check(ws, datasets.resolve(ws, f"{pin.dataset}@{pin.version}"))
        if not line.ok:
            raise GateClosed(f"{line.failed} of {line.checks} checks of {pin.dataset}@{pin.version} failed")


def _rows(fit: Fit | None) -> pd.DataFrame:
    """Rows that the model was fitted on. Raises: UsageError if they were not seen, or are no table."""
    if fit is None:
        raise UsageError(
            "it was not seen how it was fitted, so what it takes is not known",
            hint="fit it in this script, with an estimator of scikit-learn, XGBoost, LightGBM, PyTorch or Keras",
        )
    if not fit.kept or not Path(fit.kept).is_file():
        raise UsageError(
            "it was fitted on something that is no table of rows, or whose rows were not kept",
            hint="fit it on a DataFrame or an array of rows (XGBClassifier and LGBMClassifier take them as they are)",
        )
    return _frame(_read(fit.kept)["rows"])


def _frame(rows: Any) -> pd.DataFrame:
    if isinstance(rows, pd.DataFrame):
        return rows.reset_index(drop=True).rename(columns=str)
    values = np.asarray(rows)
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise UsageError(
            "it takes lists, texts or arrays that are no rows of columns",
            hint="fit it on a DataFrame, or on a two-dimensional array of numbers",
        )
    return pd.DataFrame(values, columns=[f"x{place}" for place in range(values.shape[1])])


def _holdout(captured: Captured, number: int, rows: pd.DataFrame) -> tuple[pd.DataFrame | None, str, str]:
    """The labelled rows that the model was last scored on, their label column, and why there are none."""
    scored = [each for each in captured.scored if each.number == number]
    if not scored:
        return None, "", "the script scored it on no labelled rows"
    held = [each for each in scored if each.kept and Path(each.kept).is_file()]
    if not held:
        return None, "", "the script scored it only on the rows that it was trained on"
    refused = ""
    for each in reversed(held):  # rows that it was trained on are passed over, as a part of a table is another object
        content = _read(each.kept)
        frame = _frame(content["rows"])
        share = _overlap(rows, frame)
        if share <= OVERLAP_MAX:
            break
        refused = refused or f"{share:.0%} of its training rows are among the rows that the script scored it on"
    else:
        return None, "", refused
    label = content["label_name"] or "label"
    while label in frame.columns:
        label = f"{label}_"
    values = np.asarray(content["label"])
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        return None, "", "the rows that the script scored it on have more than one label"
    return frame.assign(**{label: values}), label, ""


def _overlap(rows: pd.DataFrame, others: pd.DataFrame) -> float:
    """The share of some training rows that are among other rows, by value."""
    shared = [name for name in rows.columns if name in others.columns]
    if not shared or not len(rows):
        return 0.0
    mine, theirs = (pd.util.hash_pandas_object(frame[shared].astype(str), index=False) for frame in (rows, others))
    return float(mine.isin(set(theirs.tolist())).mean())


def _same_answers(model: Any, predictor: Predictor, rows: pd.DataFrame) -> Verdict:
    """Whether the model that was stored answers as the script's own does, on rows that it was fitted on."""
    data: Any = rows if hasattr(model, "feature_names_in_") or not _is_bare(rows) else rows.to_numpy()
    own = _attempt(
        lambda: np.asarray(
            model.predict_proba(data)[:, 1] if hasattr(model, "predict_proba") else model.predict(data), dtype=float
        ),
        "it does not answer for the rows that it was fitted on",
    )
    stored = predictor.predict(rows)
    worst = float(np.max(np.abs(own - stored))) if len(own) else math.nan
    text = f"the stored model answers as the script's own on {len(rows)} rows"
    if not worst <= SAME:
        text = f"the stored model's answers differ from the script's own by up to {worst:.3g}"
    return Verdict(gate="same answers", passed=worst <= SAME, text=text, n=len(rows))


def _is_bare(rows: pd.DataFrame) -> bool:
    return list(rows.columns) == [f"x{place}" for place in range(rows.shape[1])]


def _read(path: str) -> Any:
    """What the script's own process pickled for us, in a folder of this user alone; a file of a format is a Path."""
    if Path(path).suffix == ".keras":
        return Path(path)
    return pickle.loads(Path(path).read_bytes())  # noqa: S301  # as above


def _attempt(act: Callable[[], Any], sentence: str) -> Any:
    """Run code of the model's library or the script; whatever it raises is that code's failure."""
    try:
        return act()
    except Exception as error:
        raise UsageError(f"{sentence}: {error_line(error, 200)}") from error
