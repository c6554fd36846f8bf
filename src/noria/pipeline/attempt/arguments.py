"""The arguments of a step, made from what its parameters are bound to, in whichever process runs it.

`filled` puts stored values in the place of other nodes' outputs; `resolved` makes the arguments of
that: constants, tables, values read from the object store. `document` and `bindings_from` carry the
bindings to another process.
"""

from __future__ import annotations

import collections.abc
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy
from noria.pipeline.bindings import Binding, Const, DatasetRole, Group, Ref, Stored
from noria.pipeline.caching.keys import table_form
from noria.pipeline.define import PipelineDefinition
from noria.pipeline.executor import Task
from noria.pipeline.outputs import values
from noria.pipeline.outputs.plain import Unstorable, from_json, to_json
from noria.pipeline.outputs.values import Value
from noria.pipeline.step import StepNode

if TYPE_CHECKING:
    from noria.data.rows import read as data_read
else:  # many pipelines take no data set
    data_read = lazy("noria.data.rows.read")

__all__ = ["Uses", "bindings_from", "document", "filled", "resolved"]

pa = lazy("pyarrow")
pd = lazy("pandas")
_LAZY = (collections.abc.Iterable, collections.abc.Iterator)


class Uses:
    """Counts who still takes a value; `memory` holds values of this process by digest until their last use."""

    def __init__(self, definition: PipelineDefinition) -> None:
        self.memory: dict[str, Any] = {}
        self._left: dict[Ref, int] = {}
        for node in definition.nodes:
            for ref in node.references():
                self._left[ref] = self._left.get(ref, 0) + 1
        if definition.model is not None:  # it stays as its step returned it: its bundle is compared with it
            self._left[definition.model.model] = self._left.get(definition.model.model, 0) + 1

    def handed(self, node: StepNode, outputs: Mapping[str, Sequence[Value]]) -> dict[str, Any]:
        """The values in memory that a node is the last to take: they are handed over, not copied.

        One that runs over items takes each value many times, so it reads them from the store.
        """
        found: dict[str, Any] = {}
        for ref in node.references():
            self._left[ref] -= 1
            digest = outputs[ref.node][ref.output].digest
            if not self._left[ref] and digest in self.memory and digest not in found:
                found[digest] = self.memory.pop(digest)  # nobody else will see what this step does to it
            elif digest in found:
                found.pop(digest)  # taken twice by one call: each gets its own copy
        return {} if node.over else found


def filled(binding: Binding, outputs: Mapping[str, Sequence[Value]]) -> Binding:
    """The binding with stored values in the place of other nodes' outputs."""
    if isinstance(binding, Ref):
        value = outputs[binding.node][binding.output]
        return Stored(value.digest, value.type, value.size_bytes)
    if isinstance(binding, Group):
        return Group(binding.kind, tuple(filled(item, outputs) for item in binding.items), binding.keys)
    return binding


def resolved(task: Task) -> dict[str, Any]:
    """The arguments of a task by name. Raises: NotFound; Corrupt; Denied."""
    return {name: _argument(task, name, item) for name, item in task.bindings.items()}


def _argument(task: Task, name: str, binding: Binding) -> Any:
    if isinstance(binding, Const):
        return binding.value
    if isinstance(binding, DatasetRole):
        return _table(task, name, binding)
    if isinstance(binding, Group):
        items = [_argument(task, "", item) for item in binding.items]
        if binding.kind == "dict":
            return dict(zip(binding.keys, items, strict=True))
        return tuple(items) if binding.kind == "tuple" else items
    assert isinstance(binding, Stored), "what a task takes is over and stored"
    if binding.digest in task.given:
        return task.given.pop(binding.digest)
    value = Value(binding.digest, binding.type, binding.size_bytes)
    if binding.type == "plain" and name and _wants_one_at_a_time(task.node, name):
        return Parts(task, value)
    return values.read(task.ws.objects, value, task.definition.root)


def _wants_one_at_a_time(node: StepNode, name: str) -> bool:
    hint = node.step.hints().get(name)
    return (typing.get_origin(hint) or hint) in _LAZY


class Parts:
    """A list in the store, read one part at a time: for a step that says `Iterable[...]`. May be gone through again."""

    def __init__(self, task: Task, value: Value) -> None:
        self._task, self._value = task, value

    def __iter__(self) -> Iterator[Any]:
        """The parts in order; each is read when it is asked for, and not kept."""
        objects, root = self._task.ws.objects, self._task.definition.root
        found = json.loads(objects.get_bytes(self._value.digest))
        if not isinstance(found, list):
            yield from values.read(objects, self._value, root)
            return
        for part in found:
            yield values.part(objects, part, root)


def _table(task: Task, name: str, role: DatasetRole) -> Any:
    """A data set as the step's annotation wants it: pandas by default, Arrow or polars if it says so."""
    table = data_read.table(task.ws, task.pins[role.name])
    form = table_form(task.node, name)
    if form == "pyarrow":
        return table
    if form == "polars":
        return lazy("polars").from_arrow(table)
    frame = _pandas(table)
    frame.attrs["noria"] = {"name": role.name, "key": role.key, "time": role.time, "label": role.label}
    return frame


def _pandas(table: Any) -> Any:
    """An Arrow table as pandas without loss: whole numbers and booleans with nulls stay what they are."""
    mapping = {
        pa.int8(): "Int8", pa.int16(): "Int16", pa.int32(): "Int32", pa.int64(): "Int64",
        pa.uint8(): "UInt8", pa.uint16(): "UInt16", pa.uint32(): "UInt32", pa.uint64(): "UInt64",
        pa.bool_(): "boolean",
    }  # fmt: skip
    nullable = {name for name, column in zip(table.column_names, table.columns, strict=True) if column.null_count}
    frame = table.to_pandas()
    for field in table.schema:
        if field.name in nullable and field.type in mapping:
            kind = pd.api.types.pandas_dtype(mapping[field.type])
            frame[field.name] = kind.__from_arrow__(table[field.name].combine_chunks())
    return frame


# to another process


def document(binding: Binding) -> Any:
    """A binding as plain JSON. A constant that JSON cannot say is named: the other side has the pipeline too."""
    if isinstance(binding, Const):
        try:
            return {"plain": to_json(binding.value)}
        except Unstorable:
            return {"own": True}
    if isinstance(binding, Stored):
        return {"value": [binding.digest, binding.type, binding.size_bytes]}
    if isinstance(binding, DatasetRole):
        return {"data": [binding.name, binding.key, binding.time, binding.label]}
    assert isinstance(binding, Group), "what a task takes is over and stored"
    return {"group": binding.kind, "keys": list(binding.keys), "items": [document(item) for item in binding.items]}


def bindings_from(told: Mapping[str, Any], own: Mapping[str, Binding]) -> dict[str, Binding]:
    """The bindings of `document`, by parameter; `own` are those of the node that this process has read."""
    return {name: _binding_from(item, own.get(name)) for name, item in told.items()}


def _binding_from(told: Mapping[str, Any], own: Binding | None) -> Binding:
    if "plain" in told:
        return Const(from_json(told["plain"]))
    if "value" in told:
        return Stored(*told["value"])
    if "data" in told:
        return DatasetRole(*told["data"])
    if "own" in told:
        assert isinstance(own, Const), "a constant stands where it stood in the pipeline that was read"
        return own
    mine: Sequence[Binding | None] = own.items if isinstance(own, Group) else [None] * len(told["items"])
    items = [_binding_from(item, beside) for item, beside in zip(told["items"], mine, strict=True)]
    return Group(told["group"], tuple(items), tuple(told["keys"]))
