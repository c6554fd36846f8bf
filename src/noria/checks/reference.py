"""The profile of a reference version: one mergeable state a column, kept beside the suite.

It is a small file that Git keeps (counts, nulls, moments, levels with their tail, a histogram of at
most 512 quantile bins a column), so a fresh clone can compare without the reference's rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from noria.checks.evaluate import ColumnCheck
from noria.checks.scanning.accumulate import ColumnState
from noria.checks.scanning.scan import scan, shape_of
from noria.checks.scanning.source import Part
from noria.checks.scanning.summary import ColumnProfile
from noria.checks.suites.place import profile_path, suite_path
from noria.checks.suites.rules import ColumnRules
from noria.core.errors import Corrupt
from noria.store.workspace import Workspace

__all__ = ["encode", "load", "states"]

_FORMAT = "noria.profile/1"


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    format: str
    dataset: str
    reference: str
    columns: dict[str, ColumnProfile]


def states(parts: Sequence[Part]) -> dict[str, ColumnState]:
    """The state of every column over all files: one streaming pass over each, then added up."""
    found: dict[str, ColumnState] = {}
    for part in parts:
        shape = shape_of(part.path, part.file)
        watchers = [ColumnCheck(name, ColumnRules(), shape.schema, is_full=True) for name in shape.schema.names]
        scan(part.path, part.file, shape, watchers)
        for watcher in watchers:
            assert watcher.state is not None
            held = found.get(watcher.name)
            if held is None or held.family == "null":
                found[watcher.name] = watcher.state if held is None else _with_nulls(watcher.state, held)
            elif watcher.state.family == "null":
                _with_nulls(held, watcher.state)
            else:
                held.merge(watcher.state)  # type: ignore[arg-type]  # one column has one family in all files
    return found


def _with_nulls(state: ColumnState, empty: ColumnState) -> ColumnState:
    state.rows, state.nulls = state.rows + empty.rows, state.nulls + empty.nulls
    return state


def encode(dataset: str, reference: str, columns: Mapping[str, ColumnProfile]) -> bytes:
    """The profile as the file keeps it."""
    made = _Kept(format=_FORMAT, dataset=dataset, reference=reference, columns=dict(columns))
    return msgspec.json.format(msgspec.json.encode(made), indent=0) + b"\n"


def load(ws: Workspace, dataset: str) -> Mapping[str, ColumnProfile]:
    """The kept profile of a data set's reference by column; empty if none was kept. Raises: Corrupt."""
    path = profile_path(suite_path(ws, dataset))
    if not path.is_file():
        return {}
    try:
        made = msgspec.json.decode(path.read_bytes(), type=_Kept)
    except msgspec.DecodeError as error:
        raise Corrupt(
            f"the profile of {dataset} cannot be read: {error}",
            where=str(path),
            hint=f"noria data check {dataset} --infer --accept",
        ) from error
    return made.columns
