"""The loop on a small project: reviews, refusals, promotions, broken data, and kills at every stage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from loop_project import World, month_rows

from noria.core.errors import GateClosed, NotFound, ProjectError
from noria.faces import verbs
from noria.faces.cli import show
from noria.governance import audit
from noria.loop import challenge, comparison, react, records
from noria.loop.review import decision_ref
from noria.loop.run import RunReport, run
from noria.monitoring import labels, performance, report
from noria.monitoring import records as monitoring
from noria.project import explain, months, status, watch
from noria.project import report as html
from noria.registry import records as registry
from noria.serving import deployment
from noria.store.replay import difference
from noria.store.workspace import Workspace
from noria.tracking import records as tracking

VICTIM = Path(__file__).with_name("loop_victim.py")
KILLS_OF_A_REVIEW = (
    "labels.sealed:1",
    "review.decided:1",
    "run.started:1",
    "release.made:1",
    "run.finished:1",
    "review.judged:1",
    "commit.after:6",
)


@pytest.fixture(scope="module")
def january(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A project whose January model is live. Copied by each test."""
    world = World(tmp_path_factory.mktemp("loop") / "project")
    world.first()
    return world


@pytest.fixture
def world(january: World, tmp_path: Path) -> World:
    return january.copy(tmp_path / "project")


def february(world: World, *, turned: bool = False) -> None:
    world.serve(month_rows(2, turned=turned))
    world.send_data(2, month_rows(2, turned=turned))


def test_a_window_is_reviewed_once_when_events_labels_and_data_have_come(world: World) -> None:
    world.serve(month_rows(2))
    world.pass_time("2013-03-01T06:00")
    assert react.tick(world.ws) == []  # the labels of the last day are not due
    world.pass_time("2013-03-03")
    assert react.tick(world.ws) == []  # the data of the month have not come
    world.send_data(2, month_rows(2))
    results = world.drain()
    assert [result.get("decision") for result in results] == [None, "train"]
    assert world.drain() == []
    with world.ws.ledger.read() as tx:
        assert len(records.decisions(tx, "m")) == 1


def test_a_challenger_that_is_not_worth_it_is_refused_with_its_numbers(world: World) -> None:
    february(world)
    world.pass_time("2013-03-03")
    world.drain()
    with world.ws.ledger.read() as tx:
        (judged,) = records.judgements(tx, "m")
        release = registry.release(tx, "m", judged.challenger)
        live = registry.production(tx, "m")
    assert judged.decision == "refuse"
    assert judged.low < judged.gain < judged.high
    assert 500 < judged.n < 1_000
    assert judged.champion_score - judged.challenger_score == pytest.approx(judged.gain)
    assert release is not None
    assert release.state == "rejected"
    assert release.reason == judged.reason
    assert live is not None
    assert live.release == judged.champion == 1


@pytest.mark.parametrize("restless", [False, True])
def test_a_challenger_is_compared_with_the_champion_that_is_live(
    world: World, monkeypatch: pytest.MonkeyPatch, restless: bool
) -> None:
    """A rollback while it trained: the record never gives the scores of one champion to another."""
    made = run(world.ws, params={"train.iterations": 31})
    deployment.promote(world.ws, f"m:{made.version}")
    february(world)
    world.pass_time("2013-03-03")
    perform = challenge.perform

    def moved(ws: Workspace, *args: Any, **options: Any) -> RunReport:
        done = perform(ws, *args, **options)
        with ws.ledger.read() as tx:
            live = registry.production(tx, "m")
        assert live is not None
        if restless or live.release == 2:
            deployment.rollback(ws, "m", to=3 - live.release)
        return done

    monkeypatch.setattr(challenge, "perform", moved)
    world.drain()
    with world.ws.ledger.read() as tx:
        (judged,) = records.judgements(tx, "m")
        kept = {a.name: a for a in tracking.artifacts(tx, judged.run)}[comparison.ARTIFACT]
        [decision] = records.decisions(tx, "m")
    cause = decision_ref("m", "2013-02", decision.dataset_version)
    asked = [stored.payload.run for stored in world.ws.ledger.facts(kind="run.started", ref=cause)]
    scores = comparison.read(world.ws.objects.get_bytes(kept.digest))
    assert len(asked) == (challenge.COMPARED if restless else 2)
    assert (judged.champion, judged.champion_score) == (scores.champion, scores.champion_score)
    assert judged.champion == (2 if restless else 1)
    assert ("is live now" in judged.reason) == restless
    done = [stored.payload for stored in world.ws.ledger.facts(kind="step.finished", limit=1_000)]
    trained = [step.status for step in done if step.run in asked and step.step == "train"]
    assert trained == ["done", *["cached"] * (len(asked) - 1)], "it is trained once"


