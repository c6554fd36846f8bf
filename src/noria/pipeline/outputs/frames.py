"""pandas frames and series as Arrow without loss: dtypes, index, column names, attrs.

What Arrow does not say (which pandas dtype, how null was written, the frequency of an index) is in
metadata of our own. A column that cannot be kept exactly, such as one that mixes types, is refused
by name; nothing is guessed or turned into text.
"""

from __future__ import annotations

import base64
import datetime
import json
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy
from noria.pipeline.outputs.arrow import read_ipc, write_ipc
from noria.pipeline.outputs.plain import Unstorable, from_json, to_json

if TYPE_CHECKING:
    import decimal
else:
    decimal = lazy("decimal")

__all__ = ["read_frame", "write_frame"]

np = lazy("numpy")
pa = lazy("pyarrow")
pd = lazy("pandas")

META = "noria"
_NULLS = ("none", "nan", "na", "nat")
Spec = dict[str, Any]


def write_frame(value: Any) -> bytes:
    """IPC bytes of a DataFrame, a Series or an Index. Raises: Unstorable naming the column."""
    kind = "frame"
    if isinstance(value, pd.Series):
        kind, value = (
            "series",
            value.to_frame(name="value" if value.name is None else value.name).set_axis(
                pd.Index([value.name], dtype=object), axis=1
            ),
        )
    elif isinstance(value, pd.Index):
        kind, value = "index", pd.DataFrame(index=value)
    arrays: list[Any] = []
    specs = []
    for position, name in enumerate(value.columns):
        specs.append(_encode(value.iloc[:, position].array, arrays, f"column {name!r}"))
    index = _encode_index(value.index, arrays, "the index")
    names = _field_names(value.columns, len(arrays))
    document = {
        "format": "pandas/1",
        "kind": kind,
        "rows": len(value),
        "columns": specs,
        "index": index,
        "names": _small_index(value.columns),
        "attrs": to_json(_plain_attrs(value)),
    }
    table = pa.Table.from_arrays(arrays, names=names)
    return write_ipc(table, {META: json.dumps(document, separators=(",", ":"))})


def read_frame(source: Any) -> Any:
    """The value of `write_frame`, from bytes or a path. Its arrays are its own and writable."""
    table = read_ipc(source)
    document = json.loads(table.schema.metadata[META.encode()])
    columns = [_single(column) for column in table.columns]
    index = _decode_index(document["index"], columns, document["rows"])
    if document["kind"] == "index":
        return index
    names = _read_small_index(document["names"])
    data = {position: _decode(spec, columns) for position, spec in enumerate(document["columns"])}
    # as series: of a bare array of objects or texts, pandas infers a type of its own
    whole = {position: pd.Series(each, dtype=each.dtype, index=index, copy=False) for position, each in data.items()}
    frame = pd.DataFrame(whole, index=index) if whole else pd.DataFrame(index=index)
    frame.columns = names
    if document["kind"] == "series":
        made = frame.iloc[:, 0]
        made.name = names[0]
        made.attrs = from_json(document["attrs"])
        return made
    frame.attrs = from_json(document["attrs"])
    return frame


def _plain_attrs(value: Any) -> Any:
    try:
        to_json(dict(value.attrs))
    except Unstorable as error:
        raise Unstorable(f"attrs hold {error.reason}", "keep plain values in attrs") from error
    return dict(value.attrs)


def _field_names(columns: Any, count: int) -> list[str]:
    """The frame's own names where they can be field names, so that other tools read them."""
    names = list(columns)
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        names = [f"c{position}" for position in range(len(names))]
    taken = set(names)
    extra = (name for name in (f"__index_{position}" for position in range(count + len(taken))) if name not in taken)
    return names + [next(extra) for _ in range(count - len(names))]


def _single(column: Any) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


# Arrays. `arrays` collects Arrow arrays; a spec says which of them it needs, and how to go back.


