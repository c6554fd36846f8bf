"""The rows that a model is judged on, and what their columns are: read the same by whoever judges anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from noria.core.errors import GateClosed, StepFailed, UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.data.records import DatasetVersion
from noria.pipeline.define import ModelNode, PipelineDefinition
from noria.pipeline.outputs import values
from noria.pipeline.outputs.values import Value
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = lazy("pandas")

__all__ = ["Roles", "holdout_of", "roles_of"]


@frozen
class Roles:
    """What the columns of the holdout are."""

    key: str = ""
    time: str = ""
    label: str = ""

    def others(self) -> tuple[str, ...]:
        """The columns that are no input of a model, without the label."""
        return tuple(name for name in (self.key, self.time) if name)


def holdout_of(ws: Workspace, node: ModelNode, stored: Value) -> pd.DataFrame:
    """The holdout of a model as a table with rows. Raises: StepFailed if it is none."""
    found = values.load(ws, stored)
    if hasattr(found, "to_pandas"):
        found = found.to_pandas()
    if not isinstance(found, pd.DataFrame):
        raise StepFailed(
            f"the holdout of {node.name} is {type(found).__name__}, not a table",
            where=f"step {node.holdout.node}",
            hint="return a DataFrame with the label column",
        )
    if not len(found):
        raise GateClosed(
            f"the holdout of {node.name} has no rows, so nothing can be judged",
            where=f"step {node.holdout.node}",
            hint="keep labelled rows aside, such as nr.split_by_time(rows, '7d')",
        )
    return found


def roles_of(definition: PipelineDefinition, node: ModelNode, found: Mapping[str, DatasetVersion]) -> Roles:
    """The roles of the nearest data set above the holdout that has a label."""
    roles = definition.roles(node.holdout.node)
    for role in roles:
        version = found[role.name]
        label = role.label or version.label
        if label:
            return Roles(role.key or version.key, role.time or version.time, label)
    names = ", ".join(role.name for role in roles) or "no data set"
    raise UsageError(
        f"no label is known for the holdout of {node.name} (it comes from {names})",
        where=str(definition.root),
        hint='nr.dataset(…, label="COLUMN") names the outcome',
    )
