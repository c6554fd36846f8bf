"""The process that does a script's run again: started by `noria reproduce`, in a clean place, never by a person.

Before anything else it gives up writing anywhere but in the place, with all that it starts. `whole` runs the script
as `noria run` does and tells what the watch saw: files, metrics, parameters, models, its end. `trial` runs it in this
very process, with stand-ins for all that chance can enter by. `files` says how far pairs of files are apart.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import dataclasses
import importlib
import json
import os
import pickle
import runpy
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from noria.bootstrap import open_workspace
from noria.config import load_project
from noria.core.errors import NoriaError
from noria.core.lazy import lazy
from noria.core.printable import error_line
from noria.faces.again import ACTOR, follow_parent, told_error, write_result
from noria.faces.priority import follow
from noria.loop.scripts import carry_out, what_failed
from noria.loop.shipping import names_of, packed
from noria.packaging.fence import fence
from noria.pipeline.outputs import sameness
from noria.pipeline.watching import chance
from noria.pipeline.watching.chance import Chance
from noria.pipeline.watching.watch import Watch, watch
from noria.scripts import recorder
from noria.scripts.capture import Captured, collect
from noria.scripts.keep import params_of
from noria.scripts.launch import prepared, watched_environment
from noria.scripts.seen import mark_of
from noria.store.disk import hash_file
from noria.tracking import environment as locks
from noria.tracking import host as hosts
from noria.tracking import run as tracking
from noria.tracking.facts import Code

__all__ = ["main"]

pd, np, joblib = lazy("pandas"), lazy("numpy"), lazy("joblib")
shells, settings = lazy("IPython.core.interactiveshell"), lazy("traitlets.config")

FORMS = (".csv", ".tsv", ".parquet", ".json", ".jsonl", ".npy", ".npz", ".joblib", ".pkl", ".pickle")
"""Files whose values are compared where their bytes are others."""
VALUES_LIMIT_BYTES = 256 << 20
"""Larger files are compared by their digests alone."""


def main(arguments: list[str] | None = None) -> int:
    """Do what the file says; exit 0 if a result was written, be it that the script failed."""
    (path,) = arguments if arguments is not None else sys.argv[1:]
    follow_parent()
    spec: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    follow()
    result: dict[str, Any]
    if not fence([Path(spec["fence"])], guarded=[Path(path) for path in spec["guarded"]]):
        result = {"error": {"code": "isolation", "message": "this process cannot be kept inside its folder"}}
    else:
        try:
            result = {"whole": _whole, "trial": _trial, "files": _files}[spec["mode"]](spec)
        except NoriaError as error:
            result = {"error": told_error(error)}
    write_result(spec, result)
    return 0


# the whole run


def _whole(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Run the script as `noria run` runs it, and tell everything that was seen of it."""
    root, folder, path = _ready(spec)
    executed = folder.parent / f"executed-{path.name}"
    log = folder.parent / "script.log"
    ended = carry_out(path, spec["words"], folder, executed, log=log)
    captured = collect(folder, main=path)
    state = root / ".noria"
    return {
        **_seen(spec, captured),
        "exit_code": ended.code,
        "failure": what_failed(folder, ended.complaints),
        "seconds": ended.seconds,
        "models": _models(spec, captured, root, path) if ended.code == 0 else [],
        "log": str(log),
        "lock": locks.lock(state),
        "host": hosts.host().document(),
        "packages": _packages(captured, state),
    }


def _ready(spec: Mapping[str, Any]) -> tuple[Path, Path, Path]:
    """The project's folder, a new folder for the record, and the script; the current folder is the script's now."""
    root = Path(spec["root"])
    folder = root / ".noria" / "again" / "capture"
    prepared(folder, root, root / ".noria")
    os.chdir(spec["cwd"])
    return root, folder, Path(spec["words"][0])


def _seen(spec: Mapping[str, Any], captured: Captured) -> dict[str, Any]:
    """What a record says, by the names of that time: what it wrote, read, imported, measured and fitted."""
    files, outside = [], []
    for path, at in captured.attempts:
        if not _is_inside(path, spec["fence"]):
            outside.append(path)
        elif Path(path).is_file() and not _is_inside(path, spec["temporary"]):
            size = Path(path).stat().st_size
            files.append(
                {"name": _name(spec, path), "path": path, "digest": hash_file(Path(path)), "size": size, "at": at}
            )
    reads: list[dict[str, Any]] = []
    for read in captured.read:
        is_here = bool(read.kept) or (not read.lost and mark_of(read.path) == read.mark)
        known = hash_file(Path(read.kept or read.path)) if is_here else ""
        is_outside = not _is_inside(read.path, spec["fence"])
        reads.append({"name": _name(spec, read.path), "digest": known, "outside": is_outside})
    code = {_name(spec, path): hash_file(Path(path)) for path in captured.code if Path(path).is_file()}
    metrics = [{"name": each.name, "value": str(each.values[-1]), "at": each.at} for each in captured.metrics]
    return {
        "files": files,
        "outside": outside,
        "reads": [each for each in reads if not _is_inside(each["name"], spec["temporary"])],
        "code": code,
        "metrics": metrics,
        "params": params_of(captured),
        "fitted_at": min((fit.at for fit in captured.fits), default=0.0),
        "notes": list(captured.notes),
    }


