"""The estimators that a process has fitted: what they took, what they were measured on, where they were kept.

Models and their data are known by weak references: nothing here keeps them alive. The exception are rows that
were made for a question alone (`model.predict(test[columns])`): they are kept for as long as the answer is there,
up to a limit. A few rows of what a model was fitted on, and the labelled rows that it was scored on, are written
to the capture at once.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import weakref
from typing import TYPE_CHECKING, Any

from noria.core.errors import UsageError
from noria.core.frozen import slotted
from noria.engines.autolog.rows import bytes_of, columns_of, count_of, sample, width_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from noria.scripts.recorder import Recorder

__all__ = ["Models", "models_of"]

FIT_ROWS = 2000
SCORED_ROWS = 100_000
FILES_LIMIT = 20
REMEMBERED = 64
HELD_BYTES = 256 << 20
"""So much of rows that models were asked is kept alive at a time, while the answers are."""
_INNER = ("best_estimator_", "_Booster")
"""Where an estimator holds a model that answers as it does itself."""


@slotted(eq=False)
class Fit:
    """One fit: a weak reference to the model and to its rows."""

    number: int
    model: Any
    rows: Any
    label: Any
    kept: str = ""
    is_needed: bool = False


@slotted(eq=False)
class Asked:
    """What a model answered: weak references to the answer and to the rows it was asked; `held` are the same rows,
    kept alive until the answer goes.

    `answer` is of the array that owns the answer's memory, since a library may give a view of one, which `proba[:, 1]`
    does not keep alive; `extent` is the part of the memory that the answer takes.
    """

    answer: Any
    rows: Any
    number: int
    extent: tuple[int, int] | None = None
    held: Any = None
    held_bytes: int = 0

    def let_go(self, _: object = None) -> None:
        """The rows are nobody's any more."""
        self.held, self.held_bytes = None, 0


@slotted(eq=False)
class Wrapped:
    """An object of a library (`DMatrix`, `Dataset`) that was made of rows: weak references to it, to the rows and to
    their label; `held` are the rows and the label, kept alive as long as the object is."""

    holder: Any
    rows: Any
    label: Any
    held: Any = None
    held_bytes: int = 0

    def let_go(self, _: object = None) -> None:
        """The rows are nobody's any more."""
        self.held, self.held_bytes = None, 0


@slotted(eq=False)
class Scored:
    """Labelled rows that a model was scored on: weak references to both, and the file that holds them."""

    rows: Any
    truth: Any
    number: int
    kept: str


