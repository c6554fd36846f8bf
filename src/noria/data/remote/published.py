"""What a remote says of a version: `versions/NAME/TREE.json`, the fact of its adding with its proof.

It is written when every object of the version is there, so that its presence is the promise that the
version can be pulled. It says what the version is without an object of it being read: number, parent,
columns, roles, and when it was added. Nothing in it is believed: the fact must be in the ledger that
the record's checkpoint signs, and the objects are verified by their digests.

A version that was dropped leaves `dropped/NAME/TREE.json` in its place, the fact of its dropping with its
proof: whoever asks for it learns who gave it up, when and why, and nobody else's push brings it back.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from noria.core.errors import Conflict, NotFound, Tampered
from noria.core.fact import Fact, kind_of
from noria.core.frozen import frozen
from noria.core.identity import canonical, is_digest
from noria.data.facts import DatasetCommitted, DatasetDropped
from noria.data.records import DatasetVersion
from noria.data.remote.remotes import Remote
from noria.store.evidence import checked, evidence
from noria.store.payload import decode
from noria.store.workspace import Workspace

__all__ = [
    "GivenUp",
    "Published",
    "allow_again",
    "drop_of",
    "find",
    "find_dropped",
    "give_up",
    "given_up",
    "names",
    "publish",
    "published",
    "trees",
    "withdraw",
]

FOLDER = "versions"
DROPPED = "dropped"
RECORD_MAX_BYTES = 4 << 20
_THREADS = 8
_MENDED = "noria data push --check, from a clone that has the version, writes its record anew"
_Made = TypeVar("_Made")


@frozen
class Published:
    """A version as a remote has it: the fact's payload, when it was added, by whom, and the key that signed for it."""

    made: DatasetCommitted
    added: str
    actor: str
    key: str


@frozen
class GivenUp:
    """A version that a remote says was dropped: the fact's payload, when, and by whom."""

    made: DatasetDropped
    at: str
    actor: str

    def words(self, remote: Remote) -> str:
        """When, by whom and why."""
        why = f": {self.made.reason}" if self.made.reason else ""
        return f"was dropped {self.at[:10]} by {self.actor}{why} ({remote.name} says so)"


def trees(remote: Remote, name: str) -> set[str]:
    """The trees of the versions of a data set that a remote has whole."""
    return _trees(remote, FOLDER, name)


def given_up(remote: Remote, name: str) -> set[str]:
    """The trees of the versions of a data set that were dropped there."""
    return _trees(remote, DROPPED, name)


def _trees(remote: Remote, folder: str, name: str) -> set[str]:
    found = {f"sha256:{_stem(item.key)}" for item in remote.bucket.list(f"{folder}/{name}/")}
    return {tree for tree in found if is_digest(tree)}


def names(remote: Remote) -> list[str]:
    """The data sets that a remote has versions of."""
    return sorted({item.key.split("/")[1] for item in remote.bucket.list(f"{FOLDER}/") if item.key.count("/") == 2})


def publish(ws: Workspace, remote: Remote, version: DatasetVersion) -> bool:
    """Say that a version is there; every object of it is. False if the remote knew. Raises: NotFound."""
    seq = _seq_of(ws, version)
    content = canonical(evidence(ws.ledger, seq))
    try:
        remote.bucket.create(_key(version.name, version.tree), content)
    except Conflict:
        return False
    return True


def withdraw(remote: Remote, name: str, tree: str) -> None:
    """Say nothing of a version any more. Its objects stay until a collection finds that nothing names them."""
    remote.bucket.delete(_key(name, tree))


def give_up(ws: Workspace, remote: Remote, name: str, tree: str) -> None:
    """Say that a version was dropped, and withdraw it: in this order, so that a kill leaves no silence."""
    seq = drop_of(ws, name, tree)
    if seq:
        with suppress(Conflict):  # somebody said so before: the first word stands
            remote.bucket.create(_key(name, tree, DROPPED), canonical(evidence(ws.ledger, seq)))
    withdraw(remote, name, tree)


