"""What went into two runs and is not the same: code by symbol and file, configuration, data by rows, environment, seed.

Where both runs have steps, their keys decide: they hold all that a step's result depends on, so a file that no step
calls, or a package that none imports, stands behind nothing and is not named. Otherwise the recorded source files, the
configuration and the whole environment are compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from noria.core.errors import NoriaError, NotFound, WorldError
from noria.core.frozen import frozen
from noria.core.identity import short
from noria.data import diff as data_diff
from noria.data import records as data_records
from noria.experiments import records as logged
from noria.packaging import bundle as bundles
from noria.pipeline import records as pipeline
from noria.pipeline.caching import documents
from noria.pipeline.caching.cache import read_list
from noria.pipeline.caching.changes import Change, changes
from noria.pipeline.records import StepRecord
from noria.store.tree import diff_trees
from noria.store.workspace import Workspace
from noria.tracking.facts import Pin
from noria.tracking.records import RunRecord

__all__ = ["KINDS", "Input", "flat", "inputs", "kinds_of", "thresholds"]

KINDS = ("code", "configuration", "data", "environment", "seed")
ROWS_MAX = 1_000_000
"""Data sets up to so many rows are compared row by row; of larger ones the numbers of rows are told."""
FILES_MAX = 50
TEXT_MAX = 120
_CODE = re.compile(r"^(step|helper|class|constant|global|module|code|its outputs)\b|\.py$")


@frozen(kw_only=True)
class Input:
    """One thing that differs: its kind (of `KINDS`), its name, both values, and what changed in a few words.

    Of code `file` is where it is defined, and `lines` are those of a unified diff, with `hidden` left out. Of data
    `added`, `removed` and `changed` are rows, `columns` those that are new, gone, of another type, or that moved.
    """

    kind: str
    name: str
    a: str = ""
    b: str = ""
    change: str = ""
    file: str = ""
    lines: tuple[str, ...] = ()
    hidden: int = 0
    added: int | None = None
    removed: int | None = None
    changed: int | None = None
    columns: tuple[str, ...] = ()


def inputs(ws: Workspace, a: RunRecord, b: RunRecord) -> tuple[tuple[Input, ...], tuple[str, ...]]:
    """What differs between the inputs of two runs, by kind, and what could not be told."""
    notes: list[str] = []
    found = _configuration(ws, a, b) + _seed(a, b) + _data(ws, a, b, notes)
    with ws.ledger.read() as tx:
        taken = [{each.step: each for each in pipeline.steps(tx, run.run)} for run in (a, b)]
    if all(taken) and all(each.document for steps in taken for each in steps.values() if each.key):
        found += _by_steps(ws, a, b, taken[0], taken[1], notes)
    else:
        found += _files(ws, a, b, notes) + _environment(ws, a, b)
    unique = {(each.kind, each.name): each for each in found}  # a step's key has defaults too, and comes last
    return tuple(sorted(unique.values(), key=lambda each: (KINDS.index(each.kind), each.name))), tuple(notes)


def thresholds(ws: Workspace, a: str, b: str) -> tuple[Input, ...]:
    """The thresholds of two bundles, if they differ: a step's key does not know them. Empty without both bundles."""
    if not a or not b or a == b:
        return ()
    try:
        ends = [bundles.read(ws, digest).threshold for digest in (a, b)]
    except (NotFound, WorldError):
        return ()  # a bundle that is gone is told where its model is asked
    return (
        ()
        if ends[0] == ends[1]
        else (Input(kind="configuration", name="threshold", a=f"{ends[0]:g}", b=f"{ends[1]:g}"),)
    )


def flat(ws: Workspace, digest: str) -> dict[str, str]:
    """A JSON object as dotted names and texts; empty without a digest."""
    found: dict[str, str] = {}
    waiting: list[tuple[str, object]] = [("", ws.objects.get_json(digest))] if digest else []
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting.extend((f"{name}.{key}" if name else str(key), item) for key, item in value.items())
        else:
            found[name] = str(value)
    return found


def _texts(kind: str, a: Mapping[str, str], b: Mapping[str, str]) -> list[Input]:
    return [
        Input(kind=kind, name=name, a=a.get(name, "")[:TEXT_MAX], b=b.get(name, "")[:TEXT_MAX])
        for name in sorted({*a, *b})
        if a.get(name) != b.get(name)
    ]


