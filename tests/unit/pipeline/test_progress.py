"""How far a run is: counted from its journal, estimated from what the same steps took, and unknown where it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from noria.core.clock import utc_text
from noria.pipeline.attempt import journal
from noria.pipeline.attempt.journal import Journal
from noria.pipeline.driving.progress import Progress, progress
from noria.pipeline.executor import Done, Usage
from noria.pipeline.facts import Item, ItemsFinished, StepFinished
from noria.store.workspace import Workspace
from noria.testing import TestClock, open_memory

RUN = "run_now"
BEGAN = datetime(2020, 1, 1, tzinfo=UTC)
CHAIN: dict[str, tuple[str, ...]] = {"load": (), "train": ("load",), "judge": ("train",)}


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return open_memory(root=tmp_path)


def ran(ws: Workspace, run: str, step: str, seconds: float, *, status: str = "done", items: int = 0) -> None:
    """An earlier run's step, on record."""
    with ws.ledger.transaction() as tx:
        fact = StepFinished(
            run=run, step=step, key="", document="", status=status, because="", seconds=seconds, items=items
        )
        tx.append(fact)


def begun(ws: Workspace, name: str, *, ago_s: float, attempt: int = 1) -> None:
    at = ws.clock.now().timestamp() - ago_s
    journal.write(journal.place(ws.project.state, RUN), {"begun": name, "attempt": attempt, "at": at})


def ended(ws: Workspace, name: str, seconds: float, attempt: int = 1) -> None:
    """As the process of an attempt writes it, with something in the result that looks like the result's name."""
    place = journal.place(ws.project.state, RUN)
    done = journal.document_of(Done(usage=Usage(seconds=seconds), where=',"done":'))
    journal.write(place, {"ended": name, "call": "c", "attempt": attempt, "done": done})


def planned(
    ws: Workspace, parents: dict[str, tuple[str, ...]], slots: int = 1, choices: tuple[str, ...] = ()
) -> Journal:
    made = Journal(journal.place(ws.project.state, RUN))
    made.plan(parents, choices, slots)
    return made


def told(ws: Workspace) -> Progress:
    found = progress(ws, RUN, BEGAN)
    assert found is not None
    return found


def test_a_run_without_a_plan_has_no_progress(ws: Workspace) -> None:
    assert progress(ws, RUN, BEGAN) is None
    Journal(journal.place(ws.project.state, RUN)).begin("load", 1)
    assert progress(ws, RUN, BEGAN) is None


def test_time_left_is_what_the_last_runs_took_less_what_has_passed(ws: Workspace) -> None:
    for run, seconds in (("r1", 90.0), ("r2", 10.0), ("r3", 14.0)):  # the middle one counts, not the outlier
        ran(ws, run, "load", 1.0)
        ran(ws, run, "train", seconds)
        ran(ws, run, "judge", 2.0)
    ran(ws, "r4", "train", 0.001, status="cached")  # no run of it
    made = planned(ws, CHAIN)
    made.settle("load", "done", 1.0)
    begun(ws, "train", ago_s=4.0)
    found = told(ws)
    assert (found.done, found.of, found.unknown) == (1, 3, "")
    (line,) = found.running
    assert (line.step, line.usual_s) == ("train", 14.0)
    assert line.seconds == pytest.approx(4.0, abs=0.01)
    assert line.since == utc_text(datetime.fromisoformat(line.since))
    assert found.left_s == pytest.approx(14.0 - 4.0 + 2.0, abs=0.01)
    assert isinstance(ws.clock, TestClock)
    ws.clock.forward(seconds=3)
    assert told(ws).left_s == pytest.approx(9.0, abs=0.01)


def test_a_step_that_never_ran_makes_it_unknown_until_it_is_over(ws: Workspace) -> None:
    ran(ws, "r1", "load", 1.0)
    ran(ws, "r1", "judge", 2.0)
    ran(ws, "r1", "train", 5.0, status="failed")
    made = planned(ws, CHAIN)
    assert told(ws).left_s is None
    assert told(ws).unknown == "train never ran to the end before"
    for name in ("load", "train"):
        made.settle(name, "done", 1.0)
    assert (told(ws).left_s, told(ws).unknown) == (2.0, "")
    made.settle("judge", "done", 2.0)
    assert (told(ws).done, told(ws).left_s, told(ws).running) == (3, 0.0, ())


def test_what_runs_for_longer_than_it_did_is_said_to_be_late(ws: Workspace) -> None:
    ran(ws, "r1", "load", 10.0)
    planned(ws, {"load": ()})
    begun(ws, "load", ago_s=12.0)
    assert (told(ws).left_s, told(ws).unknown) == (0.0, "")
    begun(ws, "load", ago_s=17.0, attempt=2)
    assert told(ws).left_s is None
    assert told(ws).unknown == "load runs for longer than it ever did of late (10.0 s)"


