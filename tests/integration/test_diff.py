"""Two runs beside each other: the same rows, what is left out, what is told where nothing can be asked, and the why."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from loop_project import PIPELINE, World, month_rows
from sklearn.metrics import log_loss, roc_auc_score
from starlette.applications import Starlette

from noria.bootstrap import WallClock
from noria.core.errors import NotFound, UsageError
from noria.data import versions
from noria.experiments.recorder import Recording
from noria.faces import verbs
from noria.faces.cli import show
from noria.faces.cli.main import run as command
from noria.faces.http import api
from noria.faces.http.auth import Guard
from noria.faces.http.guarded import behind
from noria.faces.ui import runs as pages
from noria.loop.run import run
from noria.packaging import bundle as bundles
from noria.project.diff import Difference, diff
from noria.registry import records as registry
from noria.registry import versions as model_versions
from noria.registry.facts import VersionRemoved
from noria.registry.kept import VersionRecord
from noria.registry.report import render
from noria.store.tree import read_tree
from noria.store.workspace import Workspace

SLICED = PIPELINE.replace(
    'metrics=["auc", "log_loss"]', 'metrics=["auc", "log_loss", spread], slices=["side"]'
).replace(
    "@nr.step\ndef split",
    "@nr.metric\ndef spread(y, score) -> float:\n    return float(score.std())\n\n\n@nr.step\ndef split",
)


def rows() -> Any:
    """A month of events, with a column that says on which side of nought `a` is."""
    found = month_rows(1, rows=8_000)
    return found.assign(side=found["a"].gt(0).map({True: "right", False: "left"}))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> World:
    """m:1 of thirty rounds, m:2 of two: nothing else differs. Copied by each test."""
    made = World(tmp_path_factory.mktemp("diff") / "project")
    (made.root / "pipeline.py").write_text(SLICED)
    made.send_data(1, rows())
    assert run(made.ws).ok
    assert run(made.ws, params={"train.iterations": 2}).ok
    return made


@pytest.fixture
def world(trained: World, tmp_path: Path) -> World:
    return trained.copy(tmp_path / "project")


def version(ws: Workspace, number: int) -> VersionRecord:
    with ws.ledger.read() as tx:
        found = registry.version(tx, "m", number)
    assert found is not None
    return found


def lose(ws: Workspace, digest: str) -> None:
    """An object that is gone."""
    ws.objects.store.delete(digest)  # type: ignore[arg-type]  # digests of records are plain texts
    assert not ws.objects.has(digest)


def lose_model(ws: Workspace, number: int) -> None:
    """Everything that a version's model is made of is gone, save what says of it."""
    manifest = ws.objects.get_json(version(ws, number).bundle)
    for entry in read_tree(ws.objects, manifest["tree"]).entries:
        if entry.path.startswith("model"):
            lose(ws, entry.digest)


def why(found: Difference) -> str:
    return " ".join(found.why)


def test_both_are_asked_on_the_same_rows_and_the_one_thing_that_differs_is_the_cause(world: World) -> None:
    found = diff(world.ws, "m:1", "m:2")
    scored = found.scored
    assert scored is not None
    assert scored.is_new
    assert (scored.told, scored.data) == ("the holdout of m:2", ("events@1",))
    month = rows()
    kept = month[month["at"] >= month["at"].max() - pd.Timedelta(days=7)].tail(scored.rows)
    assert len(kept) == scored.rows > 1_500
    assert scored.of == scored.rows
    auc, loss, own = scored.metrics
    models = [bundles.load(world.ws, version(world.ws, number).bundle) for number in (1, 2)]
    answers = [model.predict(kept) for model in models]
    assert [auc.a, auc.b] == pytest.approx([roc_auc_score(kept["bad"], each) for each in answers])
    assert [loss.a, loss.b] == pytest.approx([log_loss(kept["bad"], each) for each in answers])
    assert auc.low is not None
    assert loss.is_beyond_chance
    assert (own.metric, own.low) == ("spread", None)
    assert own.a == pytest.approx(answers[0].std())
    assert "the project's own" in own.note
    assert {each.column for each in scored.slices} == {"side"}
    assert {each.metric for each in scored.slices} == {"auc", "log_loss"}
    (given,) = found.inputs
    assert (given.kind, given.name, given.a, given.b) == ("configuration", "train.iterations", "30", "2")
    assert "Only one kind of input differs: configuration (train.iterations 30 → 2)" in why(found)
    assert found.notes == ()
    assert found.next == "noria registry report m:2"