def _configuration(ws: Workspace, a: RunRecord, b: RunRecord) -> list[Input]:
    """What was given to the runs, and the params that they recorded; names of params are those of `noria run -p`."""
    with ws.ledger.read() as tx:
        params = logged.params(tx, [a.run, b.run])
    sides = []
    for run in (a, b):
        given = {name.removeprefix("params."): value for name, value in flat(ws, run.config).items()}
        sides.append({**params[run.run], **given})
    return _texts("configuration", sides[0], sides[1])


def _seed(a: RunRecord, b: RunRecord) -> list[Input]:
    return [Input(kind="seed", name="seed", a=str(a.seed), b=str(b.seed))] if a.seed != b.seed else []


def _environment(ws: Workspace, a: RunRecord, b: RunRecord) -> list[Input]:
    if a.environment == b.environment:
        return []
    sides = []
    for run in (a, b):
        told = flat(ws, run.environment)
        kept = {name: value for name, value in told.items() if not name.startswith(("records.", "roots.", "origins."))}
        sides.append({name.removeprefix("packages."): value for name, value in kept.items()})
    return _texts("environment", sides[0], sides[1])


def _data(ws: Workspace, a: RunRecord, b: RunRecord, notes: list[str]) -> list[Input]:
    """Pinned versions, by rows; then what a recording named without there being a version of it."""
    before, after = ({pin.dataset: pin for pin in run.pins} for run in (a, b))
    found = [
        _dataset(ws, before.get(name), after.get(name), notes)
        for name in sorted({*before, *after})
        if name not in before or name not in after or before[name].tree != after[name].tree
    ]
    with ws.ledger.read() as tx:
        used = [
            {
                item.name: f"{item.name}@{item.version} {short(item.digest)}"
                for item in logged.datasets(tx, run.run)
                if item.name not in before and item.name not in after
            }
            for run in (a, b)
        ]
    return found + _texts("data", used[0], used[1])


def _dataset(ws: Workspace, a: Pin | None, b: Pin | None, notes: list[str]) -> Input:
    pin = a or b
    assert pin is not None, "one of two has it"
    names = tuple("" if each is None else f"{each.dataset}@{each.version}" for each in (a, b))
    made = Input(kind="data", name=pin.dataset, a=names[0], b=names[1])
    if a is None or b is None:
        return made
    with ws.ledger.read() as tx:
        versions = [data_records.by_number(tx, each.dataset, each.version) for each in (a, b)]
    rows = [0 if each is None else each.rows for each in versions]
    if None in versions or max(rows) > ROWS_MAX:
        told = f"{rows[0]:,} rows, then {rows[1]:,}" if None not in versions else ""
        return Input(kind="data", name=pin.dataset, a=names[0], b=names[1], change=told)
    try:
        table = data_diff.diff(ws, names[0], names[1])
    except NoriaError as error:
        notes.append(f"{names[0]} and {names[1]} cannot be compared by rows: {error.message}")
        return made
    moved = [each.column for each in table.shifts if each.is_moved]
    return Input(
        kind="data",
        name=pin.dataset,
        a=names[0],
        b=names[1],
        change=table.summary,
        added=table.rows.added,
        removed=table.rows.removed,
        changed=table.rows.changed,
        columns=tuple(dict.fromkeys([*(each.column for each in table.schema), *moved])),
    )


def _by_steps(
    ws: Workspace,
    a: RunRecord,
    b: RunRecord,
    before: Mapping[str, StepRecord],
    after: Mapping[str, StepRecord],
    notes: list[str],
) -> list[Input]:
    """What the keys of the steps say. What a step was given by another step is that one's matter."""
    found = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            change = "is new" if old is None else "is gone"
            found.append(Input(kind="code", name=f"step {name}", change=change, file=_file(ws, a, b, f"step {name}")))
        elif old.key != new.key or old.reads != new.reads:
            try:
                told = changes(
                    documents.read(ws.objects, old.document, old.step, old.key),
                    documents.read(ws.objects, new.document, new.step, new.key),
                    (read_list(ws, old.reads), read_list(ws, new.reads)),
                )
            except (NotFound, WorldError):
                notes.append(f"a key document of the step {name} is gone, so what changed in it cannot be told")
                continue
            parameters = [each.what for each in told if each.what.startswith("parameter ")]
            found += [
                made
                for each in told
                if not (parameters and _is_default(each))
                if (made := _of_change(ws, a, b, name, each)) is not None
            ]
    return found


