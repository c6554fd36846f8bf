"""Cards of models: what lies in the bundle, and the whole of a version, as values and as Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from noria.config import parse_project
from noria.core.errors import ConfigError, Conflict, NotFound, UsageError
from noria.core.identity import Digest
from noria.data.commit import Content, commit
from noria.packaging import bundle
from noria.packaging.card import plain_text, ranges_of
from noria.packaging.rows import fields_of
from noria.registry import versions
from noria.registry.card import card
from noria.registry.export import export_report
from noria.registry.records import VersionRecord
from noria.store.tree import Tree, read_tree, write_tree
from noria.store.workspace import Workspace
from noria.tracking.facts import Pin

Register = Callable[..., VersionRecord]
SAID = {
    "owners": ["Ann", "risk team"],
    "intended_use": "Warn of late flights.\nNot | more <b>than</b> that.",
    "not_for": ["denying boarding"],
    "licence": "Apache-2.0",
    "limits": ["Storms are rare in the data."],
    "units": {"distance": "km"},
}


def declared(ws: Workspace, said: Mapping[str, Any]) -> Workspace:
    """The same workspace where noria.toml says more of the card of `m`."""
    gate = {"auc": {"min": 0.55}, "fairness": {"group": "carrier", "demographic_parity": 0.1}, "inputs": "any"}
    head = {"project": {"name": "test"}, "model": {"m": {"gate": gate, "card": dict(said)}}}
    found = parse_project(head, root=Path(), environment={})
    return replace(ws, project=replace(ws.project, models=found.models))


def made(ws: Workspace, model: Any, holdout: pd.DataFrame, **options: Any) -> bundle.Bundle:
    return bundle.build(ws, model, holdout=holdout.head(400), run="run_1", label="late", name="m", **options)


def part(ws: Workspace, found: bundle.Bundle, name: str) -> str:
    (entry,) = [each for each in found.files.entries if each.path == name]
    return ws.objects.get_bytes(entry.digest).decode("utf-8")


def test_a_bundle_holds_its_card_with_what_the_project_declares(
    ws: Workspace, models: dict[str, Any], holdout: pd.DataFrame
) -> None:
    said = declared(ws, SAID)
    found = made(said, models["strong"], holdout, threshold=0.3)
    held = json.loads(part(said, found, "card.json"))
    assert held["declared"] == {key: value for key, value in SAID.items() if key != "units"}
    assert (held["name"], held["task"], held["threshold"]) == ("m", "binary", 0.3)
    assert held["labels"] == {"negative": 0, "positive": 1}
    assert held["requires"] == dict(found.requires)
    inputs = {each["name"]: each for each in held["signature"]["inputs"]}
    assert held["signature"]["shape"] == {"inputs": ["rows", 4], "outputs": ["rows"]}
    rows = holdout.head(400)
    for name in ("hour", "distance", "wind", "seats"):
        assert inputs[name]["range"] == [rows[name].min(), rows[name].max()]
        assert inputs[name]["nulls"] == int(rows[name].isna().sum())
        assert inputs[name]["dtype"] == str(rows[name].dtype)
    assert [each.column.unit for each in found.fields] == ["", "km", "", ""], "the signature says it too"
    text = part(said, found, "card.md")
    assert "Warn of late flights. Not \\| more &lt;b&gt;than&lt;/b&gt; that." in text
    assert "| distance | " in text
    assert "probability of 1" in text
    assert made(said, models["strong"], holdout, threshold=0.3).digest == found.digest, "nothing of it is of the moment"
    assert made(said, models["strong"], holdout).digest != found.digest


def test_a_unit_of_no_input_is_refused_with_the_nearest(
    ws: Workspace, models: dict[str, Any], holdout: pd.DataFrame
) -> None:
    with pytest.raises(ConfigError, match="'distanze'") as caught:
        made(declared(ws, {"units": {"distanze": "km"}}), models["strong"], holdout)
    assert caught.value.hint == "did you mean 'distance'?"


def test_an_unknown_key_of_a_card_names_the_nearest(ws: Workspace) -> None:
    with pytest.raises(ConfigError, match=r"\[model.m.card\] has no key 'license'") as caught:
        declared(ws, {"license": "MIT"})
    assert caught.value.hint == "did you mean 'licence'?"


def test_ranges_are_those_of_the_values_that_have_an_order() -> None:
    moments = pd.to_datetime(["2024-05-02", "NaT", "2024-05-01"])
    frame = pd.DataFrame(
        {
            "n": [3.5, np.nan, -1.0],
            "wide": [np.inf, 2.0, 1.0],
            "none": [np.nan, np.nan, np.nan],
            "t": moments,
            "word": ["b", "a", None],
        }
    )
    found = ranges_of(frame, fields_of(frame, names=list(frame.columns)))
    assert found == {
        "n": [-1.0, 3.5, 1],
        "wide": [1.0, 2.0, 0],
        "none": [None, None, 3],
        "t": ["2024-05-01T00:00:00", "2024-05-02T00:00:00", 1],
    }


def test_the_card_of_a_version_has_all_that_came_after(
    ws: Workspace, models: dict[str, Any], holdout: pd.DataFrame, judge: Any
) -> None:
    said = declared(ws, SAID)
    tree = write_tree(said.objects, Tree(()))
    begins, ends = "2024-01-01T00:00:00Z", "2024-06-30T23:00:00Z"
    content = Content(tree=tree, files=0, size_bytes=0, rows=4000, time_min=begins, time_max=ends)
    committed = commit(said, "flights", content, roles={}, source="")
    found = made(said, models["strong"], holdout)
    pin = Pin(dataset="flights", version=committed.version, tree=tree)
    version = versions.register(said, found, model="m", run="run_1", metrics={"auc": 0.5}, pins=[pin])
    judged = judge(version.version, ws=said, slices=["carrier"]).judged
    shown = card(said, version.ref)
    report = export_report(said, version.ref, "report.json").evaluation
    values = shown.card
    assert (shown.path, values["name"], values["version"], values["bundle"]) == ("", "m", 1, version.bundle)
    assert values["made"]["by"] == "user:test"
    assert values["made"]["at"] == version.at
    (data,) = values["data"]
    assert (data["rows"], data["from"], data["to"]) == (4000, begins, ends)
    for name, item in values["evaluation"]["metrics"].items():
        assert {key: report["metrics"][name][key] for key in item} == item
    assert values["evaluation"]["metrics"]["auc"]["low"] < values["evaluation"]["metrics"]["auc"]["value"]
    assert len(values["evaluation"]["slices"]) == len(report["slices"]) > 1
    assert {each["column"] for each in values["evaluation"]["groups"]} == {"carrier"}
    assert values["gates"]["passed"] == judged.passed
    assert [each["gate"] for each in values["gates"]["verdicts"]] == [each.gate for each in judged.verdicts]
    assert values["limits"][:2] == [
        "Storms are rare in the data.",
        f"It learned from nothing after {ends}.",
    ]
    headings = re.findall(r"^#+ (.+)$", shown.markdown, re.MULTILINE)
    assert headings == [
        "m:1", "Intended use", "What it takes", "What it gives", "Made", "Training data", "Metrics", "Slices", "Groups",
        "Gates", "Limits", "Environment", "How to reproduce",
    ]  # fmt: skip
    assert f"| flights@{committed.version} | 4,000 |" in shown.markdown
    widths = {line.replace("\\|", "").count("|") for line in shown.markdown.split("\n\n")[-1].splitlines()}
    assert widths <= {0}
    assert card(said, "m") == shown, "the same ledger gives the same card"


def test_a_card_is_written_once_and_overwrites_nothing(ws: Workspace, register: Register) -> None:
    version = register("strong")
    found = card(ws, version.ref, "cards/m.md")
    assert Path(found.path).read_text("utf-8") == found.markdown
    assert card(ws, version.ref, "cards/m.md") == found, "the same file may be there already"
    values = card(ws, version.ref, "cards/m.json")
    assert json.loads(Path(values.path).read_text("utf-8")) == values.card
    mine = ws.project.root / "notes.md"
    mine.write_text("mine", encoding="utf-8")
    with pytest.raises(Conflict, match="is something else"):
        card(ws, version.ref, "notes.md")
    assert mine.read_text("utf-8") == "mine"
    for outside in ("../card.md", "/tmp/noria-card.md", ".noria/key"):
        with pytest.raises(UsageError):
            card(ws, version.ref, outside)
    with pytest.raises(NotFound):
        card(ws, "nobody")


def test_a_version_that_nobody_judged_says_so(ws: Workspace, register: Register) -> None:
    found = card(ws, register("strong").ref)
    assert found.card["evaluation"] is None
    assert found.card["metrics"] == {"auc": {"value": 0.5}}
    assert "No gate has judged it." in found.card["limits"]
    assert "Which data it learned from is not on record." in found.card["limits"]
    assert "not stated" in found.markdown


def test_what_is_declared_later_goes_first_and_the_difference_is_told(ws: Workspace, register: Register) -> None:
    version = register("strong")
    later = declared(ws, {"owners": ["Ben"], "licence": "MIT"})
    found = card(later, version.ref)
    assert found.card["declared"] == {"owners": ["Ben"], "licence": "MIT"}
    assert found.card["declared_before"] == {"owners": None, "licence": None}
    assert "Declared otherwise when the bundle was made:\n\n- owners: nothing\n- licence: nothing" in found.markdown


def test_a_bundle_of_before_cards_still_loads_and_has_one(
    ws: Workspace, models: dict[str, Any], holdout: pd.DataFrame
) -> None:
    found = made(ws, models["strong"], holdout)
    manifest = ws.objects.get_json(found.digest)
    entries = read_tree(ws.objects, found.tree).entries
    before = Tree(tuple(each for each in entries if not each.path.startswith("card.")))
    assert len(before.entries) == len(entries) - 2
    digest = ws.objects.put_json({**manifest, "tree": write_tree(ws.objects, before)})
    old = bundle.read(ws, Digest(digest))
    assert (old.fields, old.golden_scores) == (found.fields, found.golden_scores)
    version = versions.register(ws, old, model="m", run="run_1", metrics={}, pins=[])
    bundle.load(ws, version.bundle)
    shown = card(ws, version.ref)
    assert shown.card["signature"]["rows"] is None
    assert [each["name"] for each in shown.card["signature"]["inputs"]] == ["hour", "distance", "wind", "seats"]
    assert "No ranges were kept when this bundle was made." in shown.markdown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", "a\\|b"),
        ("two\nlines", "two lines"),
        ("<script>", "&lt;script&gt;"),
        ("![x](http://y)", "!\\[x\\](http://y)"),
        ("# no heading", "\\# no heading"),
        ("plain_name", "plain_name"),
    ],
)
def test_a_text_of_the_project_is_no_markdown(text: str, shown: str) -> None:
    assert plain_text(text) == shown
