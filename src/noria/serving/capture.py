"""The prediction log as others read it: sealed to Parquet, read as a table, asked for one id.

Lines are written by segment.py before answers leave. `seal` turns closed files into Parquet
objects, each named by one fact; a file is removed only after that, and not while a rollout of its
model is open, since a rollout is judged from the files. Reading takes both halves together, and
of several answers to one client id the first.
"""

from __future__ import annotations

import datetime
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from noria.core.clock import instant, utc_text
from noria.core.errors import NotFound
from noria.core.lazy import lazy
from noria.serving import records, segment
from noria.serving.facts import PredictionsSealed
from noria.serving.line import FullLine, decode_with_row
from noria.store.failpoint import failpoint
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")
np: Any = lazy("numpy")
pc: Any = lazy("pyarrow.compute")
pq: Any = lazy("pyarrow.parquet")

__all__ = ["find", "predictions", "seal"]

FIXED = ("id", "rid", "sh", "t", "at", "key", "dep", "rel", "arm", "pi", "st", "us", "b", "e", "lc", "ls", "y", "c")


def seal(ws: Workspace, *, environment: str = "local") -> int:
    """Turn every closed log file into a Parquet object and a fact; gives how many.

    Idempotent and safe at any kill: object, then fact, then the file goes. A server closes its
    file when it is full or a minute old; readers see open files all the same.
    """
    count = 0
    for model in segment.models(ws.project.state):
        place = segment.folder(ws.project.state, model)
        segment.sweep(place)
        with ws.ledger.read() as tx:
            is_rolling = records.open_rollout(tx, model, environment) is not None
        for path in segment.sources(place):
            with ws.ledger.read() as tx:
                is_sealed = records.has_segment(tx, model, path.name)
            if not is_sealed and not segment.is_open(path):
                count += _seal_file(ws, model, path, environment)
                is_sealed = True
            if is_sealed and not is_rolling:
                path.unlink(missing_ok=True)
    return count


def predictions(
    ws: Workspace,
    model: str,
    start: str = "",
    end: str = "",
    *,
    every: bool = False,
    sealed: bool = False,
    environment: str = "local",
) -> pa.Table:
    """Logged rows whose event time is in [start, end), by event time, first answer per client id.

    Columns: id, rid, t (timestamp, µs, UTC), at (event time as UTC text; of a request that gave
    none, the time of the answer), at_time (the same as timestamp), key, dep, rel, arm, pi, st, us,
    b, e, x_<column> as received, y, c. Rows that were not answered with 200 and the lines of
    shadows come only with `every` (then also sh, lc, ls, refused: the row as JSON, and no answer
    is left out as a repetition). With `sealed` only what facts name: not the files still written to.
    """
    low = utc_text(instant(start)) if start else ""
    high = utc_text(instant(end)) if end else ""
    # Files first: what is sealed and removed from here on is still found among the segments.
    sources = [] if sealed else segment.sources(segment.folder(ws.project.state, model))
    files = {path.name: segment.read(path)[0] for path in sources}
    with ws.ledger.read() as tx:
        pieces = records.segments(tx, model, environment)
    parts = [
        pq.read_table(ws.objects.path(piece.segment))
        for piece in pieces
        if (not low or piece.event_max >= low) and (not high or piece.event_min < high)
    ]
    known = {piece.source for piece in pieces}
    parts += [_table(decode_with_row(lines)) for name, lines in files.items() if lines and name not in known]
    if not parts:
        return _table([])
    table = _together(parts)
    mask = pc.invert(pc.is_null(table["at"]))
    if low:
        mask = pc.and_(mask, pc.greater_equal(table["at"], low))
    if high:
        mask = pc.and_(mask, pc.less(table["at"], high))
    if not every:
        mask = pc.and_(mask, pc.and_(pc.equal(table["st"], 200), pc.equal(table["sh"], "")))
    table = table.filter(mask).sort_by([("at", "ascending"), ("t", "ascending"), ("id", "ascending")])
    return table if every else _first_answers(table).drop_columns(["sh", "lc", "ls", "refused"])


