"""`noria test`: the project's own tests, the checks of its data, a smoke run, and what any model must do.

Everything happens in copies of the project with throw-away stores, in processes of their own; the
real object store is read through, never written, and the ledger is not touched. One verdict, and one
JUnit XML file for any CI.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from noria.core.errors import NoriaError, UsageError
from noria.core.frozen import frozen
from noria.core.interrupts import going_on
from noria.core.verb import verb
from noria.packaging import permits
from noria.pipeline.define import load_pipelines
from noria.project.copies import Copies
from noria.registry.behaviour import Case
from noria.store.disk import disk_faults
from noria.store.scratch import Scratch
from noria.store.workspace import Workspace

__all__ = ["Stage", "TestReport", "run_tests"]

CHILD = "noria.faces.trial"
PYTEST_NOTHING_COLLECTED = 5
TIMEOUT_S = 1800
TAIL_LINES = 30
PAGE = 1000


@frozen(kw_only=True)
class Stage:
    """One stage: `text` says in a line what was seen, `output` holds the last lines of a failure.

    `cases` are the tests of a stage that has several: each is a case of the JUnit file.
    """

    name: str
    ok: bool
    seconds: float
    text: str
    output: str = ""
    cases: tuple[Case, ...] = ()


@frozen(kw_only=True)
class TestReport:
    """The verdict over all stages, and where the JUnit file is."""

    __test__ = False
    ok: bool
    stages: tuple[Stage, ...]
    junit: str
    next: str


@verb(permission="project.test", name="test", where="project")
def run_tests(ws: Workspace, sample: int = 3000, junit: str = "") -> TestReport:
    """Run pytest, the data checks, the pipeline on a sample, and the tests that any model must pass.

    Of the model that the sample gives: its loss is finite and beats the best constant; it answers the same
    after it was saved and loaded, one row alone; rows with values missing or never seen it answers, or refuses
    by the name of the column where its signature says so, and the verdict says which; it does not heed the
    order of rows, knows neither key nor label nor its holdout, and keeps what [model.NAME.behaviour]
    declares. Then all is done again: the same data and seed must give the same bits. Nothing of this
    touches the project's ledger or objects.

    Args:
        sample: rows of each data set in the smoke run, evenly spaced over the version's rows.
        junit: where to write the JUnit XML, relative to the project; `.noria/test.xml` by default.
    """
    if sample < 1:
        raise UsageError(f"--sample is {sample}: a smoke run needs one row at least", hint="noria test --sample 3000")
    target = _target(ws.project.root, junit or ".noria/test.xml")
    suites: list[ElementTree.Element] = []
    with going_on("noria test begins anew: there is no verdict yet"), Scratch("test") as scratch:
        copies = Copies(scratch.resolve(), ws.project.root, ws.project.state)
        stages = [_told(stage, copies) for stage in _stages(ws, scratch.resolve(), suites, sample)]
        copies.tell(suites)
    _write_junit(target, stages, suites)
    bad = [stage.name for stage in stages if not stage.ok]
    after = f"mend {', '.join(bad)} (above), then: noria test" if bad else "noria run"
    return TestReport(ok=not bad, stages=tuple(stages), junit=str(target), next=after)


def _told(stage: Stage, copies: Copies) -> Stage:
    """The stage with what it says of a copy of the project said of the project."""
    cases = tuple(dataclasses.replace(case, text=copies.told(case.text)) for case in stage.cases)
    return dataclasses.replace(stage, text=copies.told(stage.text), output=copies.told(stage.output), cases=cases)


def _target(root: Path, junit: str) -> Path:
    """Where the report goes, in a folder that is there. Raises: UsageError; StoreFull; StoreUnavailable."""
    target = root / junit
    if target.is_dir() or not target.name:
        raise UsageError(f"--junit {junit[:80]!r} is a folder", hint="name a file: noria test --junit report.xml")
    above = next(folder for folder in target.parents if folder.exists())
    if not above.is_dir():
        raise UsageError(f"--junit {junit[:80]!r} is not in a folder: {above} is a file")
    with disk_faults(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    return target.parent.resolve() / target.name


def _stages(ws: Workspace, folder: Path, suites: list[ElementTree.Element], sample: int) -> Iterator[Stage]:
    """Every stage in order; what stands on a stage that failed is left out."""
    yield _stage("tests", lambda: _pytest(ws, folder, suites))
    try:
        pipelines = load_pipelines(ws.project)
    except NoriaError as error:
        yield Stage(name="pipeline", ok=False, seconds=0.0, text=error.message, output=str(error))
        return
    names = sorted({name for each in pipelines for name in each.datasets})
    trial = folder / "trial"
    (trial / "sample").mkdir(parents=True)
    data = _stage("data", lambda: _data(ws, names, trial, sample))
    yield data
    if not all((trial / "sample" / f"{name}.parquet").is_file() for name in names):
        return  # the data could not be read, which that stage says
    project = folder / "project"
    _sampled(ws, names, trial / "sample", project)
    if not any(node.step.options.needs_own_process for each in pipelines for node in each.nodes):
        # in one process the model is at hand as its step returned it, and its bundle is compared with that
        with (project / "noria.toml").open("a", encoding="utf-8") as config:
            config.write('\n[run]\nexecutor = "inline"\n')
    for each in pipelines:
        about = f" {each.name}" if len(pipelines) > 1 else ""
        smoke = _stage(f"pipeline{about}", functools.partial(_smoke, each.name, project, sample))
        yield smoke
        if (project / ".noria").is_dir() and each.model is not None:
            yield _stage(f"model{about}", functools.partial(_model, ws, project, folder))
        if smoke.ok:
            yield _stage(f"again{about}", functools.partial(_again, project))


def _stage(name: str, work: Callable[[], Stage]) -> Stage:
    """Run one stage; an error of ours that it raises is its failure. The time is taken here."""
    start = time.perf_counter()
    try:
        made = work()
    except NoriaError as error:
        made = Stage(name=name, ok=False, seconds=0.0, text=error.message.split("\n")[0], output=str(error))
    return dataclasses.replace(made, name=name, seconds=round(time.perf_counter() - start, 3))


def _pytest(ws: Workspace, folder: Path, suites: list[ElementTree.Element]) -> Stage:
    if not (ws.project.root / "tests").is_dir():
        return Stage(name="tests", ok=False, seconds=0.0, text="there is no folder tests/: write one test at least")
    report, project = folder / "pytest.xml", folder / "tests" / "project"
    _copy_for_tests(ws, project, folder)
    words = ["-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", f"--junitxml={report}", "tests"]
    stores = {"NORIA_DATABASE": f"sqlite:///{folder / 'tests.db'}", "NORIA_OBJECTS": str(folder / "tests-objects")}
    done = _run([sys.executable, *words], project, {**stores, "PYTHONDONTWRITEBYTECODE": "1"})
    if report.is_file():
        suites.extend(ElementTree.parse(report).getroot().iter("testsuite"))  # our own child wrote it
    # where pytest wrote it is nobody's matter: it goes into ours
    done.stdout = "\n".join(line for line in done.stdout.splitlines() if str(report) not in line)
    count = sum(int(suite.get("tests", "0")) for suite in suites)
    failed = sum(int(suite.get("failures", "0")) + int(suite.get("errors", "0")) for suite in suites)
    skipped = sum(int(suite.get("skipped", "0")) for suite in suites)  # those expected to fail are among them
    if "No module named pytest" in done.stderr:
        return Stage(name="tests", ok=False, seconds=0.0, text="pytest is not installed: pip install pytest")
    if not report.is_file():
        text = f"pytest ended with exit code {done.returncode} before it had a report: did a test end the process?"
        return Stage(name="tests", ok=False, seconds=0.0, text=text, output=_tail(done))
    if done.returncode == PYTEST_NOTHING_COLLECTED or (done.returncode == 0 and count == 0):
        return Stage(name="tests", ok=False, seconds=0.0, text="tests/ holds no test", output=_tail(done))
    passed = count - failed - skipped
    ok = done.returncode == 0 and failed == 0 and passed > 0
    text = f"{passed} of {count} passed"
    if skipped:
        text += f", {skipped} skipped or expected to fail"
    return Stage(name="tests", ok=ok, seconds=0.0, text=text, output="" if ok else _tail(done))


def _data(ws: Workspace, names: Sequence[str], trial: Path, sample: int) -> Stage:
    """The checks of every data set as a run would find it, over a store that lies over the real one."""
    root = trial / "project"
    _copy_project(ws, root, {".noria", ".git"})
    (root / "noria.toml").write_text(_config(ws, {name: _source(ws, name) for name in names}), encoding="utf-8")
    told = _asked(
        {
            "mode": "data",
            "root": str(root),
            "facts": _facts(ws, names),
            "sample": str(trial / "sample"),
            "rows": sample,
        },
        trial,
        {"NORIA_DATABASE": f"sqlite:///{trial / 'ledger.db'}", "NORIA_OBJECTS": _over(ws, trial / "objects")},
    )
    if "error" in told:
        return Stage(
            name="data",
            ok=False,
            seconds=0.0,
            text=told["error"]["message"].split("\n")[0],
            output=told["error"]["text"],
        )
    lines = told["lines"]
    text = ", ".join(
        f"{each['dataset']}@{each['version']} {each['checks'] - each['failed']}/{each['checks']}" for each in lines
    )
    output = "\n".join(failure for each in lines for failure in each["failures"])
    ok = all(each["ok"] for each in lines)
    return Stage(name="data", ok=ok, seconds=0.0, text=text or "the pipeline reads no data set", output=output)


def _facts(ws: Workspace, names: Sequence[str]) -> list[dict[str, Any]]:
    """What the ledger says of some data sets (versions, roles, checks): with this the trial's ledger begins."""
    found: list[dict[str, Any]] = []
    for name in names:
        after = 0
        while facts := ws.ledger.facts(after=after, limit=PAGE, subject=f"dataset/{name}"):
            after = facts[-1].seq
            for each in facts:
                edges = {"inputs": list(each.fact.inputs), "outputs": list(each.fact.outputs)}
                found.append({"kind": each.fact.kind, "data": dict(each.fact.data), **edges})
    return found


