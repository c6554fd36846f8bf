"""What a run that is taken up again has done already: from its facts, and from its journal what has no fact yet.

A run is resumed only with the code and the packages that it began with, so a result counts if the step
would be given the same now; it is used also where it may not be shared with other runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from noria.core.errors import NotFound, WorldError
from noria.pipeline import records
from noria.pipeline.attempt.journal import Left
from noria.pipeline.caching.keys import Planned
from noria.pipeline.driving.schedule import GOOD
from noria.pipeline.executor import Done
from noria.pipeline.facts import Output
from noria.pipeline.outputs.values import Value
from noria.pipeline.records import StepRecord
from noria.store.objects import Objects
from noria.store.workspace import Workspace

__all__ = ["Earlier"]


class Earlier:
    """The finished work of an interrupted run; of a new run there is none."""

    def __init__(self, objects: Objects, steps: Mapping[str, StepRecord], left: Left) -> None:
        self._objects, self._steps, self._left = objects, steps, left

    @classmethod
    def of(cls, ws: Workspace, run: str, left: Left, *, is_resumed: bool) -> Earlier:
        """What facts and journal of a run say."""
        if not is_resumed:
            return cls(ws.objects, {}, Left())
        with ws.ledger.read() as tx:
            done = [*records.steps(tx, run), *records.items(tx, run)]
        return cls(ws.objects, {step.step: step for step in done if step.status in GOOD}, left)

    def record(self, planned: Planned) -> StepRecord | None:
        """The fact of a step that is over: it is not recorded again."""
        found = self._steps.get(planned.node.name)
        if found is None or found.call != planned.call or not self._is_whole(found.outputs):
            return None
        return found

    def result(self, name: str, call: str) -> Done | None:
        """The result of an attempt that has no fact yet, or of an item that may not be shared."""
        known_call, done = self._left.results.get(name, ("", None))
        if done is None or known_call != call or done.error is not None:
            return None
        for content in done.held.values():
            self._objects.put_soon(content)
        return done if self._is_whole(done.outputs) else None

    def was_begun(self, name: str) -> bool:
        """Whether an attempt was under way when the run was cut off: it may still come to its end."""
        return name in self._left.begun

    def _is_whole(self, outputs: Sequence[Output | Value]) -> bool:
        try:
            for output in outputs:
                self._objects.require(output.digest)
        except (NotFound, WorldError):
            return False
        return True
