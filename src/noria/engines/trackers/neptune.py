"""What neptune-exporter wrote: Parquet files of attributes, a run in one or more parts, and a folder of files.

A row is one attribute of a run, or one step of a series. Columns that are absent are taken for empty; a type of
attribute that is not known is named for each run. Nothing is written.

Source: README.md and src/neptune_exporter/model.py of neptune-exporter (schema and layout).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from noria.catalog.takeover.documents import Store
from noria.core.errors import UsageError
from noria.core.lazy import lazy
from noria.engines.trackers.noria_readers.spill import NOTE, RunSpill, Spill, number
from noria.engines.trackers.spilled import store_of

__all__ = ["COLUMNS", "read_neptune"]

pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")
pq = lazy("pyarrow.parquet")

NEEDED = ("run_id", "attribute_path", "attribute_type")
VALUES = {
    "float": "float_value",
    "int": "int_value",
    "string": "string_value",
    "bool": "bool_value",
    "datetime": "datetime_value",
    "string_set": "string_set_value",
    "float_series": "float_value",
    "string_series": "string_value",
    "histogram_series": "histogram_value",
    "file": "file_value",
    "file_series": "file_value",
    "file_set": "file_value",
    "artifact": "file_value",
}
"""The column that has the value of each type of attribute."""
COLUMNS = (*NEEDED, "project_id", "step", "timestamp", *sorted(set(VALUES.values())))
FILES = frozenset({"file", "file_series", "file_set", "artifact"})
PART = re.compile(r"(?P<run>.+)_part_(?P<number>\d+)\.parquet")
REGISTRY = ("models", "model_versions")
ROWS = 20_000
MILLION = 1_000_000


def read_neptune(store: Path, folder: Path, roots: Sequence[Path], *, python: str, env: Mapping[str, str]) -> Store:
    """An export of Neptune's.

    Args:
        store: the folder with `data` and `files`, or the folder of the Parquet files.
        folder: where to write it out; `roots` are folders in which files may be, `files` beside the data always is.
        python: not needed; `env` neither.
    Raises: UsageError if there is no such file.
    """
    data = store / "data" if (store / "data").is_dir() else store
    usual = [data.parent / "files"] if data.name == "data" else [data / "files"]
    places = [each.resolve() for each in (*roots, *usual) if each.is_dir()]
    found = _parts(data)
    if not found:
        raise UsageError(
            f"{store} holds no Parquet file of neptune-exporter",
            hint="the folder is named that --data-path named, with PROJECT/RUN_part_0.parquet in it",
        )
    with Spill(folder) as spill:
        for (where, _), parts in sorted(found.items()):
            if where.name in REGISTRY:
                spill.lose(str(parts[0][1].relative_to(data)), "models of Neptune's registry have no place here")
            elif parts[0][0] != 0:
                spill.lose(str(parts[0][1].relative_to(data)), "its first part is not there: the export was broken off")
            else:
                _Run([path for _, path in parts], [*(place / where.name for place in places), *places]).take(spill)
        spill.end("export of neptune-exporter")
    return store_of(folder, str(store))


def _parts(data: Path) -> dict[tuple[Path, str], list[tuple[int, Path]]]:
    """The parts of each run by number."""
    found: dict[tuple[Path, str], list[tuple[int, Path]]] = {}
    for pattern in ("*.parquet", "*/*.parquet", *(f"*/{name}/*.parquet" for name in REGISTRY)):
        for path in data.glob(pattern):
            named = PART.fullmatch(path.name)
            if named:
                found.setdefault((path.parent, named["run"]), []).append((int(named["number"]), path))
    return {key: sorted(parts) for key, parts in found.items()}


class _Run:
    """One run in its parts."""

    def __init__(self, parts: Sequence[Path], roots: Sequence[Path]) -> None:
        self._parts = parts
        self._roots = roots
        self._broken: dict[str, None] = {}
        self._said: dict[str, Any] = {}

    def take(self, spill: Spill) -> None:
        """All of it."""
        project = run = ""
        moments: list[int] = []
        fractional: set[str] = set()
        for table in self._tables():
            if len(table) and not run:
                project = str(table["project_id"][0].as_py() or "")
                run = str(table["run_id"][0].as_py() or "")
            self._look(table, moments, fractional)
        if not run:
            spill.lose(self._parts[0].name, "; ".join(self._broken) or "it names no run")
            return
        created = self._said.get("sys/creation_time")
        started_ms = _ms(created) if isinstance(created, datetime) else min(moments, default=0)
        into = spill.run(run, f"neptune:{project}/{run}@{started_ms}", project or "neptune")
        for table in self._tables():
            self._rows(into, table, (project, run), started_ms, fractional)
        for each in self._broken:
            into.lose(each)
        if fractional:
            into.tag("neptune.steps_in_millionths", sorted(fractional))
        self._describe(into, project, run, started_ms)
        into.end()

    def _tables(self) -> Iterator[Any]:
        """Batches of rows with every column, in order; what cannot be read is remembered."""
        for path in self._parts:
            try:
                with pq.ParquetFile(path) as file:
                    names = file.schema_arrow.names
                    lacking = [name for name in NEEDED if name not in names]
                    if lacking:
                        self._broken[f"{path.name} lacks the columns {', '.join(lacking)}"] = None
                        continue
                    unknown = sorted(set(names) - set(COLUMNS))
                    if unknown:
                        self._broken[f"columns that are not known: {', '.join(unknown)}"] = None
                    known = [name for name in names if name in COLUMNS]
                    for batch in file.iter_batches(batch_size=ROWS, columns=known):
                        yield _whole(batch)
            except (pa.ArrowException, OSError) as error:
                self._broken[f"{path.name} cannot be read: {str(error).splitlines()[0][:200]}"] = None

    def _look(self, table: Any, moments: list[int], fractional: set[str]) -> None:
        """What has to be known before the first row: what the run says of itself, its first moment, its steps."""
        own = table.filter(pc.starts_with(table["attribute_path"], "sys/"))
        for row in own.to_pylist():
            self._said[row["attribute_path"]] = row.get(VALUES.get(row["attribute_type"], ""), None)
        times = [each for each in table["timestamp"].to_pylist() if each is not None]
        if times:
            moments[:] = [min([*moments, *(_ms(each) for each in (min(times),))])]
        series = table.filter(pc.is_valid(table["step"]))
        for path, step in zip(series["attribute_path"].to_pylist(), series["step"].to_pylist(), strict=True):
            if step != int(step):
                fractional.add(path)

    def _rows(self, into: RunSpill, table: Any, own: tuple[str, str], started_ms: int, fractional: set[str]) -> None:
        for row in table.to_pylist():
            path, kind = str(row["attribute_path"]), str(row["attribute_type"])
            if (str(row["project_id"] or ""), str(row["run_id"] or "")) != own:
                into.lose(f"rows of run {row['run_id']} of {row['project_id']}, in the file of this one")
                continue
            if kind not in VALUES:
                into.lose(f"attribute {path}: its type {kind} is not known")
                continue
            value = row[VALUES[kind]]
            if value is None:
                into.lose(f"attribute {path}: it has no value")
                continue
            at_us = (_ms(row["timestamp"]) if row["timestamp"] is not None else started_ms) * 1000
            step = _step(row["step"], path in fractional)
            if kind in FILES:
                self._file(into, path, kind, row["step"], value)
            elif kind == "float_series":
                as_number = number(value)
                assert as_number is not None, "its column holds floats"
                into.point(path, step, at_us, as_number)
            elif kind.endswith("_series"):
                into.value("neptune/series", path, step, at_us, value)
            elif not path.startswith("sys/"):
                into.param(path, _said(value))

    def _file(self, into: RunSpill, path: str, kind: str, step: Decimal | None, value: Any) -> None:
        said = str((value or {}).get("path") or "")
        found = next((root / said for root in self._roots if said and (root / said).exists()), None)
        if found is None:
            into.lose(f"file {path}: {said or 'no place'} is not there (--artifacts DIR is where the files are)")
            return
        if found.is_dir():
            for each in sorted(below for below in found.rglob("*") if not below.is_dir()):
                into.file_of_store(f"{path}/{each.relative_to(found).as_posix()}", each, self._resolved())
            return
        ending = found.suffix if not path.endswith(found.suffix) else ""
        name = f"{path}/step-{_plain(step)}{found.suffix}" if kind == "file_series" else f"{path}{ending}"
        into.file_of_store(name, found, self._resolved())

    def _resolved(self) -> list[Path]:
        return [root.resolve() for root in self._roots if root.exists()]

    def _describe(self, into: RunSpill, project: str, run: str, started_ms: int) -> None:
        said = self._said
        for path, value in said.items():
            if value is None:
                continue  # named where the rows were read
            if path == "sys/tags":
                into.labels(sorted(value), "neptune")
            elif path == "sys/description" and value:
                into.tag(NOTE, value)
            else:
                into.tag(f"neptune.{path.removeprefix('sys/')}", _said(value))
        into.tag("neptune.run", run)
        into.tag("neptune.project", project)
        into.doc.update(
            name=str(said.get("sys/name") or ""),
            user=str(said.get("sys/owner") or ""),
            started_ms=started_ms,
            ended_ms=max(started_ms, self._ended_ms(started_ms, into.last_us // 1000)),
            status="FAILED" if said.get("sys/failed") else "FINISHED",
            stage="deleted" if said.get("sys/trashed") else "active",
        )

    def _ended_ms(self, started_ms: int, last_ms: int) -> int:
        took = self._said.get("sys/running_time")
        if isinstance(took, (int, float)):
            return started_ms + round(took * 1000)
        changed = self._said.get("sys/ping_time") or self._said.get("sys/modification_time")
        return _ms(changed) if isinstance(changed, datetime) else last_ms


def _whole(batch: Any) -> Any:
    """A batch with every column, those that it lacks empty."""
    table = pa.Table.from_batches([batch])
    for name in COLUMNS:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table)))
    return table


def _step(step: Decimal | float | None, is_fractional: bool) -> int:
    if step is None:
        return 0
    return round(step * MILLION) if is_fractional else int(step)


def _plain(step: Decimal | float | None) -> str:
    if step is None:
        return "0"
    return str(int(step)) if step == int(step) else format(Decimal(step).normalize(), "f")


def _said(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return sorted(value) if isinstance(value, list) else value


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
