"""Files that libraries write and read out of the interpreter's sight, and models that are written by pickle."""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING, Any

from noria.engines.autolog.calls import Observed, replace
from noria.engines.autolog.models import models_of

if TYPE_CHECKING:
    from noria.scripts.recorder import Recorder

__all__ = ["arrow", "dumps", "polars", "shell"]

FILES_LIMIT = 10_000


def dumps(module: Any, recorder: Recorder) -> None:
    """`dump(value, file)` of pickle, joblib and cloudpickle: the value may be a model."""
    models = models_of(recorder)

    def dumped(result: Any, given: tuple[Any, ...], named: dict[str, Any], began: float) -> None:
        value = given[0] if given else named.get("obj", named.get("value"))
        file = given[1] if len(given) > 1 else named.get("file", named.get("filename"))
        models.dumped(value, file)

    replace(module, ("dump",), lambda function: Observed(recorder, function, after=dumped, deep=True))


def arrow(module: Any, recorder: Recorder) -> None:
    """pyarrow opens files by itself when it is given a path."""
    reads = ("read_table", "ParquetFile.__init__", "ParquetDataset.__init__", "dataset", "parquet_dataset")
    more = ("read_csv", "open_csv", "read_feather", "read_json", "read_pandas", "read_schema", "read_metadata")
    writes = ("write_table", "ParquetWriter.__init__", "write_csv", "write_feather")
    _native(module, recorder, (*reads, *more), writes)


def shell(module: Any, recorder: Recorder) -> None:
    """A notebook's shell forgets its variables when Python ends: look at them before."""

    def made(result: Any, given: tuple[Any, ...], named: dict[str, Any], began: float) -> None:
        recorder.last()

    replace(
        module, ("InteractiveShell.__init__",), lambda function: Observed(recorder, function, after=made, deep=True)
    )


def polars(module: Any, recorder: Recorder) -> None:
    """polars opens files by itself."""
    kinds = ("csv", "parquet", "ipc", "ndjson", "json", "avro", "delta")
    reads = tuple(f"{way}_{kind}" for way in ("read", "scan") for kind in kinds)
    writes = tuple(f"DataFrame.write_{kind}" for kind in kinds)
    _native(module, recorder, reads, writes)


def _native(module: Any, recorder: Recorder, reads: tuple[str, ...], writes: tuple[str, ...]) -> None:
    files = recorder.memory["files"]

    def looked(given: tuple[Any, ...], named: dict[str, Any], is_write: bool, is_method: bool) -> None:
        place = _first_path(given[1:] if is_method else given, named)
        for name in _expanded(place) if not is_write else ([place] if place else []):
            (files.writes if is_write else files.reads)(os.path.abspath(name))  # noqa: PTH100  # as the audit hook

    for names, is_write in ((reads, False), (writes, True)):
        for name in names:

            def look(
                given: tuple[Any, ...],
                named: dict[str, Any],
                is_write: bool = is_write,
                is_method: bool = "." in name,
            ) -> None:
                looked(given, named, is_write, is_method)

            def wrap(function: Any, look: Any = look) -> Any:
                return Observed(recorder, function, before=look, deep=True)

            replace(module, (name,), wrap)


def _first_path(given: tuple[Any, ...], named: dict[str, Any]) -> str:
    for value in (*given[:2], *(named.get(key) for key in ("source", "where", "file", "path", "input_file"))):
        if isinstance(value, (str, os.PathLike)):
            found = os.fsdecode(value)
            return "" if "://" in found else found
    return ""


def _expanded(place: str) -> list[str]:
    """The files that a path, a folder or a pattern stands for."""
    if not place:
        return []
    if any(mark in place for mark in "*?["):
        return sorted(glob.glob(place, recursive=True))[:FILES_LIMIT]  # noqa: PTH207  # as the library does
    if os.path.isdir(place):  # noqa: PTH112  # as the library does
        found = [os.path.join(folder, name) for folder, _, names in os.walk(place) for name in names]  # noqa: PTH118
        return sorted(found)[:FILES_LIMIT]
    return [place]