def test_runs_versions_and_releases_say_the_same_whoever_asks(world: World) -> None:
    ids = [version(world.ws, number).run for number in (1, 2)]
    whole = [diff(world.ws, *pair) for pair in (("m:1", "m:2"), (ids[0], ids[1]), ("m@r1", "m@r2"))]
    assert {each.kind for each in whole} == {"model version", "run", "release"}
    assert whole[0].scored == whole[1].scored == whole[2].scored
    assert whole[0].why == whole[1].why == whole[2].why

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app=behind(Guard(world.ws), Starlette(routes=api.routes(world.ws))))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/api/v1/project/diff", json={"a": ids[0], "b": ids[1]})

    told = asyncio.run(post()).json()
    assert told["result"] == json.loads(json.dumps(verbs.builtins(whole[1])))
    assert isinstance(told["result"]["scored"]["metrics"][0]["difference"], float)


def test_the_command_ends_with_the_next_one_and_the_page_shows_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world.root)
    assert command(["diff", "m:1", "m:2"]) == 0
    text = capsys.readouterr().out
    for words in ("on ", "auc by slice", "side = left", "rows that flipped", "train.iterations  30 → 2", "why"):
        assert words in text
    assert "noria registry report m:2" in text
    ids = [version(world.ws, number).run for number in (1, 2)]

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(app=behind(Guard(world.ws), Starlette(routes=pages.routes(world.ws))))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(f"/runs/compare?run={ids[0]}&run={ids[1]}")

    page = asyncio.run(get()).text
    for words in ("On the same rows", "auc by slice", "rows flipped", "train.iterations", "Only one kind of input"):
        assert words in page


def test_scores_that_gates_kept_are_used_and_no_model_is_loaded(world: World) -> None:
    before = diff(world.ws, "m:1", "m:2").scored
    lose_model(world.ws, 1)
    lose_model(world.ws, 2)
    assert diff(world.ws, "m:1", "m:2").scored == before


def test_without_kept_scores_and_without_models_the_figures_of_the_gates_are_shown(world: World) -> None:
    for number in (1, 2):
        lose_model(world.ws, number)
        (judged,) = [
            each
            for each in world.ws.ledger.facts(kind="gate.judged", subject="model/m")
            if each.payload.version == number
        ]
        lose(world.ws, dict(judged.fact.outputs)["scores"])
    found = diff(world.ws, "m:1", "m:2")
    assert found.scored is not None
    assert not found.scored.is_new
    auc = found.scored.metrics[0]
    assert auc.a_low is not None
    assert (auc.low, auc.is_beyond_chance) == (None, None)
    assert auc.difference == pytest.approx((auc.b or 0) - (auc.a or 0))
    assert "measured on the same rows" in found.notes[0]
    assert "is not known" in why(found)


def test_rows_that_one_was_trained_on_are_left_out_and_counted(world: World) -> None:
    assert run(world.ws, params={"split.holdout": "3d"}).ok
    found = diff(world.ws, "m:2", "m:3", on="a")  # m:3 learned from four of the seven days
    scored = found.scored
    assert scored is not None
    assert scored.told == "the holdout of m:2"
    assert 0.38 < scored.rows / scored.of < 0.48
    assert f"{scored.of - scored.rows:,} of {scored.of:,} rows are left out: m:3 was trained on them" in found.notes[0]
    newer = diff(world.ws, "m:2", "m:3").scored
    assert newer is not None
    assert newer.rows == newer.of == scored.rows, "m:2 has seen none of the last three days"


def test_a_data_version_that_was_all_learned_from_compares_nothing(world: World) -> None:
    found = diff(world.ws, "m:1", "m:2", on="events@1")
    assert found.scored is not None
    assert found.scored.told == "events@1"
    assert found.scored.rows < 0.3 * found.scored.of
    assert len(found.notes) == 2


