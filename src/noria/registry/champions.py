"""Aliases that mean "this is the one": they move to a version only as its gates allow.

Where noria.toml has rules for a model, the aliases of `[model.NAME.deploy] aliases` are as good as a promotion:
whoever loads `models:/NAME@champion` serves what they point to. So a version gets one of them only with a
verdict that passed under the rules of now, against what has the alias now, and with the approvals that are
asked for. What was never judged, as the files of a client, does not pass. Nor is such an alias taken away: without a
champion the comparison would be with nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from noria.config import GateConfig
from noria.core.errors import GateClosed
from noria.governance import approvals, policy
from noria.registry import records
from noria.registry.gates import policy_digest
from noria.registry.kept import JudgementRecord, VersionRecord
from noria.store.ledger import Reader
from noria.store.workspace import Workspace

__all__ = ["is_gated", "require_allowed", "require_kept", "require_no_champion"]

SHOWN = 3
"""Verdicts that a refusal names at most."""


def is_gated(ws: Workspace, model: str, alias: str) -> bool:
    """Whether rules of noria.toml bind what that alias of a model points to; case makes no difference."""
    rules = policy.of(ws, model).config
    has_rules = rules.gate != GateConfig() or bool(rules.deploy.approve)
    return has_rules and alias.lower() in {each.lower() for each in rules.deploy.aliases}


def require_allowed(ws: Workspace, tx: Reader, version: VersionRecord, alias: str) -> None:
    """Let a version have an alias, or say with numbers why not. Raises: GateClosed."""
    if not is_gated(ws, version.model, alias):
        return
    reason = _why_not(ws, tx, version, alias)
    if reason:
        judging = f"noria promote models:/{version.model}/{version.version} judges it"
        raise GateClosed(
            f"{version.ref} does not become {version.model}@{alias}: {reason}",
            hint=f"noria registry show {version.ref} has every verdict" if version.bundle else judging,
        )


def require_kept(ws: Workspace, tx: Reader, model: str, names: Iterable[str]) -> None:
    """Do not let aliases go that rules bind: the next version would be compared with nothing. Raises: GateClosed."""
    for alias in names:
        if is_gated(ws, model, alias):
            raise GateClosed(
                f"{model}@{alias} stays: new versions of {model} are compared with what it points to",
                hint="noria promote moves it to a better one; [model.NAME.deploy] aliases says which are bound",
            )


def require_no_champion(ws: Workspace, tx: Reader, before: str, model: str) -> None:
    """A name that rules bind is not given to a model that brings its own champion along. Raises: GateClosed."""
    for alias in records.aliases(tx, before):
        if is_gated(ws, model, alias):
            raise GateClosed(
                f"{before}@{alias} would become {model}@{alias}, which the gates of {model} never judged",
                hint="take the alias away first",
            )


def _why_not(ws: Workspace, tx: Reader, version: VersionRecord, alias: str) -> str:
    judged = records.judgement(tx, version.model, version.version)
    if judged is None:
        files = "" if version.bundle else ": it is files that a client keeps, which no gate has measured"
        return f"its gates were never judged{files}"
    if not judged.passed:
        return _refusal(judged)
    if judged.policy != policy_digest(ws, version.model):
        return "its gates were judged under other rules than those of now"
    champion = records.aliases(tx, version.model).get(alias, 0)
    live = records.production(tx, version.model)
    is_beaten = live is not None and judged.champion == live.version  # what answers now is what is to be beaten
    if champion not in (0, version.version, judged.champion) and not is_beaten:
        against = f"against version {judged.champion}" if judged.champion else "without a champion"
        return f"its gates were judged {against}, and {version.model}@{alias} is version {champion} now"
    return _lacking(ws, tx, version)


def _lacking(ws: Workspace, tx: Reader, version: VersionRecord) -> str:
    """The approvals that are asked for and not there, each for the content of this version's release."""
    required = policy.of(ws, version.model).config.deploy.approve
    if not required:
        return ""
    made = [each for each in records.releases(tx, version.model) if each.version == version.version]
    if not made:
        return f"it has no release that could be approved as {', '.join(required)}"
    lacking = approvals.waiting(ws, tx, f"release/{version.model}/{made[0].release}", made[0].content)
    return f"r{made[0].release} {lacking.text}" if lacking else ""


def _refusal(judged: JudgementRecord) -> str:
    """The verdicts that closed it, with their numbers."""
    closed = [f"{each.gate}: {each.text}" for each in judged.verdicts if not each.passed]
    return "; ".join(closed[:SHOWN])[:500] or "its newest verdict is no"