def test_a_world_that_turned_brings_a_better_model_into_production(world: World) -> None:
    february(world, turned=True)
    world.pass_time("2013-03-03")
    results = world.drain()
    # Half of the training rows are of the old world: what is learned from both beats the old model alone.
    assert results[-1]["outcome"] in ("rollout started", "refused")
    world.serve(month_rows(3, turned=True))
    world.send_data(3, month_rows(3, turned=True))
    world.pass_time("2013-04-03")
    world.drain()
    table = months.months(world.ws)
    assert table[-1].decision == "promoted"
    assert "quality" in table[0].triggers
    with world.ws.ledger.read() as tx:
        live = registry.production(tx, "m")
    assert live is not None
    assert live.release > 1
    world.serve(month_rows(4, turned=True))
    found = performance.quality(world.ws, "m", "2013-04")
    assert found.live["auc"].value is not None
    assert found.frozen["auc"].value is not None
    assert found.live["auc"].value > found.frozen["auc"].value + 0.2


def test_broken_data_are_stopped_by_name_and_their_drift_trains_nothing(world: World) -> None:
    world.serve(month_rows(2))
    broken = month_rows(2)
    broken.loc[200:1_500, "b"] = None
    world.send_data(2, broken)
    world.pass_time("2013-03-03")
    results = world.drain()
    assert results == [{"dataset": "events@2", "ok": False, "failures": results[0]["failures"]}]
    (month,) = months.months(world.ws)
    assert month.decision == "stopped"
    assert "b" in month.stopped[0].reason
    assert "nothing was trained" in month.stopped[0].reason
    with pytest.raises(GateClosed, match="nothing was trained"):
        run(world.ws)
    with world.ws.ledger.read() as tx:
        assert registry.last_release(tx, "m") == 1
        (alert,) = monitoring.alerts(tx, "m")
    assert alert.kind == "data"
    world.send_data(2, month_rows(2))
    assert [item.get("decision", item.get("ok")) for item in world.drain()] == [True, "train"]
    (month,) = months.months(world.ws)
    assert month.decision == "refused"
    assert len(month.stopped) == 1
    with world.ws.ledger.read() as tx:
        assert monitoring.alerts(tx, "m") == []


@pytest.mark.parametrize("point", KILLS_OF_A_REVIEW)
def test_a_killed_trainer_loses_nothing_and_doubles_nothing(world: World, point: str) -> None:
    february(world, turned=True)
    world.pass_time("2013-03-03")
    environment = {**os.environ, "NORIA_FAILPOINT": point}
    died = subprocess.run(
        [sys.executable, str(VICTIM), str(world.root)], env=environment, capture_output=True, check=False
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-2000:]
    world.open()
    give_up = time.monotonic() + 30
    while not _is_judged(world):
        assert time.monotonic() < give_up, "the review was not taken up"
        world.drain()
        time.sleep(0.05)
    with world.ws.ledger.read() as tx:
        assert len(records.decisions(tx, "m")) == 1
        assert len(records.judgements(tx, "m")) == 1
        assert len(registry.versions(tx, "m")) == 2
        assert len(registry.releases(tx, "m")) == 2
    facts = [stored.fact.kind for stored in world.ws.ledger.facts(subject="model/m", limit=10_000)]
    for kind in ("retrain.decided", "challenger.judged", "drift.measured", "quality.measured"):
        assert facts.count(kind) == 1, kind
    assert sum(item.count for item in _segments(world)) == 3_001
    assert audit.verify(world.ws).ok
    assert difference(world.ws.ledger) == []