def test_code_is_named_by_symbol_and_file_and_candidates_are_not_called_causes(world: World) -> None:
    changed = SLICED.replace("x, y = nr.xy(rows)", "x, y = nr.xy(rows.head(300))")
    (world.root / "pipeline.py").write_text(changed)
    assert run(world.ws).ok
    found = diff(world.ws, "m:1", "m:3")
    (code,) = found.inputs
    assert (code.kind, code.name, code.file) == ("code", "step train", "pipeline.py")
    assert any(line.startswith("+") and "head(300)" in line for line in code.lines)
    assert "code (step train in pipeline.py)" in why(found)
    both = diff(world.ws, "m:2", "m:3")
    assert [each.kind for each in both.inputs] == ["code", "configuration"]
    assert "2 kinds of input differ, so none can be called the cause" in why(both)
    assert both.next == "noria run -p train.iterations=2"


def test_a_changed_default_is_configuration_and_no_code(world: World) -> None:
    (world.root / "pipeline.py").write_text(SLICED.replace("iterations: int = 30", "iterations: int = 4"))
    assert run(world.ws).ok
    found = diff(world.ws, "m:1", "m:3")
    assert [(each.kind, each.name, each.a, each.b) for each in found.inputs] == [
        ("configuration", "train.iterations", "30", "4")
    ]


def test_a_threshold_that_moved_is_told_though_no_step_knows_it(world: World) -> None:
    (world.root / "pipeline.py").write_text(SLICED.replace('slices=["side"]', 'slices=["side"], threshold=0.7'))
    assert run(world.ws).ok
    found = diff(world.ws, "m:1", "m:3")
    assert [(each.kind, each.name, each.a, each.b) for each in found.inputs] == [
        ("configuration", "threshold", "0.5", "0.7")
    ]
    assert found.scored is not None
    assert found.scored.metrics[0].difference == 0.0
    assert found.scored.flips is not None
    assert found.scored.flips.count > 0


def test_data_are_told_by_rows(world: World) -> None:
    more = month_rows(2)
    world.send_data(2, more.assign(side="left"))
    assert run(world.ws).ok
    found = diff(world.ws, "m:1", "m:3")
    (data,) = found.inputs
    assert (data.kind, data.a, data.b) == ("data", "events@1", "events@2")
    assert (data.added, data.removed, data.changed) == (len(more), 0, 0)
    assert f"{len(more):,} rows added" in why(found)
    assert found.next == "noria data diff events@1 events@2"


def test_a_version_that_is_deleted_leaves_what_its_run_logged(world: World) -> None:
    ids = [version(world.ws, number).run for number in (1, 2)]
    with world.ws.ledger.transaction() as tx:
        tx.append(VersionRemoved(model="m", version=1), inputs=[("version", "model/m:1")])
    found = diff(world.ws, ids[0], ids[1])
    assert found.scored is None
    assert "made no model version that is on record" in found.notes[0]
    auc = next(each for each in found.logged if each.metric == "auc")
    assert (auc.a is not None, auc.b is not None, auc.better) == (True, True, "higher")
    assert "auc was logged as" in why(found)


def test_an_evaluation_that_is_gone_is_said(world: World) -> None:
    for stored in world.ws.ledger.facts(kind="gate.judged", subject="model/m"):
        lose(world.ws, dict(stored.fact.outputs)["evaluation"])
    found = diff(world.ws, "m:1", "m:2")
    assert found.scored is None
    assert "is not in the object store any more" in found.notes[0]


