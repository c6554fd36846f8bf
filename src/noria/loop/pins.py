"""Which versions of its data sets a run uses, and whether their checks let it.

For a person's run the sources of noria.toml are looked at first: a data set that was never added,
or whose files have changed, gets its next version. A run that the loop asked for uses exactly the
versions that the loop looked at. Data whose checks failed are used by nobody.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from noria.core.errors import GateClosed, NotFound, ProjectError
from noria.core.frozen import frozen
from noria.core.identity import short
from noria.core.lazy import lazy
from noria.core.words import counted
from noria.pipeline.define import PipelineDefinition
from noria.pipeline.step import DatasetRole
from noria.store.workspace import Workspace
from noria.tracking.facts import Pin

if TYPE_CHECKING:
    from noria.checks import findings, infer, report, suite
    from noria.checks.suites import place
    from noria.data import pins as files
    from noria.data import records as data
    from noria.data import status as standing
    from noria.data import versions
    from noria.data.records import DatasetVersion
else:  # a run without data sets has nothing for them to do
    findings, infer, report = lazy("noria.checks.findings"), lazy("noria.checks.infer"), lazy("noria.checks.report")
    suite, place = lazy("noria.checks.suite"), lazy("noria.checks.suites.place")
    data, versions, files = lazy("noria.data.records"), lazy("noria.data.versions"), lazy("noria.data.pins")
    standing = lazy("noria.data.status")

__all__ = ["DataLine", "check", "checked", "pins_of", "resolve"]

LINES = 4
GROWN = frozenset({"append", "upsert", "delete", "compact", "merge"})
"""What makes a version out of the one before, not out of a source."""
_ROWS_CHANGED = GROWN - {"merge"}


@frozen(kw_only=True)
class DataLine:
    """One data set of a run: its version with its id, rows gained since the version before, and its checks.

    `checks` is how many rules were evaluated, `failed` how many of them said no; 0 of 0 without a
    suite. `failures` say column, rule, count and rows; `note` what a person would want to know beside it.
    """

    dataset: str
    version: int
    tree: str
    rows: int
    added: int
    before: int
    checks: int = 0
    failed: int = 0
    ok: bool = True
    failures: tuple[str, ...] = ()
    note: str = ""
    content: str = ""


def resolve(
    ws: Workspace, definition: PipelineDefinition, wanted: Mapping[str, str] | None = None
) -> dict[str, DatasetVersion]:
    """The version of each data set of a pipeline: as wanted by ref, else the newest, sources looked at first.

    Raises: NotFound for a data set without a source and without a version; ProjectError if
        pipeline.py names a key, time or label that is no column.
    """
    found = {}
    for name, role in definition.datasets.items():
        ref = (wanted or {}).get(name)
        try:
            found[name] = versions.resolve(ws, ref) if ref else _newest(ws, role)
            found[name] = _with_roles(ws, found[name], role)
        except versions.NoSuchColumn as error:
            raise ProjectError(error.message, where=_declared(ws, name), hint=error.hint) from error
    return found


def _declared(ws: Workspace, name: str) -> str:
    """Where pipeline.py names a data set: `pipeline.py:20`, or the file alone if the name is computed."""
    path = ws.project.root / ws.project.pipeline
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called == "dataset" and node.args[0].value == name:
                return f"{ws.project.pipeline}:{node.lineno}"
    return ws.project.pipeline


def pins_of(found: Mapping[str, DatasetVersion]) -> tuple[Pin, ...]:
    """The versions as a run records them."""
    return tuple(Pin(dataset=item.name, version=item.version, tree=item.tree) for item in found.values())


def checked(ws: Workspace, found: Mapping[str, DatasetVersion]) -> tuple[DataLine, ...]:
    """Run the checks of every data set that has a suite; a run of the same rules on the same content counts.

    Raises: GateClosed naming columns and rules if one fails: nothing may be trained on it.
    """
    lines = tuple(check(ws, version) for version in found.values())
    broken = [line for line in lines if not line.ok]
    if broken:
        raise _closed(ws, broken)
    return lines


def check(ws: Workspace, version: DatasetVersion) -> DataLine:
    """The outcome of the checks of one version; rules that were run on this content are not run again."""
    with ws.ledger.read() as tx:
        parent = data.by_number(tx, version.name, version.version - 1)
    line = DataLine(
        dataset=version.name,
        version=version.version,
        tree=version.tree,
        rows=version.rows,
        added=version.rows - parent.rows if parent is not None else version.rows,
        before=parent.version if parent is not None else 0,
        content=version.content,
    )
    is_first = not place.suite_path(ws, version.name).is_file()
    line = replace(line, note=_gone(ws, version) or _moved_on(ws, version))
    if not _has_suite(ws, version):
        return line
    if is_first:
        written = f"{ws.project.data[version.name].checks} was not there: written from this version"
        line = replace(line, note="; ".join(filter(None, (line.note, written))))
    found = suite.run(ws, version.ref)
    failures = tuple(suite.in_words(finding) for finding in found.findings if findings.is_failure(finding))
    return replace(line, checks=found.total, failed=found.failed, ok=found.ok, failures=failures)


def _gone(ws: Workspace, version: DatasetVersion) -> str:
    """What to say of a source that noria.toml names and that is not there: the run takes what the pin names."""
    config = ws.project.data.get(version.name)
    if config is None or not config.source or "://" in config.source or (ws.project.root / config.source).exists():
        return ""
    return f"its source {config.source} is not here; this is the version that is pinned"


def _moved_on(ws: Workspace, version: DatasetVersion) -> str:
    """What to say where the files that a table grew from say something else by now: the run takes the grown table."""
    if version.operation not in _ROWS_CHANGED or _pinned_tree(ws, version.name) != version.tree:
        return ""
    (found,) = standing.status(ws, [version.name])
    if found.state != "changed":
        return ""
    return (
        f"its source {found.place} has changed since, and this version, which grew by {version.operation}, is without"
        f" that: noria data upsert {version.name} {found.place}, or add to stand on the source alone"
    )


def _pinned_tree(ws: Workspace, name: str) -> str:
    pin = files.read_pin(ws.project.root, name)
    return pin.tree if pin is not None else ""


def _has_suite(ws: Workspace, version: DatasetVersion) -> bool:
    """Whether there are rules. Where noria.toml names a file that is not there yet, the first version writes it."""
    if place.suite_path(ws, version.name).is_file():
        return True
    config = ws.project.data.get(version.name)
    if config is None or not config.checks:
        return False
    if version.version > 1:
        raise NotFound(
            f"the checks of {version.name} are not there: {config.checks}",
            hint=f"noria data check {version.name} --infer",
        )
    infer.infer(ws, version.ref)
    return True


def _newest(ws: Workspace, role: DatasetRole) -> DatasetVersion:
    """What the source holds now; what the pin names without it, as in a fresh clone, or once the table grew.

    A table that was appended to, changed by key or merged is no longer what its first source holds.
    """
    config = ws.project.data.get(role.name)
    pin = files.read_pin(ws.project.root, role.name)
    source = ws.project.root / config.source if config is not None and config.source else None
    with ws.ledger.read() as tx:
        pinned = data.by_tree(tx, role.name, pin.tree) if pin is not None else None
    if pinned is not None and pinned.operation in GROWN:
        return pinned
    if source is not None and (pin is None or source.exists()):
        return versions.add(ws, str(source), role.name, key=role.key, time=role.time, label=role.label)
    with ws.ledger.read() as tx:
        found = data.by_tree(tx, role.name, pin.tree) if pin is not None else data.newest(tx, role.name)
    if found is None and pin is not None:
        raise NotFound(
            f"the data set {role.name} is pinned to {short(pin.tree)}, which is not here",
            where=str(files.pin_path(ws.project.root, role.name)),
            hint=f"noria data pull {role.name}",
        )
    if found is None:
        raise NotFound(
            f"the data set {role.name} has no version",
            where=ws.project.pipeline,
            hint=f'noria data add PATH --name {role.name}, or [data.{role.name}] source = "…" in noria.toml',
        )
    return found


def _with_roles(ws: Workspace, version: DatasetVersion, role: DatasetRole) -> DatasetVersion:
    wanted = {"key": role.key, "time": role.time, "label": role.label}
    if all(not value or getattr(version, name) == value for name, value in wanted.items()):
        return version
    return versions.describe(ws, version.ref, key=role.key, time=role.time, label=role.label)


def _closed(ws: Workspace, broken: Sequence[DataLine]) -> GateClosed:
    """What stopped a run, in four lines, and the page that shows it."""
    first, others = broken[0], broken[1:]
    ref = f"{first.dataset}@{first.version}"
    also = [f"  also {each.dataset}@{each.version}: {counted(each.failed, 'check')} failed" for each in others]
    if len(also) > 1:
        also = [f"  and {len(also)} more data sets: {', '.join(f'{each.dataset}@{each.version}' for each in others)}"]
    said = suite.stop_message(suite.latest(ws, ref), lines=LINES - len(also), so="nothing was trained")
    return GateClosed("\n".join([said, *also]), where=report.report(ws, ref).to, hint=f"noria data check {ref}")
