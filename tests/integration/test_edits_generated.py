# ruff: noqa: E501  # each program is one text
"""Random edits of random projects: the cache agrees with running without one, however the edit came about.

A project has constants, functions, classes, closures and tables in three modules that call each
other. An edit changes one literal or operator anywhere (it may or may not matter), or only the form
of the text. Zero stale results; edits of form never run anything again. The seed is fixed; set
NORIA_EDITS for more.
"""

from __future__ import annotations

import ast
import os
import random
from pathlib import Path

import pytest

from noria.config import Project
from noria.pipeline.define import load_pipeline
from noria.pipeline.driving.execute import execute
from noria.store.workspace import Workspace
from noria.testing import open_memory

PROJECTS = int(os.environ.get("NORIA_EDITS", "6"))
EDITS = 10
MODULES = ("alpha", "beta", "gamma")
OPERATORS = ("+", "-", "*")


def project(dice: random.Random) -> dict[str, str]:
    """Modules whose functions call those made before them, and a step that calls some of the last."""
    known: list[tuple[str, str]] = []
    texts: dict[str, list[str]] = {name: [] for name in MODULES}
    for number in range(dice.randint(8, 14)):
        module = MODULES[min(number // 5, 2)]
        name = f"f{number}"
        texts[module].append(definition(dice, module, name, known))
        known.append((module, name))
    files = {
        f"{module}.py": "".join(f"import {other}\n" for other in MODULES[: MODULES.index(module)]) + "\n\n".join(parts)
        for module, parts in texts.items()
    }
    calls = " + ".join(f"{module}.{name}(x)" for module, name in dice.sample(known, 5))
    files["pipeline.py"] = (
        "import noria as nr\n" + "".join(f"import {name}\n" for name in MODULES) + "\n@nr.step\n"
        f"def work(x: int = 3) -> int:\n    return {calls}\n\n@nr.pipeline\ndef flow():\n    work()\n"
    )
    return files


def definition(dice: random.Random, module: str, name: str, known: list[tuple[str, str]]) -> str:
    """One function, of one of six forms."""
    inner = "x"
    if known:
        place, callee = dice.choice(known)
        inner = f"{callee}(x)" if place == module else f"{place}.{callee}(x)"
    a, b, sign = dice.randint(1, 9), dice.randint(1, 9), dice.choice(OPERATORS)
    forms = (
        f"def {name}(x):\n    return {inner} {sign} {a}\n",
        f"K_{name} = {a}\n\ndef {name}(x, y={b}):\n    # uses a constant\n    return {inner} {sign} K_{name} + y\n",
        f"def make_{name}(n):\n    def inner(x):\n        return {inner} {sign} n\n    return inner\n\n{name} = make_{name}({a})\n",
        f"class C_{name}:\n    rate = {a}\n    def go(self, x):\n        return {inner} {sign} self.rate\n\n"
        f"def {name}(x):\n    return C_{name}().go(x)\n",
        f"T_{name} = {{'a': lambda x: x + {a}, 'b': lambda x: x {sign} {b}}}\n\ndef {name}(x):\n    return T_{name}['b']({inner})\n",
        f"def {name}(x):\n    if x > {a * 1000}:\n        return {b}\n    return sum({inner} {sign} i for i in range({a}))\n",
    )
    return dice.choice(forms)


def change_literal(dice: random.Random, text: str) -> str:
    """Another number somewhere."""
    tree = ast.parse(text)
    places = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and type(node.value) is int]
    if not places:
        return text
    place = dice.choice(places)
    lines = text.splitlines(keepends=True)
    line = lines[place.lineno - 1]
    lines[place.lineno - 1] = line[: place.col_offset] + str(int(str(place.value)) + 1) + line[place.end_col_offset :]
    return "".join(lines)


def change_form(dice: random.Random, text: str) -> str:
    """The same program written otherwise: a comment, a docstring, other layout, other order of functions."""
    way = dice.randrange(4)
    if way == 0:
        lines = text.splitlines(keepends=True)
        lines.insert(dice.randrange(len(lines) + 1), "# a remark\n")
        return "".join(lines)
    if way == 1:
        return ast.unparse(ast.parse(text)) + "\n"
    if way == 2:
        return text.replace("(x):\n", '(x):\n    """Words."""\n', 1) if "class" not in text else '"""Words."""\n' + text
    return f"{text}\n\ndef unused_{dice.randrange(10**6)}():\n    return 1\n"


def play(ws: Workspace, root: Path, run: str) -> tuple[str, str, str]:
    made = execute(ws, load_pipeline(Project(name="t", root=root)), run=run, pins={})
    return made.outputs["work"][0].digest, made.steps[-1].status, made.steps[-1].because


@pytest.mark.parametrize("seed", range(PROJECTS))
def test_random_edits_are_seen_when_they_matter(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    files = project(dice)
    root = tmp_path / "project"
    root.mkdir()
    for name, text in files.items():
        (root / name).write_text(text, encoding="utf-8")
    kept = open_memory(root=tmp_path / "kept")
    before = play(kept, root, "r")[0]
    tally = {"same": 0, "changed": 0, "seen": 0}
    for number in range(EDITS):
        name = dice.choice([each for each in files if each != "pipeline.py"])
        is_form = dice.random() < 0.35
        files[name] = (change_form if is_form else change_literal)(dice, files[name])
        (root / name).write_text(files[name], encoding="utf-8")
        definition = load_pipeline(Project(name="t", root=root))
        after = str(definition.node("work").step.function(3))  # the truth: called, without Noria
        digest, status, because = play(kept, root, f"r{number}")
        assert kept.objects.get_bytes(digest).decode() == after, f"stale after edit {number} of {name}: {because}"
        assert not (is_form and status != "cached"), f"needless after edit {number} of {name}: {because}"
        tally["same" if digest == before else "changed"] += 1
        tally["seen"] += status == "done" and digest == before
        before = digest
    print(f"seed {seed}: {tally}")