def find(ws: Workspace, name: str, *, environment: str = "local") -> dict[str, Any]:
    """One logged row by prediction id or client id, with its row `x`, model and where it is kept.

    Of several answers to one client id it is the first. `shadow` is the shadow's line, if there is
    one in the same segment. Raises: NotFound.
    """
    for model in segment.models(ws.project.state):
        found = _find_in_files(ws, model, name)
        if found is not None:
            return found
    for model in _sealed_models(ws):
        with ws.ledger.read() as tx:
            pieces = records.segments(tx, model, environment)
        for piece in pieces:
            if name.startswith("pred_") and not piece.first_id <= name <= piece.last_id:
                continue
            found = _find_in_segment(ws, piece, name)
            if found is not None:
                return found
    raise NotFound(
        f"there is no logged prediction {name[:100]!r}", hint="ids look like pred_01k…, or are the client's own"
    )


def _seal_file(ws: Workspace, model: str, path: Path, environment: str) -> int:
    lines = decode_with_row(segment.read(path)[0])
    if not lines:
        path.unlink(missing_ok=True)
        return 0
    table = _table(lines)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", compression_level=1)
    digest = ws.objects.put_bytes(sink.getvalue())
    names = [line.id for line in lines if line.id]
    times = pc.min_max(table["at"]).as_py()
    releases = sorted({line.rel for line in lines})
    with ws.ledger.transaction() as tx:
        if records.has_segment(tx, model, path.name):
            return 0
        tx.append(
            PredictionsSealed(
                model=model,
                environment=environment,
                segment=digest,
                source=path.name,
                count=len(names),
                first_id=min(names, default=""),
                last_id=max(names, default=""),
                event_min=times["min"] or "",
                event_max=times["max"] or "",
                releases=tuple(releases),
            ),
            inputs=[("release", f"release/{model}/{number}") for number in releases],
            outputs=[("segment", digest)],
        )
    failpoint("predictions.sealed")
    return 1


def _table(lines: Sequence[FullLine]) -> pa.Table:
    """Lines as a table: the fixed columns, and one `x_` column for each column of the answered rows.

    What a refused request held has no part in the types of the columns, or one client's mistake
    would turn a column of numbers into text for everybody; it is kept as JSON in `refused`.
    """
    times = _event_times(lines)
    fixed: dict[str, Any] = {
        "id": pa.array([line.id for line in lines], pa.string()),
        "rid": pa.array([line.rid for line in lines], pa.string()),
        "sh": pa.array([line.sh for line in lines], pa.string()),
        "t": pa.array([line.t for line in lines], pa.timestamp("us", tz="UTC")),
        "at": pa.array([text for text, _ in times], pa.string()),
        "at_time": pa.array([moment for _, moment in times], pa.timestamp("us", tz="UTC")),
        "key": pa.array([line.key for line in lines], pa.string()),
        "dep": pa.array([line.dep for line in lines], pa.int64()),
        "rel": pa.array([line.rel for line in lines], pa.int64()),
        "arm": pa.array([line.arm for line in lines], pa.string()),
        "pi": pa.array([line.pi for line in lines], pa.float64()),
        "st": pa.array([line.st for line in lines], pa.int64()),
        "us": pa.array([line.us for line in lines], pa.int64()),
        "b": pa.array([line.b for line in lines], pa.int64()),
        "e": pa.array([line.e for line in lines], pa.string()),
        "lc": _array([line.lc for line in lines]),
        "ls": pa.array([line.ls for line in lines], pa.int64()),
    }
    fixed["refused"] = pa.array([None if line.st == 200 else _refused(line) for line in lines], pa.string())
    rows = [line.x or {} if line.st == 200 else {} for line in lines]
    names: dict[str, None] = {}
    for row in rows:
        if row.keys() - names.keys():
            names.update(dict.fromkeys(row))
    features = {f"x_{name}": _array(_column(rows, name)) for name in names}
    tail = {"y": pa.array([line.y for line in lines], pa.float64()), "c": _array([line.c for line in lines])}
    return pa.table({**fixed, **features, **tail})


def _refused(line: FullLine) -> str:
    return msgspec.json.encode(line.x or {}).decode()


def _event_times(lines: Sequence[FullLine]) -> list[tuple[str, datetime.datetime]]:
    """(UTC text, moment) of each line; many lines share a time, so each text is read once."""
    known: dict[str, tuple[str, datetime.datetime]] = {}
    found = []
    for line in lines:
        if line.at:
            pair = known.get(line.at)
            if pair is None:
                moment = instant(line.at)
                pair = known[line.at] = (utc_text(moment), moment)
        else:
            moment = datetime.datetime.fromtimestamp(line.t / 1e6, tz=datetime.UTC)
            pair = (utc_text(moment), moment)
        found.append(pair)
    return found


def _column(rows: Sequence[dict[str, Any]], name: str) -> list[Any]:
    try:
        return [row[name] for row in rows]
    except KeyError:
        return [row.get(name) for row in rows]