def _is_judged(world: World) -> bool:
    with world.ws.ledger.read() as tx:
        return bool(records.judgements(tx, "m"))


def _segments(world: World) -> list[monitoring.LabelSegment]:
    labels.seal(world.ws, "m", force=True)
    with world.ws.ledger.read() as tx:
        return monitoring.label_segments(tx, "m")


def test_late_and_corrected_labels_are_joined_and_the_newest_counts(world: World) -> None:
    rows = month_rows(2)
    world.serve(rows, labels=0.5)
    first = performance.quality(world.ws, "m", "2013-02")
    assert (first.labelled, first.rows) == (1_500, 3_000)
    again = performance.quality(world.ws, "m", "2013-02")
    assert again.seq == first.seq  # nothing new, no new fact
    world.serve(rows)  # the rest of the labels; the answers are repetitions and do not count
    second = performance.quality(world.ws, "m", "2013-02")
    assert (second.labelled, second.rows) == (3_000, 3_000)
    flipped = rows.assign(bad=1 - rows["bad"])
    world.serve(flipped)
    third = performance.quality(world.ws, "m", "2013-02")
    assert third.labelled == 3_000
    assert third.live["auc"].value == pytest.approx(1 - (second.live["auc"].value or 0), abs=1e-9)
    every = labels.read(world.ws, "m")
    one = every.ids[7].as_py()
    labels.seal(world.ws, "m", force=True)
    alone = labels.read(world.ws, "m", ids=[one, "nobody"])
    assert alone.ids.to_pylist() == [one]
    assert alone.values.to_pylist() == [every.values[7].as_py()]


def test_drift_is_measured_against_the_training_data_and_twice_the_same_says_nothing_new(world: World) -> None:
    moved = month_rows(2)
    moved["c"] = moved["c"] + 0.3
    world.serve(moved)
    found = report.drift(world.ws, "m", "2013-02")
    assert found.drifted == ("c",)
    assert found.persistent == ()
    assert found.source == "events@1"
    assert found.columns[0].column == "prediction"
    assert report.drift(world.ws, "m", "2013-02").seq == found.seq
    following = month_rows(3)
    following["c"] = following["c"] + 0.3
    world.serve(following)
    assert report.drift(world.ws, "m", "2013-03").persistent == ("c",)
    with world.ws.ledger.read() as tx:
        (alert,) = monitoring.alerts(tx, "m")
    assert alert.kind == "drift"
    assert "c drifted" in alert.message
    world.serve(month_rows(4))
    report.drift(world.ws, "m", "2013-04")
    with world.ws.ledger.read() as tx:
        assert monitoring.alerts(tx, "m") == []


def test_a_prediction_is_explained_down_to_its_source_row_and_a_file_up_to_its_predictions(world: World) -> None:
    february(world)
    world.pass_time("2013-03-03")
    world.drain()
    chain = explain.explain(world.ws, "pred_e02-00007")
    found = {link.what: link for link in chain.links}
    assert list(found)[:5] == ["prediction", "label", "deployment", "release", "rollout"]
    assert found["source row"].details["file"] == "2013-02.parquet"
    assert found["source row"].details["row"] == 7
    assert found["source row"].details["values"]["a"] == pytest.approx(month_rows(2)["a"][7])
    assert "not among its training data" in found["source row"].text
    assert found["data"].ref == "dataset/events@1"
    assert found["data"].details["files"][0]["file"] == "2013-01.parquet"
    assert found["gates"].details["verdicts"]
    assert found["run"].details["cause"] == "user"
    parts = found["attribution"].details
    added = sum(part["adds"] for part in parts["columns"])
    assert parts["base"] + added == pytest.approx(found["prediction"].details["y"], abs=1e-9)
    bare = explain.explain(world.ws, "pred_e02-00007", links_only=True)
    assert [link.what for link in bare.links] == [link.what for link in chain.links if link.what != "attribution"]
    assert explain.explain(world.ws, "e02-00007").id == chain.id
    file = explain.explain(world.ws, "2013-01.parquet")
    assert "gave 3,000 predictions" in " ".join(link.text for link in file.touched)
    challenger = explain.explain(world.ws, "m@r2")
    assert {"decision", "quality", "drift", "judgement"} <= {link.what for link in challenger.links}


