"""The arguments of a step, made from what its parameters are bound to: constants, tables, results of other steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noria.core.lazy import lazy
from noria.data.records import DatasetVersion
from noria.data.rows import read as data_read
from noria.pipeline import values
from noria.pipeline.define import PipelineDefinition
from noria.pipeline.keys import table_form
from noria.pipeline.step import Binding, Const, DatasetRole, Group, Ref, StepNode
from noria.pipeline.values import Value
from noria.store.workspace import Workspace

__all__ = ["Arguments"]

pa = lazy("pyarrow")
pd = lazy("pandas")


class Arguments:
    """Gives each step its arguments; `memory` holds values of this process by digest until their last use."""

    def __init__(self, ws: Workspace, definition: PipelineDefinition, pins: Mapping[str, DatasetVersion]) -> None:
        self._ws, self._definition, self._pins = ws, definition, pins
        self.memory: dict[str, Any] = {}
        self._uses: dict[Ref, int] = {}
        for node in definition.nodes:
            for ref in node.references():
                self._uses[ref] = self._uses.get(ref, 0) + 1

    def of(
        self, node: StepNode, bindings: Mapping[str, Binding], outputs: Mapping[str, Sequence[Value]]
    ) -> dict[str, Any]:
        """The arguments of a step by name; a value that nobody else takes is handed over, not copied."""
        return {name: self._argument(node, name, item, outputs) for name, item in bindings.items()}

    def _argument(self, node: StepNode, name: str, binding: Binding, outputs: Mapping[str, Sequence[Value]]) -> Any:
        if isinstance(binding, Const):
            return binding.value
        if isinstance(binding, DatasetRole):
            return self._table(node, name, binding)
        if isinstance(binding, Group):
            items = [self._argument(node, name, item, outputs) for item in binding.items]
            if binding.kind == "dict":
                return dict(zip(binding.keys, items, strict=True))
            return tuple(items) if binding.kind == "tuple" else items
        value = outputs[binding.node][binding.output]
        self._uses[binding] -= 1
        if not self._uses[binding] and value.digest in self.memory:
            return self.memory.pop(value.digest)  # nobody else will see what this step does to it
        return values.read(self._ws.objects, value, self._definition.root)

    def _table(self, node: StepNode, name: str, role: DatasetRole) -> Any:
        """A data set as the step's annotation wants it: pandas by default, Arrow or polars if it says so."""
        table = data_read.table(self._ws, self._pins[role.name])
        form = table_form(node, name)
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
