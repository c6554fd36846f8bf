"""Files that compiled libraries open by themselves: seen by what their readers are asked for.

polars, pyarrow and DuckDB open files without the interpreter, so no audit hook hears of it. While a step
runs, their readers are stood in for: the path, the folder or the pattern that one is given is told first.
A folder and a pattern are gone through in Python, where the watch sees which folders are listed, so that a
new file counts too. A library that the step itself imports is met when it is imported.

Some of them look up names in the frame of their caller: the tables in a query of DuckDB, `@LIMIT` in one of
pandas. So a stand-in calls its reader as if from the caller's own frame (`callers.py`), and the names are told.

Not met: a compiled function that the project has taken out of its library before (`from pyarrow.csv import
read_csv`), and what is opened by other ways, such as the file systems of `pyarrow.fs`.
"""

from __future__ import annotations

import copy
import functools
import inspect
import os
import re
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import Path
from types import CodeType, FrameType, MethodType
from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy
from noria.pipeline.watching.callers import call_from, is_scanned, words
from noria.pipeline.watching.writers import WRITERS, written, written_by_sql

if TYPE_CHECKING:
    import glob
else:
    glob = lazy("glob")

__all__ = ["FILES_LIMIT", "Readers"]

FILES_LIMIT = 10_000
"""So many files of one folder or pattern are looked at."""
Told = Callable[[str, str], None]
"""Takes the library's name and a file that is about to be read; "" for none that has a name."""
Named = Callable[[Iterable[str], FrameType, Callable[[Any], bool]], None]
"""Takes names that are about to be looked up in the frames from one on, and which of their values count."""
Look = Callable[[tuple[Any, ...], Mapping[str, Any], FrameType], None]
"""Takes what a stand-in is called with, and the frame that calls it."""

_KINDS = ("csv", "parquet", "ipc", "ndjson", "json", "avro", "delta", "ipc_stream", "csv_batched", "ipc_schema")
READERS: Mapping[str, tuple[str, ...]] = {
    "polars": (*(f"{way}_{kind}" for way in ("read", "scan") for kind in _KINDS), "read_parquet_schema"),
    "pyarrow": ("memory_map", "input_stream", "OSFile"),
    "pyarrow.csv": ("read_csv", "open_csv"),
    "pyarrow.json": ("read_json", "open_json"),
    "pyarrow.orc": ("read_table", "ORCFile.__init__"),
    "pyarrow.feather": ("read_table", "read_feather"),
    "pyarrow.dataset": ("dataset", "parquet_dataset"),
    "pyarrow.parquet": ("read_table", "read_pandas", "read_schema", "read_metadata"),
    "pyarrow.parquet.core": (
        *("read_table", "read_pandas", "read_schema", "read_metadata"),
        *("ParquetFile.__init__", "ParquetDataset.__init__"),
    ),
    "duckdb": (
        *("connect", "sql", "query", "execute", "from_query", "read_csv", "read_json", "read_parquet"),
        *("from_csv_auto", "from_parquet", "executemany"),
        *(f"DuckDBPyConnection.{name}" for name in ("sql", "query", "execute", "executemany", "from_query")),
        *(f"DuckDBPyConnection.read_{kind}" for kind in ("csv", "json", "parquet")),
        *("DuckDBPyConnection.from_csv_auto", "DuckDBPyConnection.from_parquet", "DuckDBPyRelation.query"),
    ),
}
"""The readers of each module; `Class.__init__` is a class that opens a file when it is made."""
_SQL = frozenset({"sql", "query", "execute", "executemany", "from_query"})
NAMERS: Mapping[str, tuple[str, ...]] = {
    "pandas.core.computation.scope": ("Scope.resolve",),
    "numexpr": ("evaluate", "validate"),
    "numexpr.necompiler": ("evaluate",),
}
"""What looks up names of its caller, and reads no file; not what counts the frames up to a caller further away."""
_MODULES = frozenset({*READERS, *NAMERS, *WRITERS})
_OPENED = frozenset({"memory_map", "OSFile"})
_NAMED = ("source", "where", "path", "path_or_paths", "input_file", "database", "path_or_buffer", "metadata_path")
_QUOTED = re.compile(r"'([^'\n]{1,1024})'|\"([^\"\n]{1,1024})\"")