def _encode(values: Any, arrays: list[Any], what: str) -> Spec:
    if isinstance(values, pd.arrays.NumpyExtensionArray) and not isinstance(values.dtype, pd.StringDtype):
        values = values.to_numpy()
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _encode_categorical(values, arrays, what)
    if isinstance(dtype, pd.SparseDtype):
        inner = _encode(pd.Series(np.asarray(values)).array, arrays, what)
        return {"kind": "sparse", "fill": to_json(_python(dtype.fill_value)), "of": inner}
    if isinstance(dtype, pd.PeriodDtype):
        ordinals = np.asarray(values.asi8)
        return {"kind": "period", "freq": dtype.freq.freqstr, **_put(arrays, pa.array(ordinals))}
    if isinstance(dtype, pd.IntervalDtype):
        sides = [_encode_index(side, arrays, what) for side in (values.left, values.right)]
        return {"kind": "interval", "closed": dtype.closed, "sides": sides}
    if isinstance(dtype, pd.DatetimeTZDtype):
        array = pa.array(values.asi8, type=pa.int64(), mask=np.asarray(values.isna()))
        zone = str(dtype.tz)
        return {"kind": "zoned", "unit": dtype.unit, "zone": zone, **_put(arrays, _timestamps(array, dtype.unit, zone))}
    if isinstance(dtype, pd.StringDtype):
        missing = "nan" if dtype.na_value is np.nan else "na"
        array = pa.array(np.asarray(values, dtype=object), type=pa.large_string(), from_pandas=True)
        return {"kind": "string", "storage": dtype.storage, "missing": missing, **_put(arrays, array)}
    if isinstance(dtype, pd.ArrowDtype):
        return {"kind": "arrow", **_put(arrays, _arrow_of(values))}
    if isinstance(dtype, np.dtype):
        return _encode_numpy(np.asarray(values), arrays, what)
    if isinstance(
        values, pd.arrays.IntegerArray | pd.arrays.FloatingArray | pd.arrays.BooleanArray
    ):  # Int64, Float32, boolean and their kin
        return {"kind": "masked", "dtype": dtype.name, **_put(arrays, _arrow_of(values))}
    raise Unstorable(f"{what} has dtype {dtype}, which no serialiser keeps", "turn it into a pandas dtype first")


def _put(arrays: list[Any], array: Any) -> Spec:
    arrays.append(array)
    return {"at": len(arrays) - 1}


def _arrow_of(values: Any) -> Any:
    array = values.__arrow_array__()
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _timestamps(integers: Any, unit: str, zone: str | None) -> Any:
    try:
        return integers.cast(pa.timestamp(unit, tz=zone))
    except pa.ArrowInvalid:  # a zone that Arrow does not know by this name: the spec keeps it
        return integers.cast(pa.timestamp(unit))


def _encode_categorical(values: Any, arrays: list[Any], what: str) -> Spec:
    codes = np.asarray(values.codes)
    levels: list[Any] = []
    spec = _encode_index(values.categories, levels, f"the categories of {what}")
    indices = pa.array(codes.astype("int32"), mask=codes < 0)
    if len(levels) == 1 and spec["kind"] == "array" and not levels[0].null_count:
        array = pa.DictionaryArray.from_arrays(indices, levels[0], ordered=bool(values.ordered))
        return {"kind": "category", "ordered": bool(values.ordered), "levels": spec, **_put(arrays, array)}
    small = _pack(levels, spec, len(values.categories))
    return {"kind": "category", "ordered": bool(values.ordered), "packed": small, **_put(arrays, indices)}


def _encode_numpy(values: Any, arrays: list[Any], what: str) -> Spec:
    kind = values.dtype.kind
    if kind in "biuf" and values.dtype.itemsize <= 8:
        native = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("="), copy=False)
        return {"kind": "numpy", "dtype": values.dtype.str, **_put(arrays, pa.array(native, from_pandas=False))}
    if kind in "mM":
        unit = np.datetime_data(values.dtype)[0]
        integers = np.ascontiguousarray(values).view("int64")
        array = pa.array(integers, mask=np.isnat(values))
        if unit in ("s", "ms", "us", "ns"):
            array = array.cast(pa.timestamp(unit) if kind == "M" else pa.duration(unit))
        return {"kind": "numpy", "dtype": values.dtype.str, **_put(arrays, array)}
    if kind in "cf":
        size = values.dtype.itemsize
        raw = pa.Array.from_buffers(
            pa.binary(size), len(values), [None, pa.py_buffer(np.ascontiguousarray(values).tobytes())]
        )
        return {"kind": "raw", "dtype": values.dtype.str, **_put(arrays, raw)}
    if kind == "O":
        return _encode_objects(values, arrays, what)
    raise Unstorable(f"{what} has dtype {values.dtype}, which no serialiser keeps")


