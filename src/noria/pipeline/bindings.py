"""What the parameters of a step are bound to, as values: constants, data sets, outputs of other nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from noria.core.frozen import frozen

__all__ = ["Binding", "Const", "DatasetRole", "Group", "Guard", "Ref", "Stored", "Undecided", "leaves", "same_label"]


@frozen
class DatasetRole:
    """A data set as a pipeline sees it: its name, and which columns are key, event time and label."""

    name: str
    key: str = ""
    time: str = ""
    label: str = ""


@frozen
class Ref:
    """The output of another node; `output` is its position among the node's outputs."""

    node: str
    output: int = 0


@frozen
class Const:
    """A plain value that the pipeline function or the default of the parameter gives."""

    value: Any


@frozen
class Stored:
    """A value that is in the object store already: what a `Ref` becomes once its node is over."""

    digest: str
    type: str
    size_bytes: int = 0


@frozen
class Group:
    """Several bindings in one argument: `kind` is list, tuple or dict; `keys` are those of a dict."""

    kind: str
    items: tuple[Binding, ...]
    keys: tuple[str, ...] = ()


@frozen
class Guard:
    """A node runs only if a decision fell this way: `on` gave `label`, or none of `others` where label is None."""

    on: Ref
    label: str | int | bool | None
    others: tuple[str | int | bool, ...] = ()

    def allows(self, decision: Any) -> bool:
        """Whether the decision is for this branch. True is not 1 here."""
        if self.label is None:
            return not any(same_label(decision, other) for other in self.others)
        return same_label(decision, self.label)


Binding = Ref | DatasetRole | Const | Group | Stored


@frozen
class Undecided:
    """What a step gave where a text, a whole number, True or False was wanted: a table, an array, an object."""

    kind: str

    def __repr__(self) -> str:
        return f"a value of {self.kind}"


def same_label(decision: Any, label: Any) -> bool:
    """Whether a decision names a branch: equal, and of the same type."""
    if type(decision).__module__ == "numpy" and hasattr(decision, "item"):
        decision = decision.item()  # np.str_("small") is the text, np.True_ the truth
    return type(decision) is type(label) and bool(decision == label)


def leaves(binding: Binding) -> Iterator[Ref | DatasetRole | Const | Stored]:
    """The bindings inside groups, in order."""
    if isinstance(binding, Group):
        for item in binding.items:
            yield from leaves(item)
    else:
        yield binding
