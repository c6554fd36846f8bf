"""`noria promote models:/…`: a model that another tool's client logged, judged as every model is, and promoted.

Its files become a bundle, the bundle is measured on rows that training did not see, against the champion on the same
rows. Only then the alias moves, and where the model is live, its rollout begins. What the client wrote stays as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

from noria.config import GateConfig, GateRule
from noria.core.errors import NoriaError
from noria.core.frozen import frozen, slotted
from noria.core.verb import verb
from noria.governance.policy import of as policy_of
from noria.loop import baseline, judging
from noria.loop.judging import JudgedOn
from noria.loop.recent import known_of
from noria.loop.taken import Taken, take
from noria.packaging import bundle as bundles
from noria.packaging.predictor import Predictor
from noria.registry import filing, gates, records, release
from noria.registry.facts import Verdict
from noria.registry.gates import Judgement
from noria.registry.kept import VersionRecord
from noria.registry.versions import resolve
from noria.serving import deployment
from noria.store.failpoint import failpoint
from noria.store.workspace import Workspace

__all__ = ["Promotion", "promote_model"]

METRICS = {"binary": ("auc", "log_loss"), "regression": ("mae", "rmse")}
COMPARED = {"binary": "log_loss", "regression": "mae"}
"""What decides where the policy has no rule of a metric: the candidate must be better by it, proven."""


@frozen(kw_only=True)
class Promotion:
    """What became of a version. `ok` is whether every gate said yes; `champion` what it was compared with (0: none).

    `loaded` says how its files were loaded, `holdout` on which rows it was judged. `release` is 0 in a dry run and
    after a no. `alias` moved to it unless empty; `rollout` is the one that began, where the model is live.
    """

    model: str
    version: int
    champion: int
    ok: bool
    is_dry_run: bool
    loaded: str
    task: str
    holdout: str
    rows: int
    gates: tuple[Verdict, ...]
    report: str
    release: int
    state: str
    alias: str
    rollout: str
    note: str
    next: str


@slotted
class _Case:
    """What is being judged, and the bundles of it that no fact names yet."""

    ws: Workspace
    rows: JudgedOn
    is_dry_run: bool
    fresh: set[str]

    def bundled(self, version: VersionRecord) -> tuple[VersionRecord, str]:
        """The version with a bundle, and how its files were loaded; the fact is written unless this is a dry run."""
        if version.bundle:
            return version, _how(self.ws, version)
        made: Taken = take(self.ws, version, self.rows)
        if self.is_dry_run:
            self.fresh.add(made.bundle)
            return replace(version, bundle=made.bundle), made.how
        files = [(each.name, each.digest) for each in made.files]
        permit = bundles.permit(self.ws, made.bundle, version.model)
        told = filing.bundle_version(self.ws, version, made.bundle, made.how, files=files, permit=permit)
        return told, made.how

    def opened(self, digest: str) -> Predictor:
        """The predictor of a bundle."""
        return (bundles.opened if digest in self.fresh else bundles.load)(self.ws, digest)


@verb(permission="loop.promote", where="project")
def promote_model(ws: Workspace, model: str, dry_run: bool = False, environment: str = "local") -> Promotion:
    """Judge a model that a client such as MLflow's logged, and let it be champion if it is better.

    It is measured on the holdout of [model.NAME.clients] (else of the pipeline's newest run), against the
    champion on the same rows: the version that is live, else the one that has the alias.

    Args:
        model: models:/NAME/VERSION, models:/NAME@ALIAS, or as other commands take it.
        dry_run: show every verdict; nothing is recorded and nothing moves.
        environment: where it would go live.
    Raises: NotFound; UsageError, Denied, ModelFailed if its files cannot be loaded here; GateClosed if an
        approval is missing; Conflict if another release is on its way.
    Example: noria promote models:/churn@challenger
    """
    with ws.ledger.read() as tx:
        candidate = resolve(tx, model)
        live = records.production(tx, candidate.model, environment)
        named = records.aliases(tx, candidate.model)
        released = any(each.version == candidate.version for each in records.releases(tx, candidate.model))
    aliases = policy_of(ws, candidate.model).config.deploy.aliases
    alias = aliases[0] if aliases else ""
    champion = live.version if live is not None else named.get(alias, 0)
    if champion == candidate.version and not released:
        champion = 0  # a client pointed the alias at it, and it was never judged
    if champion and champion == candidate.version:
        return _nothing_to_do(candidate, "live" if live is not None else alias, dry_run=dry_run)
    case = _Case(ws, judging.rows_for(ws, candidate.model), dry_run, set())
    candidate, how = case.bundled(candidate)
    incumbent, found = _judged(case, candidate, champion, how)
    told = _told(case, candidate, found, how)
    if dry_run:
        return told
    gates.record(ws, candidate, incumbent, found)
    made = release.make(ws, candidate.model, candidate.version, baseline=_baseline(case, candidate, found))
    told = replace(told, release=made.release, state=made.state)
    if not found.passed:
        return told
    if live is not None:
        deployment.promote(ws, f"{candidate.model}:{candidate.version}", dry_run=True, environment=environment)
    if alias:
        filing.point_alias(ws, candidate.model, alias, candidate.version, reason="its gates passed")
    failpoint("model.promoted")
    if live is None:
        return replace(told, alias=alias, next=f"noria deploy {candidate.ref}")
    shipped = deployment.promote(ws, f"{candidate.model}:{candidate.version}", environment=environment)
    return replace(told, alias=alias, rollout=shipped.rollout, next=shipped.next)


def _judged(case: _Case, candidate: VersionRecord, champion: int, how: str) -> tuple[VersionRecord | None, Judgement]:
    """What every gate says, with the champion's files loaded the same way if it is a client's too."""
    ws, rows = case.ws, case.rows
    checked = [Verdict(gate="files", passed=True, text=how), judging.unseen(ws, candidate, rows)]
    incumbent = None
    if champion:
        with ws.ledger.read() as tx:
            incumbent = resolve(tx, f"{candidate.model}:{champion}")
    open_: Callable[[str], Predictor] = case.opened
    if incumbent is not None and not incumbent.bundle:
        try:
            incumbent, _ = case.bundled(incumbent)
        except NoriaError as error:
            open_ = functools.partial(_opened_but, case, error)
    task = bundles.read(ws, candidate.bundle).task
    asked = policy_of(ws, candidate.model).config.gate
    found = gates.examine(
        ws,
        candidate,
        incumbent,
        holdout=rows.frame,
        roles=rows.roles,
        metrics=rows.metrics or METRICS[task],
        slices=rows.slices,
        data={"holdout": rows.told, **({} if rows.version else {"object": min(rows.refs)})},
        checked=checked,
        opened=open_,
        rules=None if asked.metrics else _usual(asked, task),
        known=replace(known_of(ws, candidate.model, "", {}, rows.frame, rows.roles), spent_s=None),
    )
    return incumbent, found


def _usual(asked: GateConfig, task: str) -> GateConfig:
    """The rules where none names a metric: a challenger must be proven better."""
    return replace(asked, metrics={COMPARED[task]: GateRule(champion="better")})


def _opened_but(case: _Case, error: NoriaError, digest: str) -> Predictor:
    """The predictor of a bundle; of the champion that has none, why it has none."""
    if digest:
        return case.opened(digest)
    raise error


def _baseline(case: _Case, candidate: VersionRecord, found: Judgement) -> str:
    """What monitoring compares with; nothing is monitored of a version that was refused."""
    if not found.passed:
        return ""
    predictor = case.opened(candidate.bundle)
    return baseline.make(case.ws, predictor, {}, case.rows.frame, roles=case.rows.roles, model=candidate.model)


def _told(case: _Case, candidate: VersionRecord, found: Judgement, how: str) -> Promotion:
    judged = found.judged
    again = f"noria promote models:/{candidate.model}/{candidate.version}"
    refused = f"noria registry show {candidate.ref}   (the gates' reasons)"
    return Promotion(
        model=candidate.model,
        version=candidate.version,
        champion=judged.champion,
        ok=judged.passed,
        is_dry_run=case.is_dry_run,
        loaded=how,
        task=bundles.read(case.ws, candidate.bundle).task,
        holdout=case.rows.told,
        rows=len(case.rows.frame),
        gates=judged.verdicts,
        report=judged.report,
        release=0,
        state="",
        alias="",
        rollout="",
        note="",
        next=again if case.is_dry_run and judged.passed else "" if case.is_dry_run else refused,
    )


def _nothing_to_do(candidate: VersionRecord, where: str, *, dry_run: bool) -> Promotion:
    return Promotion(
        model=candidate.model,
        version=candidate.version,
        champion=0,
        ok=True,
        is_dry_run=dry_run,
        loaded="",
        task="",
        holdout="",
        rows=0,
        gates=(),
        report="",
        release=0,
        state="",
        alias="",
        rollout="",
        note=f"{candidate.ref} is {where} already: nothing to do",
        next=f"noria registry show {candidate.ref}",
    )


def _how(ws: Workspace, version: VersionRecord) -> str:
    """How the files of a version were loaded, as the fact says that made its bundle; its flavor for our own."""
    for stored in ws.ledger.facts(kind="version.bundled", subject=f"model/{version.model}"):
        if stored.payload.version == version.version:
            return str(stored.payload.how)
    return f"a bundle of Noria's own ({bundles.read(ws, version.bundle).flavor})"