def _source(ws: Workspace, name: str) -> str:
    """Where a data set comes from, as it is reached from a copy of the project elsewhere."""
    config = ws.project.data.get(name)
    source = config.source if config is not None else ""
    return source if not source or "://" in source else str(ws.project.root / source)


def _over(ws: Workspace, top: Path) -> str:
    """The address of a store over the project's own."""
    address = ws.project.store.objects
    if "://" not in address:
        address = str((ws.project.root / address) if address else ws.project.state / "objects")
    return f"over://{top}?base={quote(address, safe='')}"


def _sampled(ws: Workspace, names: Sequence[str], samples: Path, folder: Path) -> None:
    """A copy of the project that stands on the samples."""
    _copy_project(ws, folder, {".noria", ".git", "noria.lock", "checks"})
    shutil.copytree(samples, folder / "sample")
    (folder / "noria.toml").write_text(
        _config(ws, {name: f"sample/{name}.parquet" for name in names}), encoding="utf-8"
    )


def _smoke(pipeline: str, folder: Path, sample: int) -> Stage:
    """A whole pipeline on a sample, by the command a user would type."""
    done = _run([sys.executable, "-m", "noria", "run", pipeline, "--json"], folder)
    report = _report(done)
    if report is None:
        return Stage(name="pipeline", ok=False, seconds=0.0, text=_error_text(done), output=_tail(done))
    if done.returncode != 0:
        said = [f"{each['gate']}: {each['text']}" for each in report["gates"] if not each["passed"]]
        text = f"{len(said)} of {len(report['gates'])} gates said no: {said[0]}" if said else _error_text(done)
        return Stage(name="pipeline", ok=False, seconds=0.0, text=text, output="\n".join(said))
    metrics = {line["metric"]: line["value"] for line in report["metrics"]}
    bad = [name for name, value in metrics.items() if value is None or not math.isfinite(value)]
    shown = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name not in bad)
    steps = sum(step["status"] == "done" for step in report["steps"])
    if bad:
        return Stage(name="pipeline", ok=False, seconds=0.0, text=f"{', '.join(bad)} cannot be computed on the sample")
    return Stage(name="pipeline", ok=True, seconds=0.0, text=f"{steps} steps on {sample} rows at most: {shown}")


