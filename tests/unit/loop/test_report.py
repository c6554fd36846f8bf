"""What a run says of slices."""

from __future__ import annotations

import pytest

from noria.loop.report import RunReport, StepLine, worst_slice
from noria.registry.evaluate import Curves, Evaluation, Slice
from noria.registry.facts import Verdict
from noria.registry.metrics import Measure

NO_CURVES = object.__new__(Curves)


def evaluation(better: str, whole: float | None, *slices: tuple[str, int, float | None]) -> Evaluation:
    return Evaluation(
        task="binary",
        n=1000,
        unlabelled=0,
        positives=500,
        threshold=0.5,
        level=0.95,
        metrics={"m": Measure(name="m", better=better, value=whole, low=None, high=None, n=1000)},
        champion={},
        slices=tuple(
            Slice(column="c", level=level, n=n, positives=n // 2, metrics={"m": value}, champion={})
            for level, n, value in slices
        ),
        curves=NO_CURVES,
        data={},
    )


@pytest.mark.parametrize(
    ("better", "whole", "slices", "worst"),
    [
        ("higher", 0.7, (("a", 300, 0.6), ("b", 300, 0.5), ("c", 300, 0.9)), "b"),
        ("lower", 0.7, (("a", 300, 0.6), ("b", 300, 0.8)), "b"),
        ("higher", 0.7, (("a", 300, 0.71), ("b", 300, 0.9)), None),
        ("lower", 0.7, (("a", 300, 0.69),), None),
        ("higher", 0.7, (("a", 300, 0.7),), None),
        ("higher", 0.7, (("a", 199, 0.1), ("b", 300, None)), None),
        ("higher", None, (("a", 300, 0.1),), None),
    ],
)
def test_a_slice_is_the_worst_only_if_it_is_worse_than_the_whole(
    better: str, whole: float | None, slices: tuple[tuple[str, int, float | None], ...], worst: str | None
) -> None:
    found = worst_slice(evaluation(better, whole, *slices))
    assert (None if found is None else found.level) == worst


def test_nothing_measured_has_no_worst_slice() -> None:
    assert worst_slice(None) is None


def report(**more: object) -> RunReport:
    steps = tuple(
        StepLine(step=f"s{number}", status=status, because="of its long history " * 20, seconds=0.1)
        for number, status in enumerate(["cached", "done", "cached"])
    )
    plain = {
        "run": "run_1", "pipeline": "p", "cause": "user", "ok": True, "seconds": 1.26, "data": (), "steps": steps,
        "model": "", "version": 0, "release": 0, "state": "", "bundle": "", "size_bytes": 0, "champion": 0,
        "metrics": (), "worst": None, "gates": (), "report": "", "comparison": None, "next": "noria runs",
    }  # fmt: skip
    made: RunReport = RunReport(**{**plain, **more})  # type: ignore[arg-type]  # as they are above
    return made


def test_a_report_is_shown_in_a_few_lines() -> None:
    assert repr(report()).splitlines() == [
        "run    run_1  p  finished  1.3 s",
        "steps  2 cached, 1 done",
        "next   noria runs",
    ]
    gates = tuple(Verdict(gate=name, passed=name == "rows", text="") for name in ("rows", "metric auc"))
    made = report(ok=False, model="m", version=3, release=4, state="rejected", gates=gates, next="noria registry show")
    assert repr(made).splitlines()[0].endswith("stopped  1.3 s")
    assert repr(made).splitlines()[2:4] == ["model  m:3  r4 rejected", "STOP   metric auc"]