def _is_inside(path: str, folder: str) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(folder)


def _name(spec: Mapping[str, Any], path: str) -> str:
    """What a path of the copy is called on record: as it is called in the project, or its whole path of then."""
    real, work = Path(os.path.realpath(path)), Path(spec["work"])
    if not real.is_relative_to(work):
        return path
    then = "/" / real.relative_to(work)
    root = Path(spec["root_then"])
    return then.relative_to(root).as_posix() if then.is_relative_to(root) else str(then)


def _packages(captured: Captured, state: Path) -> dict[str, str]:
    """The distributions that the script had imported at its end, with their versions."""
    known = locks.environment(state)
    found = {known.roots[name] for name in captured.roots if name in known.roots}
    return {name: known.packages.get(name, "") for name in sorted(found)}


def _models(spec: Mapping[str, Any], captured: Captured, root: Path, path: Path) -> list[dict[str, Any]]:
    """The models that it left, as bundles in the throw-away store: their files, and their scores of the golden rows."""
    if not captured.models or not spec["with_models"]:
        return []
    sys.path.insert(0, str(path.resolve().parent))  # what a model names by reference is where the script found it
    ws = open_workspace(project=load_project(root), actor=ACTOR)
    found: list[dict[str, Any]] = []
    with tracking.start(ws, spec["script"], cause="reproduce", code=Code(entry=spec["script"])) as handle:
        names = names_of(captured.models, "")
        for seen, own in zip(captured.models, names, strict=True):
            name = spec["with_models"][0] if len(captured.models) == len(spec["with_models"]) == 1 else own
            try:
                bundle = packed(ws, captured, seen, name=name, run=handle.run, environment="").bundle
            except NoriaError as error:
                found.append({"name": name, "error": told_error(error)})
                continue
            files = {entry.path: entry.digest for entry in bundle.files.entries}
            found.append({"name": name, "files": files, "scores": list(bundle.golden_scores)})
    return found


# once more, under conditions