def _is_default(change: Change) -> bool:
    """Whether nothing but the defaults of a step changed in its text, which its parameters tell already."""
    sides = [[line[1:] for line in change.lines if line.startswith(mark)] for mark in "-+"]
    bare = [re.sub(r"=[^,)]*", "", "".join(each)) for each in sides]
    is_signature = all(line.lstrip().startswith("def ") for each in sides for line in each)
    return (
        change.what.startswith("step ") and not change.hidden and is_signature and bool(bare[0]) and bare[0] == bare[1]
    )


def _of_change(ws: Workspace, a: RunRecord, b: RunRecord, step: str, change: Change) -> Input | None:
    """A change of a step's key as an input of the run; None for what another step or a data set explains."""
    old, _, new = change.how.partition(" -> ")
    if change.what.startswith("input "):
        return None
    if change.what.startswith("parameter "):
        name = f"{step}.{change.what.removeprefix('parameter ')}"
        return Input(kind="configuration", name=name, a=old, b=new)
    if change.what == "Python" or change.what.startswith("package "):
        return Input(kind="environment", name=change.what.removeprefix("package "), a=old, b=new)
    if change.what == "the seed":
        return Input(kind="seed", name=f"seed of {step}", change=change.how)
    if _CODE.match(change.what) or change.lines:
        values = (old, new) if new else ("", "")
        return Input(
            kind="code",
            name=change.what,
            a=values[0],
            b=values[1],
            change="" if new else change.how,
            file=_file(ws, a, b, change.what),
            lines=change.lines,
            hidden=change.hidden,
        )
    return Input(kind="configuration", name=f"{step}: {change.what}", change=change.how)


def _changed_files(ws: Workspace, a: RunRecord, b: RunRecord) -> Iterator[tuple[str, str, str]]:
    """(path, digest before, digest now) of source files that differ; an empty digest where there is none."""
    if a.code.source and b.code.source and a.code.source != b.code.source:
        for before, now in diff_trees(ws.objects, a.code.source, b.code.source):
            entry = now or before
            assert entry is not None, "a difference has a side"
            yield entry.path, "" if before is None else before.digest, "" if now is None else now.digest


def _files(ws: Workspace, a: RunRecord, b: RunRecord, notes: list[str]) -> list[Input]:
    try:
        paths = list(_changed_files(ws, a, b))
    except (NotFound, WorldError) as error:
        notes.append(f"the source of the runs cannot be compared: {error.message}")
        return []
    found = [
        Input(
            kind="code",
            name=path,
            file=path,
            change="" if old and new else "is gone" if old else "is new",
            a=short(old),
            b=short(new),
        )
        for path, old, new in paths[:FILES_MAX]
    ]
    if len(paths) > FILES_MAX:
        notes.append(f"{len(paths) - FILES_MAX} more source files differ")
    if not found and a.code.commit != b.code.commit and not (a.code.source and b.code.source):
        return [Input(kind="code", name="commit", a=short(a.code.commit), b=short(b.code.commit))]
    return found


def _file(ws: Workspace, a: RunRecord, b: RunRecord, what: str) -> str:
    """The file that differs and defines what is named; "" where none is found."""
    symbol = re.split(r"[\s.]", what.strip())[-1]
    defines = re.compile(rf"^\s*(?:async\s+)?(?:def|class)\s+{re.escape(symbol)}\b|^{re.escape(symbol)}\s*[:=]", re.M)
    try:
        for path, old, new in _changed_files(ws, a, b):
            if path.endswith(".py") and any(defines.search(_text(ws, digest)) for digest in (new, old) if digest):
                return path
    except (NotFound, WorldError):
        return ""  # the name of the symbol is told all the same
    return ""


def _text(ws: Workspace, digest: Any) -> str:
    return ws.objects.get_bytes(digest).decode("utf-8", "replace")


def kinds_of(found: Sequence[Input]) -> list[str]:
    """The kinds that differ, in the order of `KINDS`."""
    return [kind for kind in KINDS if any(each.kind == kind for each in found)]
