"""What a run took is the sum of what its steps took, by the closed form."""

from __future__ import annotations

from noria.pipeline.records import StepRecord
from noria.project import used


def step(name: str, seconds: float, cost: float | None = None) -> StepRecord:
    return StepRecord(
        run="run_1", step=name, key="k", document="sha256:d", status="done" if seconds else "cached",
        because="first run", outputs=(), seconds=seconds, cpu_seconds=2 * seconds,
        memory_peak_bytes=int(100e6 * seconds), log="", error="", reads=(), seq=1, read_bytes=1_000_000,
        written_bytes=500_000, energy_joules=3600.0 * seconds, cost=cost,
    )  # fmt: skip


def test_the_sums_are_those_of_the_steps_that_ran() -> None:
    text = used.used([step("a", 1.5, 0.25), step("b", 2.0, 0.5), step("c", 0.0)], "EUR")
    assert text == (
        "3.5 s, 7.0 s of processors, 200 MB of memory at most, 2.0 MB read, 1.0 MB written, about 3.5 Wh, cost 0.75 EUR"
    )


def test_a_run_from_the_cache_took_nothing_and_no_price_is_no_cost() -> None:
    assert used.used([step("a", 0.0)], "EUR") == ""
    assert "cost" not in used.used([step("a", 1.0)], "EUR")
    assert used.steps([step("a", 0.0)], "EUR") == [
        {"step": "a", "status": "cached", "because": "first run", "document": "sha256:d"}
    ]
    assert used.steps([step("a", 1.0)], "EUR")[0]["took"] == used.used([step("a", 1.0)], "EUR")