def drop_of(ws: Workspace, name: str, tree: str) -> int:
    """The number of the newest fact here that drops a version with this tree; 0 for none."""
    newest = after = 0
    while page := ws.ledger.facts(kind="dataset.dropped", subject=f"dataset/{name}", after=after):
        after = page[-1].seq
        newest = max((fact.seq for fact in page if fact.payload.tree == tree), default=newest)
    return newest


def allow_again(remote: Remote, name: str, tree: str) -> None:
    """Take back that a version was dropped: who dropped it has added the same again."""
    remote.bucket.delete(_key(name, tree, DROPPED))


def find_dropped(ws: Workspace, remote: Remote, name: str, tree: str) -> GivenUp | None:
    """What a remote says of a version that was dropped; None if it says nothing. Raises: Tampered."""
    found = _fact(remote, _key(name, tree, DROPPED), name)
    if found is None:
        return None
    fact, _, where = found
    made = _payload(ws, fact, DatasetDropped)
    if made is None or made.name != name or made.tree != tree:
        raise Tampered(f"the record of a dropped version of {name} is about something else", where=where, hint=_MENDED)
    return GivenUp(made, fact.at, fact.actor)


def find(ws: Workspace, remote: Remote, name: str, tree: str) -> Published | None:
    """What a remote says of one version; None if it does not have it. Raises: Tampered."""
    found = _fact(remote, _key(name, tree), name)
    if found is None:
        return None
    fact, signer, where = found
    made = _payload(ws, fact, DatasetCommitted)
    if made is None or made.name != name or made.tree != tree:
        raise Tampered(f"the record of a version of {name} is about something else", where=where, hint=_MENDED)
    return Published(made, made.added or fact.at, fact.actor, signer)


def published(ws: Workspace, remote: Remote, name: str) -> list[Published]:
    """Every version of a data set that a remote has, oldest first. Raises: Tampered."""
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda tree: find(ws, remote, name, tree), sorted(trees(remote, name)))
        return sorted(filter(None, found), key=lambda each: (each.made.version, each.added))


def _seq_of(ws: Workspace, version: DatasetVersion) -> int:
    for fact in ws.ledger.facts(kind="dataset.committed", subject=f"dataset/{version.name}", ref=version.tree):
        payload = fact.payload
        if payload.tree == version.tree and payload.version == version.version:
            return fact.seq
    raise NotFound(f"no fact made {version.ref}")


def _fact(remote: Remote, key: str, name: str) -> tuple[Fact, str, str] | None:
    """The fact of a record, the key that signed for it, and where it is; None without one. Raises: Tampered."""
    try:
        with remote.bucket.open(key, 0, RECORD_MAX_BYTES) as stream:
            content = stream.read()
    except NotFound:
        return None
    where = f"{remote.told}: {key}"
    try:
        document = json.loads(content)
    except ValueError as error:
        told = f"the record of a version of {name} cannot be read: {error}"
        raise Tampered(told, where=where, hint=_MENDED) from error
    try:
        fact, signer = checked(document, where)
    except Tampered as error:
        told = f"the record of a version of {name} was altered: {error.message}"
        raise Tampered(told, where=where, hint=_MENDED) from error
    return fact, signer, where


def _payload(ws: Workspace, fact: Fact, kind: type[_Made]) -> _Made | None:
    """The payload in the newest shape of its kind, if this is of that kind at all."""
    if fact.kind != kind_of(kind).kind:
        return None
    found = decode(kind, ws.ledger.slices.kinds.upcasted(fact.kind, fact.version, fact.data))
    return found if isinstance(found, kind) else None


def _key(name: str, tree: str, folder: str = FOLDER) -> str:
    return f"{folder}/{name}/{tree[7:]}.json"


def _stem(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".json")
