"""`noria test`: the project's own tests, the checks of its data, and a smoke run of the whole pipeline.

The smoke run happens in a copy of the project with a store of its own and a sample of each data
set, in a fresh process: production state is not touched. What the checks find is recorded, as it
is a fact about the data. One verdict, and one JUnit XML file for any CI.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noria.core.errors import NoriaError
from noria.core.lazy import lazy
from noria.core.verb import verb
from noria.data.records import DatasetVersion
from noria.data.rows import read
from noria.loop import pins
from noria.pipeline.define import PipelineDefinition, load_pipeline
from noria.store.workspace import Workspace

__all__ = ["Stage", "TestReport", "run_tests"]

parquet = lazy("pyarrow.parquet")
np = lazy("numpy")

PYTEST_NOTHING_COLLECTED = 5
TIMEOUT_S = 1800
TAIL_LINES = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage: `text` says in a line what was seen, `output` holds the last lines of a failure."""

    name: str
    ok: bool
    seconds: float
    text: str
    output: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestReport:
    """The verdict over all stages, and where the JUnit file is."""

    __test__ = False
    ok: bool
    stages: tuple[Stage, ...]
    junit: str


@verb(permission="project.test", name="test", where="project")
def run_tests(ws: Workspace, sample: int = 3000, junit: str = "") -> TestReport:
    """Run pytest, the data checks, and the pipeline on a sample in a throw-away store.

    Args:
        sample: rows of each data set in the smoke run, evenly spaced over the version's rows.
        junit: where to write the JUnit XML, relative to the project; `.noria/test.xml` by default.
    """
    target = ws.project.root / (junit or ".noria/test.xml")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="noria-test-") as scratch:
        folder = Path(scratch)
        suites: list[ElementTree.Element] = []
        stages = [_stage("tests", lambda: _pytest(ws, folder, suites))]
        definition: PipelineDefinition | None = None
        try:
            definition = load_pipeline(ws.project)
            versions = pins.resolve(ws, definition)
        except NoriaError as error:
            stages.append(Stage(name="pipeline", ok=False, seconds=0.0, text=error.message, output=str(error)))
        else:
            stages.append(_stage("data", lambda: _checks(ws, versions)))
            stages.append(_stage("pipeline", lambda: _smoke(ws, versions, folder / "project", sample)))
    _write_junit(target, stages, suites)
    return TestReport(ok=all(stage.ok for stage in stages), stages=tuple(stages), junit=str(target))


def _stage(name: str, work: Callable[[], Stage]) -> Stage:
    """Run one stage; an error of ours that it raises is its failure. The time is taken here."""
    start = time.perf_counter()
    try:
        made = work()
    except NoriaError as error:
        made = Stage(name=name, ok=False, seconds=0.0, text=error.message.split("\n")[0], output=str(error))
    return dataclasses.replace(made, seconds=round(time.perf_counter() - start, 3))


def _pytest(ws: Workspace, folder: Path, suites: list[ElementTree.Element]) -> Stage:
    if not (ws.project.root / "tests").is_dir():
        return Stage(name="tests", ok=False, seconds=0.0, text="there is no folder tests/: write one test at least")
    report = folder / "pytest.xml"
    done = _run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--no-header",
            "-p",
            "no:cacheprovider",
            f"--junitxml={report}",
            "tests",
        ],
        ws.project.root,
    )
    if report.is_file():
        suites.extend(ElementTree.parse(report).getroot().iter("testsuite"))  # our own child wrote it
    count = sum(int(suite.get("tests", "0")) for suite in suites)
    failed = sum(int(suite.get("failures", "0")) + int(suite.get("errors", "0")) for suite in suites)
    if done.returncode == PYTEST_NOTHING_COLLECTED or (done.returncode == 0 and count == 0):
        return Stage(name="tests", ok=False, seconds=0.0, text="tests/ holds no test", output=_tail(done))
    if "No module named pytest" in done.stderr:
        return Stage(name="tests", ok=False, seconds=0.0, text="pytest is not installed: pip install pytest")
    ok = done.returncode == 0 and failed == 0
    text = f"{count - failed} of {count} passed"
    return Stage(name="tests", ok=ok, seconds=0.0, text=text, output="" if ok else _tail(done))


def _checks(ws: Workspace, versions: Mapping[str, DatasetVersion]) -> Stage:
    lines = [pins.check(ws, version) for version in versions.values()]
    ok = all(line.ok for line in lines)
    text = ", ".join(f"{line.dataset}@{line.version} {line.checks - line.failed}/{line.checks}" for line in lines)
    output = "\n".join(failure for line in lines for failure in line.failures)
    return Stage(name="data", ok=ok, seconds=0.0, text=text or "the pipeline reads no data set", output=output)


