"""The replay goes slower, and never stops, while months that are long over are still being worked on."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import noria


@pytest.fixture(scope="module")
def pace() -> ModuleType:
    """The script of the template, imported from its file."""
    place = Path(noria.__file__).parent / "templates" / "flights" / "pace.py"
    spec = importlib.util.spec_from_file_location("pace", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def status(*decided: str, jobs: tuple[str, ...] = ()) -> dict[str, Any]:
    windows = [{"window": month, "decision": "wait"} for month in decided]
    return {
        "models": [{"model": "flights", "windows": [*windows, {"window": "2013-12", "decision": ""}]}],
        "jobs": [{"about": about} for about in jobs],
    }


@pytest.mark.parametrize(
    ("found", "at", "part"),
    [
        (status(), "2013-09-01", 1),
        (status("2013-02"), "2013-04-20", 1),
        (status("2013-02"), "2013-04-27", 1 / 3),
        (status("2013-02"), "2013-05-12", 1 / 12),
        (status("2013-02", "2013-03"), "2013-04-27", 1),
        (status("2013-03", jobs=("review/flights/2013-02/flights@2/closed",)), "2013-04-10", 1 / 3),
        (status("2013-03", jobs=("check/flights@4/sha256:ab",)), "2013-04-27", 1),
        (status("2013-12"), "2013-12-31", 1),
    ],
)
def test_it_goes_slower_the_longer_ago_the_month_ended(pace: ModuleType, found: Any, at: str, part: float) -> None:
    assert pace.share(found, "flights", datetime.fromisoformat(at).replace(tzinfo=UTC)) == part


def test_the_rate_holds_and_goes_down_but_never_to_nothing(pace: ModuleType) -> None:
    clock = pace.Pace(300, now=0.0)

    def sent_in(seconds: float, start: float, sent: int) -> int:
        before = sent
        for tick in range(int(seconds * 1000)):
            while clock.allows(sent, start + tick / 1000):
                sent += 1
        return sent - before

    assert sent_in(10, 0, 0) == pytest.approx(3000, rel=0.02)
    clock.share = 1 / 3
    assert sent_in(10, 10, 3000) == pytest.approx(1000, rel=0.05)
    clock.share = 1 / 12
    assert sent_in(20, 20, 4000) == pytest.approx(500, rel=0.05)
    clock.share = 1.0
    assert clock.allows(4500, 120.0)
    assert sent_in(1, 120, 4500) <= 2 * 300 + 1, "what could not be sent for long does not pile up"


def test_without_a_rate_everything_may_go(pace: ModuleType) -> None:
    assert pace.Pace(0, now=0.0).allows(10**9, 0.0)
