"""Plug-ins resolve, import contracts hold, and the workspace stays small."""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from source_tree import ROOT, name_of, nodes, parsed, sources

from noria import plugins
from noria.store.workspace import Workspace

ENTRIES = [(seam, name) for seam, table in plugins.BUILTIN.items() for name in table]


@pytest.mark.parametrize(("seam", "name"), ENTRIES, ids=str)
def test_every_plug_in_resolves_and_says_what_it_is(seam: str, name: str) -> None:
    found = plugins.load(seam, name)
    assert (getattr(found, "__doc__", "") or "").strip()


def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]


def test_a_workspace_has_exactly_its_ports() -> None:
    names = [field.name for field in dataclasses.fields(Workspace)]
    assert names == ["objects", "ledger", "series", "jobs", "clock", "actor", "project"]


def test_locked_requirements_carry_hashes_and_name_no_index() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text(encoding="utf-8")
        assert "://" not in text, f"{path.name} names an address"
        pins = [line for line in text.splitlines() if "==" in line and not line.startswith((" ", "#"))]
        assert pins, path.name
        assert text.count("--hash=sha256:") >= len(pins), path.name
        assert not any(line.startswith("noria==") for line in pins), "the project is installed from here"


def test_every_dependency_is_locked_for_the_demo() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = {line.split("==")[0].strip() for line in (ROOT / "requirements/demo.txt").read_text().splitlines()}
    needed = {each.split(">")[0].split("[")[0].strip() for each in project["dependencies"]}
    assert needed <= locked


@pytest.mark.parametrize("path", sources(templates=False), ids=name_of)
def test_a_module_of_our_own_that_is_imported_late_is_seen_by_the_contracts(path: Path) -> None:
    """`x = lazy("noria.y.x")` stands where `TYPE_CHECKING` imports the same under the same name."""
    late, told = set(), set()
    for node in nodes(parsed(path)):
        if isinstance(node, ast.Assign):
            late.update(_late(node))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for each in node.body:
                if isinstance(each, ast.ImportFrom) and each.module:
                    told.update((item.asname or item.name, f"{each.module}.{item.name}") for item in each.names)
    assert late <= told


def _late(node: ast.Assign) -> Iterator[tuple[str, str]]:
    """(name, module) of each of Noria's modules that an assignment loads late."""
    calls = [each for each in ast.walk(node.value) if isinstance(each, ast.Call) and ast.unparse(each.func) == "lazy"]
    modules = [ast.literal_eval(each.args[0]) for each in calls]
    target = node.targets[0]
    names = [ast.unparse(each) for each in (target.elts if isinstance(target, ast.Tuple) else [target])]
    own = [module for module in modules if module.startswith("noria.")]
    if own:
        assert len(names) == len(modules), ast.unparse(node)
        yield from ((name, module) for name, module in zip(names, modules, strict=True) if module in own)
