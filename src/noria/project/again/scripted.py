"""A script's run done again: laid out, run once more, and everything that it made beside what is on record.

What it made are its files, the metrics and parameters of its fits, its models and its exit code, each of them one
step of the verdict, in the order in which they came. What it prints is compared and told, and is a result only where
the project says so. Where one differs, the script runs again and again, whole, by the same experiments that a step of
a pipeline goes through (`diagnose.py`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from noria.core.errors import NotFound, UsageError, WorldError
from noria.core.frozen import frozen
from noria.core.identity import JSON, canonical, digest, short
from noria.core.progress import task
from noria.packaging import bundle as bundles
from noria.packaging.fence import can_fence
from noria.pipeline.code.confidential import has_secret_name
from noria.pipeline.watching.trace import EVERY, EVERY_SETTING, is_of_process
from noria.project.again import causes
from noria.project.again import verdict as verdicts
from noria.project.again.causes import OTHERWISE, Cause
from noria.project.again.child import Died, asked
from noria.project.again.diagnose import Evidence, Probe, Prober, diagnose
from noria.project.again.outcome import Done, Where, stored_document, took
from noria.project.again.place import Lacking
from noria.project.again.printed import difference, normal
from noria.project.again.repeat import PROBE_S, bundle_verdict, metrics, pair_verdict
from noria.project.again.script_place import ScriptPlace, lay_out, plain_name
from noria.project.again.verdict import DIFFERENT, FAILED, IDENTICAL, NOTED, OutputVerdict, StepVerdict
from noria.registry import records as registry
from noria.scripts import records as scripts
from noria.scripts.records import ScriptRecord
from noria.store.workspace import Workspace
from noria.tracking import environment as locks
from noria.tracking import records as tracking
from noria.tracking.records import RunRecord

__all__ = ["ScriptFound", "found", "repeated"]

MODULE = "noria.faces.again_script"
EXIT, PARAMETERS, PRINTED = "exit code", "parameters", "printed"
_NOTES = {"connected to ": "connects to ", "started ": "starts "}


@frozen(kw_only=True)
class ScriptFound:
    """What is on record of a run of a script. `models` are (name, digest of the bundle)."""

    run: RunRecord
    record: ScriptRecord
    document: Mapping[str, Any]
    config: Mapping[str, Any]
    lock: Mapping[str, Any]
    host: Mapping[str, Any]
    models: tuple[tuple[str, str], ...]

    def first(self, about: str) -> str:
        """What first needs something that cannot be had: the script, which needs all of it."""
        return self.record.script


def found(ws: Workspace, run: RunRecord) -> ScriptFound | None:
    """What is on record of a run of a script; None for any other run.

    Raises: UsageError for a script that was ended from outside, and so has no whole result.
    """
    with ws.ledger.read() as tx:
        record = scripts.captured(tx, run.run)
        if record is None:
            return None
        named = [each for model in registry.models(tx) for each in registry.versions(tx, model, run=run.run)]
        packed = [each.digest for each in tracking.artifacts(tx, run.run) if each.type == "bundle"]
    if run.status == "running" or record.exit_code < 0 or run.reason.startswith("interrupted"):
        why = "it is still running" if run.status == "running" else f"it was {run.reason or run.status}"
        raise UsageError(f"{run.run} has no result to compare with; {why}", hint="noria runs --status finished")
    document = stored_document(ws, record.document)
    if not document:
        raise NotFound(f"the record of what {record.script} did in {run.run} is gone", hint="noria audit verify")
    models = tuple((each.model, each.bundle) for each in reversed(named)) or tuple(("", each) for each in packed[-1:])
    return ScriptFound(
        run=run,
        record=record,
        document=document,
        config=stored_document(ws, run.config),
        lock=stored_document(ws, run.environment),
        host=stored_document(ws, run.host),
        models=models,
    )


def repeated(ws: Workspace, known: ScriptFound, where: Callable[[], Where], folder: Path) -> Done:
    """Lay out the run, do it again, compare, and look for the cause if something differs.

    Args:
        where: gives the environment, once it is clear that the rest can be had.
        folder: an empty one.
    Raises: Lacking.
    """
    if not can_fence():
        raise Lacking(
            causes.SYSTEM,
            f"nothing was run: this system has no Landlock, which keeps what {known.record.script} writes in a folder",
        )
    folder.mkdir()
    with task("code and data of the run", unit=""):
        laid = lay_out(ws, known.run, known.record, known.document, known.config, folder)
    again = _Again(ws, known, laid, where())
    told = again.whole()
    again.require_isolated(told)
    with task("comparing what it made", unit=""):
        steps = again.compared(told)
    first = next((each for each in steps if each.verdict in (DIFFERENT, FAILED)), None)
    verdict = verdicts.worst([each.verdict for each in steps])
    read = known.document["read"]
    return Done(
        verdict=DIFFERENT if verdict == FAILED else verdict,
        code=laid.place.code,
        environment=again.where.name,
        rebuilt=again.where.rebuilt,
        lock=told.get("lock", {}),
        host=told.get("host", {}),
        steps=tuple(steps),
        step=first.step if first is not None else "",
        causes=() if first is None else tuple(again.causes(told, first)),
        data=tuple(f"{each['dataset'] or each['path']} {short(each['digest'])}" for each in read[:8]),
        inputs=[{name: each[name] for name in ("path", "digest", "dataset")} for each in read],
        notes=tuple(_notes(known, told)),
    )


def _notes(known: ScriptFound, told: Mapping[str, Any]) -> Iterator[str]:
    """What the run stood on and nobody pinned: connections, other programs."""
    for note in dict.fromkeys([*known.document.get("notes", ()), *told.get("notes", ())]):
        if note.startswith("connected to "):
            yield f"it {note}: what it was answered is not pinned"
        elif note.startswith("started "):
            yield f"it {note}: what a program that is not Python reads and writes is not seen"


class _Again:
    """One repetition of a script: what is on record, the place, and the environment."""

    def __init__(self, ws: Workspace, known: ScriptFound, laid: ScriptPlace, where: Where) -> None:
        self.ws, self.known, self.laid, self.where = ws, known, laid, where
        self.script = known.record.script
        self.stated = ws.project.reproduce.tolerance
        self._kept: dict[str, Path] = {}

    # running it

    def whole(self) -> dict[str, Any]:
        """Run it as it was run. Raises: WorldError."""
        self.laid.fresh()
        try:
            with task(f"running all of it again{took(self.known.run)}", unit=""):
                told = self._asked("whole", {"with_models": [name for name, _ in self.known.models]})
        except Died as died:
            return {"exit_code": None, "failure": str(died)}
        if "error" in told:
            raise WorldError(f"{self.script} could not be done again: {told['error']['message']}")
        for file in told["files"]:
            self._keep(file)
        return told

    def _asked(
        self,
        mode: str,
        question: Mapping[str, Any],
        variables: Mapping[str, str | None] | None = None,
        timeout_s: float | None = None,
        laid: ScriptPlace | None = None,
    ) -> dict[str, Any]:
        laid = laid or self.laid
        spec = {
            "fence": str(laid.place.folder),
            "guarded": self._guarded(),
            "work": str(laid.work),
            "temporary": str(laid.temporary),
            "cwd": str(laid.cwd),
            "root_then": str(laid.root),
            "words": list(laid.words),
            "script": self.script,
            **question,
        }
        return asked(laid.place, self.where.python, mode, spec, variables=variables, timeout_s=timeout_s, module=MODULE)

    def _guarded(self) -> list[str]:
        """Where the user's own files are that the script could name."""
        files = [*self.known.document["read"], *self.known.document["written"]]
        named = [each["path"] for each in files if Path(each["path"]).is_absolute()]
        return [str(self.ws.project.root.resolve()), str(self.laid.root), *named]

    def _keep(self, file: Mapping[str, Any]) -> None:
        """Set a file aside before the next run takes its place."""
        name = str(file["digest"])
        if name not in self._kept:
            target = self.laid.place.folder / "kept" / name.removeprefix("sha256:")
            target.parent.mkdir(exist_ok=True)
            shutil.move(file["path"], target)
            self._kept[name] = target

    def require_isolated(self, told: Mapping[str, Any]) -> None:
        """Nothing was written outside, and what was read there is what it was. Raises: Lacking, naming the path."""
        outside = told.get("outside", ())
        if outside:
            raise Lacking(
                causes.OUTSIDE,
                f"{self.script} writes {outside[0]} by its whole path, which a clean place cannot stand in for; "
                "it was not let to",
                about=outside[0],
            )
        was = self._reads_then()
        seen = {each["name"] for each in told.get("reads", ())}
        looked = [each for each in told.get("reads", ()) if each["outside"]]
        for read in looked:
            name = plain_name(self.laid.root, read["name"])
            if name in was and was[name] != read["digest"]:
                raise Lacking(
                    causes.DATA, f"{self.script} reads {read['name']} by its whole path, {_OTHER}", about=name
                )
        is_short = told.get("exit_code") != self.known.record.exit_code
        for name in was if is_short else ():
            place = self.laid.root / name
            if name not in seen and str(place) in str(told.get("failure", "")) and not place.exists():
                raise Lacking(causes.DATA, f"{self.script} reads {place} by its whole path, and it is gone", about=name)

    def _reads_then(self) -> dict[str, str]:
        return {plain_name(self.laid.root, each["path"]): str(each["digest"]) for each in self.known.document["read"]}

    # comparing

    def compared(self, told: Mapping[str, Any]) -> list[StepVerdict]:
        """Everything that it made, in the order in which it was made now; what it did not make any more at the end."""
        timed = [*self._files(told), *self._metrics(told)]
        made = [step for at, step in sorted(timed, key=lambda pair: pair[0]) if at < math.inf]
        lacking = [step for at, step in timed if at == math.inf]
        end = [*self._parameters(told), *self._exit(told)]
        return [*made, *end, *lacking, *self._models(told), *self._printed(told)]

    def _tolerance(self, name: str) -> float:
        return self.stated.get(name, self.stated.get(self.script, 0.0))

    def _files(self, told: Mapping[str, Any]) -> Iterator[tuple[float, StepVerdict]]:
        """(when, verdict) of each file that is left; never for one that was not made."""
        root = self.laid.root
        then = {plain_name(root, each["path"]): each for each in self.known.document["written"]}
        now = {each["name"]: each for each in told.get("files", ())}
        differing = [name for name in then if name in now and then[name]["digest"] != now[name]["digest"]]
        apart = dict(zip(differing, self._apart(differing, then, now), strict=True))
        for name in dict.fromkeys([*then, *now]):
            was, is_ = then.get(name, {}).get("digest", ""), now.get(name, {}).get("digest", "")
            if not is_ and _is_temporary(root, name):
                continue
            verdict, text, largest = IDENTICAL, "", 0.0
            if name in apart:
                verdict, text, largest = apart[name]
            elif not is_:
                verdict, text = FAILED, "it was not made"
            elif not was:
                verdict, text = DIFFERENT, "it was not there then"
            output = OutputVerdict(name=name, verdict=verdict, then=was, now=is_, text=text, largest=largest)
            step = StepVerdict(
                step=name, verdict=verdict, outputs=(output,), tolerance=self._tolerance(name), text=text
            )
            yield now[name]["at"] if is_ else math.inf, step

    def _apart(
        self, names: Sequence[str], then: Mapping[str, Any], now: Mapping[str, Any]
    ) -> list[tuple[str, str, float]]:
        """The verdicts on files whose bytes are others."""
        pairs: dict[str, dict[str, Any]] = {}
        for number, name in enumerate(names):
            target = self.laid.place.folder / "then" / str(number)
            target.parent.mkdir(exist_ok=True)
            try:
                self.ws.objects.copy_to(then[name]["digest"], target)
            except (NotFound, WorldError):
                continue  # not stored, or not any more: its digest alone is on record
            kept = self._kept[now[name]["digest"]]
            pairs[name] = {"name": name, "then": str(target), "now": str(kept), "tolerance": self._tolerance(name)}
        told = dict(zip(pairs, self._distances(list(pairs.values())), strict=True))
        return [
            pair_verdict(told[name], self._tolerance(name)) if name in told else (DIFFERENT, "other bytes", 0.0)
            for name in names
        ]

    def _distances(self, pairs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        if not pairs:
            return []
        folder = str(self.laid.cwd / Path(self.laid.words[0]).parent)
        try:
            told = self._asked("files", {"pairs": pairs, "script_folder": folder})
        except Died as died:
            told = {"error": {"message": str(died)}}
        lost = {"is_same": False, "text": f"other bytes ({(told.get('error') or {}).get('message', '')})"}
        found: list[dict[str, Any]] = told.get("pairs") or [lost for _ in pairs]
        return found

    def _metrics(self, told: Mapping[str, Any]) -> Iterator[tuple[float, StepVerdict]]:
        then = {name: float(values[-1]) for name, values in self.known.document["metrics"].items() if values}
        now = {each["name"]: each for each in told.get("metrics", ())}
        for name in dict.fromkeys([*now, *then]):
            if name not in now:
                text = "it was not measured"
                yield math.inf, StepVerdict(step=f"metric {name}", verdict=FAILED, outputs=(), text=text)
                continue
            was = {name: then[name]} if name in then else {}
            found = metrics(was, {name: float(now[name]["value"])}, self._tolerance(name))
            text = found.outputs[0].text
            yield now[name]["at"], dataclasses.replace(found, step=f"metric {name}", text=text)

    def _parameters(self, told: Mapping[str, Any]) -> Iterator[StepVerdict]:
        """The parameters of what it fitted, as one step; nothing if it fitted nothing."""
        then, now = dict(self.known.record.params), dict(told.get("params", {}))
        outputs = []
        for name in dict.fromkeys([*then, *now]):
            was, is_ = (canonical(each[name]).decode() if name in each else "" for each in (then, now))
            text = "" if was == is_ else f"{was or 'absent'} -> {is_ or 'absent'}"
            verdict = DIFFERENT if text else IDENTICAL
            outputs.append(OutputVerdict(name=name, verdict=verdict, then=was, now=is_, text=text))
        if outputs:
            verdict = verdicts.worst([each.verdict for each in outputs])
            text = "; ".join(f"{each.name} {each.text}" for each in outputs if each.text)
            yield StepVerdict(step=PARAMETERS, verdict=verdict, outputs=tuple(outputs), text=text)

    def _exit(self, told: Mapping[str, Any]) -> Iterator[StepVerdict]:
        then, now = self.known.record.exit_code, told.get("exit_code")
        failure = str(told.get("failure", ""))
        text = "" if now == then else f"{then} -> {'none' if now is None else now}{': ' if failure else ''}{failure}"
        verdict = FAILED if text else IDENTICAL
        output = OutputVerdict(name=EXIT, verdict=DIFFERENT if text else IDENTICAL, then=str(then), now=str(now))
        seconds = round(float(told.get("seconds", 0.0)), 6)
        yield StepVerdict(step=EXIT, verdict=verdict, outputs=(output,), seconds=seconds, text=text)

    def _printed(self, told: Mapping[str, Any]) -> Iterator[StepVerdict]:
        """What it printed, without what is another in every run; nothing if it never printed, or the log is gone."""
        if self.known.record.command[0] != "python":
            return  # the log of a notebook is what its kernel complains of
        try:
            then = normal(self.ws.objects.get_bytes(str(self.known.document["log"])))
        except (NotFound, WorldError):
            return
        now = self._normal(told)
        if not (then or now):
            return
        text = difference(then, now)
        verdict = (DIFFERENT if self.ws.project.reproduce.printed else NOTED) if text else IDENTICAL
        names = digest(then.encode()), digest((now if text else then).encode())
        output = OutputVerdict(name=PRINTED, verdict=verdict, then=names[0], now=names[1], text=text)
        yield StepVerdict(step=PRINTED, verdict=verdict, outputs=(output,), text=text)

    def _normal(self, told: Mapping[str, Any]) -> str:
        """What it printed now, with the folders of then."""
        if not told.get("log"):
            return ""
        works = [(str(laid.work), "") for laid in (self.laid.moved(), self.laid)]  # one begins as the other does
        folders = [*works, (str(self.laid.temporary), tempfile.gettempdir())]
        return normal(Path(told["log"]).read_bytes(), folders)

    def _models(self, told: Mapping[str, Any]) -> Iterator[StepVerdict]:
        """The bundles of the models that it left beside those on record, as of a pipeline."""
        made = list(told.get("models", ()))
        for name, bundle in self.known.models:
            fitting = [each for each in made if each["name"] == name or len(made) == len(self.known.models) == 1]
            now = fitting[0] if fitting else {}
            yield bundle_verdict(
                bundles.read(self.ws, bundle), {**now, "name": name or now.get("name", "")} if now else {"name": name},
                self._tolerance(name),
            )  # fmt: skip

    # why

    def causes(self, told: Mapping[str, Any], first: StepVerdict) -> list[Cause]:
        """Why the first thing came out otherwise."""
        known = self.known
        is_model = first.step.startswith("model ")
        then = _as_one(first, "then") if is_model else next((each.then for each in first.outputs), "")
        roots = locks.environment(self.ws.project.state).roots
        evidence = Evidence(
            step=first.step,
            recorded=(self._shown(first.step, known.document, then),),
            made=(self._value(first.step, told),) if first.verdict != FAILED else (),
            error=(first.text or "it failed") if first.verdict == FAILED else "",
            then={"names": self._code_then()},
            now={"names": _modules(told.get("code", {})), "env": {"packages": told.get("packages", {})}},
            reads=(_read(known.document, self._reads_then()), _read(told, _reads_now(told))),
            hosts=(known.host, told.get("host", {})),
            locks=(known.lock, told.get("lock", {})),
            at=known.record.at,
            seconds=float(told.get("seconds", 0.0)),
            roots=roots,
        )
        return diagnose(evidence, self._prober(first.step, evidence.seconds), self._are_near(first.step))

    def _shown(self, step: str, document: Mapping[str, Any], then: str) -> str:
        """What is on record of one thing, in the words of `_value`."""
        if step.startswith("metric "):
            return str((document["metrics"].get(step.removeprefix("metric ")) or [""])[-1])
        return digest(canonical(dict(self.known.record.params))) if step == PARAMETERS else then

    def _code_then(self) -> dict[str, str]:
        root = self.laid.root
        return _modules({plain_name(root, each["path"]): each["digest"] for each in self.known.document["code"]})

    def _prober(self, step: str, seconds: float) -> Prober:
        """What runs the script once more, under conditions, for one of the things that it makes."""

        def probe(settings: Mapping[str, str], variables: Mapping[str, str | None]) -> Probe:
            laid = self.laid.moved() if settings.get("folder") else self.laid
            laid.fresh()
            told = self._asked(
                "trial",
                {
                    "settings": dict(settings),
                    "code": self._code_files(laid),
                    "with_models": [name for name, _ in self.known.models] if step.startswith("model ") else [],
                    "with_log": step == PRINTED,
                },
                variables=variables,
                timeout_s=PROBE_S + 20 * seconds,
                laid=laid,
            )
            if "error" in told:
                raise Died(str(told["error"]["message"]))
            if step.startswith("model ") and not told["models"]:
                raise Died("none of its models is seen then")
            for file in told["files"]:
                if file["name"] == step:
                    self._keep(file)
            is_other = told["exit_code"] != self.known.record.exit_code
            return Probe(
                outputs=(self._value(step, told),),
                types=("file",),
                seen=tuple(told["seen"]),
                reads={**_read(told, _reads_now(told)), **self._asked_for(told)},
                error=(told["failure"] or f"exit code {told['exit_code']}") if is_other else "",
            )

        return probe

    def _asked_for(self, told: Mapping[str, Any]) -> dict[str, str]:
        """The variables that it looked at and that are not what they were, and files that it missed in the place."""
        found = {}
        then = self.known.document.get("variables", {})
        is_recorded = "variables" in self.known.document
        for name, now in told.get("variables", {}).items() if is_recorded else ():
            is_known = not (is_of_process(name) or has_secret_name(name) or name in (EVERY, EVERY_SETTING))
            if is_known and not now.startswith(then.get(name, _ABSENT)):
                found[f"variable {name}"] = OTHERWISE
        roots = (self.laid.root, self.ws.project.root)
        for name in told.get("absent", ()):
            if any((root / name).exists() for root in roots):
                found[f"absent {name}"] = OTHERWISE
        return found

    def _value(self, step: str, told: Mapping[str, Any]) -> str:
        if step == PRINTED:
            return digest(self._normal(told).encode())
        if step.startswith("model "):
            steps = list(self._models(told))
            return next((_as_one(each, "now") for each in steps if each.step == step), "")
        return _value(step, told)

    def _code_files(self, laid: ScriptPlace) -> list[str]:
        """Where the files of its code stand in the copy."""
        names = [plain_name(self.laid.root, each["path"]) for each in self.known.document["code"]]
        places = [laid.place.root / name for name in names if not Path(name).is_absolute()]
        return [str(place) for place in places if place.is_file()]

    def _are_near(self, step: str) -> Callable[[tuple[Probe, Probe]], bool]:
        def are_near(probes: tuple[Probe, Probe]) -> bool:
            one, other = (each.outputs[0] for each in probes)
            if step.startswith("metric "):
                return bool(one and other) and abs(float(one) - float(other)) <= 1e-6 * max(1.0, abs(float(one)))
            if one not in self._kept or other not in self._kept:
                return False
            pair = {"name": step, "then": str(self._kept[one]), "now": str(self._kept[other]), "tolerance": 0.0}
            return bool(self._distances([pair])[0].get("is_near"))

        return are_near


_ABSENT = hashlib.sha256(b"None").hexdigest()
"""What stands for the value of a variable that is not set."""
_OTHER = "and it has other bytes than when it was opened"


def _is_temporary(root: Path, name: str) -> bool:
    """Whether a file was one of the system's temporary folder, whose names are others each time."""
    return Path(name).is_absolute() and name.startswith(("/tmp/", "/var/tmp/"))  # what they are called


def _as_one(step: StepVerdict, moment: str) -> str:
    """The digest of all that one thing is made of: then, or now."""
    parts: JSON = {each.name: each.then if moment == "then" else each.now for each in step.outputs}
    return digest(canonical(parts))


def _value(step: str, told: Mapping[str, Any]) -> str:
    """One of the things that a run made: the digest of a file, the text of a metric."""
    if step.startswith("metric "):
        name = step.removeprefix("metric ")
        return next((str(each["value"]) for each in told.get("metrics", ()) if each["name"] == name), "")
    if step == PARAMETERS:
        params: JSON = dict(told.get("params", {}))
        return digest(canonical(params))
    if step == EXIT:
        return str(told.get("exit_code"))
    return next((str(each["digest"]) for each in told.get("files", ()) if each["name"] == step), "")


def _reads_now(told: Mapping[str, Any]) -> dict[str, str]:
    return {each["name"]: each["digest"] for each in told.get("reads", ())}


def _read(told: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, str]:
    """What a run read, by the names that conditions have."""
    found = {f"file {name}": known.removeprefix("sha256:") for name, known in files.items() if known}
    for note in told.get("notes", ()):
        for told_as, said in _NOTES.items():
            if note.startswith(told_as):
                found[f"note {said}{note.removeprefix(told_as)}"] = ""
    return found


def _modules(code: Mapping[str, str]) -> dict[str, str]:
    """Files of code by name; what is installed by the name that it is imported as, which says whose it is."""
    found = {}
    for path, known in code.items():
        for folder in ("/site-packages/", "/dist-packages/"):
            _, is_there, inside = path.partition(folder)
            path = inside.replace("/", ".") if is_there else path  # the name of what is installed
        found[f"module {path}"] = known
    return found
