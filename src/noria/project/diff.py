"""`noria diff A B`: any two things of the same kind, and what differs between them.

Names decide the kind: `flights@3` a data set version (when such a data set exists), `churn:14` a model
version, `churn@r3` or `churn r3` a release, anything else a run. A comparison of models or releases
goes on to the runs behind them: code, configuration, data and environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from noria.core.errors import NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.identity import short
from noria.core.verb import verb
from noria.data import diff as data_diff
from noria.data import records as data_records
from noria.data import versions
from noria.data.diff import TableDiff
from noria.experiments import records as recorded
from noria.pipeline import records as step_records
from noria.project.compared.account import account, next_command
from noria.project.compared.inputs import Input, flat, inputs, thresholds
from noria.project.compared.logged import Logged, logged
from noria.project.compared.scoring import Scored, scored
from noria.project.compared.sides import Side, of_runs, of_version
from noria.registry import records as registry
from noria.registry.release import Release, find
from noria.store.workspace import Workspace
from noria.tracking import records as runs
from noria.tracking import run as tracking
from noria.tracking.facts import Pin
from noria.tracking.records import RunRecord

__all__ = ["Difference", "Line", "diff", "lines"]

_RELEASE = re.compile(r"(?P<model>[^@:\s]+)[@ ]r(?P<release>\d{1,18})")
_BARE_RELEASE = re.compile(r"r\d{1,18}")
_VERSION = re.compile(r"(?P<model>[^@:\s]+):(?P<version>\d{1,18})")


@frozen(kw_only=True)
class Line:
    """One thing that is not the same: where it belongs, its name, both values, and the change."""

    section: str
    name: str
    a: str
    b: str
    change: str = ""


@frozen(kw_only=True)
class Difference:
    """What differs between two things of one kind. `table` is given for data set versions.

    Of runs, model versions and releases: `scored` is what both models say of the same labelled rows (None where that
    cannot be, and `notes` say why), `logged` the metrics as the runs logged them, `inputs` what went into them and is
    not the same, `why` the account of it in sentences, and `next` the command to go on with.
    """

    kind: str
    a: str
    b: str
    is_same: bool
    lines: tuple[Line, ...] = ()
    table: TableDiff | None = None
    scored: Scored | None = None
    logged: tuple[Logged, ...] = ()
    inputs: tuple[Input, ...] = ()
    notes: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    next: str = ""


@verb(permission="project.read", changes=False)
def diff(ws: Workspace, a: str, b: str, on: str = "") -> Difference:
    """What differs between two data set versions, runs, model versions or releases, and why one is better.

    Two models are asked on the same labelled rows: every metric of both with its interval, the difference with the
    interval of the paired test, by slice, and the rows that flipped. Runs without a model that can be asked are
    compared by what they logged. Last comes which of their inputs differ, and what that says.

    Args:
        a: a run, a model version (churn:1), a release (churn@r1) or a data set version (customers@1).
        b: another of the same kind.
        on: which rows models are asked on: "a" or "b" for the holdout of that one, or a data set version; the
            holdout of the newer one by default.
    Raises: NotFound if one does not exist; UsageError if they are not of one kind, or for rows of data set versions.
    Example: noria diff churn:1 churn:2
    """
    kinds = (_kind(ws, a), _kind(ws, b))
    if kinds[0] != kinds[1]:
        raise UsageError(
            f"{a} is a {kinds[0]} and {b} is a {kinds[1]}; they cannot be compared",
            hint="give two of a kind: flights@1 flights@2, churn:1 churn:2, churn@r1 churn@r2, or two runs",
        )
    if on not in ("", "a", "b"):
        versions.resolve(ws, on)  # a name that is none is the caller's mistake, not a note
    if kinds[0] == "data set version" and on:
        raise UsageError("data set versions are not asked on any rows", hint=f"noria diff {a} {b}")
    if kinds[0] == "data set version":
        table = data_diff.diff(ws, a, b)
        same = versions.resolve(ws, a).content == versions.resolve(ws, b).content
        return Difference(kind=kinds[0], a=a, b=b, is_same=same, table=table)
    compared = lines(ws, a, b)
    sides = _sides(ws, kinds[0], a, b)
    if not compared and _is_one(*sides):
        return Difference(kind=kinds[0], a=a, b=b, is_same=True)
    return _told(ws, Difference(kind=kinds[0], a=a, b=b, is_same=False, lines=tuple(compared)), *sides, on=on)


def lines(ws: Workspace, a: str, b: str) -> list[Line]:
    """What differs by name between two runs, model versions or releases; nothing is measured.

    Raises: NotFound.
    """
    return {"run": _runs, "model version": _versions, "release": _releases}[_kind(ws, a)](ws, a, b)


def _is_one(a: Side, b: Side) -> bool:
    """Whether two sides stand for the same model, or for none: no name that differs does not say so yet."""
    if a.version is None or b.version is None:
        return a.version is b.version
    return a.version.ref == b.version.ref or a.version.bundle == b.version.bundle != ""


def _sides(ws: Workspace, kind: str, a: str, b: str) -> tuple[Side, Side]:
    if kind == "run":
        return of_runs(ws, tracking.resolve(ws, a), tracking.resolve(ws, b))
    if kind == "model version":
        return of_version(ws, a, _version(ws, a)), of_version(ws, b, _version(ws, b))
    return _of_release(ws, a), _of_release(ws, b)


def _of_release(ws: Workspace, ref: str) -> Side:
    """A release is the version that it holds; where that is deleted its run is left."""
    found = _release(ws, ref)
    with ws.ledger.read() as tx:
        version = registry.version(tx, found.model, found.version)
        run = runs.run(tx, found.run) if found.run else None
    if version is None:
        return Side(ref=ref, run=run, why=f"{found.model}:{found.version} is deleted")
    return of_version(ws, ref, version)


def _told(ws: Workspace, found: Difference, a: Side, b: Side, *, on: str) -> Difference:
    """The same with what was measured, what was logged, what went in, and what all that says."""
    measured, notes = scored(ws, a, b, on)
    numbers = logged(ws, a.run, b.run)
    differing: tuple[Input, ...] = ()
    if a.run is not None and b.run is not None:
        differing, unknown = inputs(ws, a.run, b.run)
        notes += unknown
    if a.version is not None and b.version is not None:
        differing = (*thresholds(ws, a.version.bundle, b.version.bundle), *differing)
    version = "" if b.version is None or b.document is None else b.version.ref
    return replace(
        found,
        scored=measured,
        logged=numbers,
        inputs=differing,
        notes=notes,
        why=account(
            a.name,
            b.name,
            measured,
            logged=numbers,
            inputs=differing,
            notes=notes,
            is_known=a.run is not None and b.run is not None,
        ),
        next=next_command(a.run, b.run, differing, made_by=_made_by(ws, b.run), version=version),
    )


def _made_by(ws: Workspace, run: RunRecord | None) -> str:
    """What made a run: "pipeline", "script" or "recording"."""
    if run is None:
        return "pipeline"
    with ws.ledger.read() as tx:
        is_recording = recorded.described(tx, run.run)
    return "recording" if is_recording else "script" if "script" in flat(ws, run.config) else "pipeline"


def _kind(ws: Workspace, ref: str) -> str:
    if _BARE_RELEASE.fullmatch(ref):
        with ws.ledger.read() as tx:
            known = registry.models(tx)
        raise UsageError(
            f"{ref} is a release of which model?",
            hint=" or ".join(f"{name}@{ref}" for name in known[:3]) or "no model has a release yet: noria run",
        )
    if _RELEASE.fullmatch(ref):
        return "release"
    if _VERSION.fullmatch(ref):
        return "model version"
    name = ref.partition("@")[0]
    with ws.ledger.read() as tx:
        is_dataset = data_records.newest(tx, name) is not None
    return "data set version" if is_dataset else "run"


def _runs(ws: Workspace, a: str, b: str) -> list[Line]:
    return _compare_runs(ws, tracking.resolve(ws, a), tracking.resolve(ws, b))


def _versions(ws: Workspace, a: str, b: str) -> list[Line]:
    one, other = _version(ws, a), _version(ws, b)
    lines = _texts("model", {"bundle": short(one.bundle)}, {"bundle": short(other.bundle)})
    lines += _numbers("metric", one.metrics, other.metrics)
    return lines + _behind(ws, one.run, other.run, known={"metric"})


def _releases(ws: Workspace, a: str, b: str) -> list[Line]:
    one, other = _release(ws, a), _release(ws, b)
    names = ("state", "bundle", "schema", "environment", "baseline", "policy")
    lines = _texts(
        "release",
        {name: short(str(getattr(one, name))) for name in (*names, "version", "threshold")},
        {name: short(str(getattr(other, name))) for name in (*names, "version", "threshold")},
    )
    with ws.ledger.read() as tx:
        found = [registry.version(tx, item.model, item.version) for item in (one, other)]
    metrics = [version.metrics if version is not None else {} for version in found]
    lines += _numbers("metric", metrics[0], metrics[1])
    return lines + _behind(ws, one.run, other.run, known={"metric", "environment"})


def _behind(ws: Workspace, a: str, b: str, *, known: set[str]) -> list[Line]:
    """What differs between the runs behind two models, without the sections that were said already."""
    if a == b:
        return []
    found = _compare_runs(ws, tracking.resolve(ws, a), tracking.resolve(ws, b))
    return [line for line in found if line.section not in known and line.section != "run"]


def _compare_runs(ws: Workspace, a: RunRecord, b: RunRecord) -> list[Line]:
    lines = _texts("run", {"status": a.status, "pipeline": a.pipeline}, {"status": b.status, "pipeline": b.pipeline})
    code = ("commit", "branch", "dirty", "patch", "source", "entry")
    lines += _texts(
        "code",
        {name: short(str(getattr(a.code, name))) for name in code},
        {name: short(str(getattr(b.code, name))) for name in code},
    )
    lines += _texts("configuration", flat(ws, a.config), flat(ws, b.config))
    lines += _texts("configuration", {"seed": str(a.seed)}, {"seed": str(b.seed)})
    lines += _logged(ws, a, b)
    lines += _texts("data", _pins(a.pins), _pins(b.pins))
    if a.environment != b.environment:
        lines += _texts("environment", flat(ws, a.environment), flat(ws, b.environment))
    with ws.ledger.read() as tx:
        steps = [{step.step: step.key for step in step_records.steps(tx, item.run)} for item in (a, b)]
    lines += _texts("step", *({name: short(key) for name, key in found.items()} for found in steps))
    return lines + _numbers("metric", a.metrics, b.metrics)


def _logged(ws: Workspace, a: RunRecord, b: RunRecord) -> list[Line]:
    """What the runs recorded themselves: params, tags, and data sets beside those that were pinned."""
    pinned = {pin.dataset for run in (a, b) for pin in run.pins}
    with ws.ledger.read() as tx:
        params, tags = recorded.params(tx, [a.run, b.run]), recorded.tags(tx, [a.run, b.run])
        used = [
            {
                item.name: f"{item.name}@{item.version} {short(item.digest)}"
                for item in recorded.datasets(tx, run)
                if item.name not in pinned
            }
            for run in (a.run, b.run)
        ]
    lines = _texts("parameter", params[a.run], params[b.run]) + _texts("tag", tags[a.run], tags[b.run])
    return lines + _texts("data", used[0], used[1])


def _pins(pins: Sequence[Pin]) -> dict[str, str]:
    return {pin.dataset: f"{pin.dataset}@{pin.version} {short(pin.tree)}" for pin in pins}


def _texts(section: str, a: Mapping[str, str], b: Mapping[str, str]) -> list[Line]:
    names = sorted({*a, *b})
    pairs = [(name, a.get(name, ""), b.get(name, "")) for name in names]
    return [Line(section=section, name=name, a=one, b=other) for name, one, other in pairs if one != other]


def _numbers(section: str, a: Mapping[str, float], b: Mapping[str, float]) -> list[Line]:
    lines = []
    for name in sorted({*a, *b}):
        one, other = a.get(name), b.get(name)
        if one != other:
            change = f"{other - one:+.6g}" if one is not None and other is not None else ""
            lines.append(Line(section=section, name=name, a=_number(one), b=_number(other), change=change))
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _version(ws: Workspace, ref: str) -> registry.VersionRecord:
    match = _VERSION.fullmatch(ref)
    assert match is not None
    with ws.ledger.read() as tx:
        found = registry.version(tx, match["model"], int(match["version"]))
    if found is None:
        raise NotFound(f"there is no model version {ref}", hint="noria status lists the models")
    return found


def _release(ws: Workspace, ref: str) -> Release:
    match = _RELEASE.fullmatch(ref)
    assert match is not None
    return find(ws, match["model"], int(match["release"]))