class Models:
    """What this process knows of its models."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._fits: list[Fit] = []
        self._asked: list[Asked] = []
        self._made: list[tuple[Any, str]] = []
        self._scored: list[Scored] = []
        self._tables = 0
        self._wrapped: list[Wrapped] = []
        self._files: dict[str, str] = {}
        self.keepers: dict[str, Callable[[Any, str], str]] = {}
        self._count = 0

    def fitted(self, model: Any, rows: Any, label: Any, *, began: float, seconds: float, told: dict[str, Any]) -> None:
        """A model was fitted. `told` are its parameters and what more its library knows."""
        self._count += 1
        number = self._count
        self._forget(model)
        kept = self._write(f"fit-{number}", rows, label, FIT_ROWS) if _is_model(model) else ""
        self._fits.append(Fit(number, _weak(model, hard=False), _weak(rows), _weak(label), kept))
        known = {
            "number": number,
            "name": type(model).__name__,
            "module": type(model).__module__,
            "began": began,
            "seconds": seconds,
            "rows": count_of(rows),
            "width": width_of(rows),
            "columns": columns_of(rows),
            "label": str(getattr(label, "name", "") or ""),
            "kept": kept,
            "after": self._maker(rows),
            "is_model": _is_model(model),
        }
        self._recorder.tell("fit", **(known | told))

    def _forget(self, model: Any) -> None:
        """Let go of the rows of models that are gone, or fitted anew, and were not written: a search by hand
        makes thousands."""
        gone = [each for each in self._fits if each.model() is None or each.model() is model]
        self._fits = [each for each in self._fits if each not in gone]
        dropped = {each.number for each in gone if not each.is_needed}
        files = {each.kept for each in gone if not each.is_needed}
        files |= {each.kept for each in self._scored if each.number in dropped}
        self._scored = [each for each in self._scored if each.number not in dropped]
        for file in files - {each.kept for each in self._scored} - {""}:
            os.unlink(file)  # noqa: PTH108  # as everywhere in this process

    def wrapped(self, holder: Any, rows: Any, label: Any) -> None:
        """An object of a library was made of rows and their label, which it does not give back."""
        made = Wrapped(_weak(holder), _weak(rows), _weak(label))
        self._wrapped = [*self._wrapped[-REMEMBERED:], made]
        if not self._recorder.depth.calls:  # inside an estimator's call the script holds the rows that count
            made.holder = self._held_with(made, holder, (rows, label), bytes_of(rows)) or made.holder

    def _held_with(self, made: Asked | Wrapped, owner: Any, held: Any, size: int) -> Any:
        """Keep rows alive as long as their owner is: the reference to it; None if it has none, or at the limit."""
        taken = sum(each.held_bytes for each in self._asked) + sum(each.held_bytes for each in self._wrapped)
        if taken + size > HELD_BYTES:
            return None
        with contextlib.suppress(TypeError):  # an owner that can have no weak reference tells no end
            reference = weakref.ref(owner, made.let_go)
            made.held, made.held_bytes = held, size
            return reference
        return None

    def inside(self, holder: Any) -> tuple[Any, Any]:
        """The rows and the label that such an object was made of; None where they are gone, or it is none."""
        for each in reversed(self._wrapped):
            if holder is not None and each.holder() is holder:
                return each.held or (each.rows(), each.label())
        return None, None

    def transformed(self, transformer: Any, result: Any) -> None:
        """A transformer gave a table: who is fitted on it takes what the transformer gives."""
        self._made = [*self._made[-REMEMBERED:], (_weak(result), type(transformer).__name__)]

    def asked(self, model: Any, rows: Any, answer: Any) -> None:
        """A model answered for some rows."""
        number = self.number_of(model)
        if not number:
            return
        owner = _owner(answer, rows)
        made = Asked(_weak(owner), _weak(rows), number, _extent(answer))
        self._asked = [*self._asked[-REMEMBERED:], made]
        made.answer = self._held_with(made, owner, rows, bytes_of(rows)) or made.answer

    def measured(self, truth: Any, answer: Any) -> int:
        """A metric compared a truth with an answer: the fit whose model gave it (0: unknown), its rows written."""
        for each in reversed(self._asked):
            held = each.answer()
            if held is not None and _is_inside(answer, held, each.extent):
                rows = each.rows() if each.held is None else each.held
                if rows is not None:
                    self.scored_on(each.number, rows, truth)
                return each.number
        return 0

    def scored_on(self, number: int, rows: Any, truth: Any) -> None:
        """A model was scored on labelled rows: they are kept once, however many models they are for."""
        if count_of(rows) != count_of(truth):
            return
        fit = next((each for each in self._fits if each.number == number), None)
        is_same = fit is not None and fit.rows() is rows
        known = [each for each in self._scored if each.rows() is rows and each.truth() is truth]
        if any(each.number == number for each in known):
            return
        if known:
            kept = known[0].kept
        else:
            self._tables += 1
            kept = "" if is_same else self._write(f"scored-{self._tables}", rows, truth, SCORED_ROWS)
        self._scored = [*self._scored[-REMEMBERED:], Scored(_weak(rows), _weak(truth), number, kept)]
        self._recorder.tell("scored", number=number, kept=kept, rows=count_of(rows), is_training=is_same)

    def number_of(self, model: Any) -> int:
        """The number of the fit of a model, or of the search whose best estimator it is; 0 if unknown."""
        for each in reversed(self._fits):
            found = each.model()
            if found is not None and (found is model or any(vars(found).get(name) is model for name in _INNER)):
                return each.number
        return 0

    def dumped(self, value: Any, path: Any) -> None:
        """A value was written to a file: if it is a model, it is kept in a form that can be loaded elsewhere."""
        name = getattr(path, "name", path)
        if not isinstance(name, (str, bytes, os.PathLike)):
            return
        place = os.path.abspath(os.fsdecode(name))  # noqa: PTH100  # as the audit hook writes it
        if place.startswith(self._recorder.folder):
            return
        number = self.number_of(value)
        fit = next((each for each in self._fits if each.number == number), None)
        owner = None if fit is None else fit.model()
        if fit is not None:
            fit.is_needed = True
        if owner is not None and vars(owner).get("_Booster") is value:
            value = owner  # the booster of an estimator, which alone knows its classes
        is_model = bool(number) or (hasattr(value, "predict") and not isinstance(value, type))
        kept = self._keep(value, place) if is_model else ""
        self._recorder.tell("dump", path=place, number=number, name=type(value).__name__, kept=kept, is_model=is_model)

    def at_end(self) -> None:
        """The models that the script's own module still holds when it ends."""
        if getattr(sys, "last_type", None) is not None:
            return  # it failed: nothing of it is used
        space = vars(sys.modules["__main__"])
        seen: set[int] = set()
        for name, value in list(space.items()):
            if name.startswith("_") or id(value) in seen:
                continue
            number = self.number_of(value)
            if number and _is_model(value):
                seen.add(id(value))
                self._recorder.tell(
                    "alive", variable=name, number=number, name=type(value).__name__, kept=self._keep(value, name)
                )

    def _maker(self, rows: Any) -> str:
        for made, name in reversed(self._made):
            if rows is not None and made() is rows:
                return str(name)
        return ""

    def _keep(self, model: Any, key: str) -> str:
        """The model by cloudpickle, with the script's own classes by value, so that another process can load it."""
        if key not in self._files and len(self._files) >= FILES_LIMIT:
            self._recorder.tell("problem", text=f"more than {FILES_LIMIT} models were kept; {key} is not looked at")
            return ""
        place = self._files.setdefault(key, self._recorder.place(f"model-{len(self._files) + 1}"))
        keeper = self.keepers.get(type(model).__module__.partition(".")[0])
        if keeper is not None:
            return keeper(model, place)  # in the library's own format
        pickler = _pickler()
        marked = _own_modules((*self._recorder.config["ignored"], *self._recorder.config["system"]))
        for module in marked:
            pickler.register_pickle_by_value(module)
        try:
            with open(place, "wb") as file:  # noqa: PTH123  # as everywhere in this process
                pickler.dump(model, file)
        finally:
            for module in marked:
                pickler.unregister_pickle_by_value(module)
        return place

    def _write(self, name: str, rows: Any, label: Any, most: int) -> str:
        taken = sample(rows, most)
        if taken is None:
            return ""
        place = self._recorder.place(name)
        content = {
            "rows": taken,
            "label": sample(label, most) if count_of(label) == count_of(rows) else None,
            "label_name": str(getattr(label, "name", "") or ""),
            "total": count_of(rows),
        }
        with open(place, "wb") as file:  # noqa: PTH123  # as everywhere in this process
            file.write(pickle.dumps(content, protocol=5))
        return place


