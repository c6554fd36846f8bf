"""The parameters that a schedule gives to its runs: filled with a tick's own values, and held against the pipeline."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from noria.config import Project, ScheduleConfig
from noria.core.clock import instant
from noria.core.errors import NoriaError
from noria.core.identity import JSON
from noria.core.lazy import lazy
from noria.schedule import times

if TYPE_CHECKING:
    from noria.pipeline import define
    from noria.pipeline import given as pipeline_given
else:  # a schedule without parameters needs no pipeline to be listed
    define, pipeline_given = lazy("noria.pipeline.define"), lazy("noria.pipeline.given")

__all__ = ["fault", "filled"]

_HOLE = re.compile(r"\{(\w+)\}")
_A_MOMENT = "2000-01-01T00:00:00.000000Z"
"""Any one: whether a text may stand for a parameter does not hang on the day."""


def filled(config: ScheduleConfig, *, due: str, start: str, end: str, partition: str) -> Mapping[str, JSON]:
    """The run's parameters with a tick's own values in the place of {date}, {due}, {start}, {end}, {partition}.

    `date` is the day of the tick in the schedule's zone; the others are moments in UTC.
    """
    moment = instant(due)
    values = {
        "date": moment.astimezone(ZoneInfo(config.timezone)).date().isoformat(),
        "due": times.text_of(moment),
        "start": times.text_of(instant(start)),
        "end": times.text_of(instant(end)),
        "partition": partition,
    }
    return {
        name: _HOLE.sub(lambda hole: values[hole[1]], value) if isinstance(value, str) else value
        for name, value in config.params.items()
    }


def fault(project: Project, config: ScheduleConfig) -> str:
    """In a sentence, what of the parameters of a schedule the pipeline does not take; "" if it takes them all.

    The pipeline is read for it, which runs the project's code: no server does that unasked.
    """
    if not config.params:
        return ""
    try:
        definition = define.load_pipeline(project)
        for partition in config.partitions or ("",):
            moment = {"due": _A_MOMENT, "start": _A_MOMENT, "end": _A_MOMENT}
            pipeline_given.given(definition, filled(config, **moment, partition=partition))
    except NoriaError as error:
        first = f"params: {error.message}".partition("\n")[0]
        return f"{first}; {error.hint}" if error.hint else first
    return ""
