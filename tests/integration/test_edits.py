"""Edits and the step cache: no stale result, no needless run, nothing refused that can be identified.

The truth of each edit is not written here: the step is run without a cache before and after it, in
a store of its own, and the results are compared. Then the same is done with a cache, and the two
must agree. Prints the table of verdicts with `-s`.
"""

from __future__ import annotations

import decimal
import importlib
import linecache
import os
import shutil
import string
import sys
import textwrap
import types
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
from edits import (
    between,
    callers,
    chance,
    classes,
    code,
    dynamic,
    files,
    harmless,
    later,
    made,
    notebook,
    packages,
    processes,
    settings,
    state,
    values,
)
from edits.case import Case, Scene, program, step

from noria.config import Project
from noria.pipeline import sources
from noria.pipeline.define import Pipeline, PipelineDefinition, define, load_pipeline
from noria.pipeline.driving.execute import execute
from noria.store.workspace import Workspace
from noria.testing import open_memory

GROUPS = {
    "code": code.CASES,
    "classes": classes.CASES,
    "dynamic": dynamic.CASES,
    "files": files.CASES,
    "between": between.CASES,
    "packages": packages.CASES,
    "notebook": notebook.CASES,
    "harmless": harmless.CASES,
    "later": later.CASES,
    "processes": processes.CASES,
    "settings": settings.CASES,
    "values": values.CASES,
    "made": made.CASES,
    "chance": chance.CASES,
    "state": state.CASES,
    "callers": callers.CASES,
}
ALL = {f"{group}: {name}": case for group, cases in GROUPS.items() for name, case in cases.items()}


@dataclass(frozen=True, slots=True)
class Played:
    """One run: the digests that the last step gave, whether it was cached, and why it ran."""

    digests: tuple[str, ...]
    status: str
    because: str


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    def forget(root: str) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == root]:
            del sys.modules[name]
        importlib.invalidate_caches()

    (tmp_path / "outside").mkdir()
    (tmp_path / "project").mkdir()
    path = list(sys.path)
    with settings_of_packages(monkeypatch):
        yield Scene(tmp_path / "project", tmp_path / "outside", monkeypatch.setenv, forget)
    sys.path[:] = path
    forget("tinylib")


@contextmanager
def settings_of_packages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a project sets in packages is taken back: it runs in this process, and other tests after it."""
    monkeypatch.setattr(string, "digits", string.digits)
    with ExitStack() as stack:
        stack.enter_context(chdir(Path.cwd()))
        stack.callback(os.umask, mask())
        stack.enter_context(sklearn.config_context())
        stack.enter_context(decimal.localcontext())
        stack.enter_context(warnings.catch_warnings())
        for name in ("display.width", "display.max_columns"):
            stack.enter_context(pd.option_context(name, pd.get_option(name)))
        yield


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = outside()
    yield
    assert outside() == before, "a case has left a setting behind: take it back in settings_of_packages"


def mask() -> int:
    """Which rights new files do not get."""
    found = os.umask(0)
    os.umask(found)
    return found


def outside() -> list[object]:
    """Settings of this process that cases change, and a few more that one could."""
    shown = [pd.get_option(f"display.{each}") for each in ("width", "max_columns", "precision", "max_rows")]
    prec = decimal.getcontext().prec
    return [mask(), sklearn.get_config(), shown, prec, list(warnings.filters), string.digits, np.geterr(), Path.cwd()]


def write(root: Path, contents: dict[str, str]) -> None:
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")


def apply(case: Case, scene: Scene) -> None:
    for name, (old, new) in case.edits.items():
        path = scene.root / name
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {name}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
    if case.change is not None:
        case.change(scene)


def cell(root: Path) -> PipelineDefinition:
    """The pipeline as a notebook has it: exec of a text that only linecache knows, in `__main__`."""
    with sources.project_on_path(root):
        for name, module in list(sys.modules.items()):
            if isinstance(getattr(getattr(module, "__spec__", None), "loader", None), sources.ProjectLoader):
                del sys.modules[name]
        text = (root / "pipeline.py").read_text(encoding="utf-8")
        name = f"<ipython-input-{abs(hash(text))}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        exec(compile(text, name, "exec", dont_inherit=True), vars(main))  # as a kernel does
        (made,) = [value for value in vars(main).values() if isinstance(value, Pipeline)]
        return define(made, module=main, root=root)


def play(ws: Workspace, case: Case, scene: Scene, run: str) -> Played:
    """Run the project as it is now, as a new process would."""
    ws = replace(ws, project=replace(ws.project, root=scene.root))
    main = sys.modules["__main__"]
    try:
        definition = cell(scene.root) if case.is_notebook else load_pipeline(Project(name="t", root=scene.root))
        made = execute(ws, definition, run=run, pins={})
    finally:
        sys.modules["__main__"] = main
    last = made.steps[-1]
    return Played(tuple(value.digest for value in made.outputs[last.step]), last.status, last.because)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with nothing in it, to be copied: making one takes longer than a case."""
    root = tmp_path_factory.mktemp("empty") / "store"
    open_memory(root=root).ledger.database.close()
    return root


