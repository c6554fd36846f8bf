"""The card of a model: what it is, takes and gives, who stands for it and what it is for, as values and as Markdown.

A bundle holds the part that is known when it is made (`card.json`, `card.md`); bundles of before hold none, and the
same is put together from what they do hold. There is no time, id or path in it, so the same model is the same bundle.
Versions, metrics and verdicts come later: `registry/card.py` has the whole. Ranges are those of the rows that the
bundle was made with, and name no row.
"""

from __future__ import annotations

import datetime
import decimal
import difflib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from noria.core.errors import ConfigError
from noria.core.lazy import lazy
from noria.packaging.flavor import Bundle, Written
from noria.packaging.rows import Field
from noria.policies import CardConfig
from noria.store.objects import Objects

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = lazy("pandas")

__all__ = ["FORMAT", "JSON_NAME", "MARKDOWN_NAME", "Ranges", "as_json", "complete", "declared_of", "document",
           "markdown", "of_bundle", "plain_text", "ranges_of", "sections", "table"]  # fmt: skip

FORMAT = "noria/card/1"
JSON_NAME, MARKDOWN_NAME, SIGNATURE_NAME = "card.json", "card.md", "signature.json"
LEVELS_SHOWN = 12
_ORDERED = frozenset({"int64", "float64", "timestamp", "date", "decimal"})
_MARKS = str.maketrans({**{mark: f"\\{mark}" for mark in "\\`*[]|#~"}, "<": "&lt;", ">": "&gt;", "&": "&amp;"})
Ranges: TypeAlias = Mapping[str, Sequence[Any]]
"""By input: its least and greatest value as JSON has them, and how many rows have none. Only ordered types."""


def ranges_of(frame: pd.DataFrame, fields: Sequence[Field]) -> dict[str, list[Any]]:
    """[least, greatest, rows without a value] of each input that has an order; both None where no row has a value.

    Infinities are not values here: JSON cannot say them.
    """
    return {each.name: _range(frame[each.name]) for each in fields if each.column.type in _ORDERED}


def _range(values: pd.Series[Any]) -> list[Any]:
    held = values.dropna()
    if held.dtype.kind == "f":
        held = held[~held.isin([math.inf, -math.inf])]
    nulls = int(values.isna().sum())
    return [_json(held.min()), _json(held.max()), nulls] if len(held) else [None, None, nulls]


def _json(value: Any) -> Any:
    if isinstance(value, datetime.date):  # and a pandas Timestamp, which is one
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    return value.item() if hasattr(value, "item") else value


def declared_of(config: CardConfig) -> dict[str, Any]:
    """What a project declares of a model, as JSON; only what it says something of. Units are in the signature."""
    found = {
        "owners": list(config.owners),
        "intended_use": config.intended_use,
        "not_for": list(config.not_for),
        "licence": config.licence,
        "limits": list(config.limits),
    }
    return {key: value for key, value in found.items() if value}


def _require_units(config: CardConfig, names: Sequence[str], model: str) -> None:
    """Every unit is that of an input or of the score. Raises: ConfigError naming the nearest."""
    known = [*names, "score"]
    for name in config.units:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            raise ConfigError(
                f"[model.{model}.card] units names {name!r}, which the model does not take",
                where="noria.toml",
                hint=f"did you mean {near[0]!r}?" if near else f"inputs: {', '.join(names[:10])}",
            )


def document(
    *,
    name: str,
    flavor: str,
    task: str,
    labels: Sequence[Any],
    threshold: float,
    requires: Mapping[str, str],
    types: Sequence[str],
    inputs: Sequence[Mapping[str, Any]],
    declared: Mapping[str, Any],
    rows: int | None,
    ranges: Ranges,
    unit: str = "",
) -> dict[str, Any]:
    """The part of a card that a bundle knows. `inputs` are those of its signature.json; `unit` is the score's.

    `rows` is how many rows the ranges are of, None where they were not kept. The lock of the environment is named by
    the manifest alone: the same model, made where another tool is installed too, has the same files.
    """
    is_binary = task == "binary"
    columns = [_input(each, ranges.get(str(each["name"]))) for each in inputs]
    score = {"name": "score", "type": "float64", "nullable": False, "unit": unit}
    return {
        "format": FORMAT,
        "name": name,
        "task": task,
        "flavor": flavor,
        "labels": dict(zip(("negative", "positive"), labels, strict=True)) if is_binary else {},
        "threshold": threshold if is_binary else None,
        "declared": dict(declared),
        "signature": {
            "inputs": columns,
            "outputs": [{**score, "range": [0.0, 1.0]} if is_binary else score],
            "shape": {"inputs": ["rows", len(columns)], "outputs": ["rows"]},
            "rows": rows,
        },
        "requires": dict(sorted(requires.items())),
        "types": list(types),
    }


def _input(item: Mapping[str, Any], known: Sequence[Any] | None) -> dict[str, Any]:
    kept = ("name", "type", "dtype", "nullable", "unit", "levels", "strict")
    found = {key: item[key] for key in kept}
    return found if known is None else {**found, "range": list(known[:2]), "nulls": known[2]}


