"""Evaluations: numbers that can be computed again, and a page that any reader can open."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score, roc_curve

from noria.core.errors import Conflict, NotFound, UsageError
from noria.core.identity import Digest
from noria.packaging import bundle
from noria.registry import report
from noria.registry.evaluate import Evaluation, evaluate
from noria.registry.export import export_release, export_report
from noria.registry.levels import MAX_LEVELS, levels_of
from noria.registry.records import VersionRecord
from noria.registry.release import make
from noria.store.workspace import Workspace

Register = Callable[..., VersionRecord]


class Page(HTMLParser):
    """Collects the texts, the tags that must be closed, and whatever a page would fetch."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.fetched += [str(value) for key, value in attrs if key in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture
def evaluation(ws: Workspace, register: Register, holdout: pd.DataFrame, roles: Any) -> Evaluation:
    strong = bundle.load(ws, register("strong").bundle)
    weak = bundle.load(ws, register("weak").bundle)
    rows = holdout.assign(carrier=holdout["carrier"].str.replace("UA", "<script>alert(1)</script>"))
    return evaluate(
        ws,
        strong,
        rows,
        roles=roles,
        metrics=["auc", "log_loss", "f1"],
        slices=["carrier", "maker", "wind", "weekend", "absent"],
        champion=weak,
        data={"holdout": "sha256:…", "pins": ["flights@1"]},
        title="m:2 against m:1",
    )


def svgs(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring("<svg" + part.split("</svg>")[0] + "</svg>") for part in page.split("<svg")[1:]]


def test_the_numbers_are_scikit_learns_on_the_same_rows(
    evaluation: Evaluation, models: dict[str, Any], holdout: pd.DataFrame
) -> None:
    names = ["hour", "distance", "wind", "seats"]
    score = models["strong"].predict_proba(holdout[names])[:, 1]
    assert evaluation.metrics["auc"].value == pytest.approx(roc_auc_score(holdout["late"], score))
    assert evaluation.values()["log_loss"] == pytest.approx(log_loss(holdout["late"], score))
    assert evaluation.n == len(holdout)
    assert evaluation.positives == int(holdout["late"].sum())
    part = next(s for s in evaluation.slices if (s.column, s.level) == ("maker", "BOEING"))
    inside = (holdout["maker"] == "BOEING").to_numpy()
    assert part.metrics["auc"] == pytest.approx(roc_auc_score(holdout["late"][inside], score[inside]))
    fpr, tpr, _ = roc_curve(holdout["late"], score, drop_intermediate=False)
    points = set(zip(np.round(fpr, 9), np.round(tpr, 9), strict=True))
    assert all((round(a, 9), round(b, 9)) in points for a, b in evaluation.curves.roc)
    assert sum(n for _, _, n in evaluation.curves.calibration) == len(holdout)
    assert sum(evaluation.curves.negative) + sum(evaluation.curves.positive) == len(holdout)


def test_the_document_is_json_that_renders_to_the_same_page(ws: Workspace, evaluation: Evaluation) -> None:
    document = ws.objects.get_json(evaluation.document)
    assert document["format"] == "noria/evaluation/1"
    assert report.render(document).encode() == ws.objects.get_bytes(evaluation.report)


def test_the_page_is_whole_escaped_and_fetches_nothing(ws: Workspace, evaluation: Evaluation) -> None:
    text = ws.objects.get_bytes(evaluation.report).decode()
    page = Page(text)
    assert page.open == []
    assert page.fetched == []
    assert "<script" not in text
    assert "carrier = <script>alert(1)</script>" in page.texts
    assert page.texts[page.texts.index("data versions") + 1] == "flights@1"
    assert len(text) < 300_000
    charts = svgs(text)
    assert len(charts) >= 3 + 3 + len(evaluation.slices)
    for chart in charts:
        _, _, width, height = map(float, chart.attrib["viewBox"].split())
        for dot in chart.iter("circle"):
            assert 0 <= float(dot.attrib["cx"]) <= width
            assert 0 <= float(dot.attrib["cy"]) <= height