def test_another_task_is_not_asked_the_same(world: World) -> None:
    other = SLICED.replace("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
    (world.root / "pipeline.py").write_text(other.replace('["auc", "log_loss", spread]', '["mae", "rmse"]'))
    run(world.ws)
    found = diff(world.ws, "m:1", "m:3")
    assert found.scored is None
    assert found.notes[0] == ("they were not asked on the same rows: m:1 is a binary model and m:3 a regression one")


def test_rows_without_a_label_and_rows_without_the_column_compare_nothing(world: World) -> None:
    for name, frame in (("blank", rows().assign(bad=None)), ("bare", rows().drop(columns="bad"))):
        path = world.root / f"{name}.parquet"
        frame.to_parquet(path)
        versions.add(world.ws, str(path), name)
    blank = diff(world.ws, "m:1", "m:2", on="blank@1")
    assert blank.scored is None
    assert blank.notes[0].endswith("none of the 8,000 rows of blank@1 has a label")
    bare = diff(world.ws, "m:1", "m:2", on="bare@1")
    assert bare.scored is None
    assert bare.notes[0].endswith("the holdout has no label column bad")


def test_rows_that_are_asked_for_and_not_there_are_an_error(world: World) -> None:
    with pytest.raises(NotFound):
        diff(world.ws, "m:1", "m:2", on="nothing@1")
    with pytest.raises(UsageError, match="not asked on any rows"):
        diff(world.ws, "events@1", "events@1", on="a")


def test_a_version_that_no_gate_measured_is_asked_on_the_holdout_of_the_other(world: World) -> None:
    made = version(world.ws, 1)
    again = bundles.read(world.ws, made.bundle)
    held = diff(world.ws, "m:1", "m:2").scored
    assert held is not None
    model = bundles.load(world.ws, made.bundle).model
    built = bundles.build(
        world.ws, model, holdout=rows().head(100), run=made.run, label="bad", drop=("id", "at", "side"), name="m",
        threshold=again.threshold + 0.1,
    )  # fmt: skip
    registered = model_versions.register(world.ws, built, model="m", run=made.run, metrics={}, pins=made.pins)
    found = diff(world.ws, "m:2", registered.ref).scored
    assert found is not None
    assert found.told == "the holdout of m:2"
    assert (found.metrics[0].a, found.metrics[0].b) == (held.metrics[0].b, held.metrics[0].a)


def test_the_same_bytes_are_the_same_model(world: World) -> None:
    again = run(world.ws)
    found = diff(world.ws, version(world.ws, 1).run, again.run)
    assert found.scored is None
    assert found.notes[0] == "both are m:1: the same model to the byte"


@pytest.fixture
def recorded(world: World) -> list[str]:
    """Two recordings with a curve each."""
    ids = []
    for number, low in enumerate((3, 7)):
        with Recording(
            world.ws.project,
            clock=WallClock(),
            objects=lambda folder: world.ws.objects,
            open_workspace=lambda: world.ws,
            name=f"try {number}",
            experiment="tries",
            parent="",
            actor="user:ada",
        ) as each:
            each.log(params={"lr": number})
            for step in range(10):
                each.log(loss=1.0 + abs(step - low) - number * 0.5, step=step)
            each.log(length=5.0 + number)
        ids.append(each.run)
    return ids


def test_runs_that_only_logged_are_compared_by_last_and_best(world: World, recorded: list[str]) -> None:
    found = diff(world.ws, recorded[0], recorded[1])
    assert found.scored is None
    assert "made no model version that is on record, so no model can be asked" in found.notes[0]
    named = {each.metric: each for each in found.logged}
    loss = named["loss"]
    assert (loss.better, loss.a, loss.b, loss.a_points) == ("lower", 7.0, 2.5, 10)
    assert (loss.a_best, loss.a_best_step, loss.b_best, loss.b_best_step) == (1.0, 3, 0.5, 7)
    assert (named["length"].better, named["length"].a_best) == ("", None)
    assert [(each.kind, each.name, each.a, each.b) for each in found.inputs] == [("configuration", "lr", "0", "1")]
    assert "At their best: 1.0000 at step 3 and 0.5000 at step 7. How much of that is chance is not known" in why(found)
    assert found.next == f"noria experiments plot {recorded[0]} {recorded[1]}"
    assert "0.5000 at step 7" in show.render("difference", verbs.builtins(found))


def test_an_evaluation_names_the_roles_and_the_scores_and_its_page_still_shows(world: World) -> None:
    (first, *_) = world.ws.ledger.facts(kind="gate.judged", subject="model/m")
    document = world.ws.objects.get_json(dict(first.fact.outputs)["evaluation"])
    assert {name: document["data"][name] for name in ("label", "key", "time")} == {
        "label": "bad",
        "key": "id",
        "time": "at",
    }
    assert document["data"]["scores"] == dict(first.fact.outputs)["scores"]
    assert "<html" in render(document)
