"""What a step gives while a pipeline is read: a promise of a value, which says of every use but one what to do instead.

Python would let many of those uses pass: a promise equals nothing and prints as an address, and a pipeline that
compares or formats one would be another than its author meant, without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from noria.core.errors import ProjectError
from noria.pipeline.bindings import Ref

__all__ = ["Result"]

_INSIDE = "do it inside a step: a pipeline only says which step takes whose result"
_BRANCH = "let a step decide, and name the ways: nr.branch(STEP(...), {True: lambda: ..., False: lambda: ...})"
_EACH = "STEP.map(RESULT) calls a step for each item; a step with -> tuple[A, B] can be unpacked"


def _refused(what: str, hint: str = _INSIDE) -> Any:
    """A method that needs the value, and so says that there is none yet."""

    def refuse(self: Result, *_: object, **__: object) -> NoReturn:
        raise self.refusal(what, hint)

    return refuse


class Result:
    """What a step gives while a pipeline is read: a promise, not a value.

    It can be passed to steps and, if the step is annotated with a fixed tuple, unpacked. Anything
    else needs the value, which does not exist yet, and is refused.
    """

    __slots__ = ("_count", "_node", "_output")

    def __init__(self, node: str, output: int, count: int) -> None:
        object.__setattr__(self, "_node", node)
        object.__setattr__(self, "_output", output)
        object.__setattr__(self, "_count", count)

    def reference(self) -> Ref:
        """The output that this promise stands for."""
        if self._count > 1:
            raise ProjectError(
                f"step {self._node} gives {self._count} values; unpack them before passing them on",
                hint=f"write: {self._unpacked()}",
            )
        return Ref(self._node, self._output)

    @property
    def told(self) -> str:
        """Whose result it is."""
        return f"step {self._node}"

    def refusal(self, what: str, hint: str = _INSIDE) -> ProjectError:
        """The error of a use that needs the value."""
        return ProjectError(
            f"{what} needs the value of step {self._node}, which does not exist while the pipeline is read", hint=hint
        )

    def _unpacked(self) -> str:
        return f"{', '.join('abcdefgh'[: self._count])} = {self._node}(...)"

    def __iter__(self) -> Iterator[Result]:
        if self._count == 1:
            raise self.refusal("a loop, or unpacking,", _EACH)
        return iter([Result(self._node, index, 1) for index in range(self._count)])

    def __getitem__(self, index: Any) -> Any:
        if self._count == 1:
            raise self.refusal(f"[{index!r}]" if isinstance(index, int | str) else "[...]")
        if not isinstance(index, int | slice) or (isinstance(index, int) and not -self._count <= index < self._count):
            raise ProjectError(
                f"step {self._node} gives {self._count} values, and none at [{index!r}]",
                hint=f"write: {self._unpacked()}",
            )
        return [Result(self._node, each, 1) for each in range(self._count)][index]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in Result.__slots__:  # one that is only being made has none of them yet
            raise AttributeError(name)
        raise self.refusal(f".{name}")

    def __setattr__(self, name: str, value: object) -> None:
        raise self.refusal(f"setting .{name}")

    def __repr__(self) -> str:
        return f"<the result of step {self._node}, not made yet>"

    __hash__ = object.__hash__

    def __copy__(self) -> Result:
        return self

    def __deepcopy__(self, _known: dict[int, Any]) -> Result:
        return self

    __reduce_ex__ = _refused("a pickle of it")
    __bool__ = _refused("a condition (if, while, and, or, not)", _BRANCH)
    __eq__ = _refused("==", _BRANCH)
    __ne__ = _refused("!=", _BRANCH)
    __lt__ = _refused("<", _BRANCH)
    __le__ = _refused("<=", _BRANCH)
    __gt__ = _refused(">", _BRANCH)
    __ge__ = _refused(">=", _BRANCH)
    __contains__ = _refused("in", _BRANCH)

    __str__ = _refused("print(...), str(...)", "print it inside a step; noria pipeline logs STEP shows what it printed")
    __format__ = _refused("a text with it in braces")
    __len__ = _refused("len(...)")
    __int__ = _refused("int(...)")
    __float__ = _refused("float(...)")
    __complex__ = _refused("complex(...)")
    __index__ = _refused(
        "range(...), or its use as an index,", "let a step give the list, and STEP.map(LIST) go over it"
    )
    __round__ = _refused("round(...)")
    __abs__ = _refused("abs(...)")
    __bytes__ = _refused("bytes(...)")
    __fspath__ = _refused("a path")
    __array__ = _refused("an array of it")
    __reversed__ = _refused("reversed(...)", _EACH)
    __call__ = _refused("calling it")
    __setitem__ = _refused("setting an item")
    __delitem__ = _refused("deleting an item")
    __enter__ = _refused("with")
    __exit__ = _refused("with")
    __await__ = _refused("await", "call the step without await: the executor runs steps beside each other")

    __add__ = __radd__ = _refused("+")
    __sub__ = __rsub__ = __neg__ = _refused("-")
    __mul__ = __rmul__ = _refused("*")
    __truediv__ = __rtruediv__ = _refused("/")
    __floordiv__ = __rfloordiv__ = _refused("//")
    __mod__ = __rmod__ = _refused("%")
    __divmod__ = __rdivmod__ = _refused("divmod(...)")
    __pow__ = __rpow__ = _refused("**")
    __matmul__ = __rmatmul__ = _refused("@")
    __and__ = __rand__ = _refused("&")
    __or__ = __ror__ = _refused("|")
    __xor__ = __rxor__ = _refused("^")
    __lshift__ = __rlshift__ = _refused("<<")
    __rshift__ = __rrshift__ = _refused(">>", "call one step with the result of the other: that is their order")
    __invert__ = _refused("~")
