"""Versions of models: numbered names of bundles. The same bundle is the same version, whoever asks."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import field, replace

from noria.core.errors import NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.packaging.bundle import read
from noria.packaging.flavor import Bundle
from noria.packaging.requires import differences
from noria.registry import records
from noria.registry.facts import VersionRegistered
from noria.registry.records import JudgementRecord, ReleaseRecord, VersionRecord
from noria.store.failpoint import failpoint
from noria.store.ledger import Reader
from noria.store.workspace import Workspace
from noria.tracking.facts import Pin

__all__ = [
    "ModelInfo",
    "VersionInfo",
    "parse_ref",
    "plain_ref",
    "register",
    "require_name",
    "resolve",
    "show",
    "versions",
]

NUMBER_DIGITS = 18
"""No version has a longer number: more would not fit the ledger's integers."""
CLIENT_SCHEME = "models:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@frozen(kw_only=True)
class ModelInfo:
    """A model with its newest version (None: it has a name only), aliases and release in production (0: none)."""

    model: str
    versions: int
    newest: VersionRecord | None
    aliases: Mapping[str, int]
    production: int


@frozen(kw_only=True)
class VersionInfo:
    """All that is known of a version: its bundle's face, its judgements and its releases.

    One that a client filed is no bundle: its flavor is "files". `requires` are the versions that its files depend
    on, `differs` says which are others here, and `types` what the files name beyond what their format itself trusts.
    """

    version: VersionRecord
    flavor: str
    task: str
    threshold: float
    size_bytes: int
    inputs: tuple[tuple[str, str, bool], ...]
    aliases: tuple[str, ...]
    judgements: tuple[JudgementRecord, ...]
    releases: tuple[ReleaseRecord, ...]
    requires: Mapping[str, str] = field(default_factory=dict)
    differs: tuple[str, ...] = ()
    types: tuple[str, ...] = ()


def register(
    ws: Workspace, bundle: Bundle, *, model: str, run: str, metrics: Mapping[str, float], pins: Sequence[Pin]
) -> VersionRecord:
    """Make a bundle a version of a model; a bundle that is one already gives that version. Atomic."""
    require_name(model)
    with ws.ledger.transaction() as tx:
        found = records.version_of_bundle(tx, model, bundle.digest)
        if found is not None:
            return found
        number = records.last_number(tx, model) + 1
        tx.append(
            VersionRegistered(
                model=model,
                version=number,
                bundle=bundle.digest,
                run=run,
                metrics=dict(metrics),
                pins=tuple(pins),
            ),
            inputs=[
                ("run", f"run/{run}"),
                ("bundle", bundle.digest),
                *(("data", pin.tree) for pin in pins),
                *((("environment", bundle.environment),) if bundle.environment else ()),
            ],
            outputs=[("version", f"model/{model}:{number}")],
        )
        made = records.version(tx, model, number)
        failpoint("model.registered")
    assert made is not None, "the projection writes what was appended"
    return made


def require_name(model: str) -> None:
    """A text may be a model's name. Raises: UsageError."""
    if not _NAME.fullmatch(model):
        raise UsageError(f"{model[:100]!r} cannot be a model's name", hint="letters of ASCII, digits, - _ and . only")


def parse_ref(ref: str) -> tuple[str, str]:
    """(model, version or alias) of `churn:14`, `churn@champion` or `churn`; the second may be empty.

    What stands behind the last mark counts: models that came from other tools may have marks in their names.
    """
    ref = plain_ref(ref)
    at = max(ref.rfind(":"), ref.rfind("@"))
    if at < 0:
        return ref, ""
    if at in (0, len(ref) - 1):
        raise UsageError(f"{ref!r} names no version", hint="write MODEL:NUMBER or MODEL@ALIAS")
    return ref[:at], ref[at + 1 :]


