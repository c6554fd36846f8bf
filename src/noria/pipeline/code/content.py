"""The canonical hash of a value that code refers to: a constant, a container, an array, an object.

Equal values hash equally in every process; what has no canonical value (an open connection, a
generator) is refused by name, so that a step is never cached on a guess. Functions, classes and
modules inside a value are handed to the caller, who knows how to hash code.
"""

from __future__ import annotations

import collections
import contextvars
import copyreg
import datetime
import enum
import functools
import hashlib
import io
import itertools
import os
import pathlib
import random
import re
import sys
import threading
import types
import typing
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from noria.core.lazy import is_one, lazy
from noria.pipeline.code.states import state_of

__all__ = ["CHANGEABLE", "Opaque", "content_hash"]

np = lazy("numpy")
pa = lazy("pyarrow")

Refer = Callable[[Any], str]
"""Gives the token of a function, class or module inside a value."""

_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_CODE = (types.FunctionType, types.BuiltinFunctionType, type, types.ModuleType, types.MethodDescriptorType)
_MORE_CODE = (types.WrapperDescriptorType, types.MethodWrapperType, types.ClassMethodDescriptorType)
_BUILT_IN = (types.BuiltinFunctionType, types.MethodWrapperType)
_REFUSED = (io.IOBase, types.GeneratorType, types.CoroutineType, types.FrameType)
_PLAIN = (datetime.date, datetime.timedelta, datetime.timezone, uuid.UUID, range, slice, bytearray)
_PLAIN_ELSEWHERE = ("decimal.Decimal", "fractions.Fraction")
_MOMENTS = (datetime.datetime, datetime.time)
_PATHS = (pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath, os.PathLike)
CHANGEABLE = (
    *(list, dict, set, bytearray, collections.deque, collections.OrderedDict, collections.defaultdict),
    *(io.StringIO, io.BytesIO),
)
"""What can be changed in place: for it, the same object twice is not the same as two equal ones."""
_SHARED = "a shared {} changes with every use; make it inside the step"
_GENERATORS = {"random": "random", "numpy.random.mtrand": "numpy.random"}  # whose methods a module hands out
_RANDOM = ("numpy.random.Generator", "numpy.random.RandomState", "numpy.random.BitGenerator", "torch.Generator")
_LOGGERS = ("logging.Logger", "logging.LoggerAdapter")
_ITERATORS = ("builtins", "itertools")
_REDUCERS = ("__reduce__", "__reduce_ex__", "__getstate__", "__getnewargs__", "__getnewargs_ex__")
_WHOLE = tuple(vars(copyreg)[name] for name in ("__newobj__", "__newobj_ex__", "_reconstructor"))
"""How Python itself reduces an object: with all that it holds."""
_SCALARS = (bool, int, str, bytes, type(None), type(Ellipsis), type(NotImplemented))


