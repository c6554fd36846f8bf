"""The page of a search: what it says is what the records say, drawn, escaped, the same for the same values."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.experiments import coordinates
from noria.pipeline.space import Dimension
from noria.search.page import page
from noria.search.records import StudyRecord, TrialRecord

SPACE = {
    "train.<rate>": Dimension(name="train.<rate>", kind="float", low=0.001, high=1.0, log=True),
    "train.kind": Dimension(name="train.kind", kind="choice", choices=("a&b", "c")),
    "train.depth": Dimension(name="train.depth", kind="int", low=1, high=9),
}


def study(**given_: Any) -> StudyRecord:
    values: dict[str, Any] = {
        "study": "study_x", "pipeline": "p", "model": "<m>", "metric": "auc", "better": "higher", "space": "s",
        "code": "c", "sampler": "tpe", "pruner": "asha", "seed": 1, "parallel": 2, "trials": 5, "budget": "",
        "share": 0.2, "key": "", "time": "at", "label": "y", "pins": (), "params": {}, "status": "finished",
        "best": 1, "value": 0.9, "reason": "", "page": "", "actor": "user:<ann>", "started_at": "2026-01-01T00:00:00Z",
        "ended_at": "", "seq": 1,
    }  # fmt: skip
    return StudyRecord(**{**values, **given_})


def trial(number: int, state: str = "done", value: float | None = None, **given_: Any) -> TrialRecord:
    values: dict[str, Any] = {
        "study": "study_x", "trial": number, "origin": "tpe" if number else "default", "state": state, "value": value,
        "params": {"train.<rate>": 0.01 * (number + 1), "train.kind": "c", "train.depth": 3}, "run": f"run_{number}",
        "reason": "", "seconds": 1.0, "cpu_seconds": 1.0, "elapsed_s": float(number), "reports": "", "seq": number,
    }  # fmt: skip
    return TrialRecord(**{**values, **given_})


TRIALS = (
    trial(0, value=0.8),
    trial(1, value=0.9),
    trial(2, "pruned", reason="pruned at step 3"),
    trial(3, "failed", reason="<script>alert(1)</script>"),
    trial(4, value=0.7),
)


class Reader(HTMLParser):
    """Counts elements, and sees that all that open are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.count: dict[str, int] = {}
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag not in ("meta", "line", "circle", "path") or tag in ("path", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open[-1] != tag and self.open[-1] in ("meta", "path", "circle"):
            self.open.pop()
        assert self.open, tag
        assert self.open.pop() == tag


def test_the_page_shows_every_trial_and_nothing_of_the_projects_text_as_markup() -> None:
    shown = page(study(), TRIALS, SPACE, 1)
    assert shown == page(study(), TRIALS, SPACE, 1)
    reader = Reader()
    reader.feed(shown)
    assert reader.open in ([], ["meta"], ["meta", "meta"])
    assert "<script" not in shown
    assert "<rate>" not in shown
    assert "&lt;script&gt;" in shown
    assert shown.count("<tr") == 1 + len(TRIALS)
    assert reader.count["svg"] == 2 + len(SPACE)
    assert "Trial 1 is the best: auc 0.9" in shown
    assert "+0.1" in shown
    assert "The holdout was not looked at" in shown
    assert 'class="mark pruned"' in shown
    assert 'class="mark failed"' in shown
    assert len(re.findall(r'<path class="trial(?: best)?"', shown)) == 3


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_the_first_row_is_the_best(better: str) -> None:
    best = 1 if better == "higher" else 4
    shown = page(study(better=better), TRIALS, SPACE, best)
    assert re.findall(r'<tr class="first"><td class="n">(\d)</td>', shown) == [str(best)]
    assert shown.index('<tr class="first">') < shown.index("<tr><td")


def test_a_search_without_a_value_says_so_and_draws_nothing() -> None:
    shown = page(study(status="failed", best=-1, value=None), TRIALS[2:4], SPACE, -1, "the budget of 10m was spent")
    assert "No trial succeeded. The budget of 10m was spent." in shown
    assert "<svg" not in shown


def test_one_trial_and_equal_values_are_drawn() -> None:
    for trials in ([trial(0, value=0.5)], [trial(0, value=0.5), trial(1, value=0.5)], [trial(0, value=0.0)]):
        shown = page(study(), trials, SPACE, 0)
        assert "nan" not in shown.lower()
        assert shown.count("<svg") == 2 + len(SPACE)


@given(st.floats(-1e9, 1e9), st.floats(1e-9, 1e9))
def test_ticks_lie_between_the_ends_and_are_few(low: float, width: float) -> None:
    low, high = coordinates.bounds([low, low + width])
    ticks = coordinates.ticks(low, high)
    assert 1 <= len(ticks) <= coordinates.MAX_TICKS + 2
    assert all(low - abs(low) * 1e-9 <= tick <= high + abs(high) * 1e-9 for tick in ticks)
    assert all(math.isfinite(tick) for tick in ticks)
