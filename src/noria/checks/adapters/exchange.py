"""Rules to and from other tools: `noria checks import` and `noria checks export`.

An import adds rules to `checks/NAME.toml` and changes none that is there; each rule of the other tool
is told as mapped or refused with its reason, and a refusal is also written into the file as a comment.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from noria.checks.adapters import gx, pandera_text, panderas
from noria.checks.adapters.imported import Imported
from noria.checks.suites.place import shown, suite_path
from noria.checks.suites.rules import Rule, Suite
from noria.checks.suites.suitefile import fields, load, read_text, text_of
from noria.core.errors import NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.data.versions import resolve
from noria.store.objects import disk_faults
from noria.store.workspace import Workspace

__all__ = ["ExportReport", "ImportReport", "ImportedRule", "export_rules", "import_rules"]

TOOLS = ("gx", "pandera")


@frozen(kw_only=True)
class ImportedRule:
    """One rule of the other tool: what it became, or why it was refused."""

    source: str
    column: str
    rules: tuple[str, ...]
    refused: str


@frozen(kw_only=True)
class ImportReport:
    """What was imported. `added` rules are new in the file; the others were there already."""

    dataset: str
    suite: str
    mapped: int
    refused: int
    added: int
    expectations: tuple[ImportedRule, ...]


@frozen(kw_only=True)
class ExportReport:
    """Where a suite was written for another tool, and which rules that tool cannot say."""

    dataset: str
    to: str
    left: tuple[str, ...]


@verb(permission="checks.infer", name="import", where="project")
def import_rules(ws: Workspace, tool: str, source: str, dataset: str) -> ImportReport:
    """Take over the rules of another tool into `checks/NAME.toml`: each is mapped, or refused by name.

    Rules that are there stay; the same import again adds nothing.

    Args:
        tool: gx (a suite's JSON, of 1.x or 0.18) or pandera (`module:Schema`).
        source: the file, or the schema's place.
        dataset: whose rules they become.
    Raises: NotFound; UsageError for another tool or a file that is no suite; ProjectError; ConfigError.
    Example:
        noria checks import gx suites/flights.json flights
    """
    if tool not in TOOLS:
        raise UsageError(f"there is no import from {tool!r}", hint=f"one of: {', '.join(TOOLS)}")
    found = gx.read(_read(ws, source)) if tool == "gx" else panderas.read(panderas.load_schema(ws.project.root, source))
    name = dataset.partition("@")[0]
    path = suite_path(ws, name)
    added = _add(path, name, found, f"{tool} {source}")
    return ImportReport(
        dataset=name,
        suite=shown(ws, path),
        mapped=sum(bool(each.rules) for each in found),
        refused=sum(bool(each.refused) for each in found),
        added=added,
        expectations=tuple(
            ImportedRule(
                source=each.source,
                column=each.column,
                rules=tuple(rule.rule for rule in each.rules),
                refused=each.refused,
            )
            for each in found
        ),
    )


@verb(permission="checks.export", name="export", changes=False, where="project")
def export_rules(ws: Workspace, tool: str, dataset: str, to: str = "") -> ExportReport:
    """Write a suite as a Python file with a Pandera schema; what the schema cannot say is listed.

    Args:
        tool: pandera.
        to: the file; by default `NAME_schema.py` in the project.
    Raises: NotFound if there is no suite; UsageError for another tool; ConfigError.
    Example:
        noria checks export pandera flights
    """
    if tool != "pandera":
        raise UsageError(f"there is no export to {tool!r}", hint="one of: pandera")
    name = resolve(ws, dataset).name
    path = suite_path(ws, name)
    if not path.is_file():
        raise NotFound(f"there are no checks for {name}", where=str(path), hint=f"noria data check {name} --infer")
    text, left = pandera_text.text_of(load(path), shown(ws, path))
    target = Path(to).absolute() if to else ws.project.root / f"{name.replace('-', '_').replace('.', '_')}_schema.py"
    _write(target, text)
    return ExportReport(dataset=name, to=str(target), left=tuple(left))


def _read(ws: Workspace, source: str) -> str:
    for path in (Path(source), ws.project.root / source):
        if path.is_file():
            try:
                return path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise UsageError(f"{source} is not UTF-8 text: {error}") from error
    raise NotFound(f"there is no file {source}")


def _add(path: Path, dataset: str, found: Sequence[Imported], origin: str) -> int:
    """Append the rules that are not there yet, and the refusals as comments. Gives how many rules."""
    rules = [rule for each in found for rule in each.rules]
    refused = [f"# refused: {each.source} ({each.column or 'table'}): {each.refused}" for each in found if each.refused]
    if path.is_file():
        mine = path.read_text(encoding="utf-8")
        known = read_text(mine, str(path)).rules
    else:
        mine, known = text_of(Suite(dataset=dataset), f"Rules for {dataset}. They are yours: edit them."), ()
    new = [rule for rule in dict.fromkeys(rules) if rule not in known]
    lines = [line for line in refused if line.replace("\n", " ") not in mine]
    if not new and not lines and path.is_file():
        return 0
    text = mine.rstrip("\n") + f"\n\n# from {origin}\n" + "".join(f"{line}\n" for line in lines) + _blocks(new)
    assert [*known, *new] == list(read_text(text, str(path)).rules), "what is written is read again"
    _write(path, text)
    return len(new)


def _blocks(rules: Sequence[Rule]) -> str:
    return "".join("\n[[rules]]\n" + "".join(f"{line}\n" for line in fields(rule)) for rule in rules)


def _write(path: Path, text: str) -> None:
    with disk_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)
