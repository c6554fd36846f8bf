"""The pipeline of a trial: as it stands, but trained on part of its training rows and judged on the rest.

The holdout judges what a search found, so it may not be what the search looks for: the best of many
trials on the holdout is better there by chance. Rows are kept from training by the newest stretch of
time where a time is known, else by key, so that what belongs to one key is on one side, else by chance.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from noria.core.errors import UsageError
from noria.core.graph import topological
from noria.core.lazy import lazy
from noria.pipeline.define import ModelNode, PipelineDefinition
from noria.pipeline.step import Binding, Const, Group, Ref, StepNode, output_names, step

__all__ = ["KEEP", "SHARE", "keep_back", "trial_pipeline"]

np, pd = lazy("numpy"), lazy("pandas")

SHARE = 0.2
KEEP = "keep_back"
"""The name of the step that is put in."""
LEAST_ROWS = 2


@step
def keep_back(rows: Any, share: float, time: str, key: str, seed: int) -> tuple[Any, Any]:
    """Rows to train a trial on, and rows to judge it on: no row is in both, none is lost.

    Rows of the newest moments are kept back: at least `share` of those that have a time, and all that
    share the earliest of these moments; rows without a time stay in training. Without a time whole keys
    are kept back, chosen by their digest; without a key rows by a seeded draw.
    """
    table = rows.to_pandas() if hasattr(rows, "to_pandas") else rows
    if not isinstance(table, pd.DataFrame):
        raise UsageError(
            f"the training rows are {type(rows).__name__}, not a table, so none can be kept back",
            hint="nr.model(…, validation=ROWS) says what a search may judge on",
        )
    if time and time in table.columns:
        is_kept = _newest(table[time], share)
    elif key and key in table.columns:
        is_kept = np.array([_draw(f"{seed}/{value!r}") < share for value in table[key].tolist()], dtype=bool)
    else:
        is_kept = np.zeros(len(table), dtype=bool)
        drawn = np.random.default_rng(seed).choice(len(table), size=round(share * len(table)), replace=False)
        is_kept[drawn] = True
    train, kept = table[~is_kept], table[is_kept]
    if min(len(train), len(kept)) < LEAST_ROWS:
        raise UsageError(
            f"keeping back {share:.0%} of {len(table)} training rows leaves {len(train)} to train on and {len(kept)} "
            "to judge on",
            hint="nr.model(…, validation=ROWS) says what a search may judge on",
        )
    return train, kept


def _newest(moments: Any, share: float) -> Any:
    if not pd.api.types.is_datetime64_any_dtype(moments.dtype) and not pd.api.types.is_numeric_dtype(moments.dtype):
        moments = pd.to_datetime(moments, utc=True)
    known = moments[moments.notna()].sort_values(kind="stable")
    if not len(known):
        return np.zeros(len(moments), dtype=bool)
    edge = known.iloc[int(len(known) * (1 - share))]
    return (moments >= edge).to_numpy(dtype=bool, na_value=False)


def _draw(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2.0**64


def trial_pipeline(
    definition: PipelineDefinition, *, share: float, time: str, key: str, seed: int
) -> PipelineDefinition:
    """The same pipeline, with the validation rows in the place of the holdout.

    Raises: UsageError for a pipeline without a model, one whose model sees the holdout or the
        validation rows, or one of which it is not plain what the training rows are.
    """
    model = definition.model
    if model is None:
        raise UsageError(f"pipeline {definition.name} makes no model, so there is nothing to search for")
    _require_apart(definition, model.model, model.holdout, "holdout")
    if model.validation is not None:
        if model.validation == model.holdout:
            raise UsageError("nr.model: validation and holdout are the same rows", where=str(definition.root))
        _require_apart(definition, model.model, model.validation, "validation rows")
        return replace(definition, model=replace(model, holdout=model.validation))
    rows = _training_rows(definition, model)
    options = {"share": share, "time": time, "key": key, "seed": seed}
    kept = StepNode(
        KEEP, keep_back, {"rows": rows, **{name: Const(value) for name, value in options.items()}}, output_names(2)
    )
    nodes = {KEEP: kept}
    for node in definition.nodes:
        bindings = {name: _rebound(binding, rows, Ref(KEEP, 0)) for name, binding in node.bindings.items()}
        nodes[node.name] = replace(node, bindings=bindings) if bindings != dict(node.bindings) else node
    order = topological({name: node.parents() for name, node in nodes.items()})
    return replace(definition, nodes=tuple(nodes[name] for name in order), model=replace(model, holdout=Ref(KEEP, 1)))


def _training_rows(definition: PipelineDefinition, model: ModelNode) -> Ref:
    """The output that is split: what the step of the holdout gives besides it, or the one table that training takes."""
    above = _above(definition, model.model)
    beside = sorted({ref for ref in above if ref.node == model.holdout.node}, key=lambda ref: ref.output)
    if len(beside) == 1:
        return beside[0]
    direct = list(dict.fromkeys(definition.node(model.model.node).references()))
    if not beside and len(direct) == 1:
        return direct[0]
    raise UsageError(
        f"it is not plain which rows the model of {definition.name} is trained on",
        where=str(definition.root),
        hint="nr.model(…, validation=ROWS) says what a search may judge on",
    )


def _require_apart(definition: PipelineDefinition, model: Ref, rows: Ref, what: str) -> None:
    if rows in _above(definition, model):
        raise UsageError(
            f"the model of {definition.name} is made from its {what}, so they cannot judge it",
            where=f"step {rows.node}",
            hint="keep other rows aside for what training looks at, such as early stopping",
        )


def _above(definition: PipelineDefinition, ref: Ref) -> set[Ref]:
    """Every output that an output is made from."""
    found: set[Ref] = set()
    waiting = [ref.node]
    while waiting:
        for each in definition.node(waiting.pop()).references():
            if each not in found:
                found.add(each)
                waiting.append(each.node)
    return found


def _rebound(binding: Binding, old: Ref, new: Ref) -> Binding:
    if isinstance(binding, Group):
        return replace(binding, items=tuple(_rebound(item, old, new) for item in binding.items))
    return new if binding == old else binding
