"""The status page: what it shows, and what it never lets through."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from noria.config import Project
from noria.faces import verbs
from noria.faces.http.auth import Guard
from noria.faces.http.guarded import behind
from noria.faces.ui import pages
from noria.faces.ui.chart import HEIGHT, WIDTH, chart
from noria.project.status import status
from noria.testing.workspace import open_memory


def estimate(value: float | None) -> dict[str, Any]:
    """A metric of a window."""
    low, high = (None, None) if value is None else (value - 0.01, value + 0.01)
    return {"value": value, "low": low, "high": high, "n": 100}


def model(**changed: Any) -> dict[str, Any]:
    """A model with three windows."""
    windows = [
        {
            "window": f"2026-0{number}",
            "start": "",
            "rows": 100,
            "labelled": 90,
            "live": {"auc": estimate(0.7 + number / 100)},
            "frozen": {"auc": estimate(0.7)},
            "drifted": ["<i>temp</i>"],
            "decision": "train",
            "reason": "because",
        }
        for number in (1, 2, 3)
    ]
    plain = {
        "model": "flights", "version": 2, "release": 2, "since": "2026-01-01T00:00:00Z", "actor": "user:ada",
        "as_of": "", "arms": [{"arm": "stable", "release": 2, "weight": 1.0}], "shadow": 0, "rollout": None,
        "candidates": [], "windows": windows, "alerts": [], "promotions": 1, "refusals": 0, "stopped": 0,
        "unloadable": "", "next": "",
    }  # fmt: skip
    return {**plain, **changed}


def whole(*models: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """A project's status."""
    plain = {
        "project": "shop", "clock": "wall", "facts": 3, "servers": 1, "models": list(models),
        "scheduling": ["normal: there is one core"], "runs": [],
        "datasets": [], "jobs": [], "next": "noria run", "unread_pins": {},
    }  # fmt: skip
    return {**plain, **changed}


def test_every_value_is_escaped() -> None:
    alert = {"kind": "data", "severity": "error", "message": "<script>alert(1)</script>", "raised_at": ""}
    page = pages.page(whole(model(alerts=[alert]), project='"><img src=x onerror=1>'))
    assert page.replace(f"<script>{pages.SCRIPT}</script>", "", 1).count("<script") == 0
    assert "<img" not in page
    assert "<i>temp" not in page
    assert "&lt;script&gt;" in page


def test_an_empty_project_says_what_to_do() -> None:
    assert "noria run" in pages.page(whole())


def test_how_the_servers_are_scheduled_is_said_with_why() -> None:
    said = '<span title="normal: there is one core">normal</span> priority'
    assert said in pages.page(whole())
    assert "priority" not in pages.page(whole(scheduling=[]))


def test_a_model_without_labels_has_no_chart_and_no_failure() -> None:
    windows = [{**each, "live": {}, "frozen": {}} for each in model()["windows"]]
    assert '<svg viewBox="0 0 720' not in pages.page(whole(model(windows=windows)))
    assert '<svg viewBox="0 0 720' in pages.page(whole(model()))


def test_the_page_of_a_real_workspace_answers_with_its_policy(tmp_path: Path) -> None:
    ws = open_memory(Project(name="shop"), root=tmp_path)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=behind(Guard(ws), Starlette(routes=pages.routes(ws))))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/")

    answer = asyncio.run(ask())
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    (own,) = re.findall("<script>(.*?)</script>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
    assert answer.headers["content-security-policy"].endswith(f"; script-src 'sha256-{digest}'"), "no other script runs"
    assert "shop" in answer.text
    assert verbs.builtins(status(ws))["project"] == "shop"


def test_the_page_loads_nothing_from_anywhere() -> None:
    run = {
        "run": "run_1",
        "status": "finished",
        "pipeline": "p",
        "seconds": 1.0,
        "metrics": {},
        "cause": "user",
        "at": "",
    }
    page = pages.page(whole(model(), runs=[run]))
    assert re.findall(r"src=|url\(|@import|https?://", page) == []
    assert set(re.findall(r'href="([^"]*)"', page)) == {"/runs", "/runs/run_1"}, "links within the server only"


def test_the_chart_stays_inside_and_is_drawn_to_scale() -> None:
    values = [0.5, 0.9, 0.7]
    drawn = chart(
        labels=["a", "b", "c"],
        live=[estimate(each) for each in values],
        frozen=[0.5, None, 0.5],
        marks=["", "train", ""],
    )
    points = [(dot.x, dot.y) for dot in drawn.dots]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert points[1][1] < points[2][1] < points[0][1], "higher is better and higher up"
    share = (points[0][1] - points[2][1]) / (points[0][1] - points[1][1])
    assert share == pytest.approx((0.7 - 0.5) / (0.9 - 0.5), abs=0.01)
    assert drawn.band.endswith("Z")
    ElementTree.fromstring(f'<path d="{drawn.band}"/>')


def test_equal_values_and_missing_intervals_draw_too() -> None:
    flat = [{"value": 0.5, "low": None, "high": None}] * 2
    drawn = chart(labels=["a", "b"], live=flat, frozen=[None, None], marks=["", ""])
    assert drawn.band == ""
    assert drawn.frozen == ""
    assert [end.text for end in drawn.ends] == ["live"]
