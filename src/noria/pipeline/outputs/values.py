"""What steps pass to each other, as objects: written and read without loss, the same for equal values.

pandas, polars, Arrow and numpy keep their types through Arrow; tensors come back on the CPU; plain
values are JSON; containers hold any of these. Estimators are pickles, read only under an allow-list, and
only if their digest is named by a fact of this workspace. What cannot be kept exactly is refused by name.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.errors import Corrupt, Denied, NoriaError, StepFailed
from noria.core.frozen import frozen
from noria.core.identity import is_digest
from noria.core.lazy import lazy
from noria.core.printable import error_line
from noria.pipeline import sources
from noria.pipeline.outputs.arrow import read_ipc, write_ipc
from noria.pipeline.outputs.plain import CONTAINERS, Unstorable, from_json, to_json
from noria.pipeline.step import Result, Step
from noria.store import pickles
from noria.store.objects import Objects
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import pickle

    from noria.pipeline.outputs import frames
else:
    pickle = lazy("pickle")
    frames = lazy("noria.pipeline.outputs.frames")

__all__ = [
    "FORMATS",
    "Unstorable",
    "Value",
    "document",
    "elements",
    "list_of",
    "load",
    "part",
    "places",
    "read",
    "refused",
    "store",
]

np = lazy("numpy")
pa = lazy("pyarrow")
torch = lazy("torch")

FORMATS: Mapping[str, int] = {"plain": 2, "pandas": 1, "arrow": 2, "polars": 1, "numpy": 2, "torch": 1, "pickle": 1}
"""The serialisers and their versions; a change of bytes is a new version, which enters the step key."""

SMALL_BYTES = 4 << 10
"""What fits into a line of a run's journal."""

_LIBRARIES = frozenset({"sklearn", "numpy", "scipy", "pandas", "joblib", "xgboost", "lightgbm", "threadpoolctl"})
_MAKERS = frozenset(
    {"_reconstruct", "scalar", "dtype", "ndarray", "_frombuffer", "newObj", "_unpickle_block", "new_block"}
    | {"bool", "bool_", "float16", "float32", "float64", "int8", "int16", "int32", "int64"}
    | {"uint8", "uint16", "uint32", "uint64", "str_", "bytes_", "datetime64", "timedelta64"}
    | {"void", "longdouble", "clongdouble", "matrix", "recarray", "record"}
    | {f"{kind}_{form}" for kind in ("bsr", "coo", "csc", "csr", "dia", "dok", "lil") for form in ("matrix", "array")}
)
"""Functions, beside classes and Cython's own, that the libraries' pickles call to make an object anew."""

_PLAIN_NAMES = {
    "builtins": frozenset(
        {"set", "frozenset", "slice", "range", "complex", "bytearray", "bytes", "object"}
        | {"float", "int", "str", "bool", "list", "tuple", "dict"}
    ),
    "collections": frozenset(
        {"OrderedDict", "defaultdict", "deque", "Counter", "ChainMap", "UserDict", "UserList", "UserString"}
    ),
    "types": frozenset({"SimpleNamespace"}),
    "pyarrow.lib": frozenset({"_restore_array", "py_buffer", "type_for_alias"}),  # texts of pandas, which Arrow holds
    "copyreg": frozenset({"_reconstructor", "__newobj__"}),
    "functools": frozenset({"partial"}),
    "re": frozenset({"_compile"}),
    "ipaddress": frozenset(
        {f"IPv{version}{kind}" for version in (4, 6) for kind in ("Address", "Network", "Interface")}
    ),
    "datetime": frozenset({"datetime", "date", "time", "timedelta", "timezone"}),
    "decimal": frozenset({"Decimal"}),
    "pathlib": frozenset({"PosixPath", "PurePosixPath"}),
    "_codecs": frozenset({"encode"}),
}
_REFUSED = frozenset({"sklearn.utils._testing", "numpy.testing", "scipy._lib._testutils", "pandas.io.clipboard"})


@frozen
class Value:
    """A stored value: its object, the serialiser that wrote it, and its size."""

    digest: str
    type: str
    size_bytes: int = 0


def store(objects: Objects, value: Any, *, root: Path | None = None, is_soon: bool = False) -> Value:
    """Write a value; a small one with `is_soon` when the store is settled next.

    Args:
        root: the project's folder, by which `read` will decide what a pickle may name. What it would refuse is
            not written. Without it nobody asks.
    Raises: Unstorable with a reason for people if it cannot be kept without loss, or could not be read back.
    """
    kind, content = _encoded(objects, value, root)
    is_held = is_soon and len(content) <= SMALL_BYTES
    return Value(objects.put_soon(content) if is_held else objects.put_bytes(content), kind, len(content))