class Opaque(Exception):
    """A value without a canonical form; `reason` is for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def content_hash(value: object, refer: Refer, *, root: str = "") -> str:
    """The sha-256 (hex) of a value's canonical form; absolute paths under `root` are made relative.

    Raises: Opaque if the value, or something in it, has no canonical form.
    """
    writer = _Writer(refer, root)
    try:
        writer.write(value)
    except RecursionError:
        raise Opaque(f"a {_kind(value)} is nested too deeply") from None
    except Opaque:
        raise
    except Exception as error:  # the boundary to the project's code: a look at an object may run its properties
        raise Opaque(f"a {_kind(value)} raises {type(error).__name__} when it is looked at") from error
    return writer.hash.hexdigest()


class _Writer:
    """Feeds the canonical form of one value to a hash; remembers what it is inside of, and what it has met."""

    def __init__(self, refer: Refer, root: str) -> None:
        self.hash = hashlib.sha256()
        self._refer = refer
        self._root = root
        self._inside: dict[int, int] = {}
        self._met: dict[int, int] = {}
        self._kept: list[object] = []

    def write(self, value: Any) -> None:
        if isinstance(value, enum.Enum):
            self._tag(f"enum:{value.name}")
            if isinstance(value, enum.Flag):  # bits that no member has are in no name
                self._tag(f"bits:{value.value:x}")
            self._code(type(value))
            return
        kind = type(value)
        if kind is str:
            self._tag(f"str:{self._relative(value)!r}")
        elif kind is int:
            self._tag(f"int:{value:x}")  # a text of its decimal digits has a limit
        elif kind in _SCALARS:
            self._tag(f"{kind.__name__}:{value!r}")
        elif kind is float:
            self._tag(f"float:{value.hex()}")
        elif id(value) in self._inside:
            self._tag(f"cycle:{self._inside[id(value)]}")
        elif id(value) in self._met:
            self._tag(f"again:{self._met[id(value)]}")
        else:
            self._inside[id(value)] = len(self._inside)
            self._kept.append(value)  # its id must stay its own until we are through
            if kind in CHANGEABLE:
                self._met[id(value)] = len(self._met)
            self._compound(value)
            del self._inside[id(value)]

    def _compound(self, value: Any) -> None:
        for handler in (self._plain, self._container, self._callable, self._array, self._compiled, self._object):
            if handler(value):
                return
        raise Opaque(f"a {_kind(value)} has no canonical value")

    def _tag(self, text: str) -> None:
        content = text.encode("utf-8", "surrogatepass")
        self.hash.update(str(len(content)).encode() + b":" + content)

    def _code(self, value: object) -> None:
        self._tag(self._refer(value))

    def _plain(self, value: Any) -> bool:
        kind = type(value)
        if kind is complex:
            self._tag(f"complex:{value.real.hex()},{value.imag.hex()}")
        elif isinstance(value, pathlib.PurePath) or kind is os.PathLike:
            system = "windows " if isinstance(value, pathlib.PureWindowsPath) else ""
            self._tag(f"{system}path:{self._relative(str(value))}")
            if kind not in _PATHS:
                self._code(kind)
                self.write(getattr(value, "__dict__", {}))
        elif any(value is each for each in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)):
            self._tag("output stream")  # what is written there is in the step's log, wherever that leads
        elif isinstance(value, re.Pattern):
            self._tag(f"pattern:{value.pattern!r}:{value.flags}")
        elif kind in _PLAIN or (is_one(value, *_PLAIN_ELSEWHERE) and kind.__module__ in ("decimal", "fractions")):
            self._tag(f"{kind.__name__}:{value!r}")
        elif kind in _MOMENTS:
            self._tag(f"{kind.__name__}:{value.replace(tzinfo=None)!r}")
            self.write(value.tzinfo)
        elif is_one(value, "zoneinfo.ZoneInfo") and kind.__module__ == "zoneinfo" and value.key:
            self._tag(f"zone:{value.key}")
        elif is_one(value, *_LOGGERS):
            self._tag("logger")  # what is logged does not change a result; levels count where code asks for them
            self._code(type(value))
        elif _is_typing(value):
            self._type(value)
        else:
            return self._in_process(value)
        return True

    def _in_process(self, value: Any) -> bool:
        """What only lives in a process: by what code can ask it."""
        if isinstance(value, _LOCKS):
            self._tag("lock" if repr(value).startswith("<unlocked") else "lock:held")
        elif isinstance(value, threading.local):
            self._tag("local")
            self._code(type(value))
            self.write(vars(value))
        elif isinstance(value, contextvars.ContextVar):
            self._tag(f"contextvar:{value.name}")
            for context in (contextvars.Context(), contextvars.copy_context()):  # its default; what was set
                self.write(context.run(_values_of, value))
        elif isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
            raise Opaque(_SHARED.format("random generator"))
        elif isinstance(value, weakref.ref):
            raise Opaque("a weak reference leads to nothing once its object is gone; refer to the object itself")
        elif type(value) is itertools.repeat and len(value.__reduce__()[1]) == 1:  # without an end: it never changes
            self._tag("repeat")
            self.write(value.__reduce__()[1])
        elif type(value).__module__ in _ITERATORS and hasattr(type(value), "__next__"):
            raise Opaque(_SHARED.format(f"iterator ({type(value).__name__})"))
        else:
            return False
        return True

    def _type(self, value: Any) -> None:
        """A type for people and checkers: how it is written, and the classes that it is of."""
        self._tag(f"type:{value!r}")
        parts = typing.get_args(value)
        if isinstance(value, typing.NewType):
            parts = (value.__supertype__,)
        elif isinstance(value, typing.TypeVar):
            parts = (value.__bound__, *value.__constraints__)
        for part in parts:
            for each in part if isinstance(part, list) else (part,):
                if isinstance(each, type) or _is_typing(each):
                    self.write(each)

    def _relative(self, text: str) -> str:
        if self._root and (text == self._root or text.startswith(self._root + os.sep)):
            return "project:" + text[len(self._root) + 1 :]
        return text

    def _container(self, value: Any) -> bool:
        kind = type(value)
        if kind in (list, tuple, collections.deque):
            bound = f" of {value.maxlen}" if kind is collections.deque else ""
            self._tag(f"{kind.__name__}:{len(value)}{bound}")
            for item in value:
                self.write(item)
        elif kind.__name__ == "_NamespacePath":  # the folders of a package without an __init__.py
            self.write(list(value))
        elif isinstance(value, tuple) and hasattr(value, "_fields"):
            self._code(kind)
            for item in value:
                self.write(item)
        elif kind in (set, frozenset):
            self._tag(f"{kind.__name__}:{len(value)}")
            for text in sorted(self._alone(item) for item in value):
                self._tag(text)
        elif kind in (dict, collections.OrderedDict, types.MappingProxyType, collections.Counter):
            self._mapping(kind.__name__, value)
        elif kind is collections.defaultdict:
            self.write(value.default_factory)
            self._mapping("defaultdict", value)
        else:
            return False
        return True

    def _mapping(self, name: str, value: Mapping[Any, Any]) -> None:
        self._tag(f"{name}:{len(value)}")
        for key, item in value.items():
            self.write(key)
            self.write(item)

    def _alone(self, value: object) -> str:
        return content_hash(value, self._refer, root=self._root)

    def _callable(self, value: Any) -> bool:
        if isinstance(value, functools.partial):
            self._tag("partial")
            for part in (value.func, value.args, dict(value.keywords)):
                self.write(part)
        elif isinstance(value, types.MethodType) and not _is_of_random(value):
            self._tag("method")
            self.write(value.__func__)
            self.write(value.__self__)
        elif isinstance(value, _BUILT_IN) and _is_method(value):
            self._tag(f"method:{value.__name__}")
            self.write(value.__self__)
        elif isinstance(value, (*_CODE, *_MORE_CODE, types.MethodType)):
            self._code(value)
        elif isinstance(value, staticmethod | classmethod):
            self._tag(type(value).__name__)
            self.write(value.__func__)
        elif isinstance(value, property):
            self._tag("property")
            for accessor in (value.fget, value.fset, value.fdel):
                self.write(accessor)
        elif isinstance(value, functools.cached_property):
            self._tag("cached_property")
            self.write(value.func)
        elif self._is_wrapper(value):
            self._tag(f"wrapped:{_kind(value)}")  # functools.lru_cache and its like
            self.write(value.__wrapped__)
        elif _is_named(value):
            self._code(value)
        else:
            return False
        return True

    def _is_wrapper(self, value: Any) -> bool:
        """Whether it is a library's object around a function. One of the project's own classes says more itself."""
        if not callable(value) or not isinstance(getattr(value, "__wrapped__", None), types.FunctionType):
            return False
        return not self._refer(type(value)).startswith("#")

    def _array(self, value: Any) -> bool:
        root = type(value).__module__.partition(".")[0]
        if root == "numpy" and type(value) in (np.ndarray, np.memmap):
            order = ":F" if value.flags.fnc else ""
            self._tag(f"ndarray:{_dtype(value)}:{value.shape}{order}{'' if value.flags.writeable else ':fixed'}")
            if value.dtype.hasobject:
                for item in value.ravel().tolist():
                    self.write(item)
            else:
                self.hash.update(np.ascontiguousarray(value).tobytes())
        elif root == "numpy" and isinstance(value, np.generic):
            self._tag(f"scalar:{_dtype(value)}")
            self.hash.update(value.tobytes())
        elif root == "numpy" and isinstance(value, np.dtype | np.ufunc):
            self._tag(f"{type(value).__name__}:{value!r}")
        elif root == "numpy" and value is getattr(sys.modules.get("numpy.random.mtrand"), "_rand", None):
            self._tag("generator of numpy.random")  # that of its functions, which scipy's distributions draw from
        elif is_one(value, *_RANDOM):
            raise Opaque(_SHARED.format("random generator"))
        elif root == "pyarrow" and isinstance(value, pa.Table | pa.RecordBatch):
            table = value if isinstance(value, pa.Table) else pa.Table.from_batches([value])
            self._tag(f"arrow:{table.schema.to_string(truncate_metadata=False)}")
            self.write(table.to_pydict())
        elif root == "polars" and type(value).__name__ in ("DataFrame", "Series"):  # `pl.col` has every attribute
            self._tag(f"polars:{(value.name, value.dtype) if hasattr(value, 'dtype') else value.schema}")
            self.write(value.to_list() if hasattr(value, "dtype") else value.to_dict(as_series=False))
        else:
            return False
        return True

    def _compiled(self, value: Any) -> bool:
        """A value of a compiled type that tells its state, and not by pickle."""
        found = state_of(value)
        if found is None:
            return False
        name, parts = found
        self._tag(f"state:{name}:{len(parts)}")
        for part in parts:
            self.write(part)
        return True

    def _object(self, value: Any) -> bool:
        """Any other object: by what pickle would rebuild it from, which must be canonical itself."""
        if isinstance(value, _REFUSED) or (isinstance(value, BaseException) and value.__traceback__):
            return False
        try:
            reduced = _reduced(value)
        except Exception as error:  # any class may fail to reduce, in any way
            raise Opaque(f"a {_kind(value)} has no canonical value ({type(error).__name__})") from error
        parts = () if isinstance(reduced, str) else reduced
        self._tag(f"object:{len(parts)}" if parts else f"global:{reduced}")
        kind = self._refer(type(value))
        is_own = kind.startswith("#")
        if is_own:  # the project's own, which can be changed in place
            self._met[id(value)] = len(self._met)
        self._tag(kind)
        for part in parts[:3]:
            self.write(part)
        for part in parts[3:5]:
            self.write(None if part is None else list(part))
        if is_own and (not parts or parts[0] not in _WHOLE or self._reduces_itself(value)):
            self.write(self._held(value))
        return True

    def _reduces_itself(self, value: Any) -> bool:
        """Whether the project says what is kept of an object: it may leave out what its code asks for."""
        found = (getattr(type(value), name, None) for name in _REDUCERS)
        return any(isinstance(each, types.FunctionType) and self._refer(each).startswith("#") for each in found)

    def _held(self, value: Any) -> dict[str, Any]:
        """What an object of the project holds, in its attributes and in slots of its classes."""
        held = dict(getattr(value, "__dict__", {}))
        for kind in type(value).__mro__:
            slots = vars(kind).get("__slots__", ())
            if slots and self._refer(kind).startswith("#"):
                for name in (slots,) if isinstance(slots, str) else tuple(slots):
                    mangled = f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") else name
                    if hasattr(value, mangled):
                        held[f"slot {name}"] = getattr(value, mangled)
        return held


def _reduced(value: Any) -> str | Sequence[Any]:
    reducer = copyreg.dispatch_table.get(type(value))
    return reducer(value) if reducer is not None else value.__reduce_ex__(4)


def _dtype(value: Any) -> str:
    """The dtype of an array or scalar, with the names of its fields."""
    return str(value.dtype.str) if value.dtype.names is None else repr(value.dtype)


def _is_method(value: Any) -> bool:
    """Whether something compiled is a method of a value (`TABLE.get`), and not a module's or a class's own."""
    owner = value.__self__
    if owner is None or isinstance(owner, types.ModuleType | type) or _is_of_random(value):
        return False
    return not isinstance(getattr(value, "__module__", None), str)


def _is_of_random(value: Any) -> bool:
    """Whether it is a function of `random` or `numpy.random`: they are methods of a generator that nobody names."""
    module = _GENERATORS.get(type(value.__self__).__module__)
    return module is not None and vars(sys.modules[module]).get(value.__name__) == value


def _is_named(value: Any) -> bool:
    """Whether it is a compiled function of some other kind than Python's own, which its module has by its name."""
    if not callable(value) or getattr(value, "__dict__", None) or hasattr(type(value), "__slots__"):
        return False
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    return isinstance(module, str) and getattr(sys.modules.get(module), str(name), None) is value


def _values_of(variable: contextvars.ContextVar[Any]) -> list[Any]:
    """What a variable has in the context that asks; nothing where it has none."""
    try:
        return [variable.get()]
    except LookupError:
        return []


def _is_typing(value: object) -> bool:
    if isinstance(value, types.GenericAlias | types.UnionType | typing.TypeVar):
        return True
    return type(value).__module__ in ("typing", "typing_extensions") and not callable(getattr(value, "__next__", None))


def _kind(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