def _model(ws: Workspace, project: Path, folder: Path) -> Stage:
    """What any model must do, asked of the one that the sample has given, in a process that did not train it."""
    declared = {name: dataclasses.asdict(config.behaviour) for name, config in ws.project.models.items()}
    told = _asked({"mode": "model", "root": str(project), "behaviour": declared}, folder, {})
    if "error" in told:
        text = told["error"]["message"].split("\n")[0]
        return Stage(name="model", ok=False, seconds=0.0, text=text, output=told["error"]["text"])
    cases = tuple(Case(**each) for each in told["cases"])
    bad = [case for case in cases if not case.ok]
    output = "\n".join(f"{case.name}: {case.text}" for case in bad)
    text = f"{len(cases) - len(bad)} of {len(cases)} tests" + (
        f"; not: {', '.join(c.name for c in bad)}" if bad else ""
    )
    text = "; ".join([text, *(case.limit for case in cases if case.limit)])
    return Stage(name="model", ok=bool(cases) and not bad, seconds=0.0, text=text, output=output, cases=cases)


def _again(project: Path) -> Stage:
    """The run on the sample once more: the same data and seed give the same bits, or the cause is named."""
    done = _run([sys.executable, "-m", "noria", "reproduce", "--json"], project)
    try:
        told: Mapping[str, Any] = json.loads(done.stdout)
        verdict = str(told["verdict"])
    except (ValueError, KeyError):
        return Stage(name="again", ok=False, seconds=0.0, text=_error_text(done), output=_tail(done))
    if told["ok"]:
        return Stage(name="again", ok=True, seconds=0.0, text=f"{len(told['steps'])} results, {verdict}")
    lines = [f"{each['kind']} ({each['sure']}): {each['evidence']} {each['where']}".strip() for each in told["causes"]]
    first = told["causes"][0]["kind"] if told["causes"] else "unknown"
    return Stage(
        name="again",
        ok=False,
        seconds=0.0,
        text=f"{told['step']} comes out otherwise: {first}",
        output="\n".join(lines),
    )


