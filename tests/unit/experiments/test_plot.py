"""Runs as pictures: what is drawn of them, from the summaries or the points, and the file that comes of it."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from noria.bootstrap import WallClock
from noria.core.errors import Conflict, NotFound, UsageError
from noria.experiments import points, records
from noria.experiments.curves import curves_of
from noria.experiments.plot import panels, parallel, plot
from noria.experiments.points import Chunk
from noria.experiments.recorder import Recording
from noria.experiments.records import LoggedRun
from noria.store.workspace import Workspace
from noria.testing import open_memory


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    made = open_memory(root=tmp_path)
    yield made
    made.ledger.database.close()


def record(ws: Workspace, *, params: dict[str, Any] | None = None, **metrics: Sequence[float]) -> LoggedRun:
    """A run with these points of each metric, at steps from 0."""
    with Recording(
        ws.project,
        clock=WallClock(),
        objects=lambda folder: ws.objects,
        open_workspace=lambda: ws,
        name="",
        experiment="exp",
        parent="",
        actor="user:somebody",
    ) as run:
        run.log(params=params or {})
        for name, values in metrics.items():
            for step, value in enumerate(values):
                run.log({name: value}, step=step)
    with ws.ledger.read() as tx:
        found = records.run(tx, run.run)
    assert found is not None
    return found


def test_a_long_curve_is_drawn_from_its_summaries_with_its_least_and_greatest(ws: Workspace) -> None:
    n = 200 * points.CHUNK
    values = [math.sin(step / 1e4) for step in range(n)]
    values[333_333], values[444_444] = 7.0, -9.0
    run = record(ws, acc=[0.5])
    segment = points.write(
        ws.objects, {"loss": points.curve([(step, step, value) for step, value in enumerate(values)])}
    )
    asked: list[str] = []

    def footers(each: str) -> list[Chunk]:
        asked.append(each)
        return [*points.chunks(ws.objects, segment), *points.chunks(ws.objects, each)]

    (drawn,) = curves_of(ws, run.run, ["loss"], 600, footers=footers)
    assert drawn.total == n
    assert len(drawn.curve) <= 600
    assert (drawn.curve.values.max(), drawn.curve.values.min()) == (7.0, -9.0)
    assert len(asked) == 1, "each segment is asked once"


def test_short_curves_are_drawn_whole_from_all_segments(ws: Workspace) -> None:
    run = record(ws, loss=[3.0, 2.0, 1.0], acc=[0.1] * 50)
    found = {each.metric: each for each in curves_of(ws, run.run, ["acc", "loss", "none"], 600)}
    assert set(found) == {"acc", "loss"}
    assert found["loss"].curve.values.tolist() == [3.0, 2.0, 1.0]
    assert found["acc"].total == 50


def test_runs_lie_over_each_other_and_metrics_of_the_machine_are_apart(ws: Workspace) -> None:
    runs = [record(ws, loss=[2.0, 1.0]), record(ws, loss=[3.0], **{"system/process_count": [1.0], "system/a": [1.0]})]
    (drawn,) = panels(ws, runs)
    assert [(line.number, list(line.ys)) for line in drawn.lines] == [(0, [2.0, 1.0]), (1, [3.0])]
    assert drawn.across == "step"
    machine = panels(ws, runs, is_of_machine=True)
    assert [each.metric for each in machine] == ["system/process_count", "system/a"], "the run's own processes first"
    assert {each.across for each in machine} == {"seconds"}


def test_parallel_coordinates_take_what_differs_and_all_runs_have(ws: Workspace) -> None:
    runs = [
        record(
            ws, params={"lr": 10.0**-n, "model": kind, "same": 1, **({"odd": 1} if n else {})}, acc=[n], loss=[4 - n]
        )
        for n, kind in enumerate(("tree", "net<", "tree"))
    ]
    markup = parallel(ws, runs, "acc")
    root = ElementTree.fromstring(markup)
    words = {each.text for each in root.iter("text")}
    assert {"lr", "model", "loss", "acc", "tree", "net<"} <= words
    assert not {"same", "odd"} & words
    assert sum(each.get("class") == "trial" for each in root.iter("path")) == 3
    assert parallel(ws, runs[:1], "acc") == ""
    assert parallel(ws, runs, "nothing") == ""


def test_the_same_runs_give_the_same_file_and_nothing_else_is_overwritten(ws: Workspace) -> None:
    runs = [record(ws, params={"n": n}, loss=[n, n / 2], acc=[1.0]) for n in (1, 2, 3)]
    ids = [run.run for run in runs]
    made = plot(ws, ids, to="pictures/all.svg")
    path = Path(made.path)
    first = path.read_bytes()
    assert plot(ws, ids, to="pictures/all.svg") == made
    assert path.read_bytes() == first
    ElementTree.fromstring(first.decode())
    assert made.metrics == ("acc", "loss")
    assert made.next == f"noria diff {ids[0]} {ids[1]}"
    with pytest.raises(Conflict, match="something else"):
        plot(ws, ids, ["loss"], to="pictures/all.svg")
    assert Path(plot(ws, ids[:1], ["loss"]).path).name == f"{ids[0]}.svg"
    with pytest.raises(UsageError, match="not inside"):
        plot(ws, ids, to="../all.svg")
    with pytest.raises(UsageError, match="cannot go across"):
        plot(ws, ids, by="epoch")
    with pytest.raises(NotFound, match="no points of auc"):
        plot(ws, ids, ["auc"])
    with pytest.raises(UsageError, match="21 runs"):
        plot(ws, ids * 7)