def test_slices_cover_every_row_once(holdout: pd.DataFrame) -> None:
    many = pd.Series([f"t{value}" for value in range(100)] * 30)
    for series in (holdout["carrier"], holdout["maker"], holdout["wind"], holdout["gust"], holdout["dest"], many):
        parts = levels_of(series)
        assert np.array_equal(sum(mask.astype(int) for _, mask in parts), np.ones(len(series)))
        assert len(parts) <= MAX_LEVELS + 2


def test_a_page_of_a_regression_and_of_nothing_is_drawn(ws: Workspace, evaluation: Evaluation) -> None:
    document = ws.objects.get_json(evaluation.document)
    empty = {
        **document,
        "order": ["auc"],
        "metrics": {"auc": {**document["metrics"]["auc"], "value": None, "low": None, "high": None}},
        "champion": {},
        "slices": [],
        "n": 0,
        "curves": {**document["curves"], "roc": [], "calibration": [], "edges": []},
    }
    assert "–" in report.render(empty)
    residuals = {**document["curves"], "roc": [], "calibration": [], "positive": []}
    assert "Residuals" in report.render({**document, "task": "regression", "curves": residuals})


def test_an_exported_release_needs_only_scikit_learn_and_skops(
    ws: Workspace, register: Register, models: dict[str, Any]
) -> None:
    made = make(ws, "m", register("strong").version)
    found = export_release(ws, "m", made.release, "out/strong")
    beside = {"types.json", "signature.json", "example.json", "golden.json", "release.json", "card.json", "card.md"}
    assert set(found.files) == {"model.skops", *beside}
    script = textwrap.dedent(
        """
        import json, sys
        import pandas as pd
        import skops.io
        model = skops.io.load("model.skops", trusted=json.load(open("types.json")))
        golden = json.load(open("golden.json"))
        names = [column["name"] for column in json.load(open("signature.json"))["inputs"]]
        scores = model.predict_proba(pd.DataFrame(golden["rows"])[names])[:, 1].tolist()
        assert max(abs(a - b) for a, b in zip(scores, golden["scores"])) < 1e-12
        assert not any(name.split(".")[0] == "noria" for name in sys.modules)
        print(len(scores))
        """
    )
    folder = ws.project.root / "out/strong"
    done = subprocess.run([sys.executable, "-P", "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    assert int(done.stdout) == 64
    assert json.loads((folder / "release.json").read_text())["bundle"] == made.bundle
    assert found.next.startswith('python -c "import json, skops.io;')
    words = [*shlex.split(found.next)[1:-1], f"{shlex.split(found.next)[-1]}; print(type(model).__name__)"]
    said = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert said.stdout.strip() == type(models["strong"]).__name__, said.stderr
    with pytest.raises(Conflict, match="not an empty folder"):
        export_release(ws, "m", made.release, "out/strong")
    for outside in ("../out", "/tmp/noria-out", "."):
        with pytest.raises(UsageError):
            export_release(ws, "m", made.release, outside)


def test_the_report_that_the_gates_left_is_one_file_for_who_reviews(
    ws: Workspace, register: Register, judge: Any
) -> None:
    version = register("strong")
    with pytest.raises(NotFound, match="no gate has judged it"):
        export_report(ws, version.ref)
    judged = judge(version.version).judged
    found = export_report(ws, version.ref)
    assert found.digest == judged.report
    content = Path(found.path).read_bytes()
    assert content == ws.objects.get_bytes(Digest(judged.report))
    assert (found.size_bytes, Path(found.path).parent) == (len(content), ws.project.root.resolve())
    assert "PASS" in content.decode() or "passes" in content.decode()
    assert export_report(ws, "m", "reviews/newest.html").digest == found.digest
    assert export_report(ws, version.ref) == found, "the same file may be there already"
    other = ws.project.root / "pipeline.py"
    other.write_text("mine", encoding="utf-8")
    with pytest.raises(Conflict, match="is something else"):
        export_report(ws, version.ref, "pipeline.py")
    assert other.read_text(encoding="utf-8") == "mine"
    for outside in ("../out.html", "/tmp/noria-out.html", ".", ".noria/key"):
        with pytest.raises(UsageError):
            export_report(ws, version.ref, outside)
