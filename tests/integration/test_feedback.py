"""Answered predictions and their labels become a version of a data set, and say when their labels mislead."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from noria.config import LabelsConfig, ModelConfig, MonitorConfig, Project
from noria.core.errors import NotFound, UsageError
from noria.data.rows import read
from noria.data.tabular import blame
from noria.governance import lineage
from noria.monitoring.feedback import from_predictions
from noria.serving.answers import Ids
from noria.serving.segment import SegmentWriter, folder
from noria.store.workspace import Workspace
from noria.testing import open_memory

T0 = 1_770_000_000_000_000


class Served:
    """Writes answers and labels as the server does."""

    def __init__(self, ws: Workspace) -> None:
        self.now = T0
        self.answers = SegmentWriter(folder(ws.project.state, "m"), lambda: self.now)
        self.labels = SegmentWriter(folder(ws.project.state, "m", "labels"), lambda: self.now)
        self.ids = Ids(7)

    def answer(self, rid: str, x: dict[str, Any], **more: Any) -> str:
        self.now += 1000
        name = self.ids.next(self.now // 1000)
        line = {"id": name, "rid": rid, "t": self.now, "at": "2026-02-01T00:00:00Z", "key": rid, "dep": 4, "rel": 1,
                "arm": "stable", "pi": 1.0, "st": 200, "us": 9, "b": 1, "x": x, "y": 0.5, "c": 1, **more}  # fmt: skip
        self.answers.append([json.dumps(line).encode()])
        return name

    def label(self, rid: str, value: Any, at: str = "") -> None:
        self.now += 1000
        self.labels.append([json.dumps({"id": rid, "label": value, "at": at, "t": self.now}).encode()])

    def close(self) -> None:
        self.answers.close()
        self.labels.close()


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return open_memory(root=tmp_path)


def test_answers_join_their_newest_labels_as_known_at_a_time(ws: Workspace) -> None:
    served = Served(ws)
    name = served.answer("a", {"n": 1, "zip": "02139"}, y=0.25, arm="canary", pi=0.1, rel=2)
    served.answer("b", {"n": 2, "zip": "x"})
    served.answer("c", {"n": 3, "zip": "y"}, at="2026-03-01T00:00:00Z")
    served.label("a", 0, "2026-02-03T00:00:00Z")
    served.label("a", 1, "2026-02-09T00:00:00Z")
    served.label(name, 1, "2026-02-09T00:00:00Z")
    served.label("b", 1, "2026-02-20T00:00:00Z")
    served.close()
    made = from_predictions(ws, model="m", name="back", until="2026-03-01")
    assert (made.answered, made.labelled, made.open_answers) == (2, 2, 0)
    rows = {row["request_id"]: row for row in read.table(ws, made.dataset).to_pylist()}
    assert (rows["a"]["label"], rows["a"]["score"], rows["a"]["zip"], rows["a"]["n"]) == (1, 0.25, "02139", 1)
    assert (rows["a"]["arm"], rows["a"]["propensity"], rows["a"]["release"]) == ("canary", 0.1, 2)
    assert rows["a"]["prediction_id"] == name
    assert (made.dataset.key, made.dataset.time, made.dataset.label) == ("prediction_id", "event_time", "label")
    assert made.dataset.operation == "predictions"
    then = from_predictions(ws, model="m", name="then", until="2026-03-01", as_of="2026-02-05")
    assert {r["request_id"]: r["label"] for r in read.table(ws, then.dataset).to_pylist()} == {"a": 0, "b": None}
    again = from_predictions(ws, model="m", name="back", until="2026-03-01")
    assert again.dataset == made.dataset, "the same answers and labels are the same version"
    only = from_predictions(ws, model="m", name="only", as_of="2026-02-05", labelled_only=True)
    assert only.dataset.rows == 1


def test_the_lineage_names_the_sealed_segments_and_the_releases(ws: Workspace) -> None:
    served = Served(ws)
    served.answer("a", {"n": 1})
    served.label("a", 1)
    served.close()
    made = from_predictions(ws, model="m", name="back").dataset
    fact = ws.ledger.facts(kind="dataset.committed")[-1].fact
    assert [role for role, _ in fact.inputs] == ["segment", "labels", "release"]
    sealed = ws.ledger.facts(kind="predictions.sealed")[-1]
    assert ("segment", sealed.payload.segment) in fact.inputs
    above = {found.ref for found in lineage.ancestors(ws, f"dataset/{made.ref}")}
    assert sealed.payload.segment in above
    history = blame.blame(ws, "back", key=read.table(ws, made)["prediction_id"][0].as_py())
    assert any(origin.startswith("segment sha256:") for origin in history.changes[0].made_by)


def test_labels_of_accepted_cases_alone_are_warned_of(ws: Workspace) -> None:
    served = Served(ws)
    for number in range(100):
        accepted = number % 2
        served.answer(f"r{number}", {"n": number}, c=accepted, y=0.9 if accepted else 0.1)
        if accepted:
            served.label(f"r{number}", 1)
    served.close()
    warned = from_predictions(ws, model="m", name="back").warnings
    assert len(warned) == 1
    assert "100% of rows with answer 1 have one, 0% of 50 with 0" in warned[0]
    assert "hold back a random share" in warned[0]


def test_labels_of_all_kinds_of_answers_are_not_warned_of(ws: Workspace) -> None:
    served = Served(ws)
    for number in range(120):
        served.answer(f"r{number}", {"n": number}, c=number % 2, pi=0.5)
        if number % 3 == 0:
            served.label(f"r{number}", number % 2)
    served.close()
    assert from_predictions(ws, model="m", name="back").warnings == ()


def test_scores_stand_in_where_there_is_no_class(ws: Workspace) -> None:
    served = Served(ws)
    for number in range(100):
        served.answer(f"r{number}", {"n": number}, c=None, y=number / 100, pi=0.5)
        if number >= 50:
            served.label(f"r{number}", 2.5)
    served.close()
    warned = from_predictions(ws, model="m", name="back").warnings
    assert "rows with score above" in warned[0]
    assert "weigh rows by 1 / propensity" in warned[0]


def test_rows_whose_labels_may_still_come_are_counted(tmp_path: Path) -> None:
    config = ModelConfig(monitor=MonitorConfig(labels=LabelsConfig(delay="30d")))
    project = Project(name="t", root=tmp_path, clock="events", models={"m": config})
    ws = open_memory(project, root=tmp_path)
    served = Served(ws)
    for day in (1, 20, 28):
        served.answer(f"r{day}", {"n": day}, at=f"2026-02-{day:02d}T00:00:00Z")
    served.answer("last", {"n": 0}, at="2026-03-15T00:00:00Z")
    served.label("r1", 1)
    served.close()
    warned = from_predictions(ws, model="m", name="back").warnings
    assert warned == ("3 rows without a label are younger than the labels' delay of 30d: theirs may still come",)


def test_open_files_wait_for_the_next_time(ws: Workspace) -> None:
    served = Served(ws)
    served.answer("a", {"n": 1})
    served.answers.close()
    served.answer("b", {"n": 2})
    made = from_predictions(ws, model="m", name="back")
    assert (made.answered, made.open_answers) == (1, 1)
    assert made.warnings == ("no answer has a label yet",)
    served.close()


def test_names_that_collide_keep_both_columns(ws: Workspace) -> None:
    served = Served(ws)
    served.answer("a", {"score": 7, "arm": "left", "event_time": "x"})
    served.label("a", "yes")
    served.close()
    made = from_predictions(ws, model="m", name="back").dataset
    row = read.table(ws, made).to_pylist()[0]
    assert (row["score"], row["arm"], row["logged_score"], row["logged_arm"]) == (7, "left", 0.5, "stable")
    assert made.time == "logged_event_time"
    assert row["logged_event_time"] == datetime.datetime(2026, 2, 1, tzinfo=datetime.UTC)
    with pytest.raises(UsageError, match="'score' is the name of another column"):
        from_predictions(ws, model="m", name="other", label="score")


def test_where_nothing_can_be_taken_the_error_says_whether_to_wait_or_whom_else_to_ask(ws: Workspace) -> None:
    served = Served(ws)
    served.answer("a", {"n": 1})
    with pytest.raises(NotFound, match="1 answer in a log that is still written to") as caught:
        from_predictions(ws, model="m", name="back")
    assert "try again in a minute" in caught.value.hint
    served.close()
    with pytest.raises(NotFound, match="m has no sealed answer in this time") as caught:
        from_predictions(ws, model="m", name="back", since="2030-01-01")
    assert "--since" not in caught.value.hint or "event times" in caught.value.hint
    from_predictions(ws, model="m", name="back")
    with pytest.raises(NotFound, match="other has no sealed answer") as caught:
        from_predictions(ws, model="other", name="back")
    assert caught.value.hint == "models that have: m"


def test_what_is_asked_wrongly_is_one_clear_error(ws: Workspace) -> None:
    with pytest.raises(NotFound, match="m has no sealed answer"):
        from_predictions(ws, model="m", name="back")
    with pytest.raises(UsageError, match="say whose predictions"):
        from_predictions(ws, name="back")
    with pytest.raises(UsageError, match="'soon' is no time"):
        from_predictions(ws, model="m", name="back", since="soon")