def _trial(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Run the script in this process, with the stand-ins at work; tells what it gave and what it asked for."""
    root, folder, path = _ready(spec)
    made = chance.install(root, spec["settings"])
    os.environ.update(watched_environment(folder, os.environ))
    recorder.start(str(folder))
    _preload(spec, root)  # the hooks are there by now: they see the classes of a library as these are made
    log = folder.parent / "script.log"
    printing = _printing_to(log) if spec["with_log"] else contextlib.nullcontext()
    with printing, contextlib.nullcontext() if spec["settings"] else watch(root, root / ".noria") as watching:
        code, failure = _carried_out(path, spec["words"], made)
    if spec["with_models"]:
        atexit._run_exitfuncs()  # the record of what the script still holds is made at the end of Python
    captured = collect(folder, main=path)
    return {
        **_seen(spec, captured),
        "exit_code": code,
        "failure": failure,
        "models": _models(spec, captured, root, path) if code == 0 else [],
        "log": str(log) if spec["with_log"] else "",
        "seen": [dataclasses.asdict(each) for each in made.seen.values()],
        **(_watched(spec, watching) if watching is not None else {}),
    }


def _watched(spec: Mapping[str, Any], watching: Watch) -> dict[str, Any]:
    """What else it was seen to ask for: variables with the digests of their values, and what is not in the place."""
    asked = [*watching.files, *watching.folders, *(name for name, _ in watching.trace().stats)]
    names = dict.fromkeys(os.path.abspath(os.path.join(spec["cwd"], name)) for name in asked)  # noqa: PTH100, PTH118  # as they were told
    absent = [name for name in names if _is_inside(name, spec["work"]) and not os.path.lexists(name)]
    return {"variables": watching.variables, "absent": [_name(spec, name) for name in absent]}


@contextlib.contextmanager
def _printing_to(log: Path) -> Iterator[None]:
    """Let what this process prints go to a file, be it from compiled code."""
    kept = {number: os.dup(number) for number in (1, 2)}
    with log.open("wb") as file:
        for number in kept:
            os.dup2(file.fileno(), number)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, old in kept.items():
                os.dup2(old, number)
                os.close(old)


def _preload(spec: Mapping[str, Any], root: Path) -> None:
    """Import what the code imports of installed packages: a library takes the real classes of the clock for its own."""
    known = locks.environment(root / ".noria").roots
    for place in spec["code"]:
        for name in _imported(Path(place)):
            if name.partition(".")[0] in known:
                with contextlib.suppress(Exception):  # the script meets it too, and that is told
                    importlib.import_module(name)


def _imported(path: Path) -> Iterator[str]:
    """The modules that a file of code, or the cells of a notebook, name in their imports."""
    texts = [path.read_text(encoding="utf-8", errors="replace")]
    if path.suffix == ".ipynb":
        texts = ["".join(cell["source"]) for cell in json.loads(texts[0])["cells"] if cell["cell_type"] == "code"]
    for text in texts:
        try:
            found = list(ast.walk(ast.parse(text)))
        except SyntaxError:  # a magic of a notebook
            continue
        for node in found:
            if isinstance(node, ast.Import):
                yield from (each.name for each in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module


def _carried_out(path: Path, words: list[str], made: Chance) -> tuple[int, str]:
    """The script as `__main__` of this process: its exit code, and what it raised."""
    sys.argv[:] = words
    sys.path[0] = str(path.resolve().parent)
    try:
        with made.around():
            if path.suffix == ".ipynb":
                _cells(path)
            else:
                _left_as_main(runpy.run_path(words[0], run_name="__main__"))
            _end_threads()
    except SystemExit as left:
        return (0 if left.code is None else left.code if isinstance(left.code, int) else 1), ""
    except Exception as error:  # noqa: BLE001  # the script's own: told, as Python tells it by its exit code
        return 1, error_line(error)
    return 0, ""


def _left_as_main(space: Mapping[str, Any]) -> None:
    """Let what a script left be found where Python leaves it."""
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    vars(main).update(space)


def _end_threads() -> None:
    """As Python does at its end: pools that are still open are told to close, then every thread is waited for."""
    closing: list[Callable[[], None]] = vars(threading)["_threading_atexits"]
    while closing:
        closing.pop()()
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()


def _cells(path: Path) -> None:
    """The cells of a notebook, one after the other, in a shell without a kernel."""
    os.chdir(path.resolve().parent)
    quiet = settings.Config({"HistoryManager": {"enabled": False}})
    shell = shells.InteractiveShell.instance(config=quiet)
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            text = "".join(cell["source"])
            shell.run_cell(text).raise_error()


# two files


def _files(spec: Mapping[str, Any]) -> dict[str, Any]:
    """How far each pair of files is apart: by the values in them where their form is known, else by their lines."""
    sys.path.insert(0, spec["script_folder"])
    return {"pairs": [_apart(Path(pair["then"]), Path(pair["now"]), pair) for pair in spec["pairs"]]}


def _apart(then: Path, now: Path, pair: Mapping[str, Any]) -> dict[str, Any]:
    suffix = Path(pair["name"]).suffix.lower()
    if max(then.stat().st_size, now.stat().st_size) > VALUES_LIMIT_BYTES:
        return {"is_same": False, "text": "other bytes"}
    is_known = suffix in FORMS
    try:
        one, other = (_values(each, suffix) if is_known else _lines(each) for each in (then, now))
    except Exception as error:  # noqa: BLE001  # a file of any form, read by its library: then its bytes say it
        return {"is_same": False, "text": f"other bytes ({type(error).__name__} when its values were read)"}
    found = sameness.compared(one, other, float(pair["tolerance"]))
    if found.is_same and not is_known:
        return {"is_same": False, "text": "other bytes"}
    return dataclasses.asdict(found)


def _values(path: Path, form: str) -> Any:
    """What a file of a known form holds."""
    if form in (".csv", ".tsv"):
        return pd.read_csv(path, sep="," if form == ".csv" else "\t")
    if form == ".parquet":
        return pd.read_parquet(path)
    if form in (".npy", ".npz"):
        found = np.load(path)
        return found if form == ".npy" else dict(found)
    if form == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    if form == ".jsonl":
        return [json.loads(line) for line in _lines(path)]
    return joblib.load(path) if form == ".joblib" else _pickled(path)


def _lines(path: Path) -> list[str]:
    return path.read_bytes().decode("utf-8").splitlines()


def _pickled(path: Path) -> Any:
    """What the run itself pickled: as trusted as the script, and read behind the same fence."""
    return pickle.loads(path.read_bytes())  # noqa: S301  # as above


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # threads of the script's own are no reason to stay
