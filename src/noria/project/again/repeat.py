"""Doing a run again: all of it, then output by output beside what is on record; and one step under conditions."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from noria.core.errors import Corrupt, NotFound
from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.packaging.bundle import Bundle
from noria.pipeline.outputs import values
from noria.pipeline.outputs.values import Value
from noria.pipeline.records import StepRecord
from noria.project.again.child import asked
from noria.project.again.diagnose import Probe, Prober
from noria.project.again.place import CODE, Place, bring, environ_of, stored
from noria.project.again.verdict import (
    DIFFERENT,
    FAILED,
    IDENTICAL,
    TOLERATED,
    OutputVerdict,
    StepVerdict,
    worst,
)
from noria.store.objects import Objects
from noria.store.workspace import Workspace

__all__ = ["METRICS", "PROBE_S", "Again", "Whole", "bundle_verdict", "metrics", "pair_verdict"]

METRICS = "metrics"
PROBE_S = 300.0
"""A step alone is given this long, and twenty times what it took then, before it is no evidence."""

Pair = tuple[tuple[str, str], tuple[str, str]]
"""Two stored values as (digest, type): then, now."""


@frozen(kw_only=True)
class Whole:
    """What the repetition of a whole run gave, as its process told it."""

    told: Mapping[str, Any]
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def error(self) -> str:
        """Why it did not come to its end; "" if it did."""
        return str((self.told.get("error") or {}).get("message", ""))


class Again:
    """One repetition: a place, an interpreter, and what the run was called with."""

    def __init__(self, ws: Workspace, place: Place, python: str, pipeline: str, params: Mapping[str, JSON]) -> None:
        self.ws, self.place, self.python = ws, place, python
        self._question = {"pipeline": pipeline, "params": dict(params)}
        self._numbers = itertools.count(1)

    def whole(self) -> Whole:
        """Run every step, none from a cache, and make the model. Raises: Died; WorldError."""
        told = asked(self.place, self.python, "whole", self._question)
        return Whole(told=told, steps={each["step"]: each for each in told.get("steps", ())})

    def prober(self, step: str, seconds: float, item: int | None = None) -> Prober:
        """What runs one step of it, or one item of a mapped step, once more in a fresh process, under conditions."""

        def probe(settings: Mapping[str, str], variables: Mapping[str, str | None]) -> Probe:
            question = {"step": step, "item": item, "tag": f"probe-{next(self._numbers)}", "settings": dict(settings)}
            with self._in_place(settings) as place:
                told = asked(
                    place,
                    self.python,
                    "probe",
                    {**self._question, **question},
                    variables={**self._temporary(settings), **variables},
                    timeout_s=PROBE_S + 20 * seconds,
                )
            outputs = told.get("outputs", ())
            return Probe(
                outputs=tuple(each["digest"] for each in outputs),
                types=tuple(each["type"] for each in outputs),
                seen=tuple(told.get("seen", ())),
                reads=told.get("reads", {}),
                error=str((told.get("error") or {}).get("message", "")),
            )

        return probe

    @contextlib.contextmanager
    def _in_place(self, settings: Mapping[str, str]) -> Iterator[Place]:
        """The place; where another folder is asked for, with the code and its state in that for the block."""
        if not settings.get("folder"):
            yield self.place
            return
        here, there = self.place.folder / CODE, self.place.folder / f"{CODE}-moved"
        root = there / self.place.root.relative_to(here)
        here.rename(there)
        try:
            yield dataclasses.replace(self.place, root=root, environ=environ_of(root))
        finally:
            there.rename(here)

    def _temporary(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Where generators are held, an empty folder for temporary files: a name that is taken would be passed over."""
        if not settings.get("random"):
            return {}
        folder = self.place.folder / "tmp"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return {"TMPDIR": str(folder)}

    def are_near(self, probes: tuple[Probe, Probe]) -> bool:
        """Whether two results of a step differ in numbers only, and by little."""
        one, other = probes
        pairs = [
            ((a, kind), (b, second))
            for a, kind, b, second in zip(one.outputs, one.types, other.outputs, other.types, strict=True)
            if a != b
        ]
        return bool(pairs) and all(each.get("is_near") for each in self._distances(pairs, [0.0] * len(pairs)))

    def compared(self, recorded: Sequence[StepRecord], made: Whole) -> list[StepVerdict]:
        """Each recorded step beside its repetition, in the order in which they run."""
        place = {name: number for number, name in enumerate(made.told.get("order", ()))}
        steps = sorted(recorded, key=lambda each: (place.get(each.step, len(place)), each.seq))
        return [self._step(step, made) for step in steps]

    def _step(self, step: StepRecord, made: Whole) -> StepVerdict:
        now = made.steps.get(step.step)
        tolerance = self._tolerance(step.step, made)
        if step.status in ("skipped", "cancelled"):
            same = now is None or now["status"] == step.status
            text = "" if same else f"it was {step.status}, and now it is {now['status'] if now else ''}"
            return StepVerdict(step=step.step, verdict=IDENTICAL if same else DIFFERENT, outputs=(), text=text)
        if now is None or now["status"] not in ("done", "cached"):
            text = (now or {}).get("error") or _not_run(made)
            item = (now or {}).get("failed_item")
            return StepVerdict(step=step.step, verdict=FAILED, outputs=(), tolerance=tolerance, text=text, item=item)
        outputs, item = self._outputs(step, now, tolerance)
        return StepVerdict(
            step=step.step,
            verdict=worst([each.verdict for each in outputs]),
            outputs=tuple(outputs),
            seconds=round(now["seconds"], 6),
            tolerance=tolerance,
            text="; ".join(f"{each.name}: {each.text}" for each in outputs if each.text),
            item=item,
        )

    def item(self, recorded: StepRecord, told: Mapping[str, Any], item: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The digests of what one item of a mapped step gave: then, and now. Empty where there is nothing any more."""
        try:
            then = _digests(self.ws.objects, recorded.outputs[0].digest, item)
        except (NotFound, Corrupt):
            then = ()
        now = told["outputs"]
        return then, _digests(stored(self.place), now[0]["digest"], item) if now else ()

    def _tolerance(self, step: str, made: Whole) -> float:
        """What noria.toml says of a step (or of the step that it is the second call of), else the step itself."""
        stated = self.ws.project.reproduce.tolerance
        own = float(made.told.get("tolerances", {}).get(step, 0.0))
        return stated.get(step, stated.get(step.rpartition("-")[0], own))

    def _outputs(
        self, step: StepRecord, now: Mapping[str, Any], tolerance: float
    ) -> tuple[list[OutputVerdict], int | None]:
        """Each output beside what it was; of a mapped step the first item that is another, too."""
        pairs: list[Pair] = []
        for then, here in zip(step.outputs, now["outputs"], strict=True):
            pairs.append(((then.digest, then.type), (here["digest"], here["type"])))
        differing = [pair for pair in pairs if pair[0][0] != pair[1][0]]
        is_mapped = bool(now.get("is_mapped"))
        told = self._distances(differing, [tolerance] * len(differing), is_mapped=is_mapped)
        distances = iter(told)
        found = []
        for output, (then_value, now_value) in zip(step.outputs, pairs, strict=True):
            if then_value[0] == now_value[0]:
                verdict, text, largest = IDENTICAL, "", 0.0
            else:
                verdict, text, largest = pair_verdict(next(distances), tolerance)
            found.append(
                OutputVerdict(
                    name=output.name, verdict=verdict, then=then_value[0], now=now_value[0], text=text, largest=largest
                )
            )
        return found, next((each["item"] for each in told if each.get("item") is not None), None)

    def _distances(
        self, pairs: Sequence[Pair], tolerances: Sequence[float], *, is_mapped: bool = False
    ) -> list[dict[str, Any]]:
        """How far pairs of stored values are apart; told by a process that can read the project's classes."""
        if not pairs:
            return []
        gone: dict[int, str] = {}
        for number, (then, _) in enumerate(pairs):
            try:
                if self.ws.objects.has(then[0]):
                    bring(self.ws, self.place, [then[0]])
            except (NotFound, Corrupt) as error:
                gone[number] = error.message
        question = [
            {"values": [list(then), list(now)], "tolerance": tolerance, "is_mapped": is_mapped}
            for (then, now), tolerance in zip(pairs, tolerances, strict=True)
        ]
        told = asked(self.place, self.python, "compared", {**self._question, "pairs": question})
        found: list[dict[str, Any]] = told.get("pairs") or [
            {"is_same": False, "text": str((told.get("error") or {}).get("message", ""))} for _ in pairs
        ]
        for number, text in gone.items():
            found[number] = {"is_same": False, "text": f"what it was is gone: {text}"}
        return found


def _not_run(made: Whole) -> str:
    """Why a step was not run: what failed before it, which is another step's error and not its own."""
    failed = [name for name, each in made.steps.items() if each["status"] == "failed"]
    if failed:
        return f"it was not run: {failed[0]} failed"
    return f"it was not run: {made.error}" if made.error else "it was not run"


def _digests(objects: Objects, name: str, item: int) -> tuple[str, ...]:
    """What is at one place of the list that a mapped step gave."""
    return tuple(value.digest for value in values.places(objects, Value(name, "plain"))[item])


def pair_verdict(told: Mapping[str, Any], tolerance: float) -> tuple[str, str, float]:
    """The verdict on two values by how far they are apart, in words, and their largest distance."""
    largest = float(told.get("largest", 0.0))
    if told["is_same"]:
        if largest:
            return TOLERATED, f"numbers are {largest:.3g} apart at most (tolerance {tolerance:g})", largest
        return TOLERATED, "equal values in other bytes", 0.0
    where = told.get("where", "")
    order = ", the same items in another order" if told.get("is_reordered") else ""
    near = f", at most {largest:.3g} apart" if told.get("is_near") else ""
    return DIFFERENT, f"{where}{': ' if where else ''}{told.get('text', '')}{order}{near}", largest


def bundle_verdict(recorded: Bundle, told: Mapping[str, Any], tolerance: float) -> StepVerdict:
    """The files of the model beside those of its repetition; if they differ, its scores of the golden rows."""
    name = f"model {told.get('name', '')}".strip()
    if told.get("error") or "files" not in told:
        text = str((told.get("error") or {}).get("message", "no model was made"))
        return StepVerdict(step=name, verdict=FAILED, outputs=(), text=text)
    then = {entry.path: entry.digest for entry in recorded.files.entries}
    now: Mapping[str, str] = told["files"]
    changed = [path for path in sorted({*then, *now}) if then.get(path) != now.get(path)]
    far = _farthest(recorded.golden_scores, told["scores"])
    is_tolerated = bool(changed) and far <= tolerance and tolerance > 0
    how = TOLERATED if is_tolerated else DIFFERENT
    outputs = tuple(
        OutputVerdict(
            name=path,
            verdict=how if path in changed else IDENTICAL,
            then=then.get(path, ""),
            now=now.get(path, ""),
            text=f"its scores of the golden rows are {far:.3g} apart at most" if path in changed else "",
            largest=far if path in changed else 0.0,
        )
        for path in sorted({*then, *now})
    )
    return StepVerdict(
        step=name, verdict=worst([each.verdict for each in outputs]), outputs=outputs, tolerance=tolerance
    )


def metrics(then: Mapping[str, float], now: Mapping[str, float], tolerance: float) -> StepVerdict:
    """The metrics on record beside those of the repetition; those that only one of them has are told."""
    outputs = []
    for name in sorted(now):
        was, is_ = then.get(name), now[name]
        if was == is_ or (was is not None and was != was and is_ != is_):  # NaN is the same as NaN
            outputs.append(OutputVerdict(name=name, verdict=IDENTICAL, then=f"{was!r}", now=f"{is_!r}"))
            continue
        far = _farthest((was,), (is_,)) if was is not None else float("inf")
        verdict = TOLERATED if far <= tolerance else DIFFERENT
        text = f"{was!r} -> {is_!r}"
        outputs.append(
            OutputVerdict(name=name, verdict=verdict, then=f"{was!r}", now=f"{is_!r}", text=text, largest=far)
        )
    found = worst([each.verdict for each in outputs])
    text = "; ".join(f"{each.name} {each.text}" for each in outputs if each.text)
    return StepVerdict(step=METRICS, verdict=found, outputs=tuple(outputs), tolerance=tolerance, text=text)


def _farthest(then: Sequence[float], now: Sequence[float]) -> float:
    if len(then) != len(now):
        return float("inf")
    far = [abs(a - b) / max(1.0, abs(a), abs(b)) for a, b in zip(then, now, strict=True)]
    return max(far, default=0.0)