def test_status_watch_and_report_tell_the_same_story(world: World) -> None:
    february(world)
    world.pass_time("2013-03-03")
    world.drain()
    (model,) = status.status(world.ws).models
    assert (model.release, model.refusals, model.promotions) == (1, 1, 0)
    assert model.windows[0].window == "2013-02"
    seen = watch.watch(world.ws)
    assert not seen.is_busy
    assert any(event.kind == "challenger.judged" for event in seen.events)
    written = html.report(world.ws)
    first = Path(written.path).read_bytes()
    assert html.report(world.ws).digest == written.digest
    assert Path(written.path).read_bytes() == first


def test_a_person_may_ask_for_the_review_of_a_window_that_never_ends_by_itself(world: World) -> None:
    february(world)
    assert world.drain()[-1] == {"dataset": "events@2", "ok": True}
    queued = react.review_now(world.ws, "m", "2013-02")
    assert queued.window == "2013-02"
    assert world.drain()[-1]["decision"] == "train"


def test_a_promotion_by_hand_goes_the_same_way(world: World) -> None:
    world.send_data(2, month_rows(2))
    found = run(world.ws)
    assert found.ok
    assert found.next == f"noria promote m:{found.version}"
    assert found.comparison is not None
    assert found.steps[-1].because
    deployment.promote(world.ws, "m")
    with world.ws.ledger.read() as tx:
        live = registry.production(tx, "m")
    assert live is not None
    assert live.release == found.release
    again = run(world.ws)
    assert (again.version, again.release, again.state) == (found.version, found.release, "production")
    assert {step.status for step in again.steps} == {"cached"}


def test_a_run_says_what_it_could_not_look_at_and_what_it_wrote(world: World) -> None:
    [line] = run(world.ws).data
    assert line.note == "checks/events.toml was not there: written from this version" or not line.note
    (world.root / "data").rename(world.root / "elsewhere")
    [line] = run(world.ws).data
    assert line.note == "its source data is not here; this is the version that is pinned"
    assert line.note in show.render("run", verbs.builtins(run(world.ws)))


def test_a_metric_that_does_not_exist_is_named_before_anything_is_trained(world: World) -> None:
    pipeline = world.root / "pipeline.py"
    pipeline.write_text(pipeline.read_text().replace('metrics=["auc", "log_loss"]', 'metrics=["auk", "log_loss"]'))
    with world.ws.ledger.read() as tx:
        before = len(tracking.runs(tx))
    with pytest.raises(ProjectError, match="there is no metric 'auk'") as refused:
        run(world.ws)
    assert "did you mean auc?" in refused.value.hint
    with world.ws.ledger.read() as tx:
        assert len(tracking.runs(tx)) == before


def test_the_only_model_and_the_window_with_requests_need_no_name(world: World) -> None:
    with pytest.raises(NotFound, match="has answered nothing yet"):
        performance.quality(world.ws)
    world.serve(month_rows(2).head(1_500))
    assert performance.quality(world.ws).window == "2013-02", "it has not ended, and the one before had no request"
    assert report.drift(world.ws).window == "2013-02"
    world.serve(month_rows(3).head(1_500))
    assert performance.quality(world.ws).window == "2013-02", "March is under way"
    with pytest.raises(NotFound, match="2012-12 has no answered request") as refused:
        performance.quality(world.ws, "m", "2012-12")
    assert "noria monitoring quality m WINDOW" in refused.value.hint


def test_a_holdout_without_rows_closes_the_gate(world: World) -> None:
    pipeline = world.root / "pipeline.py"
    text = pipeline.read_text().replace("return nr.split_by_time(rows, holdout)", "return rows, rows.head(0)")
    pipeline.write_text(text)
    with pytest.raises(GateClosed, match="the holdout of m has no rows"):
        run(world.ws)
    with world.ws.ledger.read() as tx:
        assert registry.last_release(tx, "m") == 1
        assert tracking.runs(tx)[0].status == "stopped"
