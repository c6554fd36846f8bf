"""Keep a version no longer: a fact says so, and a collection takes what nothing else names.

Nothing that was recorded is rewritten: the version stays in the log, with who dropped it, when and why, and the
ledger verifies as before. What a drop would break is named and refused: a pin, a tag, the newest version, and
everything that was made from it, because that could not be done again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from noria.core.errors import Conflict, UsageError
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.core.words import counted
from noria.data import lock, records
from noria.data.facts import DatasetDropped
from noria.data.pins import read_pin
from noria.data.records import DatasetVersion
from noria.data.select import resolve
from noria.store.ledger import Reader
from noria.store.workspace import Workspace

__all__ = ["Dropped", "drop"]

SHOWN = 5
LOOKED_AT = 1000


@frozen(kw_only=True)
class Dropped(DatasetVersion):
    """The version that was dropped; `uses` are the first that named it, `stays` says what becomes of its bytes."""

    uses: tuple[str, ...] = ()
    stays: str = ""


@verb(permission="data.collect", where="project")
def drop(ws: Workspace, ref: str, *, reason: str = "", force: bool = False) -> Dropped:
    """Keep a version no longer: it is marked as dropped, and `noria data gc` takes what only it has.

    The log goes on to show it, with who dropped it, when and why, and its number is not given again. Here its
    bytes go with `gc --sweep`, on a remote with `gc --sweep --remote NAME`; a pin in any branch or clone still
    keeps them.

    Args:
        ref: one version, such as flights@3.
        reason: why; it stays in the ledger.
        force: also if it is pinned, tagged, the newest, or something was made from it; needs a reason.
    Raises: NotFound; UsageError without a version or, with force, without a reason; Conflict naming what needs it.
    Example:
        noria data drop flights@3 --reason "older than two years"
    """
    if "@" not in ref:
        raise UsageError(f"{ref} names no version", hint=f"noria data drop {ref}@1; noria data log {ref}")
    if force and not reason.strip():
        raise UsageError("a forced drop needs a reason", hint='--reason "…": it stays in the ledger')
    with lock.dataset_lock(ws, ref.partition("@")[0]):
        version = resolve(ws, ref)
        made = _made_from(ws, version)
        with ws.ledger.transaction() as tx:
            uses = (*_named(ws, tx, version), *made)
            if uses and not force:
                raise Conflict(
                    f"{version.ref} is {_told(uses)}: it was not dropped",
                    hint=f'noria data drop {version.ref} --force --reason "…" drops it all the same',
                )
            tx.append(
                DatasetDropped(
                    name=version.name,
                    version=version.version,
                    tree=version.tree,
                    reason=reason.strip(),
                    forced=bool(uses),
                    uses=uses[:SHOWN],
                ),
                inputs=[("version", f"dataset/{version.name}@{version.version}")],
            )
            same = records.by_tree(tx, version.name, version.tree)
            now = records.by_number(tx, version.name, version.version)
    assert now is not None, "it was found before"
    fields = {each.name: getattr(now, each.name) for each in dataclasses.fields(DatasetVersion)}
    return Dropped(**fields, uses=uses[:SHOWN], stays=_stays(version, same, uses))


def _named(ws: Workspace, tx: Reader, version: DatasetVersion) -> Iterator[str]:
    """What names the version itself."""
    pin = read_pin(ws.project.root, version.name)
    if pin is not None and pin.tree == version.tree:
        yield f"pinned by noria.lock/{version.name}.toml"
    for tag, number in records.tags(tx, version.name).items():
        if number == version.version:
            yield f"tagged {tag}"
    newest = records.newest(tx, version.name)
    if newest is not None and newest.version == version.version:
        yield "the newest version"


def _made_from(ws: Workspace, version: DatasetVersion) -> list[str]:
    """The runs, models and whatever else has facts that name it."""
    found: dict[str, None] = {}
    for ref in (version.tree, f"dataset/{version.name}@{version.version}"):
        for stored in ws.ledger.facts(ref=ref, limit=LOOKED_AT):
            if not stored.fact.kind.startswith("dataset."):
                found.setdefault(f"used by {stored.subject}")
    return list(found)


def _told(uses: tuple[str, ...]) -> str:
    more = f" and {counted(len(uses) - SHOWN, 'more use')}" if len(uses) > SHOWN else ""
    return ", ".join(uses[:SHOWN]) + more


def _stays(version: DatasetVersion, same: DatasetVersion | None, uses: tuple[str, ...]) -> str:
    if same is not None:
        return f"{same.ref} has the same bytes, so they stay"
    if any(use.startswith("pinned") for use in uses):
        return "its bytes stay for as long as a pin names them"
    return "its bytes go with noria data gc --sweep, a week later for good"
