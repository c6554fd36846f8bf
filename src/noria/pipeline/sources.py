"""Where the code of a project is: which files are its own, and the exact text that was executed.

A project's modules are imported through a loader of our own that never reads or writes `.pyc`
files (whose check by size and whole seconds can serve an edit ago) and keeps the bytes it ran.
So the text that a key is computed from is the text that is executed.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.machinery
import importlib.util
import linecache
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING

from noria.core import standard
from noria.core.identity import digest
from noria.core.lazy import lazy
from noria.pipeline.syntax import Summary, children, summary
from noria.plugins import keep_zones

if TYPE_CHECKING:
    import sysconfig
    import textwrap
    import traceback
else:
    textwrap = lazy("textwrap")
    sysconfig = lazy("sysconfig")
    traceback = lazy("traceback")

__all__ = [
    "ProjectLoader",
    "SourceFile",
    "Sources",
    "failed_at",
    "import_fresh",
    "is_inside",
    "is_own_file",
    "is_project_file",
    "project_on_path",
]

_OUTSIDE = ("site-packages", "dist-packages", ".venv", "venv", ".noria", ".tox", ".nox", "node_modules")
_HERE = os.path.realpath(Path(__file__).parents[1]) + os.sep


def is_project_file(file: str | None, root: Path) -> bool:
    """Whether a source file is the project's own: inside its folder, but not in an environment of it."""
    return bool(file) and _is_inside(os.path.realpath(file or ""), os.path.realpath(root))


def failed_at(error: BaseException, root: Path, most: int = 200) -> str:
    """The last place of the project's own code that an error went through: `FILE:LINE in NAME: TEXT`; else "".

    Compiled libraries name files that are nowhere here, as `pandas/_libs/x.pyx`, which is no file of the project.
    An error that was raised elsewhere, as in a thread of a library, is asked for that from which it came.
    """
    seen: set[int] = set()
    raised: BaseException | None = error
    while raised is not None and id(raised) not in seen:
        seen.add(id(raised))
        for frame in reversed(traceback.extract_tb(raised.__traceback__)):
            if os.path.isfile(frame.filename) and is_project_file(frame.filename, root):  # noqa: PTH113 - of a text
                return f"{frame.filename}:{frame.lineno} in {frame.name}: {(frame.line or '')[:most]}".rstrip(": ")
        raised = raised.__cause__ or raised.__context__
    return ""


def _is_inside(real: str, root: str) -> bool:
    if not real.startswith(root.rstrip(os.sep) + os.sep):
        return False
    return not any(part in _OUTSIDE for part in Path(real[len(root) :]).parts)


@functools.cache
def _imported_from(file: str) -> str:
    """Where the file of an imported module really lies: asked of thousands of modules at each load of a project."""
    folder, name = os.path.split(file)
    real = os.path.join(_real_folder(folder), name)  # noqa: PTH118 - of texts, at a tenth of the time
    return os.path.realpath(real) if os.path.islink(real) else real  # noqa: PTH114 - as above


@functools.cache
def _real_folder(folder: str) -> str:
    """Many modules lie in few folders."""
    return os.path.realpath(folder)


def is_own_file(file: str, root: Path) -> bool:
    """Whether a source file counts as the project's: its own, or that of an editable install."""
    real = os.path.realpath(file)
    if real.startswith(_HERE):
        return False
    if is_project_file(real, root):
        return True
    outside = any(f"{os.sep}{name}{os.sep}" in real for name in ("site-packages", "dist-packages"))
    return not outside and not real.startswith(_stdlib())


@functools.cache
def _stdlib() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({os.path.realpath(paths[name]) + os.sep for name in ("stdlib", "platstdlib")})


