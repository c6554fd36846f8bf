"""Garbage collection that cannot delete what is referenced.

Seven rules, each of which alone would save most: (a) what is in use is asked of the caller, who names
every root there is; (b) writers take a lease before they store or count on an object; (c) whatever
cannot be read aborts the collection before anything moved; (d) what nobody names goes to a trash, and
stays there for a week at least; (e) before it is deleted everything is marked anew, and only what no
mark reached goes; (f) a put of something in the trash brings it back, atomically; (g) nothing is moved
unless it was asked for, and nothing young, or younger than a lease that is held, is moved at all.

Marking does not know what the objects mean. A tree's nodes are followed, its files are not opened;
of any other object that looks like JSON every digest in it is followed, named for whatever reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from noria.core.errors import Corrupt, NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.identity import Digest
from noria.core.progress import task
from noria.store.disk import BLOCK_BYTES
from noria.store.failpoint import failpoint
from noria.store.leases import Lease
from noria.store.objects import FRESH_S, CollectsWhole, HasForms, HasIdleBytes, HasTrash, Objects, Trashed
from noria.store.packs import as_key, as_name
from noria.store.tree import node_parts

__all__ = ["DAY_S", "GRACE_S", "AtWork", "Collected", "collect", "present", "reachable"]

DAY_S = 24 * 3600.0
GRACE_S = 7 * DAY_S
_AT_ONCE = 256
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")
_DIGEST_BYTES = 71


@frozen(kw_only=True)
class Collected:
    """What a collection found and did; with `is_dry_run` what it would have done.

    `reachable` objects are in use. Of the others `young` are left alone, `trashed` went to the trash,
    `purged` were deleted from it after their time, `waiting` are in it still, and `restored` were in it
    and are in use again. `freed_bytes` is what the disk got back from packs of objects, or would get back now:
    that of copies that were stored twice at once, and of what was deleted before.
    """

    is_dry_run: bool
    reachable: int
    young: int
    trashed: int
    trashed_bytes: int
    restored: int
    waiting: int
    waiting_bytes: int
    purged: int
    purged_bytes: int
    freed_bytes: int


Roots = Callable[[], Iterable[str]]
"""Gives every digest that is in use for itself; asked anew for each mark."""


class AtWork(Protocol):
    """Who is at work on the objects of a store."""

    def active(self) -> Sequence[Lease]:
        """The leases that are held."""
        ...

    def alone(self) -> AbstractContextManager[None]:
        """Be the only collection for the time of the block. Raises: Conflict if another one does not end."""
        ...


def collect(
    objects: Objects,
    roots: Roots,
    leases: AtWork,
    *,
    now: float,
    dry_run: bool = True,
    min_age_s: float = DAY_S,
    grace_s: float = GRACE_S,
    unwanted: Callable[[], Set[str]] = frozenset,
) -> Collected:
    """Move to the trash what nothing names, and delete what has been in the trash for long enough.

    Args:
        roots: gives the digests in use; asked again before anything is deleted.
        unwanted: gives those that are not in use where a document only mentions them; asked after `roots`.
        now: seconds since the epoch.
        dry_run: only look.
        min_age_s: younger objects are left alone, and those younger than the oldest lease that is held; an hour is
            added to it, because a put of what was stored within the last hour does not say so again.
        grace_s: how long objects stay in the trash: a week at least, and longer than any lease that is held.
    Raises: UsageError for less than a week; Conflict if another one does not end; Corrupt if something
        that is in use cannot be read: then nothing was moved.
    """
    if grace_s < GRACE_S:
        raise UsageError(f"{_told(grace_s)} in the trash are too few", hint="7d at least")
    if min_age_s < 0:
        raise UsageError(f"the least age cannot be negative: {min_age_s:g} s")
    store = objects.store
    if not isinstance(store, HasTrash):
        raise UsageError("this object store cannot be collected", hint="it has no trash; use its own means")
    with leases.alone():
        oldest = min((lease.since for lease in leases.active()), default=now)
        young_since = min(now - min_age_s, oldest) - FRESH_S
        kept = _mark(objects, roots, leases, unwanted)
        unnamed, young = _unnamed(store, kept, young_since)
        in_trash = list(store.trashed())
        again = [item.digest for item in in_trash if as_key(item.digest) in kept]
        until = min(now - grace_s, oldest - GRACE_S)
        due = [item for item in in_trash if item.since < until and as_key(item.digest) not in kept]
        failpoint("collect.marked")
        moved, purged, freed = list(unnamed), due, _idle_bytes(store) if dry_run else 0
        if not dry_run:
            store.restore(again)
            moved = _trash(store, list(unnamed), at=int(now), young_since=young_since)
            purged = _purge(objects, due, roots, leases, unwanted)
            freed = store.compact()
        gone = set(purged)
        waiting = [item for item in in_trash if item not in gone and as_key(item.digest) not in kept]
        return Collected(
            is_dry_run=dry_run,
            reachable=len(kept),
            young=young,
            trashed=len(moved),
            trashed_bytes=sum(unnamed[name] for name in moved),
            restored=len(again),
            waiting=len(waiting),
            waiting_bytes=sum(item.size_bytes for item in waiting),
            purged=len(purged),
            purged_bytes=sum(item.size_bytes for item in purged),
            freed_bytes=freed,
        )


def _idle_bytes(store: HasTrash) -> int:
    return store.idle_bytes() if isinstance(store, HasIdleBytes) else 0


def _told(seconds: float) -> str:
    """A length of time in the greatest unit that it fills."""
    units = ((DAY_S, "days"), (3600.0, "hours"), (60.0, "minutes"))
    return next((f"{seconds / unit:.3g} {name}" for unit, name in units if seconds >= unit), f"{seconds:.3g} seconds")


def reachable(objects: Objects, roots: Iterable[str], unwanted: Iterable[str] = ()) -> set[bytes]:
    """The keys (the 32 bytes of a digest) of all objects that the roots name, directly or not.

    Files of a tree need not be here, nor what a JSON text only mentions. Raises: NotFound for a root, or
    a node of a tree, that is not here; Corrupt.
    """
    store = objects.store
    ignored = {as_key(name) for name in unwanted}
    in_trash, chunked = set(), set()
    if isinstance(store, HasTrash):
        in_trash = {as_key(item.digest) for item in store.trashed()}
        chunked = {as_key(name) for name in store.chunked()}
    front = list(dict.fromkeys(as_key(root) for root in roots))
    kept = set(front)
    with task("marking", unit="objects") as advance:
        while front:
            found: list[bytes] = []
            for start in range(0, len(front), _AT_ONCE):
                part = front[start : start + _AT_ONCE]
                for named in _contents(objects, part):
                    kept.update(named.files)
                    mentioned = named.mentioned - ignored
                    there = {as_key(name) for name in objects.has_many(map(as_name, mentioned))}
                    new = {*named.nodes, *there, *(mentioned & in_trash)} - kept
                    kept.update(new)
                    found += new
                advance(len(part))
            front = found
    for key in chunked & kept:
        kept.update(as_key(chunk) for chunk, _ in objects.chunks_of(as_name(key)) or ())
    return kept


def present(objects: Objects, digests: Iterable[str]) -> set[Digest]:
    """Those of the objects that are here, also if only in the trash: what is named there must come back."""
    names = set(digests)
    here = objects.has_many(names)
    if isinstance(objects.store, HasTrash):
        here |= {item.digest for item in objects.store.trashed() if item.digest in names}
    return here


def _mark(objects: Objects, roots: Roots, leases: AtWork, unwanted: Callable[[], Set[str]]) -> set[bytes]:
    """Everything that is in use. Raises: Corrupt if it cannot be known; then nothing may be moved."""
    leased = {name for lease in leases.active() for name in lease.digests}
    try:
        named = [*roots(), *present(objects, leased)]
        kept = reachable(objects, named, unwanted())
        return kept | {as_key(name) for name in leased}
    except (Corrupt, NotFound) as error:
        raise Corrupt(
            f"nothing was collected, because something in use cannot be read: {error.message}",
            where=error.where,
            hint="noria data verify names what is wrong and heals it from a remote; then collect again",
        ) from error


class _Named(NamedTuple):
    """What an object names: nodes of the same tree, files of a tree, and what a JSON text mentions."""

    nodes: frozenset[bytes] = frozenset()
    files: frozenset[bytes] = frozenset()
    mentioned: frozenset[bytes] = frozenset()


def _contents(objects: Objects, keys: Sequence[bytes]) -> Iterator[_Named]:
    names = [as_name(key) for key in keys]
    small = objects.store.packed(names) if isinstance(objects.store, HasForms) else names
    for _, content in objects.get_many(small):
        yield _named(content)
    for name in set(names) - set(small):
        with objects.store.get(name) as stream:
            head = stream.read(12)
        if head.startswith((b'{"entries":', b'{"children":')):
            yield _named(objects.get_bytes(name))
        elif head[:1] in (b"{", b"["):
            yield _Named(mentioned=_mentioned_in_stream(objects, name))


def _named(content: bytes) -> _Named:
    parts = node_parts(content)
    if parts is not None:
        nodes, files = parts
        return _Named(frozenset(map(as_key, nodes)), frozenset(map(as_key, files)))
    is_json = content[:1] in (b"{", b"[")
    return _Named(mentioned=_keys(set(_DIGEST.findall(content)))) if is_json else _Named()


def _mentioned_in_stream(objects: Objects, name: Digest) -> frozenset[bytes]:
    found: set[bytes] = set()
    rest = b""
    with objects.open(name) as stream:
        while block := stream.read(BLOCK_BYTES):
            found.update(_DIGEST.findall(rest + block))
            rest = block[1 - _DIGEST_BYTES :]
    return _keys(found)


def _keys(texts: set[bytes]) -> frozenset[bytes]:
    return frozenset(as_key(text.decode()) for text in texts)


def _unnamed(store: HasTrash, kept: set[bytes], young_since: float) -> tuple[dict[Digest, int], int]:
    """What may go, with sizes, and how many are too young for it."""
    unnamed: dict[Digest, int] = {}
    young = 0
    for name, size, seen in store.ages():
        if as_key(name) not in kept:
            if seen < young_since:
                unnamed[name] = size
            else:
                young += 1
    return unnamed, young


def _trash(store: HasTrash, names: Sequence[Digest], *, at: int, young_since: float) -> list[Digest]:
    done: list[Digest] = []
    count = _at_once(store, len(names))
    for start in range(0, len(names), count):
        done += store.trash(names[start : start + count], at=at, unseen_since=young_since)
        failpoint("collect.trashed")
    return done


def _at_once(store: HasTrash, count: int) -> int:
    return max(count, 1) if isinstance(store, CollectsWhole) else _AT_ONCE


def _purge(
    objects: Objects, due: Sequence[Trashed], roots: Roots, leases: AtWork, unwanted: Callable[[], Set[str]]
) -> list[Trashed]:
    """Delete what is due and still not in use, by a mark of its own."""
    store = objects.store
    assert isinstance(store, HasTrash), "asked before"
    if not due:
        return []
    kept = _mark(objects, roots, leases, unwanted)
    store.restore([item.digest for item in due if as_key(item.digest) in kept])
    unused = [item for item in due if as_key(item.digest) not in kept]
    gone: set[Digest] = set()
    count = _at_once(store, len(unused))
    for start in range(0, len(unused), count):
        gone.update(store.purge(unused[start : start + count]))
        failpoint("collect.purged")
    return [item for item in unused if item.digest in gone]
