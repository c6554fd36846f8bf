"""Whose code a thing is: the project's, the standard library's, Noria's, or another package's."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from noria.pipeline.sources import is_own_file
from noria.tracking.environment import Environment

__all__ = ["Ownership"]

_NOT_SOURCE = frozenset(
    {".git", ".venv", "venv", ".noria", "noria.lock", "__pycache__", "node_modules", "site-packages"}
)
_MAKERS = frozenset({"types", "abc", "enum", "typing"})
"""Modules of the standard library that classes which are made by a call say to be of."""
_HERE = os.path.realpath(Path(__file__).parents[1]) + os.sep


class Ownership:
    """Answers by the file that a thing was defined in. Editable installs count as the project's own."""

    def __init__(self, root: Path, environment: Environment) -> None:
        self.root = root
        self.environment = environment
        self._owners: dict[str, str] = {}
        self._versions: dict[str, tuple[str, str]] = {}

    def of(self, thing: Any) -> str:
        """`project`, `extension` (compiled, the project's), `stdlib`, or the import name of a package."""
        name = self._module_name(thing)
        root = name.partition(".")[0]
        if isinstance(thing, types.FunctionType):
            file = thing.__code__.co_filename
            if file.startswith("<") and not file.startswith("<frozen") and root in ("", "builtins"):
                return "project"  # made by exec in a namespace of its own
            return self._by_file(file if not file.startswith("<") else self._file_of_module(name), root)
        if (
            isinstance(thing, type)
            and name in _MAKERS
            and getattr(sys.modules[name], thing.__name__, None) is not thing
        ):
            return "project"  # `make_dataclass`, `new_class`, `ABCMeta(…)`: by itself, for who made it is not known
        if not isinstance(thing, types.ModuleType | type) and not name:
            return "stdlib"  # a builtin without a module
        return self._by_file(self.file_of(thing), root)

    def of_root(self, root: str) -> str:
        """The owner of an import name that is not the project's."""
        return "stdlib" if root in sys.stdlib_module_names or root == "builtins" else root

    def version_of(self, root: str) -> tuple[str, str]:
        """Distribution and version of an import name; of one that no distribution claims, what its files hold."""
        if root not in self._versions:
            name, version = self.environment.version_of(root)
            self._versions[root] = (name, version or ("" if self.is_project_module(root) else _content_of(root)))
        return self._versions[root]

    def file_of(self, thing: Any) -> str:
        """The file of the module that a thing lives in; "" for what is built in."""
        if isinstance(thing, types.ModuleType):
            known = vars(thing)  # a module may have a __getattr__ of its own, which may raise anything
            paths = known.get("__path__")
            return known.get("__file__") or (str(next(iter(paths), "")) + "/__init__.py" if paths else "")
        return self._file_of_module(self._module_name(thing))

    def is_project_module(self, name: str) -> bool:
        """Whether an import name is the project's own, without importing it."""
        root = name.partition(".")[0]
        module = sys.modules.get(root)
        if module is not None:
            return self.of(module) in ("project", "extension")
        if root in sys.stdlib_module_names:
            return False
        if (self.root / f"{root}.py").is_file() or (self.root / root).is_dir():
            return True
        spec = importlib.util.find_spec(root)  # an editable install; nothing is imported
        return spec is not None and bool(spec.origin) and is_own_file(str(spec.origin), self.root)

    def project_files(self) -> Iterator[Path]:
        """Every Python file of the project, in order of their paths."""
        for folder, folders, files in os.walk(self.root):
            folders[:] = sorted(name for name in folders if name not in _NOT_SOURCE and not name.startswith("."))
            yield from (Path(folder, name) for name in sorted(files) if name.endswith(".py"))

    def _module_name(self, thing: Any) -> str:
        if isinstance(thing, types.ModuleType):
            return thing.__name__
        name = getattr(thing, "__module__", None)
        if name is None:  # a method descriptor knows its class
            name = getattr(getattr(thing, "__objclass__", None), "__module__", None)
        return name if isinstance(name, str) else ""

    def _file_of_module(self, name: str) -> str:
        module = sys.modules.get(name)
        if module is None:
            return ""
        return self.file_of(module)

    def _by_file(self, file: str, root: str) -> str:
        key = f"{file}\0{root}"
        if key not in self._owners:
            self._owners[key] = self._decide(file, root)
        return self._owners[key]

    def _decide(self, file: str, root: str) -> str:
        if not file:
            return "project" if root == "__main__" else self.of_root(root)
        real = os.path.realpath(file)
        if real.startswith(_HERE):
            return "noria"
        if is_own_file(real, self.root) and not file.startswith("<"):
            return "extension" if real.endswith((".so", ".pyd")) else "project"
        return self.of_root(root)


def _content_of(root: str) -> str:
    """A short digest of the files of a module that was put into a folder of packages by hand; "" if it has none."""
    try:
        spec = importlib.util.find_spec(root) if root.isidentifier() else None
    except ValueError:  # a module that was made while something ran
        spec = None
    if spec is None:
        return ""
    places = spec.submodule_search_locations or ([spec.origin] if spec.has_location and spec.origin else [])
    files = [(path.relative_to(place).as_posix(), path) for place in map(Path, places) for path in _code_in(place)]
    stamps = [(name, str(path), path.stat().st_size, path.stat().st_mtime_ns) for name, path in sorted(files)]
    return _digest_of(tuple(stamps)) if stamps else ""


def _code_in(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place] if place.is_file() else []
    return [path for path in place.rglob("*") if path.is_file() and path.suffix != ".pyc"]


@functools.lru_cache(maxsize=64)
def _digest_of(files: tuple[tuple[str, str, int, int], ...]) -> str:
    """Of the names and bytes of files (name, path, size, time): read again only when one was changed."""
    found = [(name, hashlib.sha256(Path(path).read_bytes()).hexdigest()) for name, path, _, _ in files]
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16]
