"""What changed between two runs of one script: its code by function, arguments, data, variables of fits, environment.

Told from what both runs left on record; nothing is run. What was not recorded is not told: a connection, a program
that the script started.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from typing import Any

from noria.core.errors import NotFound, WorldError
from noria.pipeline.caching.changes import Change, with_lines
from noria.project.environments import differences
from noria.scripts import records as scripts
from noria.scripts.records import ScriptRecord
from noria.store.workspace import Workspace
from noria.tracking import records as tracking

__all__ = ["since"]


def since(ws: Workspace, run: str) -> tuple[str, list[Change]] | None:
    """The run before of the same script ("" for the first), and what is otherwise; None if that run is of no script.

    Raises: Tampered; StoreUnavailable.
    """
    with ws.ledger.read() as tx:
        now = scripts.captured(tx, run)
        then = scripts.before(tx, now) if now is not None else None
    if now is None or then is None:
        return None if now is None else ("", [])
    old, new = _document(ws, then.document), _document(ws, now.document)
    if old is None or new is None:
        return then.run, [Change(what="the record of a run", how="is gone, so what changed cannot be told")]
    found = [*_code(ws, old, new), *_arguments(then, now), *_files(old, new), *_parameters(then, now)]
    return then.run, [*found, *_environment(ws, then.run, run)]


def _document(ws: Workspace, name: str) -> Mapping[str, Any] | None:
    try:
        found: Mapping[str, Any] = ws.objects.get_json(name)
    except (NotFound, WorldError):
        return None
    return found


def _text(ws: Workspace, name: str) -> str | None:
    try:
        return ws.objects.get_bytes(name).decode("utf-8", "replace")
    except (NotFound, WorldError):
        return None


def _by_path(files: Any) -> dict[str, str]:
    return {str(each["path"]): str(each["digest"]) for each in files}


def _code(ws: Workspace, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    then, now = _by_path(old["code"]), _by_path(new["code"])
    for path in dict.fromkeys([*now, *then]):
        if then.get(path) == now.get(path):
            continue
        if path not in then or path not in now:
            yield Change(what=f"code {path}", how="is new" if path in now else "is gone")
            continue
        texts = _text(ws, then[path]), _text(ws, now[path])
        if texts[0] is None or texts[1] is None:
            yield Change(what=f"code {path}", how="changed; the text of one of the two is gone")
            continue
        yield from _symbols(path, texts[0], texts[1])


def _symbols(path: str, old: str, new: str) -> Iterator[Change]:
    """What changed in a file: its functions and classes by name, and the rest of it."""
    one, other = _parts(path, old), _parts(path, new)
    for name in dict.fromkeys([*other, *one]):
        was, is_ = one.get(name), other.get(name)
        if was != is_:
            how = "is new" if was is None else "is gone" if is_ is None else "changed"
            yield with_lines(f"{path} {name}".rstrip(), how, was or "", is_ or "")


def _parts(path: str, text: str) -> dict[str, str]:
    """The text of each function and class of a module, and under "" what is outside of them; of a notebook, its cells.

    A text that is neither is one part.
    """
    try:
        if path.endswith(".ipynb"):
            cells = [each for each in json.loads(text)["cells"] if each["cell_type"] == "code"]
            return {f"cell {number}": "".join(each["source"]) for number, each in enumerate(cells, start=1)}
        body = ast.parse(text).body
    except (SyntaxError, ValueError, KeyError, TypeError):
        return {"": text}
    lines: list[str | None] = list(text.splitlines())
    found: dict[str, str] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)]) - 1
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            own = lines[first : node.end_lineno]
            found[f"{kind} {node.name}"] = "\n".join(line for line in own if line is not None)
            lines[first : node.end_lineno] = [None] * len(own)
    return {"": "\n".join(line for line in lines if line is not None and line.strip()), **found}


def _arguments(then: ScriptRecord, now: ScriptRecord) -> Iterator[Change]:
    if then.command != now.command:
        yield Change(what="command", how=f"{' '.join(then.command)} -> {' '.join(now.command)}")


def _files(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    then, now = _by_path(old["read"]), _by_path(new["read"])
    for path in dict.fromkeys([*now, *then]):
        if then.get(path) != now.get(path):
            how = "is new" if path not in then else "is not read any more" if path not in now else "changed"
            yield Change(what=f"file {path}", how=how)


def _parameters(then: ScriptRecord, now: ScriptRecord) -> Iterator[Change]:
    for name in dict.fromkeys([*now.params, *then.params]):
        if then.params.get(name) != now.params.get(name):
            was, is_ = (params.get(name, "absent") for params in (then.params, now.params))
            yield Change(what=f"parameter {name}", how=f"{was} -> {is_}")


def _environment(ws: Workspace, then: str, now: str) -> Iterator[Change]:
    with ws.ledger.read() as tx:
        runs = tracking.run(tx, then), tracking.run(tx, now)
    locks = [_document(ws, each.environment) if each is not None and each.environment else None for each in runs]
    if locks[0] is not None and locks[1] is not None:
        for line in differences(locks[0], locks[1]):
            yield Change(what=f"{line.section} {line.name}", how=f"{line.a or 'absent'} -> {line.b or 'absent'}")