class ProjectLoader(importlib.machinery.SourceFileLoader):
    """Compiles a project's module from its source, always, and keeps the bytes it compiled."""

    content: bytes = b""

    def get_code(self, fullname: str) -> CodeType:
        """The code of the file as it is now."""
        path = self.get_filename(fullname)
        self.content = self.get_data(path)
        # linecache feeds tracebacks and inspect; it must not show the text of an earlier import
        linecache.checkcache(path)
        return compile(self.content, path, "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:
        """Whether it is the `__init__.py` of a package."""
        return Path(self.get_filename(fullname)).name == "__init__.py"


class _ProjectFinder:
    """Finds the modules of one project, and editable installs, before Python's own finders do."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of a module whose file is the project's own; None for any other."""
        parent = fullname.rpartition(".")[0]
        if parent:
            owner = getattr(getattr(sys.modules.get(parent), "__spec__", None), "loader", None)
            if isinstance(owner, importlib.machinery.SourceFileLoader) and not isinstance(owner, ProjectLoader):
                return None  # a module of a package that is not the project's
            spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        else:
            spec = importlib.machinery.PathFinder.find_spec(fullname, [str(self.root)]) or self._elsewhere(fullname)
        if spec is None or not spec.origin or not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            return None
        if not is_own_file(spec.origin, self.root):
            return None
        loader = ProjectLoader(fullname, spec.origin)
        return importlib.util.spec_from_file_location(
            fullname, spec.origin, loader=loader, submodule_search_locations=spec.submodule_search_locations
        )

    def _elsewhere(self, fullname: str) -> importlib.machinery.ModuleSpec | None:
        """What the other finders find: an editable install has a finder of its own, or a folder on the path."""
        if fullname in sys.stdlib_module_names:
            return None
        for finder in sys.meta_path:
            if not isinstance(finder, _ProjectFinder):
                spec = finder.find_spec(fullname, None)
                if spec is not None:
                    return spec
        return None


@contextlib.contextmanager
def project_on_path(root: Path) -> Iterator[None]:
    """Make the project importable, through our loader, for the rest of the block."""
    finder = _ProjectFinder(root)
    text = str(root)
    sys.meta_path.insert(0, finder)
    sys.path.insert(0, text)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        with contextlib.suppress(ValueError):
            sys.path.remove(text)


def import_fresh(file: Path, root: Path) -> ModuleType:
    """Import a project's file as it is now, forgetting every module of the project first.

    Inside `project_on_path`. Modules that our loader made for another project are forgotten too,
    so that two projects with a `pipeline.py` each do not see the other's. Raises: what the file raises.
    """
    standard.hold()
    folder = os.path.realpath(root)
    for name, module in sys.modules.copy().items():  # at once: another thread may be importing
        loader = getattr(getattr(module, "__spec__", None), "loader", None)
        origin = getattr(module, "__file__", None)
        if isinstance(loader, ProjectLoader) or (
            name != "__main__" and origin and _is_inside(_imported_from(origin), folder)
        ):
            sys.modules.pop(name, None)
    importlib.invalidate_caches()
    name = ".".join(file.relative_to(root).with_suffix("").parts)
    try:
        return importlib.import_module(name)
    finally:
        keep_zones()


class SourceFile:
    """One parsed file: its functions, lambdas and classes by the place where they begin."""

    def __init__(self, path: str, content: bytes) -> None:
        self.path = path
        self.content = content
        self.tree = ast.parse(content)
        self._functions: dict[tuple[int, str], ast.FunctionDef | ast.AsyncFunctionDef] = {}
        self._lambdas: dict[int, list[ast.Lambda]] = {}
        self._classes: dict[str, list[ast.ClassDef]] = {}
        self._summaries: dict[int, Summary] = {}
        self._lines = content.decode("utf-8", errors="replace").splitlines()
        self.digest = digest(content) if Path(path).is_file() else ""
        """Of its bytes, where it is a file and not a cell of a notebook."""
        self._index(self.tree, "")

    def _index(self, tree: ast.AST, prefix: str) -> None:
        for node in children(tree):
            inner = prefix
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
                self._functions[(first, node.name)] = node
                inner = f"{prefix}{node.name}.<locals>."
            elif isinstance(node, ast.ClassDef):
                self._classes.setdefault(prefix + node.name, []).append(node)
                inner = f"{prefix}{node.name}."
            elif isinstance(node, ast.Lambda):
                self._lambdas.setdefault(node.lineno, []).append(node)
            self._index(node, inner)

    def function(self, code: CodeType) -> ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | None:
        """The definition that a code object was compiled from, or None if it is not in this text."""
        if code.co_name != "<lambda>":
            return self._functions.get((code.co_firstlineno, code.co_name))
        places = [
            (line, end, column, end_column)
            for line, end, column, end_column in code.co_positions()
            if line is not None and end is not None and column is not None and end_column is not None
        ]
        body = [place for place in places if place[3] > place[2] or place[1] > place[0]]
        fits = [node for node in self._lambdas.get(code.co_firstlineno, []) if _covers(node, body)]
        return min(fits, key=_extent) if fits else None

    def class_(self, made: type) -> ast.ClassDef | None:
        """The definition of a class; of several with one name, the one with the same methods."""
        found = self._classes.get(made.__qualname__, [])
        if len(found) < 2:
            return found[0] if found else None
        lines = {
            value.__code__.co_firstlineno
            for value in vars(made).values()
            if isinstance(value, FunctionType) and value.__code__.co_filename == self.path
        }
        fits = [node for node in found if any(node.lineno <= line <= (node.end_lineno or 0) for line in lines)]
        return (fits or found)[-1]

    def summary(self, definition: ast.AST) -> Summary:
        """The summary of a definition of this file."""
        found = self._summaries.get(id(definition))
        if found is None:
            found = self._summaries[id(definition)] = summary(definition)
        return found

    def tells(self, made: type) -> bool:
        """Whether a class is what the text says: the only one of its name, and none that a function makes."""
        return len(self._classes.get(made.__qualname__, [])) == 1 and "<locals>" not in made.__qualname__

    def has_class(self, name: str) -> bool:
        """Whether a class of that qualified name is defined here."""
        return name in self._classes

    def text_of(self, node: ast.AST) -> str:
        """The lines of a definition, with its decorators, as they are written."""
        first = getattr(node, "lineno", 1)
        for decorator in getattr(node, "decorator_list", ()):
            first = min(first, decorator.lineno)
        if isinstance(node, ast.Module):
            return self.content.decode("utf-8", errors="replace")
        lines = self._lines[first - 1 : getattr(node, "end_lineno", None) or first]
        return textwrap.dedent("\n".join(lines))


def _covers(node: ast.Lambda, places: list[tuple[int, int, int, int]]) -> bool:
    start = (node.body.lineno, node.body.col_offset)
    end = (node.body.end_lineno or 0, node.body.end_col_offset or 0)
    return all(start <= (line, column) and (last, last_column) <= end for line, last, column, last_column in places)


def _extent(node: ast.Lambda) -> tuple[int, int]:
    return ((node.body.end_lineno or 0) - node.body.lineno, (node.body.end_col_offset or 0) - node.body.col_offset)


class Sources:
    """The parsed sources of one planning: each file is read and parsed once. Not thread safe."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_path: dict[str, SourceFile | None] = {}

    def of_module(self, module: ModuleType) -> SourceFile | None:
        """The text that a module was executed from, or None if there is none (built in, compiled)."""
        path = getattr(module, "__file__", None)
        loader = getattr(getattr(module, "__spec__", None), "loader", None)
        if path is None or not path.endswith(".py"):
            return None
        content = loader.content if isinstance(loader, ProjectLoader) else b""
        return self._parsed(path, content)

    def of_function(self, function: FunctionType) -> SourceFile | None:
        """The text that holds a function; also that of a notebook cell."""
        module = sys.modules.get(function.__module__ or "")
        path = function.__code__.co_filename
        if module is not None and getattr(module, "__file__", None) == path:
            return self.of_module(module)
        return self._parsed(path, b"")

    def of_class(self, made: type) -> SourceFile | None:
        """The text that holds a class."""
        module = sys.modules.get(made.__module__)
        if module is not None and getattr(module, "__file__", None):
            return self.of_module(module)
        for value in vars(made).values():  # a notebook cell: its methods know the place
            if (
                isinstance(value, FunctionType)
                and value.__qualname__.startswith(made.__qualname__ + ".")
                and not value.__code__.co_filename.startswith("<string")
            ):
                return self._parsed(value.__code__.co_filename, b"")
        if made.__module__ == "__main__":  # one without methods: the newest cell that defines it
            for path in reversed([name for name in linecache.cache if not Path(name).is_file()]):
                file = self._parsed(path, b"")
                if file is not None and file.has_class(made.__qualname__):
                    return file
        return None

    def of_file(self, path: Path) -> SourceFile | None:
        """A file of the project by its path."""
        return self._parsed(str(path), b"")

    def _parsed(self, path: str, content: bytes) -> SourceFile | None:
        if path not in self._by_path:
            self._by_path[path] = _parse(path, content or _read(path))
        return self._by_path[path]


def _read(path: str) -> bytes:
    if Path(path).is_file():
        return Path(path).read_bytes()
    linecache.checkcache(path)
    return "".join(linecache.getlines(path)).encode("utf-8")


def _parse(path: str, content: bytes) -> SourceFile | None:
    if not content and not Path(path).is_file():
        return None
    try:
        return SourceFile(path, content)
    except (SyntaxError, ValueError):
        return None


def is_inside(function: FunctionType, definition: ast.ClassDef | None, file: SourceFile | None) -> bool:
    """Whether a function stands in the text of a class."""
    if definition is None or file is None:
        return False
    line = function.__code__.co_firstlineno
    return function.__code__.co_filename == file.path and definition.lineno <= line <= (definition.end_lineno or 0)