# Object columns: one Python type, and nulls written as they were.


def _null_kind(value: Any) -> int:
    """Position in `_NULLS` plus one; 0 if it is not a null."""
    if value is None:
        return 1
    if type(value) is float and value != value:
        return 2
    if value is pd.NA:
        return 3
    return 4 if value is pd.NaT else 0


def _encode_objects(values: Any, arrays: list[Any], what: str) -> Spec:
    nulls = np.fromiter((_null_kind(item) for item in values), dtype=np.int8, count=len(values))
    present = [item for item, null in zip(values, nulls, strict=True) if not null]
    kinds = list(dict.fromkeys(type(item) for item in present))
    if len(kinds) > 1:
        found = " and ".join(sorted(kind.__name__ for kind in kinds)[:3])
        raise Unstorable(f"{what} mixes {found}", "give the column one type, for example with .astype(str)")
    name, array = _object_array(kinds[0] if kinds else type(None), values, nulls, what)
    spec: Spec = {"kind": "object", "of": name, **_put(arrays, array)}
    used = np.unique(nulls[nulls > 0])
    if len(used) > 1:
        spec["nulls"] = _put(arrays, pa.array(nulls))["at"]
    elif len(used) == 1:
        spec["null"] = _NULLS[int(used[0]) - 1]
    return spec


def _object_array(kind: type, values: Any, nulls: Any, what: str) -> tuple[str, Any]:
    items = [None if null else item for item, null in zip(values, nulls, strict=True)]
    types = {
        type(None): pa.null(),
        str: pa.large_string(),
        bytes: pa.large_binary(),
        bool: pa.bool_(),
        float: pa.float64(),
        datetime.date: pa.date32(),
    }
    try:
        if kind is decimal.Decimal:
            array = _decimals(items)
            if array is not None:
                return "Decimal", array
        elif kind in types:
            return kind.__name__, pa.array(items, type=types[kind], from_pandas=False)
        elif kind is int and all(item is None or -(2**63) <= item < 2**63 for item in items):
            return "int", pa.array(items, type=pa.int64())
        elif kind is uuid.UUID:
            return "UUID", pa.array([None if item is None else item.bytes for item in items], type=pa.binary(16))
        elif kind is np.ndarray:
            return _object_ndarrays(items, what)
        texts = [None if item is None else json.dumps(_cell(item), separators=(",", ":")) for item in items]
        return "json", pa.array(texts, type=pa.large_string())
    except Unstorable as error:
        raise Unstorable(f"{what} holds {error.reason}", error.hint) from error
    except (pa.ArrowException, UnicodeEncodeError) as error:
        raise Unstorable(f"{what} holds a {kind.__name__} that Arrow cannot keep") from error


def _cell(item: Any) -> Any:
    if isinstance(item, pd.Timestamp | pd.Timedelta):
        zone = str(item.tz) if isinstance(item, pd.Timestamp) and item.tz is not None else ""
        return {"$": type(item).__name__, "v": str(item.value if item.unit == "ns" else item.as_unit("ns").value)} | {
            "unit": item.unit,
            "zone": zone,
        }
    return to_json(item, _cell_part)


def _cell_part(item: Any) -> Any:
    if isinstance(item, pd.Timestamp | pd.Timedelta):
        return _cell(item)
    raise Unstorable(f"a {type(item).__name__}", "store such objects as an output of their own")


def _read_cell(document: Any) -> Any:
    kind = document["$"]
    if kind == "Timestamp":
        moment = pd.Timestamp(int(document["v"]), unit="ns").as_unit(document["unit"])
        return moment.tz_localize("UTC").tz_convert(document["zone"]) if document["zone"] else moment
    return pd.Timedelta(int(document["v"]), unit="ns").as_unit(document["unit"])


