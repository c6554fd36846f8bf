"""Metric points: fixed-width append files while a run lives, Parquet objects once sealed.

A stream is a folder; each writer has its own pair of files in it, so writers never wait for each
other. A point is 28 bytes (name number, step, value, time), names are lines of a log beside it. A
torn tail is cut by record size. There is no index: a run's points are read whole. What can happen
more than ten times a second in one run belongs here, and not into the ledger.
"""

from __future__ import annotations

import io
import os
import re
import struct
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.clock import Clock
from noria.core.errors import Corrupt, StoreFull, UsageError
from noria.core.frozen import frozen
from noria.core.identity import Digest, is_digest
from noria.core.lazy import lazy
from noria.store import arrays
from noria.store.failpoint import failpoint
from noria.store.linelog import LineWriter, read_lines
from noria.store.objects import Objects, disk_faults

if TYPE_CHECKING:
    import pyarrow

__all__ = ["MetricWriter", "Sealed", "Series"]

np = lazy("numpy")
pa = lazy("pyarrow")
pq = lazy("pyarrow.parquet")
pc = lazy("pyarrow.compute")

POINT = struct.Struct("<Iqdq")
BUFFER_BYTES = POINT.size * 4096
LAG_S = 0.1
"""A point is on disk at the latest when another one is logged this much later, or at close."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STREAM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


@frozen
class Sealed:
    """A stream as an object: Parquet with name, step, at (UTC, µs) and value, in the order logged."""

    digest: Digest
    points: int
    names: tuple[str, ...]
    last: dict[str, float]


class MetricWriter:
    """Appends points to one stream. Fast callers are written in blocks, slow ones at once.

    A killed process loses at most the points of the last `LAG_S` seconds. Not safe between threads.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        base = folder / f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._names = LineWriter(base.with_suffix(".names"))
        self._numbers: dict[str, int] = {}
        self._path = base.with_suffix(".points")
        self._clock = clock
        self._buffer = bytearray()
        self._size = 0
        self._flushed = float("-inf")
        with disk_faults(self._path):
            self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def log(self, name: str, value: float, *, step: int = 0, at_us: int | None = None) -> None:
        """Append a point. NaN and infinite values are kept as they are.

        Args:
            at_us: microseconds since the epoch, UTC; the clock's when left out.
        """
        number = self._numbers.get(name)
        if number is None:
            self._names.append([name.encode()])
            number = self._numbers[name] = len(self._numbers)
        if at_us is None:
            at_us = (self._clock.now() - _EPOCH) // timedelta(microseconds=1)
        self._buffer += POINT.pack(number, step, value, at_us)
        if len(self._buffer) >= BUFFER_BYTES or time.monotonic() - self._flushed > LAG_S:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered; it then survives the death of the process. Raises: StoreFull."""
        if not self._buffer:
            return
        with disk_faults(self._path):
            try:
                written = os.write(self._handle, self._buffer)
            except OSError:
                os.ftruncate(self._handle, self._size)
                raise
            if written != len(self._buffer):
                os.ftruncate(self._handle, self._size)
                raise StoreFull("no space is left for metric points", where=str(self._path))
        self._size += written
        self._buffer.clear()
        self._flushed = time.monotonic()
        failpoint("series.flushed")

    def close(self) -> None:
        """Write what is buffered and close the files."""
        if self._handle >= 0:
            try:
                self.flush()
            finally:
                os.close(self._handle)
                self._handle = -1
                self._names.close()


class Series:
    """The metric streams of a workspace, in a folder of the local disk."""

    def __init__(self, root: Path, objects: Objects, clock: Clock) -> None:
        self._root = root
        self._objects = objects
        self._clock = clock

    def writer(self, stream: str) -> MetricWriter:
        """A new writer for a stream such as `run/run_01…`; many may write at once."""
        return MetricWriter(self._folder(stream), self._clock)

    def seal(self, stream: str) -> Sealed | None:
        """Store a stream as a Parquet object; None if it has no points.

        Deterministic: the same points give the same digest. The files stay until `discard`, which
        belongs after the fact that names the object.
        """
        if not any(self._folder(stream).glob("*.points")):
            return None  # told without the libraries of tables, whose import costs a third of a second
        table = self._open_points(stream)
        if table.num_rows == 0:
            return None
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd", version="2.6")
        digest = self._objects.put_bytes(sink.getvalue())
        failpoint("seal.object")
        return Sealed(digest, table.num_rows, tuple(sorted(_names_in(table))), _last(table))

    def discard(self, stream: str) -> None:
        """Remove the files of a sealed stream. Idempotent."""
        folder = self._folder(stream)
        if not folder.is_dir():
            return
        with disk_faults(folder):
            for file in sorted(folder.iterdir()):
                if file.suffix in (".points", ".names"):
                    file.unlink(missing_ok=True)
            failpoint("seal.discarded")

    def read(self, *sources: str) -> pyarrow.Table:
        """The points of streams and of sealed segments, in the order given: name, step, at, value."""
        parts = [
            pq.ParquetFile(self._objects.path(source)).read() if is_digest(source) else self._open_points(source)
            for source in sources
        ]
        whole: pyarrow.Table = pa.concat_tables([_empty(), *(part.cast(_schema()) for part in parts)])
        return whole

    def _folder(self, stream: str) -> Path:
        if not _STREAM.fullmatch(stream):
            raise UsageError(f"{stream!r} cannot be the name of a stream")
        return self._root / stream

    def _open_points(self, stream: str) -> pyarrow.Table:
        folder = self._folder(stream)
        files = sorted(folder.glob("*.points")) if folder.is_dir() else []
        tables = [_read_points(file) for file in files]
        table: pyarrow.Table = pa.concat_tables([_empty(), *tables])
        if len(files) > 1:
            table = table.take(pc.sort_indices(table["at"]))
        return table


def _schema() -> Any:
    return pa.schema(
        [("name", pa.string()), ("step", pa.int64()), ("at", pa.timestamp("us", tz="UTC")), ("value", pa.float64())]
    )


def _read_points(file: Path) -> Any:
    content = file.read_bytes()
    content = content[: len(content) - len(content) % POINT.size]
    names = [name.decode() for name in read_lines(file.with_suffix(".names"))[0]]
    layout = np.dtype([("name", "<u4"), ("step", "<i8"), ("value", "<f8"), ("at", "<i8")])
    points = np.frombuffer(content, dtype=layout)
    if points.size and int(points["name"].max()) >= len(names):
        raise Corrupt("a metric point has a name that is not there", where=str(file))
    schema = _schema()
    rest = [arrays.numbers(points[name], schema.field(name).type) for name in ("step", "at", "value")]
    return pa.table([arrays.named(names, points["name"].astype("int32")), *rest], schema=schema)


def _empty() -> Any:
    none = np.empty(0, np.int64)
    return pa.table([arrays.texts([]), *(arrays.numbers(none, each.type) for each in list(_schema())[1:])], _schema())


def _names_in(table: Any) -> Sequence[str]:
    return list(pc.unique(table["name"]).to_pylist())


def _last(table: Any) -> dict[str, float]:
    """The newest finite-or-not value of each name: the highest step, and of equal steps the last logged."""
    ordered = table.take(pc.sort_indices(table["step"]))
    return dict(zip(ordered["name"].to_pylist(), ordered["value"].to_pylist(), strict=True))