class Readers:
    """Stand-ins for the readers of the libraries that are loaded, for as long as a watch goes on."""

    def __init__(self, told: Told, named: Named, placed: Callable[[str], None]) -> None:
        self._told, self._named, self._placed = told, named, placed
        self._kept: list[tuple[Any, str, Any]] = []
        self._codes: dict[CodeType, str] = {}
        self._namers: dict[CodeType, str] = {}
        self._finder = _Finder(self._stand_in)

    def install(self) -> None:
        """Stand in for what is loaded, and for what will be."""
        for name in _MODULES:
            if name in sys.modules:
                self._stand_in(sys.modules[name])
        sys.meta_path.insert(0, self._finder)

    def remove(self) -> None:
        """Give every place back what stood there."""
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        for place, name, found in reversed(self._kept):
            if isinstance(vars(place).get(name), _Reader):
                setattr(place, name, found)
        self._kept.clear()

    def unseen(self, ran: Set[CodeType], libraries: Mapping[str, object]) -> str:
        """A reader that ran without being asked through its stand-in; "" if there is none.

        Of a library whose reader was asked, others may have run: its readers call each other.
        """
        for code, name in self._codes.items():
            if code in ran and name.partition(".")[0] not in libraries:
                return name
        return ""

    def looks_anywhere(self, ran: Set[CodeType], libraries: Mapping[str, object]) -> bool:
        """Whether something looked up names of its caller without being asked through its stand-in."""
        return any(code in ran and library not in libraries for code, library in self._namers.items())

    def _stand_in(self, module: Any) -> None:
        for name, kind in self._kinds(module.__name__):
            owner, _, attribute = name.rpartition(".")
            place = vars(module).get(owner) if owner else module
            found = vars(place).get(attribute) if place is not None else None
            if found is None or isinstance(found, _Reader):
                continue
            setattr(place, attribute, _Reader(found, kind(module.__name__, name, found)))
            self._kept.append((place, attribute, found))

    def _kinds(self, module: str) -> Iterator[tuple[str, Callable[[str, str, Any], Look]]]:
        yield from ((name, self._reader) for name in READERS.get(module, ()))
        yield from ((name, self._namer) for name in NAMERS.get(module, ()))
        yield from ((name, self._writer) for name in WRITERS.get(module, ()))

    def _writer(self, _module: str, name: str, _found: Any) -> Look:
        """What is done before a writer is called."""

        def look(given: tuple[Any, ...], named: Mapping[str, Any], _caller: FrameType) -> None:
            for place in written(given["." in name :], named):
                self._placed(place)

        return look

    def _reader(self, module: str, name: str, found: Any) -> Look:
        """What is done before a reader is called."""
        owner, _, attribute = name.rpartition(".")
        told = f"{module}.{owner or name}".replace(".core.", ".")
        code = getattr(inspect.unwrap(found), "__code__", None)
        if code is not None:
            self._codes[code] = told
        is_sql = module == "duckdb" and attribute in _SQL
        places = _of_opened if module == "pyarrow" and name in _OPENED else _of_sql if is_sql else _of_arguments

        def look(given: tuple[Any, ...], named: Mapping[str, Any], caller: FrameType) -> None:
            given = given[bool(owner) :]
            queries = [text for text in (*given, *named.values()) if isinstance(text, str)] if is_sql else []
            for place in (place for text in queries for place in written_by_sql(text)):
                self._placed(place)
            self._looked(told, list(places(given, named)))
            if is_sql:
                self._named(words(queries), caller, is_scanned)

        return look

    def _namer(self, module: str, name: str, found: Any) -> Look:
        """What is done before a function is called that looks up names of its caller."""
        self._namers[found.__code__] = library = module.partition(".")[0]

        def resolved(given: tuple[Any, ...], named: Mapping[str, Any], caller: FrameType) -> None:
            scope, key, *more = (*given, *named.values())
            self._told(library, "")
            if any(more) or not scope.has_resolvers:  # else it is the name of a column
                self._named((key,), caller, _any)

        def evaluated(given: tuple[Any, ...], named: Mapping[str, Any], caller: FrameType) -> None:
            text = given[0] if given else named.get("ex", "")
            local = given[1] if len(given) > 1 else named.get("local_dict")
            self._told(library, "")
            self._named(words([str(text)]) - {*(local or ())}, caller, _any)

        return resolved if name == "Scope.resolve" else evaluated

    def _looked(self, name: str, places: list[str]) -> None:
        library = name.partition(".")[0]
        self._told(library, "")
        for place in places:
            for file in _files(place):
                self._told(library, file)