def _array(values: list[Any]) -> Any:
    """JSON values as one column: of their own type, or as text where clients sent several.

    Numbers that no one type of Arrow holds (a whole one beyond 64 bits, or beyond 53 among fractions) are doubles.
    """
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass
    if all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values):
        return pa.array([None if value is None else _double(value) for value in values], pa.float64())
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _double(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # a whole number of more than 308 digits


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _together(tables: Sequence[pa.Table]) -> pa.Table:
    """One table; a column that has several types in several segments becomes the wider one, or text."""
    types: dict[str, set[pa.DataType]] = {}
    for table in tables:
        for column in table.schema:
            if not pa.types.is_null(column.type):
                types.setdefault(column.name, set()).add(column.type)
    target = {name: _wider(found) for name, found in types.items()}
    cast = []
    for table in tables:
        columns: dict[str, Any] = {}
        for column in table.schema:
            wanted = target.get(column.name, column.type)
            columns[column.name] = table[column.name] if column.type == wanted else _cast(table[column.name], wanted)
        cast.append(pa.table(columns))
    return pa.concat_tables(cast, promote_options="default")


def _wider(types: set[pa.DataType]) -> pa.DataType:
    if len(types) == 1:
        return next(iter(types))
    return pa.float64() if types == {pa.int64(), pa.float64()} else pa.string()


def _cast(column: Any, wanted: pa.DataType) -> Any:
    if pa.types.is_string(wanted):
        return pa.array([None if value is None else _text(value) for value in column.to_pylist()], pa.string())
    return column.cast(wanted, safe=False)  # a whole number beyond 53 bits is the double next to it


def _first_answers(table: pa.Table) -> pa.Table:
    """Rows in order of event time, without later answers to the same client id."""
    if not table.num_rows:
        return table
    codes = table["rid"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    answered = np.lexsort((table["t"].cast(pa.int64()).to_numpy(), codes))
    first = np.ones(len(answered), dtype=bool)
    first[1:] = codes[answered][1:] != codes[answered][:-1]
    return table.take(pa.array(np.sort(answered[first])))


def _find_in_files(ws: Workspace, model: str, name: str) -> dict[str, Any] | None:
    needle = name.encode()
    best: FullLine | None = None
    shadow: FullLine | None = None
    where = ""
    for path in segment.sources(segment.folder(ws.project.state, model)):
        hits = decode_with_row([payload for payload in segment.read(path)[0] if needle in payload])
        for line in hits:
            if name in (line.id, line.rid) and not line.sh and (best is None or line.t < best.t):
                best, where = line, path.name
        if best is not None:
            shadow = next((line for line in hits if line.sh == best.id), shadow)
    if best is None:
        return None
    found = {key: getattr(best, key) for key in FIXED if key not in ("sh", "lc", "ls")}
    seen = None if shadow is None else {"rel": shadow.rel, "y": shadow.y, "c": shadow.c, "st": shadow.st}
    return {**found, "x": best.x or {}, "model": model, "source": where, "segment": "", "shadow": seen}


def _find_in_segment(ws: Workspace, piece: records.SegmentRecord, name: str) -> dict[str, Any] | None:
    path = ws.objects.path(piece.segment)
    column = "id" if name.startswith("pred_") else "rid"
    places = pq.read_table(path, columns=[column, "sh"])
    mask = pc.and_(pc.equal(places[column], name), pc.equal(places["sh"], ""))
    if not pc.any(mask).as_py():
        return None
    table = pq.read_table(path, filters=[(column, "==", name)])
    rows = sorted((row for row in table.to_pylist() if not row["sh"]), key=lambda row: row["t"])
    row = rows[0]
    shadows = pq.read_table(path, filters=[("sh", "==", row["id"])]).to_pylist()
    found = {key: row[key] for key in FIXED if key not in ("sh", "lc", "ls")}
    found["t"] = int(row["t"].timestamp() * 1e6)
    seen = {key: shadows[0][key] for key in ("rel", "y", "c", "st")} if shadows else None
    x = {key[2:]: value for key, value in row.items() if key.startswith("x_") and value is not None}
    if row["refused"]:
        x = msgspec.json.decode(row["refused"])
    place = {"model": piece.model, "source": piece.source, "segment": piece.segment}
    return {**found, "x": x, **place, "shadow": seen}


def _sealed_models(ws: Workspace) -> list[str]:
    with ws.ledger.read() as tx:
        return records.logged_models(tx)
