"""What `noria run` tells of a run: its data, steps, metrics, gates, release, and the command to go on with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from noria.core.frozen import frozen

if TYPE_CHECKING:
    from noria.loop.comparison import Comparison
    from noria.loop.pins import DataLine
    from noria.pipeline.define import PipelineDefinition
    from noria.pipeline.driving.execute import StepReport
    from noria.registry import gates
    from noria.registry.evaluate import Evaluation, Slice
    from noria.registry.facts import Verdict
    from noria.registry.release import Release
    from noria.search.control import StudyReport

__all__ = [
    "Made",
    "MetricLine",
    "RunReport",
    "SliceLine",
    "StepLine",
    "plain_report",
    "report",
    "step_line",
    "worst_slice",
]


@frozen(kw_only=True)
class StepLine:
    """One step of a run: `status` is done, cached, failed or skipped; `because` says why, `attempts` how often."""

    step: str
    status: str
    because: str
    seconds: float
    attempts: int = 1


@frozen(kw_only=True)
class MetricLine:
    """A metric on the holdout with its 95 % interval, and the champion's on the same rows.

    `gain` is signed so that positive is better; None where there is no champion or no number.
    """

    metric: str
    better: str
    value: float | None
    low: float | None
    high: float | None
    champion: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    n: int


@frozen(kw_only=True)
class SliceLine:
    """The slice where a metric is worst, against the whole."""

    column: str
    level: str
    metric: str
    value: float
    difference: float
    n: int


@frozen(kw_only=True)
class RunReport:
    """Everything that a run did. `ok` is False if a gate said no; `next` is the command to go on with.

    `version` and `release` number what the run made; `state` is the release's. `comparison` is the
    challenger against the champion, None if there is none or, with `is_champion`, if this is it. `search`
    is the study whose best trial gave the parameters.
    """

    run: str
    pipeline: str
    cause: str
    ok: bool
    seconds: float
    data: tuple[DataLine, ...]
    steps: tuple[StepLine, ...]
    model: str
    version: int
    release: int
    state: str
    bundle: str
    size_bytes: int
    champion: int
    metrics: tuple[MetricLine, ...]
    worst: SliceLine | None
    gates: tuple[Verdict, ...]
    report: str
    comparison: Comparison | None
    next: str
    search: StudyReport | None = None
    is_champion: bool = False

    def __repr__(self) -> str:
        """What a cell of a notebook shows of it: a few lines."""
        ended = "finished" if self.ok else "stopped"
        steps = Counter(step.status for step in self.steps)
        lines = [
            f"run    {self.run}  {self.pipeline}  {ended}  {self.seconds:.1f} s",
            f"steps  {', '.join(f'{number} {status}' for status, number in steps.items())}",
        ]
        if self.model:
            lines.append(f"model  {self.model}:{self.version}  r{self.release} {self.state}")
        refused = [each.gate for each in self.gates if not each.passed]
        if refused:
            lines.append(f"STOP   {', '.join(refused)}")
        return "\n".join([*lines, f"next   {self.next}"])


@frozen(kw_only=True)
class Made:
    """What a run that makes a model has made."""

    release: Release
    champion: int
    judgement: gates.Judgement
    comparison: Comparison | None
    size_bytes: int
    may_go: bool
    is_champion: bool = False


def plain_report(
    definition: PipelineDefinition,
    *,
    cause: str,
    run_id: str,
    lines: tuple[DataLine, ...],
    steps: tuple[StepLine, ...],
    seconds: float,
) -> RunReport:
    """The report of a pipeline that makes no model."""
    return RunReport(
        run=run_id,
        pipeline=definition.name,
        cause=cause,
        ok=True,
        seconds=seconds,
        data=lines,
        steps=steps,
        model="",
        version=0,
        release=0,
        state="",
        bundle="",
        size_bytes=0,
        champion=0,
        metrics=(),
        worst=None,
        gates=(),
        report="",
        comparison=None,
        next="noria runs",
    )


def report(
    definition: PipelineDefinition,
    *,
    cause: str,
    run_id: str,
    lines: tuple[DataLine, ...],
    steps: tuple[StepLine, ...],
    made: Made,
    seconds: float,
) -> RunReport:
    """The report of a pipeline that makes a model."""
    judged, evaluation, final = made.judgement.judged, made.judgement.evaluation, made.release
    name = f"{judged.model}:{judged.version}"
    return RunReport(
        run=run_id,
        pipeline=definition.name,
        cause=cause,
        ok=made.judgement.passed,
        seconds=seconds,
        data=lines,
        steps=steps,
        model=judged.model,
        version=judged.version,
        release=final.release,
        state=final.state,
        bundle=final.bundle,
        size_bytes=made.size_bytes,
        champion=made.champion,
        is_champion=made.is_champion,
        metrics=_metric_lines(evaluation, judged.verdicts),
        worst=worst_slice(evaluation),
        gates=judged.verdicts,
        report=judged.report,
        comparison=made.comparison,
        next=_next(name, made),
    )


def _next(name: str, made: Made) -> str:
    """The command to go on with, which is one that will not be refused."""
    if not made.judgement.passed:
        return f"noria registry show {name}   (the gates' reasons)"
    final = made.release
    if final.state == "production":
        return "noria status"
    if final.state in ("shadow", "canary"):
        return f"noria watch {final.model}"
    if final.state == "retired":
        return f"noria rollback {final.model} --to {final.release}   (it was in production before)"
    if not made.may_go:
        return f"noria explain {final.model}@r{final.release}   (what its rollout found against it)"
    return f"noria promote {name}" if made.champion else f"noria deploy {name}"


def _metric_lines(evaluation: Evaluation | None, verdicts: Sequence[Verdict]) -> tuple[MetricLine, ...]:
    if evaluation is None:
        return ()
    paired = {verdict.gate.removeprefix("champion "): verdict for verdict in verdicts if verdict.gain is not None}
    found = []
    for name, item in evaluation.metrics.items():
        other = evaluation.champion.get(name)
        verdict = paired.get(name)
        gain = None
        if other is not None and other.value is not None and item.value is not None:
            gain = item.value - other.value if item.better == "higher" else other.value - item.value
        found.append(
            MetricLine(
                metric=name,
                better=item.better,
                value=item.value,
                low=item.low,
                high=item.high,
                champion=None if other is None else other.value,
                gain=gain,
                gain_low=None if verdict is None else verdict.low,
                gain_high=None if verdict is None else verdict.high,
                n=item.n,
            )
        )
    return tuple(found)


def worst_slice(evaluation: Evaluation | None) -> SliceLine | None:
    """The slice of at least 200 rows where the first metric is furthest below the whole; None if none is below."""
    if evaluation is None or not evaluation.metrics:
        return None
    name, whole = next(iter(evaluation.metrics.items()))
    if whole.value is None:
        return None
    sign = 1.0 if whole.better == "higher" else -1.0
    worst: SliceLine | None = None
    for part in evaluation.slices:
        line = _slice_line(part, name, whole.value)
        if line is not None and sign * line.difference < (sign * worst.difference if worst else 0.0):
            worst = line
    return worst


def _slice_line(part: Slice, metric: str, whole: float) -> SliceLine | None:
    value = part.metrics.get(metric)
    if part.n < 200 or value is None:
        return None
    return SliceLine(
        column=part.column, level=part.level, metric=metric, value=value, difference=value - whole, n=part.n
    )


def step_line(step: StepReport) -> StepLine:
    """What is told of a step."""
    return StepLine(
        step=step.step, status=step.status, because=step.because, seconds=step.seconds, attempts=step.attempts
    )