class _Reader:
    """A reader with a look at what it is asked for. What is pickled is the reader itself."""

    def __init__(self, inner: Any, look: Look) -> None:
        functools.update_wrapper(self, inner, updated=())
        self._inner, self._look = inner, look

    def __call__(self, *given: Any, **named: Any) -> Any:
        caller = sys._getframe(1)
        self._look(given, named, caller)
        return call_from(caller, functools.partial(self._inner, *given, **named))

    def __get__(self, made: Any, owner: type | None = None) -> Any:
        return self if made is None else MethodType(self, made)

    def __instancecheck__(self, made: object) -> bool:
        return isinstance(made, self._inner)  # the reader may be a class

    def __subclasscheck__(self, made: type) -> bool:
        return issubclass(made, self._inner)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._inner,)

    def __reduce__(self) -> Any:
        return copy.copy, (self._inner,)


class _Finder:
    """Lets the readers of a library be stood in for as soon as it is imported."""

    def __init__(self, stand_in: Callable[[Any], None]) -> None:
        self._stand_in = stand_in
        self._asking: set[tuple[int, str]] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The spec that the other finders give, with our look at the module behind its execution."""
        asking = (threading.get_ident(), name)
        if name not in _MODULES or asking in self._asking:  # another finder goes through all of them too
            return None
        self._asking.add(asking)
        try:
            finders = (getattr(finder, "find_spec", None) for finder in list(sys.meta_path) if finder is not self)
            spec = next((spec for find in finders if find and (spec := find(name, path, target))), None)
        finally:
            self._asking.discard(asking)
        if spec is not None:
            self._follow(spec.loader)
        return spec

    def _follow(self, loader: Any) -> None:
        execute = getattr(loader, "exec_module", None)
        if execute is None:
            return

        def executed(module: Any) -> None:
            del loader.exec_module
            execute(module)
            if self in sys.meta_path:  # the watch goes on
                self._stand_in(module)

        loader.exec_module = executed


def _any(_value: Any) -> bool:
    return True


def _of_arguments(given: tuple[Any, ...], named: Mapping[str, Any]) -> Iterator[str]:
    """The paths that a reader is given: its first argument, or one by a name that readers use."""
    for value in (*given[:1], *(named[name] for name in _NAMED if name in named)):
        for each in value if isinstance(value, list | tuple | set | frozenset) else (value,):
            if isinstance(each, str | bytes | os.PathLike):
                yield os.fsdecode(each)


def _of_opened(given: tuple[Any, ...], named: Mapping[str, Any]) -> Iterator[str]:
    """The path of a file that is opened, unless it is to be written."""
    mode = given[1] if len(given) > 1 else named.get("mode", "r")
    if not str(mode).startswith("w"):
        yield from _of_arguments(given, named)


def _of_sql(given: tuple[Any, ...], named: Mapping[str, Any]) -> Iterator[str]:
    """What is quoted in a query, or a parameter of it, and looks like a file, a folder or a pattern."""
    for text in _texts([*given[:2], *named.values()]):
        found = [single or double for single, double in _QUOTED.findall(text)]
        if len(text) <= 1024 and (not any(map(str.isspace, text)) or Path(text).exists()):
            found.append(text)  # a parameter
        yield from (each for each in found if "." in each or "/" in each)


def _texts(value: Any) -> Iterator[str]:
    """The texts among what a query is given: itself, and its parameters in a list, a list of lists, or by name."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, list | tuple):
        for each in value[:1000]:
            yield from _texts(each)


def _files(place: str) -> Iterator[str]:
    """The files that a path, a folder or a pattern stands for, in order; nothing for what is elsewhere."""
    if "://" in place:
        parts = urllib.parse.urlsplit(place)
        if parts.scheme != "file":
            return
        place = urllib.parse.unquote(parts.path)
    if not place or "\0" in place or place.startswith(":"):  # DuckDB's :memory:
        return
    path = Path(place).expanduser()
    if any(mark in place for mark in "*?[") and not path.exists():
        yield from sorted(glob.glob(str(path), recursive=True))[:FILES_LIMIT]  # as the library does
    elif path.is_dir():
        found = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
        yield from sorted(str(each) for each in found)[:FILES_LIMIT]
    else:
        yield str(path)