def plain_ref(ref: str) -> str:
    """`models:/churn/14` and `models:/churn@champion`, as other tools write them, as `churn:14` and `churn@champion`.

    Raises: UsageError for what begins so and names no version.
    """
    if not ref.startswith(CLIENT_SCHEME):
        return ref
    rest = ref.removeprefix(CLIENT_SCHEME).strip("/")
    model, slash, number = rest.rpartition("/")
    name, mark, alias = rest.rpartition("@")
    if slash and number.isdecimal() and len(number) <= NUMBER_DIGITS:
        return f"{model}:{number}"
    if slash and number == "latest":
        return model
    if mark and name and alias and "/" not in alias:
        return f"{name}@{alias}"
    raise UsageError(f"{ref[:100]!r} names no version", hint="models:/NAME/VERSION or models:/NAME@ALIAS")


def resolve(tx: Reader, ref: str) -> VersionRecord:
    """The version that a ref names; a model alone means its newest. Raises: NotFound naming what exists."""
    model, rest = parse_ref(ref)
    if not rest or (rest.isdecimal() and len(rest) <= NUMBER_DIGITS):
        # versions count from 1: a 0 that somebody wrote is not the 0 that stands for the newest
        found = records.version(tx, model, int(rest or 0)) if int(rest or 1) else None
    else:
        found = records.version_of_alias(tx, model, rest)
    if found is not None:
        return found
    newest = records.version(tx, model, 0)
    if newest is None and rest:
        whole = records.version(tx, plain_ref(ref), 0)  # a model whose own name has a mark
        if whole is not None:
            return whole
    if newest is None:
        known = records.models(tx)
        near = difflib.get_close_matches(model, known, n=1) or [each for each in known if each.lower() == model.lower()]
        listed = f"models: {', '.join(map(repr, known[:10]))}" if known else "noria run makes the first version"
        raise NotFound(f"there is no model {model!r}", hint=f"did you mean {near[0]!r}?" if near else listed)
    raise NotFound(f"there is no version {ref}", hint=f"the newest is {newest.ref}")


@verb(permission="registry.read", changes=False, name="list")
def list_models(ws: Workspace) -> list[ModelInfo]:
    """Every model with its newest version, aliases and production release.

    Example: noria registry list
    """
    with ws.ledger.read() as tx:
        found = []
        for each in records.named(tx):
            model = each.model
            newest = records.version(tx, model, 0)
            live = records.production(tx, model)
            found.append(
                ModelInfo(
                    model=model,
                    versions=0 if newest is None else newest.version,
                    newest=newest,
                    aliases=each.aliases,
                    production=0 if live is None else live.release,
                )
            )
        return found


@verb(permission="registry.read", changes=False)
def versions(ws: Workspace, model: str, limit: int = 100) -> list[VersionRecord]:
    """The versions of a model, newest first.

    Example: noria registry versions churn
    """
    with ws.ledger.read() as tx:
        resolve(tx, model)
        return records.versions(tx, model, limit=limit)


@verb(permission="registry.read", changes=False)
def show(ws: Workspace, ref: str) -> VersionInfo:
    """Everything of one version: `churn:14`, `churn@champion`, or `churn` for the newest.

    Example: noria registry show churn:14
    """
    with ws.ledger.read() as tx:
        found = resolve(tx, ref)
        named = records.aliases(tx, found.model)
        judged = records.judgements(tx, found.model, found.version)
        released = [r for r in records.releases(tx, found.model) if r.version == found.version]
        found = replace(found, tags=records.tags(tx, found.model, found.version))
    bundle = read(ws, found.bundle) if found.bundle else None
    return VersionInfo(
        version=found,
        flavor="files" if bundle is None else bundle.flavor,
        task="" if bundle is None else bundle.task,
        threshold=0.0 if bundle is None else bundle.threshold,
        size_bytes=0 if bundle is None else bundle.size_bytes,
        inputs=() if bundle is None else tuple((c.name, c.type, c.nullable) for c in bundle.signature.inputs),
        aliases=tuple(name for name, number in named.items() if number == found.version),
        judgements=tuple(judged),
        releases=tuple(released),
        requires={} if bundle is None else bundle.requires,
        differs=() if bundle is None else tuple(each.text() for each in differences(bundle.requires)),
        types=() if bundle is None else bundle.types,
    )