def _decimals(items: Sequence[Any]) -> Any:
    """A decimal128 array if all have one scale and fit; else None (they go as text)."""
    scales = {item.as_tuple().exponent for item in items if item is not None}
    digits = [len(item.as_tuple().digits) for item in items if item is not None]
    if len(scales) != 1 or not all(isinstance(scale, int) and -38 <= scale <= 0 for scale in scales):
        return None
    scale = -int(next(iter(scales)))
    if (
        max(digits) > 38
        or scale > 38
        or any(item is not None and item.is_zero() and item.is_signed() for item in items)
    ):
        return None
    return pa.array(items, type=pa.decimal128(38, scale))


def _object_ndarrays(items: Sequence[Any], what: str) -> tuple[str, Any]:
    shapes = {(item.dtype.str, item.ndim) for item in items if item is not None}
    dtype, dimensions = next(iter(shapes))
    if len(shapes) > 1 or dimensions != 1 or np.dtype(dtype).kind not in "biuf":
        raise Unstorable("arrays of several dtypes or dimensions", "give each cell one dtype")
    native = np.dtype(dtype).newbyteorder("=")
    return f"ndarray:{dtype}", pa.array(
        [None if item is None else item.astype(native) for item in items],
        type=pa.large_list(pa.from_numpy_dtype(native)),
    )


def _decode(spec: Spec, columns: Sequence[Any]) -> Any:
    return _DECODERS[spec["kind"]](spec, columns)


def _decode_numpy(spec: Spec, columns: Sequence[Any]) -> Any:
    array, dtype = columns[spec["at"]], np.dtype(spec["dtype"])
    if dtype.kind in "mM":
        integers = array.cast(pa.int64())
        filled = integers.fill_null(np.iinfo("int64").min).to_numpy(zero_copy_only=False)
        return filled.copy().view(dtype)
    return np.array(array.to_numpy(zero_copy_only=False)).astype(dtype, copy=False)


def _decode_raw(spec: Spec, columns: Sequence[Any]) -> Any:
    array, dtype = columns[spec["at"]], np.dtype(spec["dtype"])
    return np.frombuffer(array.buffers()[1] or b"", dtype=dtype, count=len(array), offset=array.offset).copy()


def _decode_zoned(spec: Spec, columns: Sequence[Any]) -> Any:
    integers = columns[spec["at"]].cast(pa.int64()).fill_null(np.iinfo("int64").min).to_numpy(zero_copy_only=False)
    moments = pd.DatetimeIndex(integers.copy().view(f"datetime64[{spec['unit']}]"))
    return moments.tz_localize("UTC").tz_convert(spec["zone"]).array


def _decode_string(spec: Spec, columns: Sequence[Any]) -> Any:
    missing = np.nan if spec["missing"] == "nan" else pd.NA
    return pd.StringDtype(spec["storage"], na_value=missing).__from_arrow__(columns[spec["at"]])


def _decode_arrow(spec: Spec, columns: Sequence[Any]) -> Any:
    array = columns[spec["at"]]
    return pd.ArrowDtype(array.type).__from_arrow__(array)


def _decode_masked(spec: Spec, columns: Sequence[Any]) -> Any:
    return pd.api.types.pandas_dtype(spec["dtype"]).__from_arrow__(columns[spec["at"]])


def _decode_categorical(spec: Spec, columns: Sequence[Any]) -> Any:
    array = columns[spec["at"]]
    if "packed" in spec:
        categories, indices = _unpack(spec["packed"]), array
    else:
        categories, indices = _decode_index(spec["levels"], [array.dictionary], len(array.dictionary)), array.indices
    codes = indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(categories, ordered=spec["ordered"]))


def _decode_object(spec: Spec, columns: Sequence[Any]) -> Any:
    name = spec["of"]
    items = columns[spec["at"]].to_pylist()
    if name.startswith("ndarray:"):
        items = [None if item is None else np.array(item, dtype=name[8:]) for item in items]
    elif name == "UUID":
        items = [None if item is None else uuid.UUID(bytes=item) for item in items]
    elif name == "json":
        items = [None if item is None else from_json(json.loads(item), _read_cell) for item in items]
    made = np.empty(len(items), dtype=object)
    made[:] = items if items else []
    for position, item in enumerate(items):  # a list cell must not spread over the array
        made[position] = item
    values = (None, np.nan, pd.NA, pd.NaT)
    if "nulls" in spec:
        for position, null in enumerate(columns[spec["nulls"]].to_pylist()):
            if null:
                made[position] = values[null - 1]
    elif "null" in spec:
        filler = values[_NULLS.index(spec["null"])]
        for position, item in enumerate(items):
            if item is None:
                made[position] = filler
    return pd.Series(made, dtype=object).array


