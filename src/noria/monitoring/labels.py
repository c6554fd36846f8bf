"""Late labels: read as they come, sealed into objects, newest revision wins.

The feedback endpoint appends lines; this module turns ranges of those files into Parquet objects,
each named by one fact, and removes a file when all of it is sealed and nobody may append any more.
A label belongs to a prediction by the client's id or by the prediction's own.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from noria.core.clock import instant, utc_text
from noria.core.errors import Corrupt
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.monitoring import records
from noria.monitoring.facts import LabelsSealed
from noria.monitoring.tail import newest_in
from noria.serving import segment
from noria.store.failpoint import failpoint
from noria.store.linelog import read_lines
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Places: TypeAlias = npt.NDArray[np.int64]
else:
    np, pa = lazy("numpy"), lazy("pyarrow")
pc, pq = lazy("pyarrow.compute"), lazy("pyarrow.parquet")

__all__ = ["KIND", "Labels", "joined", "newest_event", "read", "seal"]

KIND = "labels"
SEAL_ROWS = 10_000
"""A range of a file that is still open is sealed when it has so many labels."""
_COLUMNS = ("id", "label", "at", "t")


class _Line(msgspec.Struct, frozen=True, gc=False):
    id: str
    label: bool | int | float | str | None
    at: str = ""
    t: int = 0


_decoder = msgspec.json.Decoder(_Line)


@frozen(eq=False)
class Labels:
    """Labels by id, each id once with its newest revision.

    `ids` are the texts labels came with; `values` their JSON texts, aligned; `received_us` when they came.
    """

    ids: pa.Array[Any]
    values: pa.Array[Any]
    received_us: Places
    newest_event: str

    @property
    def n(self) -> int:
        """The number of labels."""
        return len(self.ids)


def read(ws: Workspace, model: str, *, since: str = "", as_of: str = "", ids: Sequence[str] = ()) -> Labels:
    """Every label of a model, newest revision of each id.

    Args:
        since: leave out labels whose event time is before this (ISO text); labels without one stay.
        as_of: what was known then (ISO text): leave out what became known later, by its event time,
            else by when it was received.
        ids: only labels that came with one of these.
    """
    with ws.ledger.read() as tx:
        sealed = records.label_segments(tx, model)
    parts = [
        pq.read_table(
            ws.objects.path(item.segment), columns=list(_COLUMNS), filters=[("id", "in", list(ids))] if ids else None
        )
        for item in sealed
        if not since or not item.event_max or item.event_max >= since
    ]
    done = _sealed_until(sealed)
    for path in segment.sources(segment.folder(ws.project.state, model, KIND)):
        lines, _ = _lines(path, done.get(path.name, 0))
        parts.append(_table([line for line in lines if line.id in ids] if ids else lines))
    whole = pa.concat_tables(parts) if parts else _table([])
    if since:
        whole = whole.filter(pc.or_(pc.equal(whole["at"], ""), pc.greater_equal(whole["at"], since)))
    if as_of:
        moment = instant(as_of)
        received = pc.less_equal(whole["t"], int(moment.timestamp() * 1e6))
        known = pc.if_else(pc.equal(whole["at"], ""), received, pc.less_equal(whole["at"], utc_text(moment)))
        whole = whole.filter(known)
    return _newest(whole)


def newest_event(ws: Workspace, model: str) -> str:
    """The greatest event time at which a label became known; empty without any."""
    with ws.ledger.read() as tx:
        sealed = records.label_segments(tx, model)
    newest = max((item.event_max for item in sealed), default="")
    return max(newest, newest_in(segment.folder(ws.project.state, model, KIND)))


def seal(ws: Workspace, model: str, *, force: bool = False) -> int:
    """Turn what came since into objects: of closed files all, of open ones when there is enough; gives how many labels.

    Idempotent, and safe from several processes: a range is sealed once.
    """
    with ws.ledger.read() as tx:
        done = _sealed_until(records.label_segments(tx, model))
    count = 0
    for path in segment.sources(segment.folder(ws.project.state, model, KIND)):
        try:
            is_open = segment.is_open(path)
        except FileNotFoundError:
            continue  # another process sealed and removed it
        start = done.get(path.name, 0)
        lines, end = _lines(path, start)
        if lines and (force or not is_open or len(lines) >= SEAL_ROWS):
            count += _seal_range(ws, model, path.name, start, end, lines)
            start = end
        if not is_open and start == end:
            path.unlink(missing_ok=True)
    return count


def joined(
    labels: Labels, client_ids: pa.ChunkedArray[Any] | pa.Array[Any], own_ids: pa.ChunkedArray[Any] | pa.Array[Any]
) -> Places:
    """The place of each prediction's label among the labels, shape (n_predictions,); -1 for none yet."""
    by_client = pc.index_in(client_ids, value_set=labels.ids)
    by_own = pc.index_in(own_ids, value_set=labels.ids)
    found = pc.fill_null(pc.coalesce(by_client, by_own), -1)
    places: Places = np.asarray(found.to_numpy(), dtype=np.int64)
    return places