def _asked(question: Mapping[str, Any], folder: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    """Ask a process of its own; what it wrote, or the error that it died of."""
    spec, result = folder / f"{question['mode']}.json", folder / f"{question['mode']}-result.json"
    spec.write_text(json.dumps({**question, "result": str(result)}), encoding="utf-8")
    done = _run([sys.executable, "-m", CHILD, str(spec)], Path(str(question["root"])), variables)
    if not result.is_file():
        return {"error": {"message": _error_text(done), "text": _tail(done)}}
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def _copy_project(ws: Workspace, folder: Path, without: set[str]) -> None:
    """The project's files, without state, history, data and environments."""
    sources = {Path(config.source).parts[0] for config in ws.project.data.values() if config.source}
    skipped = {".venv", "venv", "traffic", *sources, *without}

    def ignore(place: str, names: list[str]) -> set[str]:
        is_top = Path(place) == ws.project.root
        return {name for name in names if name == "__pycache__" or (is_top and name in skipped)}

    shutil.copytree(ws.project.root, folder, ignore=ignore, symlinks=True)


def _copy_for_tests(ws: Workspace, folder: Path, scratch: Path) -> None:
    """The project as its own tests may use it, its store too: without state and pins, the sources of its data linked.

    In the project itself a test that opens the store would find the state of one ledger beside another that is empty.
    """
    given = [Path(config.source) for config in ws.project.data.values() if config.source and "://" not in config.source]
    sources = [source for source in given if not source.is_absolute()]
    linked = {os.path.normpath(ws.project.root / source) for source in sources}
    skipped = {".noria", ".git", "noria.lock", ".venv", "venv", "traffic"}

    def ignore(place: str, names: list[str]) -> set[str]:
        is_top = Path(place) == ws.project.root
        apart = {name for name in names if os.path.normpath(Path(place) / name) in linked}
        return apart | {name for name in names if name == "__pycache__" or (is_top and name in skipped)}

    shutil.copytree(ws.project.root, folder, ignore=ignore, symlinks=True)
    for source in sources:
        place, real = Path(os.path.normpath(folder / source)), ws.project.root / source
        if place.is_relative_to(scratch) and real.exists() and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(real.resolve())


def _config(ws: Workspace, sources: Mapping[str, str]) -> str:
    """A noria.toml for a trial: the same pipeline and seed, and what its models may be kept as.

    No gates, since a sample proves no quality.
    """
    project = ws.project
    lines = ["[project]", f"name = {json.dumps(project.name)}", f"pipeline = {json.dumps(project.pipeline)}"]
    lines += [f"seed = {project.seed}", f"clock = {json.dumps(project.clock)}"]
    for name, source in sources.items():
        lines += ["", f"[data.{json.dumps(name)}]"]
        lines += [f"source = {json.dumps(source)}"] if source else []
        config = project.data.get(name)
        if config is not None and config.checks and not source.startswith("sample/"):
            lines.append(f"checks = {json.dumps(config.checks)}")
    for name in project.models:
        if permits.is_allowed(ws, name):
            lines += ["", f"[model.{json.dumps(name)}]", "allow_pickle = true"]
    return "\n".join(lines) + "\n"


def _run(
    command: list[str], folder: Path, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a child in a folder, without settings that would lead it to the production stores."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NORIA_")}
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env={**kept, **(variables or {})},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"it did not end within {TIMEOUT_S} s")


