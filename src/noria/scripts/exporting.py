"""A notebook's steps as a project file: the definitions that its pipelines reach, in the order of the cells.

What explores (calls, displays, magics, plots) stays in the notebook. The text of what is taken is not
touched, comments and all, so that a step is the same step, with the same key, in the cell and in the file.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from noria.core.errors import Conflict, NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.store.workspace import Workspace

__all__ = ["Exported", "cells_of", "export_notebook", "module_text", "require_notebook", "write"]

MARKS = frozenset({"step", "pipeline", "metric", "check"})
_MAGIC = re.compile(r"^(\s*)(?:[%!].*|[\w.]+\s*=\s*[%!].*|\?{1,2}[\w.]+|[\w.]+\?{1,2})\s*$")
_KEPT_CELL_MAGICS = ("%%time", "%%capture", "%%timeit", "%%prun")
_WHOLE = "save it from Jupyter: a notebook is a JSON document with nbformat and cells"


@frozen(kw_only=True)
class Exported:
    """A written file: the names that it defines, and how many statements stayed in the notebook."""

    notebook: str
    to: str
    names: tuple[str, ...]
    left: int
    next: str


@frozen
class _Statement:
    """One top-level statement: its text, what it binds, what it uses."""

    text: str
    node: ast.stmt
    binds: frozenset[str]
    uses: frozenset[str]
    is_marked: bool


@verb(permission="scripts.export", where="project")
def export_notebook(ws: Workspace, notebook: str, to: str = "pipeline.py", force: bool = False) -> Exported:
    """Write the steps and pipelines of a notebook as a project file, with all that they reach.

    Args:
        notebook: the .ipynb file; it is not changed.
        to: the file to write, from the current folder.
        force: write over a file that is there.
    Raises: NotFound; UsageError if the notebook defines no step; Conflict if the file is there.
    Example: noria export notebook explore.ipynb pipeline.py
    """
    path = Path(notebook)
    if not path.is_file():
        raise NotFound(f"there is no file {notebook}", where=str(Path.cwd()), hint="the path of an .ipynb file")
    return write(cells_of(path), Path(to), source=path.name, force=force)


def write(cells: Sequence[str], to: Path, *, source: str, force: bool) -> Exported:
    """Write the project file of some cells. Raises: as `export_notebook`."""
    text, names, left = module_text(cells, source=source)
    if to.exists() and not force and to.read_text(encoding="utf-8") != text:
        raise Conflict(f"{to} is there, and was not written over", hint="--force writes over it")
    to.write_text(text, encoding="utf-8")
    return Exported(notebook=source, to=str(to), names=names, left=left, next="noria run")


def cells_of(notebook: Path) -> list[str]:
    """The code cells of a notebook, in order. Raises: UsageError if it is none."""
    try:
        document = json.loads(notebook.read_text(encoding="utf-8"))
        cells = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
        return ["".join(cell["source"]) for cell in cells]
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise UsageError(f"{notebook} is no notebook of format 4", where=str(notebook)) from error


def require_notebook(path: Path) -> None:
    """See that a file is a notebook of Python, as far as it takes to run it. Raises: UsageError."""
    try:
        told: Any = json.loads(path.read_text(encoding="utf-8"))
        cells = told["cells"] if int(told["nbformat"]) > 3 else told["worksheets"]
        is_whole = isinstance(cells, list) and all(isinstance(each, dict) for each in cells)
        kernel = told.get("metadata", {}).get("kernelspec", {})
        language = str(kernel.get("language", "") or "python")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path.name} is no notebook", where=str(path), hint=_WHOLE) from error
    if not is_whole or (told["nbformat"] == 4 and not all("cell_type" in each and "source" in each for each in cells)):
        raise UsageError(f"{path.name} is no whole notebook: a cell lacks its type or its source", where=str(path))
    if language.lower() != "python":
        raise UsageError(f"{path.name} is a notebook of {language[:40]}; only those of Python are run", where=str(path))


def module_text(cells: Sequence[str], *, source: str) -> tuple[str, tuple[str, ...], int]:
    """The text of the module, the names that it defines, and how many statements were left out.

    Raises: UsageError for a cell that is not valid Python, or if no cell defines a step or pipeline.
    """
    statements = [
        statement for number, cell in enumerate(cells, 1) for statement in _statements(cell, f"{source}, cell {number}")
    ]
    wanted: set[int] = {place for place, each in enumerate(statements) if each.is_marked}
    if not wanted:
        raise UsageError(f"{source} defines no step and no pipeline", hint="mark its functions with @nr.step")
    names = {name for place in wanted for name in statements[place].uses}
    while True:
        more = {place for place, each in enumerate(statements) if place not in wanted and each.binds & names}
        if not more:
            break
        wanted |= more
        names |= {name for place in more for name in statements[place].uses}
    kept = [statements[place] for place in sorted(wanted)]
    imports = list(dict.fromkeys(each.text for each in kept if isinstance(each.node, ast.Import | ast.ImportFrom)))
    others = [each for each in kept if not isinstance(each.node, ast.Import | ast.ImportFrom)]
    parts = [f'"""From {source}."""', "\n".join(imports), *_spaced(others)]
    defined = [name for each in others for name in sorted(each.binds)]
    text = "\n\n".join(part for part in parts if part).rstrip() + "\n"
    return text, tuple(dict.fromkeys(defined)), len(statements) - len(kept)


def _spaced(statements: Sequence[_Statement]) -> Iterator[str]:
    """Definitions apart by two empty lines, plain statements that follow each other together."""
    plain: list[str] = []
    for each in statements:
        if isinstance(each.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if plain:
                yield "\n".join(plain)
                plain = []
            yield "\n" + each.text
        else:
            plain.append(each.text)
    if plain:
        yield "\n".join(plain)


def _statements(cell: str, where: str) -> Iterator[_Statement]:
    text = _without_magics(cell)
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise UsageError(f"the cell is not valid Python: {error.msg}", where=f"{where}, line {error.lineno}") from error
    lines = text.splitlines()
    for place, node in enumerate(tree.body):
        first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", ()))])
        before = tree.body[place - 1].end_lineno or 0 if place else 0
        after = tree.body[place + 1].lineno if place + 1 < len(tree.body) else len(lines) + 1
        end = node.end_lineno or first
        if first == before or end == after:
            shown = ast.unparse(node)  # it shares a line with another
        else:
            while first - 1 > before and lines[first - 2].lstrip().startswith("#"):
                first -= 1
            shown = "\n".join(lines[first - 1 : end])
        yield _Statement(shown, node, _bound(node), _used(node), _is_marked(node))


def _without_magics(cell: str) -> str:
    """The cell as Python: lines for the shell become `pass`, so that a block that holds one stays a block."""
    lines = cell.splitlines()
    if lines and lines[0].startswith("%%"):
        if not lines[0].startswith(_KEPT_CELL_MAGICS):
            return ""  # another language
        lines = lines[1:]
    try:
        ast.parse("\n".join(lines))
    except SyntaxError:
        return "\n".join(_MAGIC.sub(r"\1pass", line) for line in lines)
    return "\n".join(lines)


def _is_marked(node: ast.stmt) -> bool:
    for item in getattr(node, "decorator_list", ()):
        named = item.func if isinstance(item, ast.Call) else item
        name = named.attr if isinstance(named, ast.Attribute) else getattr(named, "id", "")
        if name in MARKS:
            return True
    return False


def _bound(node: ast.stmt) -> frozenset[str]:
    """The names that a top-level statement gives a value, wherever in it."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return frozenset({node.name})
    found: set[str] = set()
    for item in ast.walk(node):
        if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store):
            found.add(item.id)
        elif isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(item.name)
        elif isinstance(item, ast.Import | ast.ImportFrom):
            found |= {(each.asname or each.name).partition(".")[0] for each in item.names}
        elif isinstance(item, ast.Attribute | ast.Subscript) and isinstance(item.ctx, ast.Store):
            root: ast.expr = item
            while isinstance(root, ast.Attribute | ast.Subscript):
                root = root.value
            if isinstance(root, ast.Name):
                found.add(root.id)
    return frozenset(found)


def _used(node: ast.stmt) -> frozenset[str]:
    names = {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}
    texts = {  # annotations that are written as texts
        word
        for item in ast.walk(node)
        if isinstance(item, ast.Constant) and isinstance(item.value, str) and len(item.value) < 200
        for word in re.findall(r"[A-Za-z_]\w*", item.value)
        if _is_annotation(node, item)
    }
    return frozenset(names | texts)


def _is_annotation(node: ast.stmt, text: ast.Constant) -> bool:
    found = [
        each.annotation for each in ast.walk(node) if isinstance(each, ast.arg | ast.AnnAssign) and each.annotation
    ]
    found += [each.returns for each in ast.walk(node) if isinstance(each, ast.FunctionDef) and each.returns]
    return any(text in ast.walk(each) for each in found)
