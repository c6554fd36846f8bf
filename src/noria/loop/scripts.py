"""`noria run train.py`: a script or notebook as it is, on record; what it fitted becomes versions and releases.

The script runs first, by itself, and nothing that happens here can change what it did. Then what it read,
wrote, fitted and measured is stored, and each model that it left is packed, judged and released in a process
of its own (`faces/ship.py`): a model that cannot even be loaded takes nobody down. Nothing is deployed here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from noria.core.errors import NotFound, ScriptFailed, UsageError
from noria.core.frozen import frozen
from noria.core.interrupts import going_on
from noria.core.verb import verb
from noria.loop.outcome import ModelLine, Question, model_lines
from noria.pipeline.code.confidential import HIDDEN, has_secret_name, without_secrets
from noria.pipeline.watching.trace import is_of_process
from noria.registry.versions import require_name
from noria.scripts.capture import Captured, collect, has_begun
from noria.scripts.exporting import require_notebook
from noria.scripts.inner import runs_told
from noria.scripts.keep import Kept, KeptFile, keep
from noria.scripts.launch import Ended, follow, prepared, started_with, watched_environment
from noria.store.failpoint import failpoint
from noria.store.workspace import Workspace
from noria.tracking import records as tracking_records
from noria.tracking import run as tracking
from noria.tracking.code import snapshot
from noria.tracking.run import RunHandle

__all__ = ["SHIP", "FitLine", "ScriptReport", "carry_out", "perform_script", "run_script", "what_failed"]

SHIP = "noria.faces.ship"
NOTEBOOK = "noria.faces.notebook"
FAILURE = "failure.json"
SHOWN_FITS = 50


@frozen(kw_only=True)
class FitLine:
    """One estimator that was fitted: its class, the rows, how long, and the parameters that are no defaults."""

    name: str
    rows: int | None
    seconds: float
    params: Mapping[str, Any]


@frozen(kw_only=True)
class InnerRun:
    """A run of a pipeline that the script made itself (`nr.run`), and the model of it, "" without."""

    run: str
    model: str
    version: int
    state: str
    next: str


@frozen(kw_only=True)
class ScriptReport:
    """Everything that a script did. `ok` is False if a gate said no; `next` is the command to go on with.

    `seconds` is the run's whole time, as it is on record; `script_seconds` that of the script alone, without what
    becomes of its files and models after it. `read` and `written` are files by content; `metrics` the last value
    of each; `models` what became of every model that it left; `notes` what could not be seen, and processes and
    connections that it opened; `runs` those of pipelines that it made itself.
    """

    run: str
    script: str
    ok: bool
    seconds: float
    script_seconds: float
    read: tuple[KeptFile, ...]
    written: tuple[KeptFile, ...]
    fits: tuple[FitLine, ...]
    metrics: Mapping[str, float]
    models: tuple[ModelLine, ...]
    notes: tuple[str, ...]
    next: str
    runs: tuple[InnerRun, ...] = ()


@verb(permission="loop.run", where="project")
def run_script(
    ws: Workspace, script: str, arguments: Sequence[str] = (), model: str = "", cause: str = "user"
) -> ScriptReport:
    """Run a script as `python SCRIPT ARGUMENTS` does, and record what it read, wrote, fitted and measured.

    What it prints is in the run's log. Models that it writes, or still holds when it ends, become versions.

    Args:
        script: the file, from the current folder.
        arguments: its own arguments.
        model: the name of the model that it makes; else the name of the file or variable that holds it.
    Raises: NotFound; UsageError; ScriptFailed with the run that has its log.
    Example: noria loop run-script train.py
    """
    return perform_script(ws, script, arguments, model=model, cause=cause)


def perform_script(
    ws: Workspace,
    script: str,
    arguments: Sequence[str] = (),
    *,
    model: str = "",
    cause: str = "user",
    out: BinaryIO | None = None,
    err: BinaryIO | None = None,
) -> ScriptReport:
    """The same with places for what the script prints, as it prints it."""
    path = _found(ws, script, arguments)
    if model:
        require_name(model)
    name = _name(ws, path)
    handle = tracking.start(
        ws,
        name,
        cause=cause,
        config={"script": name, "command": _command(path, script, arguments), "folder": str(Path.cwd()), "params": {}},
        code=snapshot(ws.project.root, ws.objects, entry=name),
    )
    again = _again(script, arguments, model)
    with going_on(f"{again} begins anew"), handle:
        if ws.project.run.system_metrics:
            handle.watch()
        _clear(ws)
        folder = handle.folder / "capture"
        log = handle.folder / f"{path.stem}.log"
        prepared(folder, ws.project.root, ws.project.state)
        executed = handle.folder / f"executed-{path.name}"
        ended = carry_out(path, [script, *arguments], folder, executed, log=log, out=out, err=err)
        failpoint("script.ended")
        if (ended.code < 0 or (ended.code and ended.was_interrupted)) and not has_begun(folder):
            raise _failed(handle, script, ended, "", {})
        captured = collect(folder, main=path)
        kept = keep(
            ws,
            handle.run,
            captured,
            script=name,
            command=_command(path, script, arguments),
            exit_code=ended.code,
            log=log,
            variables=_variables(started_with()),
        )
        if executed.is_file():
            handle.artifact(f"executed/{path.name}", executed, type="notebook")
        _log_metrics(handle, captured)
        if ended.code != 0:
            raise _failed(handle, script, ended, what_failed(folder, ended.complaints), kept.metrics, again)
        question = Question(run=handle.run, script=name, folder=str(folder), model=model, pins=kept.pins)
        models = _shipped(ws, question, captured, path)
        refused = [f"{line.model}: {line.note}" for line in models if line.is_refused]
        handle.finish("stopped" if refused else "finished", "; ".join(refused), kept.metrics)
        runs = tuple(InnerRun(**each) for each in runs_told(folder))
        shutil.rmtree(folder)
    return _report(handle, name, ended, captured, kept, models, runs)


def _again(script: str, arguments: Sequence[str], model: str) -> str:
    """The command that runs a script anew: it has no steps, so one that was broken off begins at its first line."""
    named = ["noria", "run", script, *(["--model", model] if model else [])]
    return shlex.join([*named, *(["--", *arguments] if arguments else [])])


def _found(ws: Workspace, script: str, arguments: Sequence[str]) -> Path:
    path = Path(script)
    if not path.is_file():
        hint = "noria run FILE.py or FILE.ipynb, from the folder it lies in; noria run alone runs the pipeline"
        raise NotFound(f"there is no file {script}", where=str(Path.cwd()), hint=hint)
    if path.resolve() == (ws.project.root / ws.project.pipeline).resolve():
        raise UsageError(f"{script} is the project's pipeline, not a script", hint="noria run")
    if path.suffix == ".ipynb" and (arguments or not _has_notebooks()):
        if arguments:
            raise UsageError("a notebook takes no arguments", where=script)
        raise UsageError("running a notebook needs nbclient and ipykernel", hint="pip install 'noria[notebook]'")
    if path.suffix == ".ipynb":
        require_notebook(path)
    return path


def _has_notebooks() -> bool:
    return all(importlib.util.find_spec(name) for name in ("nbclient", "nbformat", "ipykernel"))


def _command(path: Path, script: str, arguments: Sequence[str]) -> list[str]:
    """What was run, as it is typed without Noria."""
    if path.suffix == ".ipynb":
        return ["jupyter", "execute", script]
    return ["python", script, *arguments]


def carry_out(
    path: Path,
    words: list[str],
    folder: Path,
    executed: Path,
    *,
    log: Path,
    out: BinaryIO | None = None,
    err: BinaryIO | None = None,
) -> Ended:
    """Run a script with its arguments, or a notebook by a process of its own, whose kernel is watched.

    Args:
        words: the script as it is named, and its arguments.
        folder: that of the capture, which is prepared.
        executed: where the copy of a notebook with its outputs goes.
    """
    if path.suffix == ".ipynb":
        asked = [sys.executable, "-m", NOTEBOOK, str(path), str(executed), str(folder)]
        return follow(asked, environment=started_with(), log=log, out=out, err=err, unblocks=True)
    watched = watched_environment(folder, started_with())
    return follow([sys.executable, *words], environment=watched, log=log, out=out, err=err)


def _name(ws: Workspace, path: Path) -> str:
    """The script's path in the project, or its whole path outside it."""
    real = path.resolve()
    root = ws.project.root.resolve()
    return real.relative_to(root).as_posix() if real.is_relative_to(root) else str(real)


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a script could read, with digits of the digests of their values; no secrets, nor those that
    are of the session."""
    return {
        name: hashlib.sha256(repr(value).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        for name, value in sorted(environment.items())
        if not (is_of_process(name) or has_secret_name(name) or HIDDEN in without_secrets(value))
    }


def _clear(ws: Workspace) -> None:
    """Take away what captures left whose process was killed."""
    for folder in (ws.project.state / "runs").glob("*/capture"):
        with ws.ledger.read() as tx:
            record = tracking_records.run(tx, folder.parent.name)
        if record is None or record.status != "running":
            shutil.rmtree(folder, ignore_errors=True)


def _log_metrics(handle: RunHandle, captured: Captured) -> None:
    for metric in captured.metrics:
        for step, value in enumerate(metric.values):
            handle.log(step=step, **{metric.name: value})


def _failed(
    handle: RunHandle, script: str, ended: Ended, last: str, metrics: Mapping[str, float], again: str = ""
) -> BaseException:
    """End the run as failed, with the reason; the traceback is where the script wrote it."""
    if ended.was_interrupted:
        place = f": {last}" if script.endswith(".ipynb") and last else ""
        handle.finish("failed", f"interrupted (SIGINT){place}", metrics)
        told = KeyboardInterrupt()
        if again:
            told.add_note(f"{again} begins anew; what it did until now is kept: noria explain {handle.run}")
        return told
    if ended.code < 0:
        name = signal.Signals(-ended.code).name
        is_kill = ended.code == -signal.SIGKILL
        hint = "out of memory, if nobody sent the signal: see dmesg" if is_kill else f"noria pipeline logs {handle.run}"
        text, where = f"{script} was killed by {name}", f"run {handle.run}"
        reason = f"killed by {name}"
    else:
        text, where, hint = f"{script} ended with exit code {ended.code}", "", f"noria pipeline logs {handle.run}"
        reason = f"exit code {ended.code}" + (f": {last}" if last else "")
        text += f": {last}" if last else ""
    handle.finish("failed", reason, metrics)
    return ScriptFailed(text, where=where, hint=hint)


def what_failed(folder: Path, complaints: str) -> str:
    """What was raised, and of a notebook in which cell and line; "" if nothing was."""
    with contextlib.suppress(FileNotFoundError):
        told = json.loads((folder / FAILURE).read_text(encoding="utf-8"))
        count = f" (In [{told['count']}])" if told["count"] else ""
        line = f", line {told['line']}" if told["line"] else ""
        return f"cell {told['cell']}{count}{line}: {told['error']}"
    return _last_line(complaints)


def _last_line(complaints: str) -> str:
    """The last line of a traceback in what a script complained of: what was raised; "" if there is none."""
    lines = complaints.rstrip().splitlines()
    has_traceback = any(line.startswith("Traceback (most recent call last)") for line in lines)
    return lines[-1][:200] if lines and has_traceback and not lines[-1].startswith(" ") else ""


def _shipped(ws: Workspace, question: Question, captured: Captured, path: Path) -> tuple[ModelLine, ...]:
    """What becomes of the models, found out in a process of its own."""
    if not captured.models:
        return ()
    project = ws.project
    asked = {
        "root": str(project.root.resolve()),
        "actor": ws.actor,
        "script_folder": str(path.resolve().parent),
        **dataclasses.asdict(question),
    }
    child = subprocess.run(
        [sys.executable, "-m", SHIP], input=json.dumps(asked).encode(), capture_output=True, check=False
    )
    with contextlib.suppress(ValueError):
        return model_lines(json.loads(child.stdout))
    text = child.stderr.decode(errors="replace").strip().splitlines()
    if child.returncode == 1 and text:  # what was asked for cannot be: said by the process itself
        return (ModelLine(model=question.model, is_refused=True, note=text[-1][:300]),)
    died = f"its process was killed by {signal.Signals(-child.returncode).name}" if child.returncode < 0 else ""
    why = died or (text[-1][:300] if text else f"its process ended with {child.returncode}")
    return (ModelLine(model=captured.models[0].name, note=f"cannot be served: {why}"),)


def _report(
    handle: RunHandle,
    script: str,
    ended: Ended,
    captured: Captured,
    kept: Kept,
    models: tuple[ModelLine, ...],
    runs: tuple[InnerRun, ...],
) -> ScriptReport:
    fits = [fit for fit in captured.fits if fit.is_model] or list(captured.fits)
    lines = tuple(FitLine(name=f.name, rows=f.rows, seconds=f.seconds, params=f.params) for f in fits[:SHOWN_FITS])
    notes = list(captured.notes)
    if ended.lost:
        notes.append(f"the log ends before the output does: {ended.lost}")
    if not captured.is_whole:
        notes.append("the script left without Python's own end (os._exit): models that it only held are not seen")
    return ScriptReport(
        run=handle.run,
        script=script,
        ok=not any(line.is_refused for line in models),
        seconds=handle.seconds,
        script_seconds=round(ended.seconds, 3),
        read=kept.read,
        written=kept.written,
        fits=lines,
        metrics=kept.metrics,
        models=models,
        notes=tuple(notes),
        next=runs[-1].next if runs and not models else _next(handle.run, models),
        runs=runs,
    )


def _next(run: str, models: Sequence[ModelLine]) -> str:
    """The command to go on with, which is one that will not be refused."""
    for line in reversed(models):
        if line.state in ("validated", "staging"):
            ref = f"{line.model}:{line.version}"
            return f"noria promote {ref}" if line.champion else f"noria deploy {ref}"
    for line in models:
        if line.is_refused and line.version:
            return f"noria registry show {line.model}:{line.version}   (the gates' reasons)"
        if line.state == "production":
            return "noria status"
    return f"noria explain {run}"
