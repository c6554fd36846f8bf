"""What compiled libraries write by themselves: the functions that do, and how a file or folder is named to them.

A file that a step wrote is kept with its result (`making.py`). Python's own writers are seen when they open it;
these open theirs without the interpreter.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["WRITERS", "written", "written_by_sql"]

_POLARS = ("avro", "csv", "delta", "excel", "ipc", "ipc_stream", "json", "ndjson", "parquet")
WRITERS: Mapping[str, tuple[str, ...]] = {
    "pandas.io.parquet": ("PyArrowImpl.write",),  # it hands pyarrow a stream that is open already
    "pyarrow": ("output_stream",),
    "pyarrow.csv": ("write_csv",),
    "pyarrow.dataset": ("write_dataset",),
    "pyarrow.feather": ("write_feather",),
    "pyarrow.orc": ("write_table",),
    "pyarrow.parquet": ("write_metadata", "write_to_dataset"),
    "pyarrow.parquet.core": ("ParquetWriter.__init__",),
    "polars.dataframe.frame": tuple(f"DataFrame.write_{kind}" for kind in _POLARS),
    "polars.lazyframe.frame": tuple(f"LazyFrame.sink_{kind}" for kind in _POLARS),
    "duckdb": tuple(f"DuckDBPyRelation.{way}_{kind}" for way in ("to", "write") for kind in ("csv", "parquet")),
    "torch": ("save",),
    "safetensors.numpy": ("save_file",),
    "safetensors.torch": ("save_file",),
    "xgboost.core": ("Booster.save_model",),
    "lightgbm.basic": ("Booster.save_model",),
    "catboost.core": ("CatBoost.save_model",),
}
"""The writers of each module; `Class.__init__` is a class that opens a file when it is made."""
_NAMED = (
    *("where", "path", "file", "f", "filename", "file_name", "fname", "source", "output_file", "dest", "base_dir"),
    *("root_path", "target", "workbook"),
)
_COPY_TO = re.compile(r"\bto\s+(?:'([^'\n]{1,1024})'|\"([^\"\n]{1,1024})\")", re.IGNORECASE)


def written(given: tuple[Any, ...], named: Mapping[str, Any]) -> Iterator[str]:
    """The paths that a writer is given: as one of its first two arguments, or by a name that writers use."""
    for value in (*given[:2], *(named[name] for name in _NAMED if name in named)):
        if isinstance(value, str | bytes | os.PathLike):
            yield from _local(os.fsdecode(value))


def written_by_sql(text: str) -> Iterator[str]:
    """The files that a statement of DuckDB writes: `COPY … TO 'a.parquet'`."""
    for single, double in _COPY_TO.findall(text):
        yield from _local(single or double)


def _local(place: str) -> Iterator[str]:
    if place.startswith("file://"):
        place = urllib.parse.unquote(urllib.parse.urlsplit(place).path)
    if place and "://" not in place and "\0" not in place and len(place) <= 4096:
        yield str(Path(place).expanduser())