def complete(folder: Path, written: Written, *, threshold: float, name: str, declared: CardConfig) -> None:
    """Write a card's two files into the folder of a bundle, and the declared units into its signature.

    Raises: ConfigError for a unit of what the model does not take.
    """
    place = folder / SIGNATURE_NAME
    signature = json.loads(place.read_text("utf-8"))
    names = [str(item["name"]) for item in signature["inputs"]]
    _require_units(declared, names, name)
    for item in signature["inputs"]:
        item["unit"] = declared.units.get(item["name"], item["unit"])
    found = document(
        name=name,
        flavor=written.flavor,
        task=written.task,
        labels=written.labels,
        threshold=threshold,
        requires=written.requires,
        types=written.types,
        inputs=signature["inputs"],
        declared=declared_of(declared),
        rows=written.rows,
        ranges=written.ranges,
        unit="" if "score" in names else declared.units.get("score", ""),
    )
    place.write_text(as_json(signature), "utf-8")
    (folder / JSON_NAME).write_text(as_json(found), "utf-8")
    (folder / MARKDOWN_NAME).write_text(markdown(found), "utf-8")


def as_json(found: Mapping[str, Any]) -> str:
    """A document as its file has it."""
    return json.dumps(found, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def of_bundle(objects: Objects, bundle: Bundle, name: str) -> dict[str, Any]:
    """The part of a card that a bundle holds; of one of before cards, the same of what it does hold."""
    by_path = {entry.path: entry.digest for entry in bundle.files.entries}
    if JSON_NAME in by_path:
        found: dict[str, Any] = json.loads(objects.get_bytes(by_path[JSON_NAME]))
        return found
    signature = json.loads(objects.get_bytes(by_path[SIGNATURE_NAME]))
    return document(
        name=name,
        flavor=bundle.flavor,
        task=bundle.task,
        labels=bundle.labels,
        threshold=bundle.threshold,
        requires=bundle.requires,
        types=bundle.types,
        inputs=signature["inputs"],
        declared={},
        rows=None,
        ranges={},
    )


def markdown(found: Mapping[str, Any]) -> str:
    """The bundle's part of a card as Markdown."""
    name = plain_text(found["name"] or "a model")
    return "\n\n".join([f"# {name}", *sections(found)]) + "\n"


def sections(found: Mapping[str, Any]) -> list[str]:
    """What a card says of the model itself: who and what for, what it takes and gives, what it needs."""
    said = found["declared"]
    lines = [
        ["task", plain_text(found["task"])],
        ["kept as", plain_text(found["flavor"])],
        ["owners", plain_text(", ".join(said.get("owners", ()))) or "not stated"],
        ["licence", plain_text(said.get("licence", "")) or "not stated"],
    ]
    parts = [table(["", ""], lines), "## Intended use", plain_text(said.get("intended_use", "")) or "Not stated."]
    if said.get("not_for"):
        parts += ["Not for:", "\n".join(f"- {plain_text(each)}" for each in said["not_for"])]
    return [*parts, "## What it takes", *_takes(found["signature"]), "## What it gives", _gives(found)]


def _takes(signature: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            plain_text(each["name"]),
            plain_text(each["type"]),
            plain_text(each["dtype"]),
            plain_text(each["unit"]) or "–",
            "may be null" if each["nullable"] else "no",
            _values(each),
        ]
        for each in signature["inputs"]
    ]
    note = "No ranges were kept when this bundle was made."
    if signature["rows"] is not None:
        count = f"{signature['rows']:,}"
        note = f"Ranges are those of the {count} rows that the bundle was made with; they are not enforced."
    made = table(["input", "type", "dtype", "unit", "null", "values"], rows)
    return [f"One number, text or time a column; shape (rows, {len(rows)}). {note}", made]


def _values(item: Mapping[str, Any]) -> str:
    levels = [str(level) for level in item["levels"]]
    if levels:
        more = f" and {len(levels) - LEVELS_SHOWN} more" if len(levels) > LEVELS_SHOWN else ""
        closed = "; no other" if item["strict"] else ""
        return plain_text(", ".join(levels[:LEVELS_SHOWN])) + more + closed
    low, high = item.get("range", (None, None))
    if low is None:
        return "–"
    nulls = f"; {item['nulls']:,} rows without" if item["nulls"] else ""
    return plain_text(f"{low} to {high}") + nulls


def _gives(found: Mapping[str, Any]) -> str:
    (score,) = found["signature"]["outputs"]
    unit = f", in {plain_text(score['unit'])}" if score["unit"] else ""
    if found["task"] != "binary":
        return f"`score`: a number a row (float64){unit}; shape (rows,)."
    no, yes = (plain_text(str(found["labels"][key])) for key in ("negative", "positive"))
    return (
        f"`score`: the probability of {yes} a row (float64, 0 to 1){unit}; shape (rows,). From "
        f"{found['threshold']:g} on it is called {yes}, below {no}."
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain_text(text: str) -> str:
    """A text that says in Markdown what it says: one line, nothing of it is a mark, a link or HTML."""
    return " ".join(str(text).split()).translate(_MARKS)