def _smoke(ws: Workspace, versions: Mapping[str, DatasetVersion], folder: Path, sample: int) -> Stage:
    """The whole pipeline on a sample, by the command a user would type, in a copy of the project."""
    _copy_project(ws, folder)
    (folder / "sample").mkdir()
    for name, version in versions.items():
        _write_sample(ws, version, folder / "sample" / f"{name}.parquet", sample)
    (folder / "noria.toml").write_text(_sample_config(ws, versions), encoding="utf-8")
    done = _run([sys.executable, "-m", "noria", "run", "--json"], folder)
    if done.returncode != 0:
        return Stage(name="pipeline", ok=False, seconds=0.0, text=_error_text(done), output=_tail(done))
    report: Mapping[str, Any] = json.loads(done.stdout)
    metrics = {line["metric"]: line["value"] for line in report["metrics"]}
    bad = [name for name, value in metrics.items() if value is None or not math.isfinite(value)]
    shown = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name not in bad)
    steps = sum(step["status"] == "done" for step in report["steps"])
    if bad:
        return Stage(name="pipeline", ok=False, seconds=0.0, text=f"{', '.join(bad)} cannot be computed on the sample")
    return Stage(name="pipeline", ok=True, seconds=0.0, text=f"{steps} steps on {sample} rows at most: {shown}")


def _copy_project(ws: Workspace, folder: Path) -> None:
    """The project's files, without state, history, data and environments."""
    sources = {Path(config.source).parts[0] for config in ws.project.data.values() if config.source}
    skipped = {".noria", ".git", ".venv", "venv", "__pycache__", "noria.lock", "checks", "traffic", *sources}

    def ignore(place: str, names: list[str]) -> set[str]:
        is_top = Path(place) == ws.project.root
        return {name for name in names if name == "__pycache__" or (is_top and name in skipped)}

    shutil.copytree(ws.project.root, folder, ignore=ignore, symlinks=True)


def _write_sample(ws: Workspace, version: DatasetVersion, target: Path, rows: int) -> None:
    table = read.table(ws, version)
    if table.num_rows > rows:
        table = table.take(np.linspace(0, table.num_rows - 1, rows).astype("int64"))
    parquet.write_table(table, target)


def _sample_config(ws: Workspace, versions: Mapping[str, DatasetVersion]) -> str:
    """A noria.toml for the sample: the same pipeline and seed; no gates, since a sample proves no quality."""
    project = ws.project
    lines = ["[project]", f"name = {json.dumps(project.name)}", f"pipeline = {json.dumps(project.pipeline)}"]
    lines += [f"seed = {project.seed}", f"clock = {json.dumps(project.clock)}"]
    for name in versions:
        lines += ["", f"[data.{json.dumps(name)}]", f"source = {json.dumps(f'sample/{name}.parquet')}"]
    return "\n".join(lines) + "\n"


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a child in a folder, without settings that would lead it to the production stores."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NORIA_")}
    try:
        return subprocess.run(
            command, cwd=folder, env=kept, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"it did not end within {TIMEOUT_S} s")


def _error_text(done: subprocess.CompletedProcess[str]) -> str:
    """The first line of what a failed command says: its JSON error, else its last line."""
    for text in (done.stderr, done.stdout):
        try:
            return str(json.loads(text)["error"]["message"]).split("\n")[0]
        except (ValueError, KeyError, TypeError):
            continue
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[0] if lines else f"the run ended with exit code {done.returncode}"


def _tail(done: subprocess.CompletedProcess[str]) -> str:
    return "\n".join((done.stdout + done.stderr).splitlines()[-TAIL_LINES:])


def _write_junit(target: Path, stages: list[Stage], suites: list[ElementTree.Element]) -> None:
    """JUnit XML: pytest's suites as they are, and one suite with a case for each stage. Atomic."""
    root = ElementTree.Element("testsuites")
    root.extend(suites)
    failures = sum(not stage.ok for stage in stages)
    own = ElementTree.SubElement(
        root, "testsuite", name="noria", tests=str(len(stages)), failures=str(failures), errors="0", skipped="0"
    )
    for stage in stages:
        case = ElementTree.SubElement(own, "testcase", classname="noria", name=stage.name, time=f"{stage.seconds:.3f}")
        if not stage.ok:
            ElementTree.SubElement(case, "failure", message=stage.text).text = stage.output
    part = target.with_name(f".{target.name}.{os.getpid()}")
    ElementTree.ElementTree(root).write(part, encoding="utf-8", xml_declaration=True)
    part.replace(target)