def values(labels: Labels, places: Places) -> list[Any]:
    """The labels at places as JSON values."""
    encoded = pc.dictionary_encode(pc.take(labels.values, places))
    names = [json.loads(text) for text in encoded.dictionary.to_pylist()]
    return [names[code] for code in encoded.indices.to_pylist()]


def _lines(path: Path, start: int) -> tuple[list[_Line], int]:
    payloads, end = read_lines(path, start)
    try:
        return [_decoder.decode(payload) for payload in payloads], end
    except msgspec.DecodeError as error:
        raise Corrupt(f"a line of labels cannot be read: {error}", where=str(path)) from error


def _table(lines: Sequence[_Line]) -> pa.Table:
    moments = {text: utc_text(instant(text)) if text else "" for text in {line.at for line in lines}}
    return pa.table(
        {
            "id": pa.array([line.id for line in lines], pa.string()),
            "label": pa.array([json.dumps(line.label) for line in lines], pa.string()),
            "at": pa.array([moments[line.at] for line in lines], pa.string()),
            "t": pa.array([line.t for line in lines], pa.int64()),
        }
    )


def _newest(whole: pa.Table) -> Labels:
    received = whole["t"].to_numpy()
    order = np.argsort(received, kind="stable")
    ordered = pc.take(whole, order).combine_chunks()
    encoded = pc.dictionary_encode(ordered["id"])
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0) if encoded.num_chunks else pc.dictionary_encode(pa.array([], pa.string()))
    last = np.zeros(len(encoded.dictionary), dtype=np.int64)
    last[encoded.indices.to_numpy()] = np.arange(ordered.num_rows)
    kept = pc.take(ordered, last)
    newest = pc.max(whole["at"]).as_py() if whole.num_rows else ""
    return Labels(_flat(kept["id"]), _flat(kept["label"]), kept["t"].to_numpy(), newest or "")


def _flat(column: pa.ChunkedArray[Any]) -> pa.Array[Any]:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _sealed_until(sealed: Sequence[records.LabelSegment]) -> dict[str, int]:
    """How far each file was sealed; a source is named `FILE@START-END`."""
    found: dict[str, int] = {}
    for item in sealed:
        name, _, span = item.source.rpartition("@")
        found[name] = max(found.get(name, 0), int(span.partition("-")[2]))
    return found


def _seal_range(ws: Workspace, model: str, name: str, start: int, end: int, lines: Sequence[_Line]) -> int:
    table = _table(lines)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    digest = ws.objects.put_bytes(buffer.getvalue())
    events = sorted(text for text in table["at"].to_pylist() if text)
    payload = LabelsSealed(
        model=model,
        segment=digest,
        source=f"{name}@{start}-{end}",
        count=len(lines),
        event_min=events[0] if events else "",
        event_max=events[-1] if events else "",
    )
    with ws.ledger.transaction() as tx:
        done = _sealed_until(records.label_segments(tx, model))
        if done.get(name, 0) != start:
            return 0
        tx.append(payload, outputs=[("labels", digest)])
    failpoint("labels.sealed")
    return len(lines)
