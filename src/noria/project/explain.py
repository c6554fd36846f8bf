"""`noria explain ID`: from a prediction down to rows, code and decisions; from data up to what it touched.

A chain is read from facts and logs as they are; nothing is recorded for it. Each link says what it is,
its ref, one sentence, who did it and when, and its numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

from noria.core.clock import utc_text
from noria.core.errors import NotFound
from noria.core.identity import is_digest, short
from noria.core.verb import verb
from noria.data import records as data
from noria.data import versions as datasets
from noria.data.records import DatasetVersion
from noria.data.rows.read import find_rows
from noria.loop import records as loop
from noria.monitoring import labels as label_log
from noria.monitoring import records as monitoring
from noria.pipeline import records as step_records
from noria.project import attributed, recorded, refs, scripted, searches, ticks, touched, used
from noria.project.attempts import ANSWERED, Attempt, attempts
from noria.project.chain import Chain, Link
from noria.registry import records as registry
from noria.registry import release as releases
from noria.registry import versions as models
from noria.registry.records import ReleaseRecord
from noria.serving import capture
from noria.serving import records as serving
from noria.serving.records import RolloutRecord
from noria.store.ledger import Reader
from noria.store.tree import read_tree
from noria.store.workspace import Workspace
from noria.tracking import records as tracking
from noria.tracking import run as runs
from noria.tracking.records import RunRecord

__all__ = ["Chain", "Link", "explain"]

MAX_ROWS = 10
MAX_FILES = 50
_RELEASE = re.compile(r"(?:release/)?(?P<model>[^/@:\s]+)(?:/|@r)(?P<number>\d{1,18})")
_DIGITS = re.compile(r"(?:sha256:)?([0-9a-f]{8,64})")
_BARE_RELEASE = re.compile(r"r\d{1,18}")
_VERSION = re.compile(r"(?:model/)?(?P<model>[^/@:\s]+):(?P<number>\d{1,18})")


@verb(permission="project.read", changes=False)
def explain(ws: Workspace, id: str, *, links_only: bool = False) -> Chain:
    """Why is this so? From any id that Noria prints: a prediction, a release, a version, a run, data, a fact, a file.

    Of several requests with one id of a client it is the newest that was answered; the others are named. For a
    prediction its model is loaded, and says what each column added to the score (Shapley values against the golden
    rows of its bundle; they sum to the score less their mean).

    Args:
        id: pred_…, the client's id, flights@r2, flights:3, run_…, rollout_…, flights@3, fact/12,
            retrain/…, drift/…, quality/…, tick/…, study_…,
            a file's path, a commit (7 digits or more), or a digest (8 or more); last is the newest run.
        links_only: load no model, so do without what each column added to a prediction's score.
    Raises: NotFound.
    Example: noria explain flights@3
    """
    if id.startswith("pred_"):
        return _prediction(ws, capture.find(ws, id), links_only=links_only)
    for read in (_of_run, _of_release, _of_version, _of_dataset, _of_file, _of_rollout, refs.named, _of_ref):
        found = read(ws, id)
        if found is not None:
            return found
    tried = attempts(ws, id)
    if tried:
        return _prediction(ws, capture.find(ws, tried[0].id), tried, links_only=links_only)
    found = _of_tree(ws, id) or refs.shortened(ws, id)
    if found is None and id == "last":
        found = _of_run(ws, runs.resolve(ws).run)
    return found or _unknown(ws, id)


def _unknown(ws: Workspace, name: str) -> NoReturn:
    if _BARE_RELEASE.fullmatch(name):
        with ws.ledger.read() as tx:
            known = registry.models(tx)
        names = " or ".join(f"{model}@{name}" for model in known[:3])
        raise NotFound(f"{name} is a release of which model?", hint=names or "no model has one: noria run")
    with ws.ledger.read() as tx:
        model = next(iter(registry.models(tx)), "MODEL")
        table = next(iter(data.names(tx)), "DATA")
    raise NotFound(
        f"nothing is known of {name[:100]!r}",
        hint=f"a prediction's id (ours or the client's), {model}@r2, {model}:3, run_…, rollout_…, {table}@3, "
        "fact/12, a file, a commit, a digest",
    )


def _prediction(
    ws: Workspace, found: Mapping[str, Any], tried: Sequence[Attempt] = (), *, links_only: bool = False
) -> Chain:
    model, number = str(found["model"]), int(found["rel"])
    links = [_answer(found), *_others(found, tried), *_label(ws, model, found)]
    with ws.ledger.read() as tx:
        release = registry.release(tx, model, number)
    if release is None:
        raise NotFound(f"{found['id']} names r{number} of {model}, which this project does not have")
    with ws.ledger.read() as tx:
        links += _deployment(tx, model, int(found["dep"]))
    links += _release(ws, release)
    links += _source_rows(ws, release, found)
    if not links_only:
        bundle = releases.content(ws, release).bundle
        links += attributed.link(ws, bundle, f"{model}:{release.version}", found)
    return Chain(id=str(found["id"]), kind="prediction", links=tuple(links))


def _answer(found: Mapping[str, Any]) -> Link:
    moment = utc_text(datetime.fromtimestamp(int(found["t"]) / 1e6, tz=UTC))
    shown = {key: found[key] for key in ("id", "rid", "at", "key", "arm", "pi", "dep", "rel", "us", "st", "y", "c")}
    name = found["rid"] or found["id"]
    by = f"by r{found['rel']} in the arm {found['arm']} (probability {found['pi']:g})"
    if found["y"] is None:
        text = f"{name} got no score but status {found['st']} ({found['e'] or 'no reason is logged'}), {by}"
    else:
        text = f"score {found['y']:.4f} → {found['c']} for {name}, {by}"
    row = {key: value for key, value in found["x"].items() if value is not None}
    return Link(what="prediction", ref=str(found["id"]), text=text, at=moment, details={**shown, "row": row})


def _others(found: Mapping[str, Any], tried: Sequence[Attempt]) -> list[Link]:
    """The other requests that came with the same id of the client, newest first."""
    links = []
    for item in sorted(tried, key=lambda item: item.t, reverse=True)[: MAX_ROWS + 1]:
        if item.id != found["id"]:
            moment = utc_text(datetime.fromtimestamp(item.t / 1e6, tz=UTC))
            word = "answered too" if item.status == ANSWERED else f"refused with {item.status}"
            text = f"another request with the id {found['rid']}: {word}, by r{item.release}"
            links.append(Link(what="other attempt", ref=item.id, text=text, at=moment))
    return links


def _label(ws: Workspace, model: str, found: Mapping[str, Any]) -> list[Link]:
    names = [str(found["rid"]), str(found["id"])]
    known = label_log.read(ws, model, ids=names)
    ids = known.ids.to_pylist()
    for name in names:
        if name in ids:
            place = ids.index(name)
            moment = utc_text(datetime.fromtimestamp(int(known.received_us[place]) / 1e6, tz=UTC))
            value = known.values[place].as_py()
            text = "the label was taken back" if value in (None, "null") else f"the outcome was {value}"
            return [Link(what="label", ref=str(name), text=text, at=moment, details={"label": value})]
    return []


def _deployment(tx: Reader, model: str, seq: int) -> list[Link]:
    for item in serving.history(tx, model):
        if item.seq == seq:
            arms = ", ".join(f"{arm.name} r{arm.release} {arm.weight:.0%}" for arm in item.arms)
            text = f"{arms}; because: {item.cause}"
            return [Link(what="deployment", ref=f"fact/{seq}", text=text, at=item.at, actor=item.actor)]
    return []


def _release(ws: Workspace, record: ReleaseRecord) -> list[Link]:
    """A release, who or what promoted it, its gates, its version, its run and everything behind that."""
    content = releases.content(ws, record)
    with ws.ledger.read() as tx:
        version = registry.version(tx, record.model, record.version)
        run = tracking.run(tx, content.run)
        links = [
            Link(
                what="release",
                ref=f"release/{record.model}/{record.release}",
                text=f"{record.ref} is {record.state}: version {record.version}, {short(record.content)}",
                at=record.made_at,
                details={"content": record.content, "state": record.state, "reason": record.reason},
            ),
            *_promotion(tx, record),
            *_gates(ws, tx, record),
        ]
    assert version is not None, "a release has a version"
    links.append(
        Link(
            what="model",
            ref=f"model/{version.ref}",
            text=f"{version.ref}, bundle {short(version.bundle)}",
            at=version.at,
            actor=version.actor,
            details={"bundle": version.bundle, "metrics": dict(version.metrics)},
        )
    )
    return links + (_run(ws, run) if run is not None else [])


def _promotion(tx: Reader, record: ReleaseRecord) -> list[Link]:
    """What brought a release into production: its rollout with the evidence, or the first deployment."""
    for rollout in serving.rollouts(tx, record.model):
        if rollout.release == record.release:
            return [_rollout(rollout)]
    for item in reversed(serving.history(tx, record.model)):
        if any(arm.release == record.release for arm in item.arms):
            text = f"{item.cause} by {item.actor}"
            return [Link(what="rollout", ref=f"fact/{item.seq}", text=text, at=item.at, actor=item.actor)]
    return []


def _rollout(found: RolloutRecord) -> Link:
    text = f"{found.outcome}: {found.reason}" if found.reason else found.outcome
    return Link(
        what="rollout",
        ref=f"rollout/{found.rollout}",
        text=f"from r{found.before} to r{found.release}, {text}",
        at=found.ended_at or found.step_at,
        details={"evidence": dict(found.evidence)},
    )


def _gates(ws: Workspace, tx: Reader, record: ReleaseRecord) -> list[Link]:
    """The verdicts that let a release go on: the last before it came into production, not those of a later run."""
    moves = [
        stored.seq
        for stored in ws.ledger.facts(kind="release.moved", subject=f"model/{record.model}")
        if stored.payload.release == record.release
        and stored.payload.after == "production"
        and stored.payload.before not in ("retired", "rolled back")
    ]
    found = registry.judgements(tx, record.model, record.version)
    judged = next((item for item in found if not moves or item.seq < moves[0]), None)
    if judged is None:
        return []
    passed = sum(verdict.passed for verdict in judged.verdicts)
    against = f" against version {judged.champion}" if judged.champion else ", no champion"
    verdicts = [{"gate": verdict.gate, "passed": verdict.passed, "text": verdict.text} for verdict in judged.verdicts]
    return [
        Link(
            what="gates",
            ref=f"fact/{judged.seq}",
            text=f"{passed} of {len(judged.verdicts)} gates passed{against}",
            at=judged.at,
            details={"verdicts": verdicts, "policy": judged.policy, "report": judged.report},
        )
    ]


def _run(ws: Workspace, run: RunRecord) -> list[Link]:
    config = ws.objects.get_json(run.config) if run.config else {}
    code = run.code
    commit = code.commit or "no commit"
    dirty = " with changes" if code.dirty else ""
    links = [
        Link(
            what="run",
            ref=f"run/{run.run}",
            text=f"{run.run} {run.status}, asked for by {run.cause}, {run.seconds:.1f} s",
            at=run.started_at,
            actor=run.actor,
            details={"cause": run.cause, "status": run.status, "seed": run.seed, "metrics": dict(run.metrics)},
        ),
        Link(
            what="code",
            ref=code.commit or code.source,
            text=f"{short(commit)}{dirty}"
            + (f" on {code.branch}" if code.branch else "")
            + (f", {code.entry}" if code.entry else ""),
            details={
                "commit": code.commit,
                "branch": code.branch,
                "dirty": code.dirty,
                "patch": code.patch,
                "source": code.source,
            },
        ),
        *(scripted.links(ws, run.run) or recorded.links(ws, run.run) or _given(ws, run, config)),
        Link(
            what="environment", ref=run.environment, text=f"the lock of Python and packages, {short(run.environment)}"
        ),
    ]
    for pin in run.pins:
        links.append(_dataset_link(ws, datasets.resolve(ws, f"{pin.dataset}@{pin.version}"), "data"))
    return links + _review(ws, run.cause) + ticks.links(ws, run.cause) + searches.links(ws, run.cause)


def _given(ws: Workspace, run: RunRecord, config: Mapping[str, Any]) -> list[Link]:
    with ws.ledger.read() as tx:
        found = step_records.steps(tx, run.run)
    currency = ws.project.run.cost.currency
    details = {**config, "steps": used.steps(found, currency)}
    links = [Link(what="parameters", ref=run.config, text=_parameters(config), details=details)]
    taken = used.used(found, currency)
    return [*links, Link(what="used", ref="", text=taken)] if taken else links


def _parameters(config: Mapping[str, Any]) -> str:
    given = config.get("params") or {}
    return ", ".join(f"{name}={value}" for name, value in given.items()) or "the defaults of pipeline.py"


def _dataset_link(ws: Workspace, version: DatasetVersion, what: str) -> Link:
    files = [
        {"file": entry.path, "rows": entry.rows, "digest": entry.digest}
        for entry in read_tree(ws.objects, version.tree).entries
    ]
    many = f"{version.files} file{'s' * (version.files != 1)}"
    span = f", {version.time_min[:10]} to {version.time_max[:10]}" if version.time_min else ""
    return Link(
        what=what,
        ref=f"dataset/{version.ref}",
        text=f"{version.ref}: {version.rows:,} rows in {many}{span}, {short(version.content)}",
        at=version.at,
        details={
            "id": version.content,
            "tree": version.tree,
            "rows": version.rows,
            "source": version.source,
            "files": files[:MAX_FILES],
            "more_files": max(0, len(files) - MAX_FILES),
        },
    )


def _review(ws: Workspace, cause: str) -> list[Link]:
    """The decision of the loop that asked for a run, with the drift and quality that it saw, and the judgement."""
    parts = cause.split("/")
    if parts[0] != "retrain" or len(parts) != 4:
        return []
    _, model, window, _ = parts
    with ws.ledger.read() as tx:
        decided = [item for item in loop.decisions(tx, model, window=window) if item.decision == "train"]
        drift = monitoring.drift(tx, model, window)
        quality = monitoring.quality(tx, model, window)
        judged = next((item for item in loop.judgements(tx, model) if item.window == window), None)
    links = []
    for item in decided[:1]:
        links.append(
            Link(what="decision", ref=cause, text=item.reason, at=item.at, details={"rules": list(item.rules)})
        )
    if drift is not None:
        text = f"{window}: {', '.join(drift.drifted) or 'no column'} drifted, {drift.rows:,} requests"
        links.append(
            Link(what="drift", ref=f"drift/{model}/{window}", text=text, at=drift.at, details={"report": drift.report})
        )
    if quality is not None:
        figures = ", ".join(f"{name} {item.value:.3f}" for name, item in quality.live.items() if item.value is not None)
        text = f"{window}: {figures}; {quality.labelled:,} of {quality.rows:,} labelled"
        links.append(Link(what="quality", ref=f"quality/{model}/{window}", text=text, at=quality.at))
    if judged is not None:
        links.append(
            Link(
                what="judgement",
                ref=f"fact/{judged.seq}",
                text=f"{judged.decision}: {judged.reason}",
                at=judged.at,
                details={
                    "gain": judged.gain,
                    "low": judged.low,
                    "high": judged.high,
                    "n": judged.n,
                    "detectable": judged.detectable,
                },
            )
        )
    return links


def _source_rows(ws: Workspace, record: ReleaseRecord, found: Mapping[str, Any]) -> list[Link]:
    """The rows of the data set that hold the same key: in the newest version, and in that of the training."""
    content = releases.content(ws, record)
    links = []
    for pin in content.pins:
        trained = datasets.resolve(ws, f"{pin.dataset}@{pin.version}")
        newest = datasets.resolve(ws, f"{pin.dataset}@latest")
        if not newest.key:
            continue
        candidates = _keys(found, newest.key)
        in_training = _places(ws, trained, candidates)
        version, rows = (trained, in_training) if in_training else (newest, _places(ws, newest, candidates))
        links += [
            Link(
                what="source row",
                ref=f"dataset/{version.ref}",
                text=f"{version.ref}, {place['file']} row {place['row']}"
                + (", among the rows it was trained on" if in_training else ", not among its training data"),
                details=place,
            )
            for place in rows
        ]
    return links


def _keys(found: Mapping[str, Any], column: str) -> list[Any]:
    """What may be the key of a request's row: the column itself, the client's id, the routing key."""
    values = [found["x"].get(column), found["rid"], found["key"]]
    return list(dict.fromkeys(value for value in values if value not in (None, "")))


def _places(ws: Workspace, version: DatasetVersion, values: Sequence[Any]) -> list[dict[str, Any]]:
    for value in values:
        rows = find_rows(ws, version, version.key, value)
        if rows:
            return [{"file": item.file, "row": item.row, "values": dict(item.values)} for item in rows[:MAX_ROWS]]
    return []


def _of_run(ws: Workspace, name: str) -> Chain | None:
    if not name.removeprefix("run/").startswith("run_"):
        return None
    run = runs.resolve(ws, name)
    return Chain(id=run.run, kind="run", links=tuple(_run(ws, run)), touched=_as_links(touched.by_runs(ws, [run.run])))


def _of_release(ws: Workspace, name: str) -> Chain | None:
    match = _RELEASE.fullmatch(name)
    if match is None:
        return None
    with ws.ledger.read() as tx:
        record = registry.release(tx, match["model"], int(match["number"]))
    if record is None or not int(match["number"]):
        return None
    found = touched.predictions(ws, record.model, [record.release])
    return Chain(id=record.ref, kind="release", links=tuple(_release(ws, record)), touched=_as_links(found))


def _of_version(ws: Workspace, name: str) -> Chain | None:
    match = _VERSION.fullmatch(name)
    if match is None:
        return None
    with ws.ledger.read() as tx:
        version = models.resolve(tx, f"{match['model']}:{match['number']}")
        release = next((r for r in registry.releases(tx, version.model) if r.version == version.version), None)
        run = tracking.run(tx, version.run)
    links = _release(ws, release) if release is not None else (_run(ws, run) if run is not None else [])
    if not version.bundle:
        text = f"{version.ref}, files that a client keeps at {version.source}"
        links.insert(0, Link(what="model", ref=f"model/{version.ref}", text=text, at=version.at, actor=version.actor))
    return Chain(
        id=version.ref, kind="model version", links=tuple(links), touched=_as_links(touched.by_runs(ws, [version.run]))
    )


def _of_rollout(ws: Workspace, name: str) -> Chain | None:
    """A rollout by its id or the beginning of it: the release that it was about, and all behind that."""
    wanted = name.removeprefix("rollout/")
    if not wanted.startswith("rollout_"):
        return None
    with ws.ledger.read() as tx:
        fits = [item for item in serving.rollouts(tx) if item.rollout.startswith(wanted)]
        if not fits:
            return None
        found = refs.only(wanted, fits, [item.rollout for item in fits])
        record = registry.release(tx, found.model, found.release)
    assert record is not None, "a rollout is of a release"
    links = [link for link in _release(ws, record) if link.what != "rollout"]
    return Chain(id=found.rollout, kind="rollout", links=(_rollout(found), *links))


def _of_dataset(ws: Workspace, name: str) -> Chain | None:
    ref = name.removeprefix("dataset/")
    with ws.ledger.read() as tx:
        known = data.names(tx)
    if ref.partition("@")[0] not in known:
        return None
    version = datasets.resolve(ws, ref)
    found = touched.by_trees(ws, version.name, [version.version])
    return Chain(id=version.ref, kind="data", links=(_dataset_link(ws, version, "data"),), touched=_as_links(found))


def _of_tree(ws: Workspace, name: str) -> Chain | None:
    """A version of a data set by its id or the digest of its tree, or the first digits of it."""
    match = _DIGITS.fullmatch(name)
    if match is None:
        return None
    with ws.ledger.read() as tx:
        versions = [item for known in data.names(tx) for item in data.versions(tx, known)]
    start = f"sha256:{match[1]}"
    fits = {item.content: item for item in versions if item.tree.startswith(start) or item.content.startswith(start)}
    return _of_dataset(ws, next(iter(fits.values())).ref) if len(fits) == 1 else None


def _of_file(ws: Workspace, name: str) -> Chain | None:
    """A file by its path in a data set, or by the end of it: the versions that hold it, and what they touched."""
    links, found = [], []
    with ws.ledger.read() as tx:
        versions = [item for known in data.names(tx) for item in data.versions(tx, known)]
    for version in versions:
        for entry in read_tree(ws.objects, version.tree).entries:
            if entry.path == name or name.endswith(f"/{entry.path}") or entry.path.endswith(f"/{name}"):
                text = f"{entry.path} in {version.ref}: {entry.rows:,} rows, {short(entry.digest)}"
                details = {"digest": entry.digest, "rows": entry.rows, "dataset": version.ref}
                links.append(Link(what="file", ref=f"dataset/{version.ref}", text=text, at=version.at, details=details))
                found.append(version)
    if not links:
        return None
    by_name: dict[str, list[int]] = {}
    for version in found:
        by_name.setdefault(version.name, []).append(version.version)
    reached = [item for known, numbers in by_name.items() for item in touched.by_trees(ws, known, numbers)]
    return Chain(id=name, kind="file", links=tuple(links), touched=_as_links(reached))


def _of_ref(ws: Workspace, name: str) -> Chain | None:
    """Anything else that a fact names: a subject, by its edges."""
    if is_digest(name) or "/" not in name:
        return None
    return refs.by_edges(ws, name)


def _as_links(found: Sequence[touched.Touched]) -> tuple[Link, ...]:
    return tuple(
        Link(what=item.what, ref=item.ref, text=item.text, at=item.at, details=dict(item.details)) for item in found
    )