def fresh(empty: Path, tmp_path: Path, name: str) -> Workspace:
    shutil.copytree(empty, tmp_path / "stores" / name)
    return open_memory(root=tmp_path / "stores" / name)


def judge(case: Case, scene: Scene, tmp_path: Path, empty: Path) -> tuple[str, str]:
    """The verdict on one edit, and what was said of it."""
    write(scene.root, dict(case.before))
    if case.prepare is not None:
        case.prepare(scene)
    ws = fresh(empty, tmp_path, "kept")
    before = play(fresh(empty, tmp_path, "before"), case, scene, "truth")
    first = play(ws, case, scene, "r1")
    again = play(ws, case, scene, "r2")
    assert (before.digests, first.status) == (first.digests, "done")
    if again.status != "cached":
        return "refused", again.because
    apply(case, scene)
    after = play(fresh(empty, tmp_path, "after"), case, scene, "truth")
    now = play(ws, case, scene, "r3")
    if now.digests != after.digests:
        return "stale", f"{now.status}: {now.because}"
    if after.digests == before.digests and now.status != "cached":
        return "needless", now.because
    if play(ws, case, scene, "r4").status != "cached":
        return "refused", "after the edit"
    return ("same, cached" if now.status == "cached" else "changed, run again"), now.because


@pytest.mark.parametrize("name", ALL)
def test_an_edit_is_seen_exactly_when_it_changes_the_result(
    name: str, scene: Scene, tmp_path: Path, empty: Path
) -> None:
    verdict, because = judge(ALL[name], scene, tmp_path, empty)
    print(f"{verdict:20} {name:60} {because}")
    assert verdict in ("same, cached", "changed, run again"), f"{verdict}: {because}"


USES_A_THING = """
import noria as nr
from inner import Thing

@nr.step
def make():
    return Thing(3)

@nr.step
def work(thing) -> object:
    return thing.go()

@nr.pipeline
def flow():
    work(make())
"""
THING = """
class Thing:
    def __init__(self, x):
        self.x = x
    def go(self):
        return self.x + 1
"""


def test_a_stored_object_whose_module_was_renamed_is_made_again(scene: Scene, tmp_path: Path, empty: Path) -> None:
    """The object names its class by module, so it is another one: run again, never handed out broken."""
    case = Case({"pipeline.py": USES_A_THING, "inner.py": THING}, change=harmless.rename)
    write(scene.root, dict(case.before))
    ws = fresh(empty, tmp_path, "kept")
    first = play(ws, case, scene, "r1")
    apply(case, scene)
    now = play(ws, case, scene, "r2")
    assert (now.digests, now.status) == (first.digests, "done")
    assert play(ws, case, scene, "r3").status == "cached"


@pytest.mark.parametrize(
    ("call", "options", "status"),
    [
        ("subprocess.check_output(['cat', str(HERE / 'c.txt')]).decode()", "", "done"),
        ("os.system('true c.txt')", "", "done"),
        ("subprocess.check_output([sys.executable, '-c', 'print(1)']).decode()", "", "done"),
        ("subprocess.check_output(['cat', str(HERE / 'c.txt')]).decode()", "(version='1')", "cached"),
    ],
)
def test_a_step_that_starts_a_program_says_what_it_reads_or_is_run_each_time(
    call: str, options: str, status: str, scene: Scene, tmp_path: Path, empty: Path
) -> None:
    head = "import os, subprocess, sys\nfrom pathlib import Path\nHERE = Path(__file__).parent\n"
    case = Case(program(head + step(call, options)) | {"c.txt": "1"})
    write(scene.root, dict(case.before))
    ws = fresh(empty, tmp_path, "kept")
    first, again = play(ws, case, scene, "r1"), play(ws, case, scene, "r2")
    assert again.status == status
    started = "what another program reads is not seen: extra_files, variables or version of the step can say it"
    assert all((started in each.because) == (status == "done") for each in (first, again))
    print(again.because)


def test_a_compiled_module_of_the_project_that_was_built_anew_is_seen(
    scene: Scene, tmp_path: Path, empty: Path
) -> None:
    """Reached by a computed name, so it is seen as the step runs; another build is other bytes."""
    built = Path(str(importlib.import_module("markupsafe._speedups").__file__))
    call = (
        "getattr(importlib.import_module('pack._' + bytes.fromhex('7370656564757073').decode()), '_escape_inner')('<')"
    )
    write(scene.root, program("import importlib\n" + step(call), pack____init__=""))
    place = scene.root / "pack" / built.name
    shutil.copy(built, place)
    ws, case = fresh(empty, tmp_path, "kept"), Case({})
    first, again = play(ws, case, scene, "r1"), play(ws, case, scene, "r2")
    assert (first.status, again.status) == ("done", "cached")
    with place.open("ab") as file:
        file.write(b" ")
    now = play(ws, case, scene, "r3")
    assert (now.status, now.digests, now.because) == ("done", first.digests, f"file pack/{built.name} changed")
    assert play(ws, case, scene, "r4").status == "cached"


def test_the_set_is_large_and_has_both_kinds() -> None:
    assert len(ALL) >= 60
    assert len(harmless.CASES) >= 20