def load(ws: Workspace, value: Value) -> Any:
    """Read a value that a fact of this workspace names.

    Raises: Denied for a pickle that no fact names, or that names what is not allowed; StepFailed if its class
    does not make it again; Corrupt; NotFound.
    """
    if value.type == "pickle" and not ws.ledger.facts(ref=value.digest, limit=1):
        raise Denied("no fact of this workspace names that pickle; it was not loaded", where=value.digest)
    return read(ws.objects, value, ws.project.root)


def read(objects: Objects, value: Value, root: Path) -> Any:
    """Read a value that the caller knows to be this workspace's own; pickles under the allow-list only."""
    if value.type in ("pandas", "arrow", "polars"):
        return _read_table(objects, value)
    content = objects.get_bytes(value.digest)
    if value.type == "numpy":
        return np.load(io.BytesIO(content), allow_pickle=False)
    if value.type == "torch":
        return torch.from_numpy(np.load(io.BytesIO(content), allow_pickle=False))
    if value.type == "pickle":
        return _unpickled(content, root)
    if value.type == "plain":
        return from_json(json.loads(content), lambda part: _read_part(objects, part, root))
    raise Corrupt(f"a stored value has the unknown type {value.type!r}", where=value.digest)


def _unpickled(content: bytes, root: Path) -> Any:
    """The object of a pickle, made by its class: what that raises is the project's failure. Raises: StepFailed."""
    try:
        return pickles.loads(content, _allowed(root))
    except (NoriaError, MemoryError):
        raise
    except Exception as error:  # the boundary to the project's code, which may raise anything
        raise StepFailed(
            f"the kept {_named_in(content)} cannot be loaded: {error_line(error, 200)}",
            where=sources.failed_at(error, root),
            hint="pickle.loads(pickle.dumps(it)) must give it back: mend the class, then run its step again",
        ) from error


def _named_in(content: bytes) -> str:
    """What a pickle is of, for people: what it names first of the project's own, else of all."""
    named = sorted(pickles.globals_of(content))
    own = [each for each in named if each[0].partition(".")[0] not in _LIBRARIES and each[0] not in _PLAIN_NAMES]
    return next((f"object of {module}.{name}" for module, name in own or named), "object")


def refused(content: bytes, root: Path, *, is_made_here: bool = False) -> str:
    """The first thing that a pickle names and `read` does not allow; "" if there is none. Raises: Denied.

    With `is_made_here` what a notebook's cells define is let pass: their kernel hands it on, and makes it again.
    """
    is_allowed = _allowed(root)
    names = sorted(each for each in pickles.globals_of(content) if not (is_made_here and each[0] == "__main__"))
    return next((f"{module}.{name}" for module, name in names if not is_allowed(module, name)), "")


