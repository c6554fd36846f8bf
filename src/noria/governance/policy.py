"""Where the rules of a model are read from: a place that whoever trains it cannot change.

`noria.toml` lies beside the code, so its author could weaken the gate that judges them. Once an admin has protected
the policy it is read from a branch that is protected where the code is kept, or from the copy that the ledger keeps,
and never from the working tree. A protected policy that cannot be read lets nothing through.
"""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noria.config import CONFIG_NAME, ModelConfig, parse_project
from noria.core.errors import ConfigError, UsageError
from noria.core.frozen import frozen
from noria.core.identity import short
from noria.core.verb import verb
from noria.governance import records
from noria.governance.facts import PolicyProtected
from noria.store.workspace import Workspace

__all__ = ["Policy", "Source", "now", "of", "protect", "show", "unprotect"]

GIT_TIMEOUT_S = 30
WORKING_TREE = "working tree"
_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_MOVES = re.compile(r"(?:[A-Z]+_)?HEAD")
"""Git's own names for where a working tree stands, or stood."""


@frozen
class Policy:
    """The rules of one model, and where they were read: "working tree", "REF@COMMIT" or "kept@DIGEST"."""

    config: ModelConfig
    origin: str


@frozen
class Source:
    """Where policies are read from now, by whom it was said, and which models have rules there."""

    origin: str
    protected_by: str
    at: str
    models: tuple[str, ...]


def of(ws: Workspace, model: str) -> Policy:
    """The rules that hold for a model now; the defaults where nothing is said of it.

    Raises: ConfigError if they are protected and cannot be read.
    """
    found, origin, _ = _read(ws)
    return Policy(found.get(model, ModelConfig()), origin)


def now(ws: Workspace, model: str) -> ModelConfig:
    """As `of`, but of an unprotected project's noria.toml as it lies there at this moment, however long this runs.

    A project that was opened without such a file keeps the rules that it was opened with.
    Raises: ConfigError if the rules cannot be read.
    """
    found, origin, _ = _read(ws)
    place = ws.project.root / CONFIG_NAME
    if origin == WORKING_TREE and place.is_file():
        found = _parsed(ws, _working(ws.project.root), str(place))
    return found.get(model, ModelConfig())


@verb(permission="governance.admin", name="policy-protect", where="project")
def protect(ws: Workspace, ref: str = "") -> Source:
    """Read the rules of models from a protected branch from now on, or keep those of now on the server.

    Gates, approvals and the path to production then never come from the working tree again.

    Args:
        ref: a git ref that only reviewed changes move, such as origin/main; without one the rules that stand in
            noria.toml now are kept, until an admin does this again.
    Raises: UsageError; ConfigError if there is no noria.toml that can be read there.

    Example: noria policy protect --ref origin/main
    """
    if ref:
        if _MOVES.fullmatch(ref):
            raise UsageError(
                f"{ref} is what was last checked out or fetched here, so whoever does that sets the rules",
                hint="a branch that only reviewed changes move, such as origin/main",
            )
        _at_ref(ws, ref)
        made = PolicyProtected(ref=ref, content="")
    else:
        made = PolicyProtected(ref="", content=ws.objects.put_json(_models_of(_working(ws.project.root))))
    outputs = [("policy", made.content)] if made.content else []
    with ws.ledger.transaction() as tx:
        tx.append(made, outputs=outputs)
    return show(ws)


@verb(permission="governance.admin", name="policy-unprotect")
def unprotect(ws: Workspace) -> Source:
    """Read the rules of models from the working tree again.

    Example: noria policy unprotect
    """
    with ws.ledger.transaction() as tx:
        if records.protection(tx) is not None:
            tx.append(PolicyProtected(ref="", content=""))
    return show(ws)


@verb(permission="governance.read", changes=False, name="policy-show")
def show(ws: Workspace) -> Source:
    """Where the rules of models are read from: the working tree, a protected branch, or the server.

    Example: noria policy show
    """
    found, origin, record = _read(ws)
    by, at = (record.actor, record.at) if record is not None else ("", "")
    return Source(origin, by, at, tuple(sorted(found)))


def _read(ws: Workspace) -> tuple[Mapping[str, ModelConfig], str, records.ProtectionRecord | None]:
    with ws.ledger.read() as tx:
        record = records.protection(tx)
    if record is None:
        return ws.project.models, WORKING_TREE, None
    if record.ref:
        document, commit = _at_ref(ws, record.ref)
        return _parsed(ws, document, record.ref), f"{record.ref}@{commit}", record
    kept = ws.objects.get_json(record.content)
    return _parsed(ws, {"model": kept}, "the policy that is kept"), f"kept@{short(record.content)}", record


def _at_ref(ws: Workspace, ref: str) -> tuple[Mapping[str, Any], str]:
    """(noria.toml as it is at a git ref, the commit). Raises: UsageError; ConfigError."""
    if _REF.fullmatch(ref) is None or ".." in ref:
        raise UsageError(f"{ref[:80]!r} is no name of a branch", hint="such as origin/main")
    root = ws.project.root
    commit = _git(root, ref, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}").strip()
    prefix = _git(root, ref, "rev-parse", "--show-prefix").strip()
    return _document(_git(root, ref, "show", f"{commit}:{prefix}{CONFIG_NAME}"), f"{ref}:{prefix}{CONFIG_NAME}"), commit


def _working(root: Path) -> Mapping[str, Any]:
    """noria.toml as it lies there. Raises: ConfigError."""
    path = root / CONFIG_NAME
    try:
        return _document(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the rules cannot be read: {type(error).__name__}", where=str(path)) from error


def _git(root: Path, ref: str, *words: str) -> str:
    # What a caller's environment says of another repository must not lead elsewhere.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words],
            check=False,
            capture_output=True,
            env=environment,
            timeout=GIT_TIMEOUT_S,
        )
        text = done.stdout.decode("utf-8")
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
        raise _unreadable(ref, type(error).__name__) from error
    if done.returncode != 0:
        raise _unreadable(ref, done.stderr.decode("utf-8", "replace").strip().partition("\n")[0] or "no such commit")
    return text


def _unreadable(ref: str, why: str) -> ConfigError:
    return ConfigError(
        f"the rules are read from {ref}, which cannot be read: {why[:200]}",
        hint="git fetch; nothing is judged or promoted until it can. An admin changes it: noria policy protect",
    )


def _document(text: str, where: str) -> Mapping[str, Any]:
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the file is not valid TOML: {error}", where=where) from error


def _models_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The rules of models alone: tokens and addresses of the file stay out of what is kept."""
    found = document.get("model", {})
    if not isinstance(found, dict):
        raise ConfigError(f"model must be a table, not {found!r}", where=CONFIG_NAME)
    return found


def _parsed(ws: Workspace, document: Mapping[str, Any], where: str) -> Mapping[str, ModelConfig]:
    head = {"project": {"name": ws.project.name}, "model": _models_of(document)}
    try:
        return parse_project(head, root=ws.project.root, environment={}).models
    except ConfigError as error:
        raise ConfigError(error.message, where=where, hint=error.hint) from error
