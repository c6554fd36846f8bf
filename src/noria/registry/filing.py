"""What clients do to models and versions: each change is one transaction that reads, decides and appends.

A version that a client files is files that it keeps, no bundle: it has a number, tags, aliases and a stage
like any other, and is released only once a bundle was made of its files. What Noria made itself, or released,
is not renamed or removed from here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

from noria.core.errors import Conflict, NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.registry import champions, records
from noria.registry.facts import (
    AliasMoved,
    AliasRemoved,
    ModelDescribed,
    ModelFiled,
    ModelRemoved,
    ModelRenamed,
    ModelTagged,
    ModelUntagged,
    VersionBundled,
    VersionFiled,
    VersionRemoved,
    VersionStaged,
)
from noria.registry.kept import ARCHIVED, NamedModel, VersionRecord
from noria.registry.versions import resolve
from noria.store.failpoint import failpoint
from noria.store.ledger import Reader, Transaction
from noria.store.workspace import Workspace

__all__ = [
    "ARCHIVED",
    "Alias",
    "Filed",
    "Taken",
    "bundle_version",
    "describe",
    "file_model",
    "file_version",
    "found_model",
    "found_version",
    "move_alias",
    "point_alias",
    "remove_alias",
    "remove_model",
    "remove_version",
    "rename_model",
    "stage_version",
    "tag",
    "untag",
]


NUMBER_MAX = (1 << 31) - 1
"""The greatest number that a version can have: that of the column which holds it."""
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class Taken(Conflict):
    """The name belongs to another model."""


@frozen(kw_only=True)
class Alias:
    """An alias and the version that it points to."""

    model: str
    alias: str
    version: int


@frozen(kw_only=True)
class Filed:
    """What a client says of a version: where its files are, and what made them.

    `source` is what it named, `storage` the place itself; `logged` a logged model's id, if it is one.
    """

    source: str
    storage: str
    run: str = ""
    logged: str = ""
    run_link: str = ""
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


def found_model(tx: Reader, model: str) -> NamedModel:
    """The model of that name. Raises: NotFound."""
    found = records.named(tx, model) if model else []
    if not found:
        raise NotFound(f"there is no model {model!r}", hint="noria registry list")
    return found[0]


def found_version(tx: Reader, model: str, number: int) -> VersionRecord:
    """A version by number, never the newest for 0. Raises: NotFound."""
    found = records.version(tx, model, number) if 0 < number <= NUMBER_MAX else None
    if found is None:
        raise NotFound(f"there is no version {model}:{number}", hint="noria registry versions MODEL")
    return found


def file_model(ws: Workspace, model: str, *, description: str = "", tags: Mapping[str, str] | None = None) -> None:
    """Give a model a name before it has a version. Raises: Taken."""
    with ws.ledger.transaction() as tx:
        _require_free(tx, model)
        tx.append(ModelFiled(model=model, description=description, tags=dict(tags or {})))


def rename_model(ws: Workspace, before: str, model: str) -> None:
    """Give a model another name; all that it has goes along.

    Raises: NotFound; Taken; Conflict if Noria made it; GateClosed if rules bind an alias that it brings along.
    """
    with ws.ledger.transaction() as tx:
        found_model(tx, before)
        _require_clients(tx, before)
        if before == model:
            return
        _require_free(tx, model)
        champions.require_kept(ws, tx, before, records.aliases(tx, before))
        champions.require_no_champion(ws, tx, before, model)
        numbers = [each.version for each in records.versions_of(tx, [before])]
        tx.append(
            ModelRenamed(model=model, before=before),
            inputs=[("version", f"model/{before}:{number}") for number in numbers],
            outputs=[("version", f"model/{model}:{number}") for number in numbers],
        )


def remove_model(ws: Workspace, model: str) -> None:
    """Take a model away with its versions, tags and aliases.

    Raises: NotFound; Conflict if Noria made it; GateClosed if rules bind one of its aliases.
    """
    with ws.ledger.transaction() as tx:
        found_model(tx, model)
        _require_clients(tx, model)
        champions.require_kept(ws, tx, model, records.aliases(tx, model))
        tx.append(ModelRemoved(model=model))


def describe(ws: Workspace, model: str, description: str | None, *, version: int | None = None) -> None:
    """Say something of a model or a version; None takes the words away. Raises: NotFound."""
    with ws.ledger.transaction() as tx:
        number = _numbered(tx, model, version)
        tx.append(ModelDescribed(model=model, description=description, version=number))


def tag(ws: Workspace, model: str, key: str, value: str, *, version: int | None = None) -> None:
    """Set a tag of a model or a version. Raises: NotFound."""
    with ws.ledger.transaction() as tx:
        number = _numbered(tx, model, version)
        if _tags(tx, model, number).get(key) != value:
            tx.append(ModelTagged(model=model, key=key, value=value, version=number))


def untag(ws: Workspace, model: str, key: str, *, version: int | None = None) -> None:
    """Take a tag off a model or a version; one that is not there changes nothing. Raises: NotFound."""
    with ws.ledger.transaction() as tx:
        number = _numbered(tx, model, version)
        if key in _tags(tx, model, number):
            tx.append(ModelUntagged(model=model, key=key, version=number))


def file_version(
    ws: Workspace, model: str, said: Filed, *, also: Callable[[Transaction, int], None] | None = None
) -> int:
    """Make files that a client keeps a version of a model; gives its number.

    Args:
        also: what else is written in the same transaction, of the version of that number.
    Raises: NotFound.
    """
    edges = [("run", f"run/{said.run}")] if said.run else []
    if said.logged:
        edges.append(("model", f"logged-model/{said.logged}"))
    with ws.ledger.transaction() as tx:
        if not model or not records.is_named(tx, model):
            raise NotFound(f"there is no model {model!r}", hint="noria registry list")
        number = records.last_number(tx, model) + 1
        tx.append(
            VersionFiled(
                model=model,
                version=number,
                source=said.source,
                storage=said.storage,
                run=said.run,
                run_link=said.run_link,
                description=said.description,
                tags=dict(said.tags),
            ),
            inputs=edges,
            outputs=[("version", f"model/{model}:{number}")],
        )
        if also is not None:
            also(tx, number)
        return number


def bundle_version(
    ws: Workspace,
    version: VersionRecord,
    bundle: str,
    how: str,
    *,
    files: Sequence[tuple[str, str]],
    permit: Sequence[tuple[str, str]] = (),
) -> VersionRecord:
    """Say which bundle was made of a client's files; a version that has one keeps it.

    Args:
        files: (name, digest) of what it was made of.
        permit: the edge to the signed permit, for a bundle that runs code.
    Raises: NotFound if the version was taken away meanwhile.
    """
    with ws.ledger.transaction() as tx:
        found = found_version(tx, version.model, version.version)
        if not found.bundle:
            tx.append(
                VersionBundled(model=found.model, version=found.version, bundle=bundle, how=how),
                inputs=[("version", f"model/{found.ref}"), *((f"file:{name}", digest) for name, digest in files)],
                outputs=[("bundle", bundle), *permit],
            )
            failpoint("version.bundled")
        return found_version(tx, version.model, version.version)


def remove_version(ws: Workspace, model: str, number: int) -> None:
    """Take a version away, and the aliases that point to it.

    Raises: NotFound; Conflict if it is a bundle of Noria's own, or was released; GateClosed if rules bind its alias.
    """
    with ws.ledger.transaction() as tx:
        found = found_version(tx, model, number)
        if _stays(tx, found):
            raise Conflict(f"{found.ref} is a bundle, which stays", hint="noria registry reject takes it out of use")
        named = [alias for alias, pointed in records.aliases(tx, model).items() if pointed == number]
        champions.require_kept(ws, tx, model, named)
        tx.append(VersionRemoved(model=model, version=number), inputs=[("version", f"model/{found.ref}")])


def stage_version(ws: Workspace, model: str, number: int, stage: str, *, archive: bool = False) -> None:
    """Put a version in a stage; `archive` sends the others that are in it away.

    Raises: NotFound; GateClosed, as for an alias of the stage's name.
    """
    with ws.ledger.transaction() as tx:
        found = found_version(tx, model, number)
        champions.require_allowed(ws, tx, found, stage)
        others = [each for each in records.versions_of(tx, [model]) if each.stage == stage and each.version != number]
        tx.append(
            VersionStaged(
                model=model,
                version=number,
                stage=stage,
                before=found.stage,
                archived=tuple(each.version for each in others) if archive else (),
            ),
            inputs=[("version", f"model/{found.ref}")],
        )


@verb(permission="registry.promote")
def move_alias(ws: Workspace, model: str, alias: str, version: int, reason: str = "") -> Alias:
    """Point an alias at a version; where it points there already, nothing changes.

    Where noria.toml has rules for the model, champion and production go to a version whose gates passed only.

    Raises: UsageError for what cannot be an alias; NotFound; GateClosed with the verdicts that closed it.
    Example: noria registry move-alias churn champion 14
    """
    if not _ALIAS.fullmatch(alias) or alias.isdecimal():
        raise UsageError(f"{alias!r} cannot be an alias", hint="letters, digits, - _ and ., not only digits")
    with ws.ledger.read() as tx:
        found = resolve(tx, f"{model}:{version}")
    point_alias(ws, found.model, alias, found.version, reason=reason)
    return Alias(model=found.model, alias=alias, version=found.version)


def point_alias(ws: Workspace, model: str, alias: str, number: int, *, reason: str = "") -> None:
    """Point an alias at a version; where it points there already, nothing changes. Raises: NotFound; GateClosed."""
    with ws.ledger.transaction() as tx:
        found = found_version(tx, model, number)
        if records.aliases(tx, model).get(alias) != number:
            champions.require_allowed(ws, tx, found, alias)
            tx.append(
                AliasMoved(model=model, alias=alias, version=number, reason=reason),
                inputs=[("version", f"model/{found.ref}")],
            )


def remove_alias(ws: Workspace, model: str, alias: str) -> None:
    """Take an alias away; one that is not there changes nothing.

    Raises: NotFound if the model is not there; GateClosed for one that rules bind.
    """
    with ws.ledger.transaction() as tx:
        found_model(tx, model)
        number = records.aliases(tx, model).get(alias)
        if number is not None:
            champions.require_kept(ws, tx, model, [alias])
            tx.append(AliasRemoved(model=model, alias=alias, version=number))


def _numbered(tx: Reader, model: str, version: int | None) -> int:
    """The version's number, 0 for the model itself. Raises: NotFound."""
    if version is None:
        found_model(tx, model)
        return 0
    return found_version(tx, model, version).version


def _tags(tx: Reader, model: str, number: int) -> Mapping[str, str]:
    return records.tags(tx, model, number)


def _require_free(tx: Transaction, model: str) -> None:
    if records.named(tx, model):
        raise Taken(f"there is a model {model!r} already", hint="noria registry list")


def _require_clients(tx: Reader, model: str) -> None:
    """No version of it was made or released here: rules, releases and servers go by its name. Raises: Conflict."""
    own = [each for each in records.versions_of(tx, [model]) if _stays(tx, each)]
    if own:
        raise Conflict(f"{own[0].ref} is a bundle: releases and rules go by the name {model!r}, which stays")


def _stays(tx: Reader, version: VersionRecord) -> bool:
    """Whether a version is a bundle of Noria's own, or one made of a client's files that was released."""
    if not version.bundle or not version.source:
        return bool(version.bundle)
    return any(each.version == version.version for each in records.releases(tx, version.model))
