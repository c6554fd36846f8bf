"""`noria data gc`: what nothing names any more, and taking it away without ever taking what somebody needs.

The roots are everything that the facts of this clone and of every other that shares the store name,
the pins of their working folders, and those in their branches and tags. A version of a data set must
be here whole, else nothing is collected; other digests count where they are here. On a remote the
roots are its records of versions, each of which must be there whole, and whatever is named here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from noria.core.clock import duration
from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.data.leftovers import LocalFolder, clear
from noria.data.lock import lease_folder
from noria.data.remote.published import give_up, trees
from noria.data.remote.published import names as published_names
from noria.data.remote.remotes import AtRemote, Remote, open_remote, require_there
from noria.data.roots import Roots, find_roots
from noria.store.bucket import InBucket
from noria.store.collect import Collected, collect, present
from noria.store.disk import disk_faults
from noria.store.leases import Leases
from noria.store.localcopies import Pruned
from noria.store.objects import FRESH_S
from noria.store.workspace import Workspace

__all__ = ["CollectReport", "gc"]


@frozen(kw_only=True)
class CollectReport:
    """What a collection found, and with `swept` what it did.

    `live` objects are in use; of the others, `unnamed` go (or went) to the trash, `young` are too
    young to judge, `trashed` wait in the trash, and `purged` go (or went) for good. `restored` came
    back from the trash because something names them again; `freed_bytes` is what the disk got back of
    packs, or without `swept` would get back: of copies that were stored twice at once, and of what went before.
    An object is young for `young_s` seconds after it was stored or asked for last.
    `clones` and `refs` (branches, tags, worktrees) were read for what they name. `remote` is the one that
    was collected, or "".

    `copies` of objects are in this clone's cache, of which `copies_freed` go (or went) because they are above
    `copies_bound_bytes`, or are not wanted; those used lately stay. `local` are the other folders of the local
    state and what work that has ended left there. With `remote` neither is looked at.
    """

    swept: bool
    clones: int
    refs: int
    live: int
    young: int
    unnamed: int
    unnamed_bytes: int
    trashed: int
    trashed_bytes: int
    restored: int
    purged: int
    purged_bytes: int
    freed_bytes: int
    young_s: float = 0.0
    remote: str = ""
    copies: int = 0
    copies_bytes: int = 0
    copies_bound_bytes: int = 0
    copies_freed: int = 0
    copies_freed_bytes: int = 0
    local: tuple[LocalFolder, ...] = ()


@verb(permission="data.collect", name="gc", where="project")
def gc(
    ws: Workspace,
    sweep: bool = False,
    min_age: str = "1d",
    grace: str = "7d",
    remote: str = "",
    *,
    cache: bool = False,
) -> CollectReport:
    """Say which stored objects nothing names any more; with --sweep take them away.

    Named means: by any fact, by a pin, in any branch or tag, here or in another clone that shares the
    store, or by work that is going on. What is swept first waits in a trash, where it can still be read,
    and comes back when it is named or added again. Anything that cannot be read stops it: nothing goes.
    On a remote every version that was pushed is named, by whomever; what goes is what pushes that were
    broken off left there, and the versions that were dropped here.
    The local copies in `.noria/cache` are bounded by `[store] cache`; what is above that goes too. A copy
    that was used within six hours stays, because somebody may be about to open it. What killed commands left in
    other folders of `.noria` goes too: at once if its process is gone, downloads that a pull could go on with when
    they are older than `min_age`.

    Args:
        sweep: do it; else this only looks.
        min_age: younger objects are left alone. An hour is added to it in any case, for commands that have begun.
        grace: how long they wait in the trash; a week at least.
        remote: its name in noria.toml: collect there, and not here.
        cache: empty the cache, and not only down to its bound.
    Raises: UsageError; NotFound for an unknown remote; Conflict if another one does not end in ten minutes; Corrupt or
        StoreUnavailable if something that is in use, or a clone, cannot be read: then nothing was moved.
    Example:
        noria data gc --sweep
    """
    ages: dict[str, Any] = {
        "dry_run": not sweep,
        "min_age_s": _seconds(min_age, "min_age"),
        "grace_s": _seconds(grace, "grace"),
    }
    if cache and remote:
        raise UsageError("the cache is here, and not on a remote", hint="noria data gc --cache --sweep")
    found: list[Roots] = []
    copies = None if remote else _copies(ws, is_dry_run=not sweep, is_all=cache)
    done = _at_remote(ws, open_remote(ws, remote), found, ages) if remote else _here(ws, found, ages)
    local = () if remote else clear(ws, min_age_s=ages["min_age_s"], is_dry_run=not sweep)
    return CollectReport(
        swept=sweep,
        remote=remote,
        clones=found[-1].clones,
        refs=found[-1].refs,
        live=done.reachable,
        young=done.young,
        unnamed=done.trashed,
        unnamed_bytes=done.trashed_bytes,
        trashed=done.waiting,
        trashed_bytes=done.waiting_bytes,
        restored=done.restored,
        purged=done.purged,
        purged_bytes=done.purged_bytes,
        freed_bytes=done.freed_bytes,
        young_s=ages["min_age_s"] + FRESH_S,
        local=local,
        copies=copies.copies if copies else 0,
        copies_bytes=copies.size_bytes if copies else 0,
        copies_bound_bytes=ws.objects.copies.bound_bytes,
        copies_freed=copies.freed if copies else 0,
        copies_freed_bytes=copies.freed_bytes if copies else 0,
    )


def _copies(ws: Workspace, *, is_dry_run: bool, is_all: bool) -> Pruned:
    """First of all, for a collection needs room. Nothing there is the only copy of anything."""
    copies = ws.objects.copies
    keep_bytes = 0 if is_all else copies.bound_bytes
    with disk_faults(ws.project.state / "cache"):
        return copies.look(keep_bytes) if is_dry_run else copies.prune(keep_bytes)


def _here(ws: Workspace, found: list[Roots], ages: Mapping[str, Any]) -> Collected:
    """The store of the project, which may be a bucket or shared by clones."""

    def roots() -> Iterable[str]:
        found.append(find_roots(ws))
        return [*found[-1].versions, *present(ws.objects, found[-1].named - found[-1].versions)]

    store = ws.objects.store
    if isinstance(store, InBucket):
        at_work = AtRemote(Remote("store", ws.objects, store.bucket))
        return collect(ws.objects, roots, at_work, now=at_work.now(), unwanted=lambda: found[-1].dropped, **ages)
    now = ws.clock.now().timestamp()
    return collect(ws.objects, roots, Leases(lease_folder(ws)), now=now, unwanted=lambda: found[-1].dropped, **ages)


def _at_remote(ws: Workspace, remote: Remote, found: list[Roots], ages: Mapping[str, Any]) -> Collected:
    """What a remote's records name must be there whole; what is named here counts where it is there."""
    require_there(ws, remote)
    here = find_roots(ws)
    gone = [(name, tree) for name in published_names(remote) for tree in trees(remote, name) & here.dropped]
    if not ages["dry_run"]:
        for name, tree in gone:
            give_up(ws, remote, name, tree)  # first of all: who sees the record may pull the version whole

    def roots() -> Iterable[str]:
        found.append(find_roots(ws))
        pushed = {tree for name in published_names(remote) for tree in trees(remote, name)} - found[-1].dropped
        return [*pushed, *present(remote.objects, (found[-1].named | found[-1].versions) - pushed)]

    at_work = AtRemote(remote)
    return collect(remote.objects, roots, at_work, now=at_work.now(), unwanted=lambda: found[-1].dropped, **ages)


def _seconds(text: str, argument: str) -> float:
    try:
        return duration(text).total_seconds()
    except ValueError as error:
        raise UsageError(f"{argument}: {error}", hint="such as 12h or 7d") from error