def _report(done: subprocess.CompletedProcess[str]) -> Mapping[str, Any] | None:
    """The report of a run that came to its end; None where it ended in an error."""
    try:
        told = json.loads(done.stdout)
    except ValueError:
        return None
    return told if isinstance(told, dict) and "gates" in told else None


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
    """The last lines of what a command said, its error as a person reads it."""
    lines = (done.stdout + done.stderr).splitlines()[-TAIL_LINES:]
    return "\n".join(_readable(line) for line in lines)


def _readable(line: str) -> str:
    try:
        told = json.loads(line)["error"]
        parts = (
            told["message"],
            told["where"] and f"where: {told['where']}",
            told["hint"] and f"next:  {told['hint']}",
        )
    except (ValueError, KeyError, TypeError):
        return line
    return "\n".join(filter(None, parts))


def _write_junit(target: Path, stages: list[Stage], suites: list[ElementTree.Element]) -> None:
    """JUnit XML: pytest's suites as they are, one with a case for each stage, one for each group of tests. Atomic."""
    root = ElementTree.Element("testsuites")
    root.extend(suites)
    _suite(root, "noria", [(stage.name, stage.seconds, stage.ok, stage.text, stage.output) for stage in stages])
    for group in ("training", "behaviour"):
        cases = [case for stage in stages for case in stage.cases if case.group == group]
        if cases:
            _suite(root, f"noria.{group}", [(case.name, 0.0, case.ok, case.text, case.text) for case in cases])
    part = target.with_name(f".{target.name}.{os.getpid()}")
    with disk_faults(target):
        try:
            ElementTree.ElementTree(root).write(part, encoding="utf-8", xml_declaration=True)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _suite(root: ElementTree.Element, name: str, cases: Sequence[tuple[str, float, bool, str, str]]) -> None:
    """One suite; a case is (name, seconds, ok, text, output)."""
    failures = sum(not ok for _, _, ok, _, _ in cases)
    own = ElementTree.SubElement(
        root, "testsuite", name=name, tests=str(len(cases)), failures=str(failures), errors="0", skipped="0"
    )
    for case, seconds, ok, text, output in cases:
        made = ElementTree.SubElement(own, "testcase", classname=name, name=case, time=f"{seconds:.3f}")
        if not ok:
            ElementTree.SubElement(made, "failure", message=text).text = output
        elif text:
            ElementTree.SubElement(made, "system-out").text = text
