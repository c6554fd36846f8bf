"""What a remote says of a version: `versions/NAME/TREE.json`, the fact of its adding with its proof.

It is written when every object of the version is there, so that its presence is the promise that the
version can be pulled. It says what the version is without an object of it being read: number, parent,
columns, roles, and when it was added. Nothing in it is believed: the fact must be in the ledger that
the record's checkpoint signs, and the objects are verified by their digests.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from noria.core.errors import Conflict, NotFound, Tampered
from noria.core.fact import Fact, kind_of
from noria.core.identity import canonical, is_digest
from noria.data.facts import DatasetCommitted
from noria.data.records import DatasetVersion
from noria.data.remote.remotes import Remote
from noria.store.evidence import checked, evidence
from noria.store.payload import decode
from noria.store.workspace import Workspace

__all__ = ["Published", "find", "names", "publish", "published", "trees", "withdraw"]

FOLDER = "versions"
RECORD_MAX_BYTES = 4 << 20
_THREADS = 8


@dataclass(frozen=True, slots=True)
class Published:
    """A version as a remote has it: the fact's payload, when it was added, by whom, and the key that signed for it."""

    made: DatasetCommitted
    added: str
    actor: str
    key: str


def trees(remote: Remote, name: str) -> set[str]:
    """The trees of the versions of a data set that a remote has whole."""
    found = {f"sha256:{_stem(item.key)}" for item in remote.bucket.list(f"{FOLDER}/{name}/")}
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


def find(ws: Workspace, remote: Remote, name: str, tree: str) -> Published | None:
    """What a remote says of one version; None if it does not have it. Raises: Tampered."""
    key = _key(name, tree)
    try:
        with remote.bucket.open(key, 0, RECORD_MAX_BYTES) as stream:
            content = stream.read()
    except NotFound:
        return None
    where = f"{remote.told}: {key}"
    try:
        document = json.loads(content)
    except ValueError as error:
        raise Tampered(f"the record of a version of {name} cannot be read: {error}", where=where) from error
    fact, signer = checked(document, where)
    made = _payload(ws, fact)
    if made is None or made.name != name or made.tree != tree:
        raise Tampered(f"the record of a version of {name} is about something else", where=where)
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


def _payload(ws: Workspace, fact: Fact) -> DatasetCommitted | None:
    """The payload in the newest shape of its kind, if this is about a version at all."""
    if fact.kind != kind_of(DatasetCommitted).kind:
        return None
    found = decode(DatasetCommitted, ws.ledger.slices.kinds.upcasted(fact.kind, fact.version, fact.data))
    return found if isinstance(found, DatasetCommitted) else None


def _key(name: str, tree: str) -> str:
    return f"{FOLDER}/{name}/{tree[7:]}.json"


def _stem(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".json")