def _decode_period(spec: Spec, columns: Sequence[Any]) -> Any:
    ordinals = columns[spec["at"]].to_numpy(zero_copy_only=False).copy()
    return pd.arrays.PeriodArray(ordinals, dtype=pd.PeriodDtype(spec["freq"]))


def _decode_interval(spec: Spec, columns: Sequence[Any]) -> Any:
    sides = [_decode_index(side, columns, 0) for side in spec["sides"]]
    return pd.arrays.IntervalArray.from_arrays(*sides, closed=spec["closed"])


def _decode_sparse(spec: Spec, columns: Sequence[Any]) -> Any:
    dense = np.asarray(_decode(spec["of"], columns))
    return pd.arrays.SparseArray(dense, fill_value=dense.dtype.type(from_json(spec["fill"])))


_DECODERS: dict[str, Callable[[Spec, Sequence[Any]], Any]] = {
    "numpy": _decode_numpy,
    "raw": _decode_raw,
    "zoned": _decode_zoned,
    "string": _decode_string,
    "arrow": _decode_arrow,
    "masked": _decode_masked,
    "category": _decode_categorical,
    "object": _decode_object,
    "period": _decode_period,
    "interval": _decode_interval,
    "sparse": _decode_sparse,
}


# Indexes.


def _encode_index(index: Any, arrays: list[Any], what: str) -> Spec:
    if isinstance(index, pd.RangeIndex):
        return {"kind": "range", "name": _name(index.name), "range": [index.start, index.stop, index.step]}
    if isinstance(index, pd.MultiIndex):
        levels = [_small_index(level) for level in index.levels]
        codes = [_put(arrays, pa.array(np.asarray(code).astype("int32")))["at"] for code in index.codes]
        return {"kind": "multi", "names": [_name(name) for name in index.names], "levels": levels, "codes": codes}
    spec: Spec = {"kind": "array", "name": _name(index.name), "values": _encode(index.array, arrays, what)}
    frequency = getattr(index, "freq", None)
    if frequency is not None and not isinstance(index, pd.PeriodIndex):
        spec["freq"] = frequency.freqstr
    return spec


def _decode_index(spec: Spec, columns: Sequence[Any], rows: int) -> Any:
    if spec["kind"] == "range":
        return pd.RangeIndex(*spec["range"], name=from_json(spec["name"]))
    if spec["kind"] == "multi":
        codes = [columns[at].to_numpy(zero_copy_only=False) for at in spec["codes"]]
        levels = [_read_small_index(level) for level in spec["levels"]]
        names = [from_json(name) for name in spec["names"]]
        return pd.MultiIndex(levels=levels, codes=codes, names=names, verify_integrity=False)
    values = _decode(spec["values"], columns)
    dtype = object if spec["values"]["kind"] == "object" else None
    index = pd.Index(values, name=from_json(spec["name"]), dtype=dtype, copy=False)
    if "freq" in spec:
        index = index.copy()
        index.freq = spec["freq"]
    assert rows in (0, len(index)), "the index has another length than its frame"
    return index


def _small_index(index: Any) -> Spec:
    """An index inside the metadata itself: column names, levels, categories with nulls."""
    arrays: list[Any] = []
    return _pack(arrays, _encode_index(index, arrays, "the column names"), len(index))


def _pack(arrays: list[Any], spec: Spec, rows: int) -> Spec:
    table = pa.Table.from_arrays(arrays, names=[str(position) for position in range(len(arrays))])
    return {"spec": spec, "rows": rows, "data": base64.b64encode(write_ipc(table)).decode("ascii") if arrays else ""}


def _unpack(packed: Spec) -> Any:
    columns = []
    if packed["data"]:
        columns = [_single(column) for column in read_ipc(base64.b64decode(packed["data"])).columns]
    return _decode_index(packed["spec"], columns, packed["rows"])


def _read_small_index(packed: Spec) -> Any:
    return _unpack(packed)


def _name(name: Any) -> Any:
    try:
        return to_json(_python(name))
    except Unstorable as error:
        raise Unstorable(f"an index name is {error.reason}") from error


def _python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