def list_of(objects: Objects, items: Sequence[Sequence[Value]]) -> Value:
    """A list of values that are stored already, as one value: nothing is read. Several values a place are a tuple."""
    places: list[Any] = []
    for item in items:
        named = [{"$": "value", "digest": value.digest, "type": value.type} for value in item]
        places.append(named[0] if len(named) == 1 else {"$": "tuple", "v": named})
    content = json.dumps(places, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    return Value(objects.put_bytes(content), "plain", len(content))


def places(objects: Objects, value: Value) -> list[tuple[Value, ...]]:
    """The stored values of each place of a list that `list_of` made. Raises: NotFound; Corrupt."""
    found = json.loads(objects.get_bytes(value.digest))
    named = [item["v"] if item["$"] == "tuple" else [item] for item in found]
    return [tuple(Value(each["digest"], each["type"]) for each in item) for item in named]


def elements(objects: Objects, value: Value) -> list[Value | Any] | None:
    """The places of a stored list: stored parts as values, what is plain as JSON; None if it is no list."""
    if value.type != "plain":
        return None
    found = json.loads(objects.get_bytes(value.digest))
    if not isinstance(found, list):
        return None
    return [Value(each["digest"], each["type"]) if _is_stored(each) else each for each in found]


def document(objects: Objects, told: Any) -> Value:
    """A plain value that is JSON already, as an object of its own."""
    content = json.dumps(told, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    return Value(objects.put_bytes(content), "plain", len(content))


def part(objects: Objects, told: Any, root: Path) -> Any:
    """One place of a stored list as the value that it is."""
    return from_json(told, lambda inner: _read_part(objects, inner, root))


def _is_stored(told: Any) -> bool:
    return isinstance(told, dict) and told.get("$") == "value"


def _read_table(objects: Objects, value: Value) -> Any:
    content = objects.get_bytes(value.digest)
    if value.type == "pandas":
        return frames.read_frame(content)
    table = read_ipc(content)
    if value.type == "arrow":
        return _batch_of(table) if (table.schema.metadata or {}).get(b"noria.arrow") == b"batch" else table
    polars = lazy("polars")
    kind = table.schema.metadata.get(b"noria.polars", b"frame")
    frame = polars.from_arrow(table.replace_schema_metadata(None))
    return frame.to_series(0) if kind == b"series" else frame


def _read_part(objects: Objects, part: Mapping[str, Any], root: Path) -> Any:
    if part.get("$") != "value" or not is_digest(str(part.get("digest"))):
        raise Corrupt("a stored value holds a part that cannot be read")
    return read(objects, Value(part["digest"], part["type"]), root)


def _encoded(objects: Objects, value: Any, root: Path | None) -> tuple[str, bytes]:
    try:
        return _direct(value) or _encoded_parts(objects, value, root)
    except RecursionError:
        raise Unstorable(
            f"a {type(value).__name__} is nested too deeply", "return a flat list, a table, or an array"
        ) from None


def _encoded_parts(objects: Objects, value: Any, root: Path | None) -> tuple[str, bytes]:
    # a class derived from one of these is no plain value: JSON would give back the one it is derived from
    if type(value) in CONTAINERS or _is_plain(value):
        document = to_json(value, lambda part: _write_part(objects, part, root))
        text = json.dumps(document, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
        return "plain", text.encode("ascii")
    return "pickle", _pickled(value, root)


def _write_part(objects: Objects, part: Any, root: Path | None) -> dict[str, Any]:
    stored = store(objects, part, root=root)
    return {"$": "value", "digest": stored.digest, "type": stored.type}


def _is_plain(value: Any) -> bool:
    try:
        to_json(value)
    except Unstorable:
        return False
    return True


def _direct(value: Any) -> tuple[str, bytes] | None:
    """The bytes of a table or an array; None for anything else. A library that is not imported has no values."""
    for module, names, write in _WRITERS:
        library = sys.modules.get(module)
        if library is None:
            continue
        kinds = tuple(getattr(library, name) for name in names)
        if isinstance(value, kinds) and _is_whole(value, module, kinds):
            return write(value)
    return None


def _is_whole(value: Any, module: str, kinds: tuple[type, ...]) -> bool:
    """Whether the writer keeps all of a value. Of a class that is derived from one of its own it would not."""
    kind = type(value)
    if kind in kinds or module == "torch" or (module == "polars" and _is_of(kind, "polars")):
        return True
    if module == "numpy":
        return kind is np.memmap  # an array whose bytes happen to be in a file
    return module == "pandas" and isinstance(value, kinds[-1]) and _is_of(kind, "pandas")  # the kinds of an Index


def _is_of(kind: type, library: str) -> bool:
    return kind.__module__.partition(".")[0] == library


def _write_pandas(value: Any) -> tuple[str, bytes]:
    return "pandas", frames.write_frame(value)


def _write_arrow(value: Any) -> tuple[str, bytes]:
    if isinstance(value, pa.Table):
        return "arrow", write_ipc(value)
    return "arrow", write_ipc(pa.Table.from_batches([value]), {"noria.arrow": "batch"})


def _batch_of(table: Any) -> Any:
    metadata = {name: each for name, each in table.schema.metadata.items() if name != b"noria.arrow"}
    whole = table.replace_schema_metadata(metadata or None).combine_chunks()
    batches = whole.to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=whole.schema)


def _write_polars(value: Any) -> tuple[str, bytes]:
    is_series = type(value).__name__ == "Series"
    table = value.to_frame().to_arrow() if is_series else value.to_arrow()
    return "polars", write_ipc(table, {"noria.polars": "series" if is_series else "frame"})


def _write_numpy(value: Any) -> tuple[str, bytes]:
    if value.dtype.hasobject:
        raise Unstorable("an array of objects cannot be kept without loss", "use a DataFrame, or a list")
    sink = io.BytesIO()
    np.save(sink, np.asarray(value), allow_pickle=False)
    return "numpy", sink.getvalue()


def _write_torch(value: Any) -> tuple[str, bytes]:
    if type(value).__name__ != "Tensor" or value.requires_grad or str(value.layout) != "torch.strided":
        kind = type(value).__name__
        raise Unstorable(f"a {kind} that is more than its numbers cannot be kept without loss", "keep tensor.detach()")
    try:
        numbers = value.cpu().resolve_conj().resolve_neg().numpy()
    except TypeError as error:
        raise Unstorable(f"a tensor of {value.dtype} cannot be kept without loss", "keep tensor.float()") from error
    sink = io.BytesIO()
    np.save(sink, np.asarray(numbers, order="C"), allow_pickle=False)
    return "torch", sink.getvalue()


_WRITERS: tuple[tuple[str, tuple[str, ...], Callable[[Any], tuple[str, bytes]]], ...] = (
    ("pandas", ("DataFrame", "Series", "Index"), _write_pandas),
    ("polars", ("DataFrame", "Series"), _write_polars),
    ("pyarrow", ("Table", "RecordBatch"), _write_arrow),
    ("numpy", ("ndarray",), _write_numpy),
    ("torch", ("Tensor",), _write_torch),
)


def _pickled(value: Any, root: Path | None) -> bytes:
    """A pickle of an estimator or a project's own object. Raises: Unstorable, also if it could not be read back."""
    module = type(value).__module__
    try:
        content = _dumped(value)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise Unstorable(f"a {module}.{type(value).__qualname__} cannot be stored: {error}") from error
    try:
        named = refused(content, root or Path(), is_made_here=True)
    except Denied as error:
        raise Unstorable(f"a {type(value).__qualname__} could not be read back: {error.message}") from error
    if named and root is not None:
        raise Unstorable(
            f"a {module}.{type(value).__qualname__} could not be read back: it holds {named}",
            "return what it is made of (numbers, texts, tables), and make it anew in the step that uses it",
        )
    return content


def _dumped(value: Any) -> bytes:
    """The same bytes for an array that was made here and for its copy that was read back.

    A pickle tells which of its objects are one and the same, and an array that was read back has a
    type object of its own, equal to numpy's: a training that went on from a checkpoint would have
    another digest than one that was not interrupted.
    """

    class _Pickler(pickle.Pickler):
        def reducer_override(self, thing: Any) -> Any:
            if isinstance(thing, Step | Result):
                raise _not_made(thing)
            numpy = sys.modules.get("numpy")
            if numpy is None or not isinstance(thing, numpy.ndarray) or thing.dtype.kind not in "biufc":
                return NotImplemented
            make, given, *rest = thing.__reduce_ex__(5)
            return make, tuple(_plain_dtype(each) for each in given), *(_with_plain_dtypes(each) for each in rest)

    made = io.BytesIO()
    _Pickler(made, protocol=5).dump(value)
    return made.getvalue()


def _not_made(thing: Step[..., Any] | Result) -> Unstorable:
    """Why a step itself, or the promise of its result, is no value: it is named, not how a pickle fails of it."""
    if isinstance(thing, Result):
        return Unstorable(
            f"it is or holds the result of {thing.told}, which the pipeline function only promises",
            "give that result to the step as an argument",
        )
    return Unstorable(
        f"it is or holds the step {thing.name} itself, not what that gives",
        f"write {thing.name}(…), which in a step is a plain call; a function that is to be kept has no @nr.step",
    )


def _plain_dtype(part: Any) -> Any:
    return np.dtype(part.str) if isinstance(part, np.dtype) else part


def _with_plain_dtypes(part: Any) -> Any:
    return tuple(_plain_dtype(each) for each in part) if type(part) is tuple else part


def _is_of_cells(name: str) -> bool:
    """Whether a cell of the notebook that runs here has defined a class of that name; what it imported is none."""
    made = vars(sys.modules["__main__"]).get(name)
    return isinstance(made, type) and made.__module__ == "__main__"


def _allowed(root: Path) -> Callable[[str, str], bool]:
    """Whether a pickle may name something: estimator libraries, a few plain types, the project's own modules."""

    def is_allowed(module: str, name: str) -> bool:
        top = module.partition(".")[0]
        if any(module == refused or module.startswith(refused + ".") for refused in _REFUSED):
            return False
        if module in _PLAIN_NAMES:
            return name in _PLAIN_NAMES[module]
        if "." in name:
            return False  # a dotted name reaches through a module's imports
        if module == "__main__":
            return _is_of_cells(name)
        if module == "numpy" and isinstance(getattr(np, name, None), np.ufunc):
            return True  # FunctionTransformer(np.log1p) and its like
        if top in _LIBRARIES:
            return name[0].isupper() or name in _MAKERS or name.startswith(("_", "__pyx_unpickle"))
        return (root / f"{top}.py").is_file() or (root / top / "__init__.py").is_file()

    return is_allowed
