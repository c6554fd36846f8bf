"""From a request to the best parameters: a new study or one that is resumed, and what the run after it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.pipeline.define import PipelineDefinition
from noria.search.control import StudyReport, report_of
from noria.search.study import Begin, Request, begin, resolve, search
from noria.search.study import resume as go_on
from noria.store.workspace import Workspace

__all__ = ["Best", "best"]


@frozen(kw_only=True)
class Best:
    """What a search came to: all parameters, and how a run with them names where they are from."""

    cause: str
    params: Mapping[str, JSON]
    datasets: Mapping[str, str]
    inputs: tuple[tuple[str, str], ...]
    shown: StudyReport


def best(
    ws: Workspace,
    definition: PipelineDefinition,
    asked: Request,
    about: Callable[[], Begin],
    *,
    is_given: bool,
    resume: str,
) -> Best:
    """Search, or go on with a study; `about` is asked for a new one only.

    Raises: UsageError; Conflict; StudyFailed if no trial succeeded.
    """
    if resume and is_given:
        raise UsageError("a study that is resumed has the parameters that it began with")
    study = go_on(ws, resolve(ws, resume), asked) if resume else begin(ws, definition, asked, about())
    ended = search(ws, study)
    shown = report_of(ws, ended)
    cause = f"study/{ended.study}"
    return Best(
        cause=cause,
        params={**ended.params, **shown.params},
        datasets={pin.dataset: f"{pin.dataset}@{pin.version}" for pin in ended.pins},
        inputs=(("study", cause), ("trial", f"trial/{ended.study}/{ended.best}")),
        shown=shown,
    )
