"""`noria explain PREDICTION`: what each column added to the logged score, or why nobody can say."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression

from noria.faces.cli.show import render
from noria.packaging import bundle
from noria.project import attributed
from noria.registry import versions
from noria.store.workspace import Workspace
from noria.testing.samples import flights, lateness
from noria.testing.workspace import open_memory

NAMES = ["hour", "distance", "wind", "seats"]


@pytest.fixture
def ws() -> Iterator[Workspace]:
    """A throw-away workspace."""
    made = open_memory()
    yield made
    shutil.rmtree(made.project.root)


def logged(ws: Workspace) -> tuple[str, dict[str, Any]]:
    """A registered bundle and a line of the log that it answered."""
    rows = flights(300, seed=3)
    rows = rows.assign(late=lateness(rows))
    model = LogisticRegression(max_iter=5000).fit(rows[NAMES], rows["late"])
    made = bundle.build(ws, model, holdout=rows, run="run_1", label="late", name="m")
    versions.register(ws, made, model="m", run="run_1", metrics={}, pins=[])
    row = dict(made.golden_rows[7])
    return made.digest, {"id": "pred_1", "x": row, "y": bundle.load(ws, made.digest).predict([row])[0]}


def test_a_logged_score_is_the_base_and_what_each_column_adds(ws: Workspace) -> None:
    digest, line = logged(ws)
    (link,) = attributed.link(ws, digest, "m:1", line)
    parts = link.details["columns"]
    assert {part["column"]: part["value"] for part in parts} == line["x"]
    assert link.details["base"] + sum(part["adds"] for part in parts) == pytest.approx(line["y"], abs=1e-9)
    assert link.details["background"] == "64 golden rows of the bundle"
    assert link.ref == "model/m:1"
    assert "the log says" not in link.text
    shown = render("explain", {"id": "pred_1", "kind": "prediction", "links": [plain(link)], "touched": []})
    assert parts[0]["column"] in shown.splitlines()[2]


def test_a_model_that_answers_otherwise_now_is_told_of(ws: Workspace) -> None:
    digest, line = logged(ws)
    (link,) = attributed.link(ws, digest, "m:1", {**line, "y": line["y"] + 0.1})
    assert link.text.endswith("the model answers otherwise here")


def test_without_a_score_there_is_nothing_and_without_the_model_there_is_a_reason(ws: Workspace) -> None:
    digest, line = logged(ws)
    assert attributed.link(ws, digest, "m:1", {**line, "y": None}) == []
    (link,) = attributed.link(ws, "sha256:" + "0" * 64, "m:1", line)
    assert link.text.startswith("not computed: no fact of this workspace names the bundle")
    (link,) = attributed.link(ws, digest, "m:1", {**line, "x": {**line["x"], "hour": "late"}})
    assert link.text == "not computed: column hour must be a whole number, not a text"


def plain(link: attributed.Link) -> dict[str, Any]:
    """A link as JSON would hold it."""
    return {"what": link.what, "ref": link.ref, "text": link.text, "at": "", "actor": "", "details": dict(link.details)}
