"""The whole card of a version: the part that lies in its bundle, and what came to be known of it since.

Data versions, metrics with intervals, slices, groups, verdicts, who made it and how to make it again: all of it read
from the ledger and its objects, nothing computed anew, no clock. So the same ledger and the same noria.toml give the
same card. What noria.toml says now of owners and use goes before what it said when the bundle was made, and the card
tells where the two differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.data import records as datasets
from noria.governance import policy
from noria.packaging import card as bundled
from noria.packaging.bundle import read
from noria.pipeline import records as steps
from noria.registry import card_text, records
from noria.registry.export import document_of, written
from noria.registry.kept import JudgementRecord, VersionRecord
from noria.registry.versions import resolve
from noria.scripts import records as scripts
from noria.store.ledger import Reader
from noria.store.workspace import Workspace
from noria.tracking import environment as locks
from noria.tracking import records as tracking
from noria.tracking.facts import Pin
from noria.tracking.records import RunRecord

__all__ = ["Card", "card"]


@frozen(kw_only=True)
class Card:
    """The card of a version: as values, as Markdown, and the file that was written ("" for none)."""

    model: str
    version: int
    path: str
    size_bytes: int
    card: Mapping[str, Any]
    markdown: str


@verb(permission="registry.export", changes=False)
def card(ws: Workspace, ref: str, to: str = "") -> Card:
    """The card of a version, printed, or written to a file: Markdown, or JSON.

    What it is, who stands for it and what it is for ([model.NAME.card] of noria.toml), the data that it learned from,
    what it takes and gives, metrics with intervals, slices, groups, verdicts, limits, environment, how to make it
    again.

    Args:
        ref: `churn:14`, `churn@champion`, or `churn` for the newest.
        to: a new file inside the project; with a name that ends in .json the card as values. The same card may be
            there already.
    Raises: NotFound; UsageError for another place; Conflict for a file that is something else; ConfigError if the
        rules of models cannot be read.

    Example: noria registry card churn:14
    """
    with ws.ledger.read() as tx:
        found = resolve(tx, ref)
        judged = records.judgement(tx, found.model, found.version)
        run = tracking.run(tx, found.run) if found.run else None
        data = [_data(tx, pin) for pin in found.pins]
        again = _again(tx, found, run)
    values = _whole(ws, found, judged, run)
    values |= {"data": data, "reproduce": again}
    values["limits"] = _limits(values)
    text = card_text.render(values)
    path, size = "", 0
    if to:
        content = (bundled.as_json(values) if to.lower().endswith(".json") else text).encode("utf-8")
        path, size = str(written(ws, to, content)), len(content)
    return Card(model=found.model, version=found.version, path=path, size_bytes=size, card=values, markdown=text)


def _whole(
    ws: Workspace, version: VersionRecord, judged: JudgementRecord | None, run: RunRecord | None
) -> dict[str, Any]:
    """All but the data, the limits and how to make it again."""
    bundle = read(ws, version.bundle) if version.bundle else None
    part = bundled.of_bundle(ws.objects, bundle, version.model) if bundle is not None else _of_files(version)
    now = bundled.declared_of(policy.of(ws, version.model).config.card)
    then = part["declared"]
    evaluation = _evaluation(ws, version, judged)
    return {
        **part,
        "name": version.model,
        "version": version.version,
        "bundle": version.bundle,
        "size_bytes": 0 if bundle is None else bundle.size_bytes,
        "source": version.source,
        "description": version.description or "",
        "declared": {**then, **now},
        "declared_before": {key: then.get(key) for key in now if bundle is not None and then.get(key) != now[key]},
        "made": _made(version, run),
        "metrics": evaluation["metrics"] if evaluation else {name: {"value": v} for name, v in version.metrics.items()},
        "evaluation": evaluation,
        "gates": _gates(judged),
        "environment": _environment(ws, (bundle and bundle.environment) or (run.environment if run else "")),
    }


def _of_files(version: VersionRecord) -> dict[str, Any]:
    """The part of a bundle for a version that is files of a client: nothing of the model itself is known."""
    return {
        "format": bundled.FORMAT,
        "name": version.model,
        "task": "",
        "flavor": "files",
        "labels": {},
        "threshold": None,
        "declared": {},
        "signature": None,
        "requires": {},
        "types": [],
    }


def _made(version: VersionRecord, run: RunRecord | None) -> dict[str, Any]:
    """Who made it, when, by which run of which code."""
    known = {"at": version.at, "by": version.actor, "run": version.run}
    if run is None:
        return known
    code = run.code
    return {
        **known,
        "pipeline": run.pipeline,
        "seed": run.seed,
        "code": {"entry": code.entry, "commit": code.commit, "dirty": code.dirty, "source": code.source},
    }


def _data(tx: Reader, pin: Pin) -> dict[str, Any]:
    """A version of a data set that it learned from, with rows and time range as far as this ledger knows it."""
    found = datasets.by_number(tx, pin.dataset, pin.version)
    known: dict[str, Any] = {"dataset": pin.dataset, "version": pin.version, "tree": pin.tree}
    if found is None or found.tree != pin.tree:
        return {**known, "rows": None, "time": "", "from": "", "to": "", "source": "", "dropped": False}
    return {
        **known,
        "rows": found.rows,
        "time": found.time,
        "from": found.time_min,
        "to": found.time_max,
        "source": found.source,
        "dropped": bool(found.dropped_at),
    }


def _evaluation(ws: Workspace, version: VersionRecord, judged: JudgementRecord | None) -> dict[str, Any] | None:
    """What the report says of the version alone, and the champion's metrics beside; None where nothing scored it."""
    if judged is None or not judged.report:
        return None
    digest = document_of(ws, version, judged.seq)
    found = ws.objects.get_json(digest)
    kept = ("value", "low", "high", "better", "n")

    def numbers(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        return {name: {key: metrics[name].get(key) for key in kept} for name in found["order"] if name in metrics}

    slices = [
        {key: part[key] for key in ("column", "level", "n", "positives", "metrics")} for part in found.get("slices", ())
    ]
    return {
        "digest": digest,
        "rows": found["n"],
        "unlabelled": found["unlabelled"],
        "positives": found["positives"],
        "level": found["level"],
        "threshold": found["threshold"],
        "order": list(found["order"]),
        "metrics": numbers(found["metrics"]),
        "champion": numbers(found.get("champion", {})),
        "slices": slices,
        "groups": [dict(part) for part in found.get("groups", ())],
        "on": dict(found["data"]),
    }


def _gates(judged: JudgementRecord | None) -> dict[str, Any] | None:
    if judged is None:
        return None
    return {
        "passed": judged.passed,
        "at": judged.at,
        "champion": judged.champion,
        "policy": judged.policy,
        "verdicts": [{"gate": v.gate, "passed": v.passed, "text": v.text} for v in judged.verdicts],
    }


def _environment(ws: Workspace, digest: str) -> dict[str, Any]:
    if not digest:
        return {"digest": ""}
    lock = locks.from_document(ws.objects.get_json(digest))
    return {
        "digest": digest,
        "python": lock.python,
        "implementation": lock.implementation,
        "system": lock.system,
        "machine": lock.machine,
        "packages": dict(sorted(lock.packages.items())),
    }


def _again(tx: Reader, version: VersionRecord, run: RunRecord | None) -> list[str]:
    """The commands that make its environment and itself again, as far as its run is one that can be done again."""
    if run is None or not version.bundle:
        return []
    rebuilt = [f"noria env rebuild {version.ref} rebuilt"] if run.environment else []
    is_code = bool(steps.steps(tx, run.run)) or scripts.captured(tx, run.run) is not None
    return [*rebuilt, f"noria reproduce {version.ref}"] if is_code else rebuilt


def _limits(made: Mapping[str, Any]) -> list[str]:
    """What people declared, then what follows from what is known and what is not."""
    found = [str(each) for each in made["declared"].get("limits", ())]
    ends = [each["to"] for each in made["data"] if each["to"]]
    if ends:
        found.append(f"It learned from nothing after {max(ends)}.")
    if not made["data"]:
        found.append("Which data it learned from is not on record.")
    if any(each["dropped"] for each in made["data"]):
        found.append("Data that it learned from were dropped since, so it cannot be made again from them.")
    for each in (made["signature"] or {"inputs": ()})["inputs"]:
        if each["strict"]:
            found.append(f"A level of {each['name']} that it did not learn is refused.")
    if made["signature"] is None:
        found.append("Its files are a client's: what it takes and gives is not on record.")
    evaluation, gates = made["evaluation"], made["gates"]
    if gates is None:
        found.append("No gate has judged it.")
    elif evaluation is None:
        found.append("No labelled rows scored it, so its metrics have no intervals.")
    elif evaluation["unlabelled"]:
        found.append(f"{evaluation['unlabelled']:,} rows of the holdout had no label and are in no figure.")
    closed = [each["gate"] for each in (gates or {"verdicts": ()})["verdicts"] if not each["passed"]]
    if closed:
        found.append(f"Gates refused it: {', '.join(dict.fromkeys(closed))}.")
    return found
