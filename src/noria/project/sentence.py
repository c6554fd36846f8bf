"""What a fact says, in one line: its own fields, the telling ones first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from noria.core.fact import Stored
from noria.serving import records as serving
from noria.serving.plan import Plan
from noria.store.ledger import Reader

__all__ = ["sentence"]

Data = Mapping[str, Any]


def sentence(tx: Reader, stored: Stored[Any]) -> str:
    """One line of a fact; empty for one that its kind and subject say all of."""
    data = stored.fact.data
    if stored.fact.kind == "rollout.advanced":
        return _advanced(tx, data)
    told = _TEXTS.get(stored.fact.kind)
    if told is not None:
        return told(data)
    for name in ("message", "reason", "status", "release", "run"):
        if data.get(name):
            return str(data[name])
    return ""


def _moved(data: Data) -> str:
    return f"r{data['release']} {data['before']} → {data['after']}: {data['reason']}"


def _deployed(data: Data) -> str:
    arms = ", ".join(f"r{arm['release']} {arm['weight']:.0%}" for arm in data["arms"])
    return f"{arms}" + (f", shadow r{data['shadow']}" if data["shadow"] else "")


def _judged(data: Data) -> str:
    verdicts = data["verdicts"]
    closed = [each for each in verdicts if not each["passed"]]
    against = f" against version {data['champion']}" if data["champion"] else ", no champion"
    word = "PASS" if data["passed"] else "STOP"
    reasons = "; ".join(f"{each['gate']}: {each['text']}" for each in closed)
    head = f"{data['model']}:{data['version']} {word} {len(verdicts) - len(closed)}/{len(verdicts)}{against}"
    return f"{head}: {reasons}" if reasons else head


def _started(data: Data) -> str:
    path = " → ".join(step.text for step in Plan.from_json(data["plan"]).steps)
    return f"r{data['before']} → r{data['release']}: {path}"


def _advanced(tx: Reader, data: Data) -> str:
    """The step that begins, and what the one before it saw."""
    found = serving.rollout(tx, data["rollout"])
    steps = Plan.from_json(found.plan).steps if found is not None else ()
    number = int(data["step"])
    text = f"step {number + 1} of {len(steps)}: {steps[number].text}" if number < len(steps) else f"step {number + 1}"
    seen = (data["evidence"].get("requests") or {}).get(str(number - 1))
    head = f"r{found.before} → r{found.release}, " if found is not None else ""
    return f"{head}{text}" + (f"; no alarm in {seen} requests before" if seen else "")


def _finished(data: Data) -> str:
    return f"r{data['release']} {data['outcome']}: {data['reason']}"


def _decided(data: Data) -> str:
    return f"{data['decision']}: {data['reason']}"


def _ended(data: Data) -> str:
    return f"{data['run']} {data['status']}" + (f": {data['reason']}" if data["reason"] else "")


def _reproduced(data: Data) -> str:
    where = f" at step {data['step']}: {data['kind']}" if data["step"] else ""
    return f"{data['run']} done again: {data['verdict']}{where}"


def _tick(data: Data) -> str:
    """A tick, or a stretch of missed ones."""
    moment = f"{data['due'][:19]}Z" + (f" {data['partition']}" if data["partition"] else "")
    many = f"{data['count']} ticks from {data['first'][:19]}Z to " if data["count"] > 1 else ""
    reason = f": {data['reason']}" if data["reason"] else ""
    return f"{many}{moment} {data['decision']}, by {data['cause']}{reason}"


def _tick_ended(data: Data) -> str:
    run = f" by {data['run']}" if data["run"] else ""
    return f"{data['due'][:19]}Z {data['status']}{run}" + (f": {data['reason']}" if data["reason"] else "")


_TEXTS: Mapping[str, Callable[[Data], str]] = {
    "release.moved": _moved,
    "release.made": lambda data: f"r{data['release']} of version {data['version']}",
    "version.registered": lambda data: f"{data['model']}:{data['version']}",
    "deployment.changed": _deployed,
    "gate.judged": _judged,
    "rollout.started": _started,
    "rollout.finished": _finished,
    "retrain.decided": _decided,
    "challenger.judged": _decided,
    "tick.decided": _tick,
    "tick.ended": _tick_ended,
    "run.started": lambda data: f"{data['run']} of {data['pipeline']}, asked for by {data['cause']}",
    "run.finished": _ended,
    "run.reproduced": _reproduced,
    "drift.measured": lambda data: f"{data['window']}: {', '.join(data['drifted']) or 'no column drifted'}",
    "quality.measured": lambda data: f"{data['window']}: {data['labelled']:,} of {data['rows']:,} labelled",
    "dataset.committed": lambda data: f"{data['name']}@{data['version']}: {data['rows']:,} rows",
    "checks.finished": lambda data: (
        f"{data['dataset']}@{data['version']}: {data['passed']} passed, {data['failed']} failed"
    ),
}
