"""Failing rows set apart: two data sets out of a version, the rows that broke a rule and all others.

`NAME.quarantine` and `NAME.clean` keep the columns and the file names of the version, so a mended
row can go back as it is. A rule about a version as a whole (its row count, a unit) accuses no row:
it is named, and moves none. The version itself is not changed.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.checks.facts import Finding
from noria.checks.findings import is_failure
from noria.checks.scanning import source
from noria.checks.scanning.arrays import whole
from noria.checks.scanning.scan import BATCH_ROWS
from noria.checks.scanning.source import Part
from noria.checks.scanning.tally import Places
from noria.checks.suite import again
from noria.checks.suites.place import suite_path
from noria.core.errors import NotFound
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.core.verb import verb
from noria.core.words import counted
from noria.data import lock
from noria.data.versions import DatasetVersion, add, resolve
from noria.store.objects import disk_faults
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")
pq = lazy("pyarrow.parquet")

__all__ = ["Quarantined", "quarantine"]


@frozen(kw_only=True)
class Quarantined:
    """What was set apart. A ref is empty where there was no row.

    `whole` are the rules that failed without accusing a row: they still stop the version.
    """

    dataset: str
    version: int
    rows: int
    failing: int
    quarantine: str
    clean: str
    whole: tuple[str, ...] = ()


@verb(permission="checks.quarantine", where="project")
def quarantine(ws: Workspace, dataset: str) -> Quarantined:
    """Write the rows that break an error rule and the others as two data sets, each a version of its own.

    They are called NAME.quarantine and NAME.clean. The version that was checked stays as it is.

    Raises: NotFound if there is no version or no suite.
    Example:
        noria data check flights --quarantine
    """
    version = resolve(ws, dataset)
    if not suite_path(ws, version.name).is_file():
        raise NotFound(f"there are no checks for {version.name}", hint=f"noria data check {version.name} --infer")
    found = again(ws, version)
    failing = sum(len(rows) for rows in found.broken.values())
    report = {"quarantine": "", "clean": ""}
    if failing:
        report = _divide(ws, version, found.broken, failing)
    return Quarantined(
        dataset=version.name,
        version=version.version,
        rows=version.rows,
        failing=failing,
        quarantine=report["quarantine"],
        clean=report["clean"],
        whole=tuple(
            _words(finding)
            for finding in found.report.findings
            if is_failure(finding) and not _is_apart(finding, found.broken)
        ),
    )


def _is_apart(finding: Finding, broken: Mapping[str, Places]) -> bool:
    """Whether the rows that a finding names are among those that were set apart."""
    apart = broken.get(finding.file)
    return bool(finding.rows) and apart is not None and bool(np.isin(finding.rows, apart).all())


def _words(finding: Finding) -> str:
    return f"{finding.column or 'table'}: {finding.rule}: {finding.message}"


def _divide(ws: Workspace, version: DatasetVersion, broken: Mapping[str, Places], failing: int) -> dict[str, str]:
    place = ws.project.state / "quarantine" / f"{uuid.uuid4().hex}.{lock.mark()}"
    counts = {"quarantine": failing, "clean": version.rows - failing}
    with disk_faults(place):
        for kind in counts:
            (place / kind).mkdir(parents=True)
        try:
            for part in source.parts(ws, version):
                _split(part, broken.get(part.file, np.zeros(0, np.int64)), place)
            return {
                kind: _added(ws, version, place / kind, kind, rows) if rows else "" for kind, rows in counts.items()
            }
        finally:
            shutil.rmtree(place)


def _added(ws: Workspace, version: DatasetVersion, folder: Path, kind: str, rows: int) -> str:
    one, many = "row of {0} that breaks", "rows of {0} that break"
    words = counted(rows, one.format(version.ref), many.format(version.ref))
    made = add(
        ws,
        str(folder),
        f"{version.name}.{kind}",
        f"{words} {'a rule' if kind == 'quarantine' else 'none'}",
        key=version.key,
        time=version.time,
        label=version.label,
    )
    return made.ref


def _split(part: Part, places: Places, folder: Path) -> None:
    """A file in two, batch by batch; a side without rows has no file."""
    name = part.file if part.file.endswith(".parquet") else f"{part.file}.parquet"
    writers: dict[str, Any] = {}
    first = 0
    try:
        with pq.ParquetFile(part.path, pre_buffer=False) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                is_broken = np.zeros(batch.num_rows, bool)
                mine = places[(places >= first) & (places < first + batch.num_rows)]
                is_broken[mine - first] = True
                first += batch.num_rows
                _write(batch, np.flatnonzero(is_broken), folder / "quarantine" / name, writers, file.schema_arrow)
                _write(batch, np.flatnonzero(~is_broken), folder / "clean" / name, writers, file.schema_arrow)
    finally:
        for writer in writers.values():
            writer.close()


def _write(batch: Any, rows: Sequence[int] | Places, path: Path, writers: dict[str, Any], schema: Any) -> None:
    if not len(rows):
        return
    if str(path) not in writers:
        path.parent.mkdir(parents=True, exist_ok=True)
        writers[str(path)] = pq.ParquetWriter(path, schema, compression="zstd")
    writers[str(path)].write_batch(batch.take(whole(rows)))