def models_of(recorder: Recorder) -> Models:
    """The models of a process; made at the first question."""
    found = recorder.memory.get("models")
    if found is None:
        found = recorder.memory["models"] = Models(recorder)
        recorder.at_end.append(found.at_end)
    assert isinstance(found, Models)
    return found


def _pickler() -> Any:
    """cloudpickle, or the copy that joblib carries. Raises: UsageError if there is neither."""
    try:
        import cloudpickle
    except ModuleNotFoundError:
        try:
            from joblib.externals import cloudpickle
        except ModuleNotFoundError as error:
            raise UsageError(
                "a model of a class of one's own is kept with cloudpickle: pip install cloudpickle"
            ) from error
    return cloudpickle


def _own_modules(others: tuple[str, ...]) -> list[Any]:
    """The loaded modules that are neither installed nor Python's; `__main__` goes by value without being asked."""
    named = [(name, module, getattr(module, "__file__", None)) for name, module in sys.modules.copy().items()]
    return [
        module
        for name, module, file in named
        if name not in ("__main__", "__mp_main__")
        and isinstance(file, str)
        and not file.startswith(("<", *others))
        and "site-packages" not in file
    ]


def _is_model(value: Any) -> bool:
    """Whether it answers: an estimator that predicts, or a network."""
    return hasattr(value, "predict") or hasattr(value, "forward")


def _weak(value: Any, *, hard: bool = True) -> Any:
    """A weak reference; for what can have none (lists), nothing, so that no data is held."""
    try:
        return weakref.ref(value)
    except TypeError:
        return (lambda: None) if hard else (lambda: value)


def _bases(answer: Any) -> list[Any]:
    """An array and the arrays that it is a view of: `proba[:, 1]` belongs to `proba`."""
    found: list[Any] = []
    while answer is not None and len(found) < 8:
        found.append(answer)
        answer = getattr(answer, "base", None)
    return found


def _owner(answer: Any, rows: Any) -> Any:
    """Of an answer and the arrays that it is a view of, the last that can be known by a weak reference.

    Where an answer is a piece of the rows themselves, it is the answer.
    """
    bases = _bases(answer)
    shared = {id(each) for each in _bases(rows)}
    if any(id(each) in shared for each in bases):
        return answer
    known = [each for each in bases if getattr(type(each), "__weakrefoffset__", 0)]
    return known[-1] if known else answer


def _extent(answer: Any) -> tuple[int, int] | None:
    """The part of the memory that an array takes; None for what is none."""
    told = getattr(answer, "__array_interface__", None)
    if not isinstance(told, dict) or 0 in told["shape"]:
        return None
    begin = end = int(told["data"][0])
    for length, stride in zip(told["shape"], answer.strides, strict=True):
        begin += min(0, (length - 1) * stride)
        end += max(0, (length - 1) * stride)
    return begin, end + int(answer.itemsize)


def _is_inside(part: Any, owner: Any, extent: tuple[int, int] | None) -> bool:
    """Whether a value is an answer, or a piece of it: of the same memory, and no other piece of that."""
    if not any(owner is one for one in _bases(part)):
        return False
    taken = _extent(part)
    return extent is None or taken is None or (extent[0] <= taken[0] and taken[1] <= extent[1])