def test_items_that_are_done_tell_of_those_that_are_not(ws: Workspace) -> None:
    made = planned(ws, {"score": (), "sum": ("score",)}, slots=2)
    ran(ws, "r1", "sum", 1.0)
    assert told(ws).unknown == "score never ran to the end before"
    made.map("score", 10)
    for place, seconds in ((0, 2.0), (1, 4.0)):
        begun(ws, f"score.{place}", ago_s=9.0)
        ended(ws, f"score.{place}", seconds)
        made.settle(f"score.{place}", "done", seconds)
    made.settle("score.2", "cached", 0.0)  # it says nothing of how long one takes
    begun(ws, "score.3", ago_s=1.0)
    begun(ws, "score.4", ago_s=2.0)
    found = told(ws)
    assert [(each.step, each.done, each.of) for each in found.items] == [("score", 3, 10)]
    assert [(each.step, each.usual_s) for each in found.running] == [("score.4", 3.0), ("score.3", 3.0)]
    # Two at once: 1 s and 2 s are left of those that run, then five of 3 s are shared by two, then the sum.
    assert found.left_s == pytest.approx(2.0 + 7.5 + 1.0, abs=0.01)
    made.settle("score", "done", 30.0)
    assert told(ws).items == ()
    assert told(ws).left_s == 1.0


def test_items_of_the_last_run_tell_of_a_mapped_step_that_has_not_begun(ws: Workspace) -> None:
    items = tuple(
        Item(item=place, key="", status=status, because="", seconds=seconds)
        for place, (status, seconds) in enumerate((("done", 2.0), ("done", 4.0), ("failed", 90.0)))
    )
    with ws.ledger.transaction() as tx:
        tx.append(ItemsFinished(run="r1", step="score", items=items))
    ran(ws, "r1", "score", 6.0, items=3)
    made = planned(ws, {"score": ()}, slots=3)
    assert told(ws).left_s == 3.0
    made.map("score", 30)
    assert told(ws).left_s == 30.0
    made.map("score", 0)
    assert (told(ws).left_s, told(ws).items[0].of) == (0.0, 0)


def test_a_run_that_goes_on_counts_anew_and_branches_take_no_time(ws: Workspace) -> None:
    made = planned(ws, CHAIN)
    made.settle("load", "failed", 1.0)
    begun(ws, "train", ago_s=900.0)
    again = planned(ws, {**CHAIN, "either": ("judge",)}, choices=("either",))
    assert (told(ws).done, told(ws).of, told(ws).running) == (0, 3, ())
    again.settle("load", "cached", 0.0)
    begun(ws, "load", ago_s=1.0)  # what was thought to be over is made again
    assert told(ws).done == 0
    ended(ws, "load", 1.0)
    assert told(ws).running == ()
    begun(ws, "load", ago_s=1.0, attempt=2)
    ended(ws, "load", 1.0, attempt=1)  # a late word of an attempt that was given up
    assert [line.step for line in told(ws).running] == ["load"]


def test_a_line_that_is_being_written_is_left_for_the_next_look(ws: Workspace) -> None:
    made = planned(ws, CHAIN)
    with made.path.open("ab") as file:
        file.write(b'{"over":"load","status":"do')
    assert told(ws).done == 0
    assert isinstance(told(ws), Progress)


def test_a_line_that_a_kill_cut_off_takes_no_other_line_with_it(tmp_path: Path) -> None:
    place = tmp_path / "journal.jsonl"
    journal.write(place, {"begun": "one", "attempt": 1, "at": 1.0})
    with place.open("ab") as file:
        file.write(b'\n{"ended":"one","call":"c","attempt":1,"done":{"usage"')  # no more came of it
    journal.write(place, {"begun": "two", "attempt": 1, "at": 2.0})
    done = journal.document_of(Done(usage=Usage(seconds=1.0), where="here"))
    journal.write(place, {"ended": "two", "call": "c2", "attempt": 1, "done": done})
    left = journal.left_by(place)
    assert left.begun == {"one", "two"}
    assert {name: call for name, (call, _) in left.results.items()} == {"two": "c2"}
    found = journal.result_for(place, "two", "c2")
    assert found is not None
    assert found.where == "here"
    assert journal.result_of(place, "one", 1) is None


def test_what_a_process_that_is_gone_had_begun_does_not_run(ws: Workspace) -> None:
    """Between taking a run up and its new plan, the journal is that of the process before."""
    ran(ws, "r1", "load", 0.5)
    planned(ws, CHAIN)
    begun(ws, "load", ago_s=60.0)
    assert [line.step for line in told(ws).running] == ["load"]
    found = progress(ws, RUN, datetime.now(UTC) + timedelta(seconds=1))
    assert found is not None
    assert (found.running, found.left_s, found.unknown) == ((), None, "it was just taken up again")
