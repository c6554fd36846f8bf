"""Push and pull: versions of data sets to and from a remote.

A push sends every object of a version that the remote lacks, and last the record that says the
version is there: who sees the record can pull the version whole. A pull brings the objects, and last
appends the version's fact: what a kill leaves behind is objects that the next try finds. A clean
clone that has only `noria.lock/` pulls what its pins name, with numbers, dates and roles as where
they were made. Both ends compare every object with its digest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from noria.core.errors import Corrupt, NoriaError, NotFound, StoreUnavailable, Tampered, UsageError
from noria.core.frozen import frozen
from noria.core.identity import Digest, short
from noria.core.progress import Advance, task
from noria.core.verb import verb
from noria.core.words import counted
from noria.data import commit, lock, pins, records
from noria.data.columns import roles_of
from noria.data.records import DatasetVersion
from noria.data.remote.published import (
    GivenUp,
    Published,
    allow_again,
    drop_of,
    find,
    find_dropped,
    given_up,
    publish,
    published,
    trees,
    withdraw,
)
from noria.data.remote.remotes import Remote, locked, open_remote, remotes, require_there
from noria.data.remote.repair import Repair
from noria.data.select import choose, no_dataset
from noria.store.bucketleases import BucketLeases
from noria.store.failpoint import failpoint
from noria.store.transfer import Copied, copy, missing
from noria.store.tree import diff_trees, iter_tree, tree_nodes
from noria.store.workspace import Workspace

__all__ = [
    "Transferred",
    "TransferredVersion",
    "absent_pins",
    "pull",
    "pull_version",
    "push",
    "push_pinned",
]

_SHOWN = 5


@frozen(kw_only=True)
class TransferredVersion:
    """What one version cost: objects and bytes that travelled; none if it was there. `note` says what was not done.

    `repaired` objects of it were altered on the remote, and put right.
    """

    dataset: str
    version: int
    tree: str
    objects: int
    size_bytes: int
    remote: str
    note: str = ""
    content: str = ""
    repaired: int = 0

    @property
    def is_left_out(self) -> bool:
        """Whether it did not travel, and is not there either."""
        return bool(self.note) and not self.repaired


@frozen(kw_only=True)
class Transferred:
    """Everything that a push or a pull did. `checked` objects were read on the remote, `repaired` were put right."""

    versions: tuple[TransferredVersion, ...]
    objects: int
    size_bytes: int
    summary: str
    checked: int = 0
    repaired: int = 0


@verb(permission="data.push")
def push(ws: Workspace, refs: Sequence[str] = (), remote: str = "", *, check: bool = False) -> Transferred:
    """Send versions to a remote: all of every data set, or those that are named.

    `flights` is every version of it that is here, `flights@3` that one. What the remote has is not
    sent again, and a push that was broken off goes on where it stopped. A version that somebody else has dropped
    there is not brought back: it is left out, with who, when and why.

    Args:
        refs: data sets or versions; all data sets if none is named.
        remote: its name in noria.toml; else the default one.
        check: read every object there anew instead of believing the remote's records of whole versions, and put
            right what is altered or gone from a sound copy here.
    Raises: NotFound; ConfigError without a remote; StoreUnavailable if it cannot be reached; Corrupt if something
        is altered, here or there, and no sound copy is here.
    Example:
        noria data push flights --remote origin
    """
    target = open_remote(ws, remote)
    repair = Repair(ws.objects, target) if check else None
    done: list[TransferredVersion] = []
    for name, versions in _asked(ws, refs).items():
        there = set() if check else trees(target, name)
        if there.issuperset(version.tree for version in versions):
            done += [_line(version, target, Copied(0, 0, 0)) for version in versions]
            continue
        with locked(target, name), BucketLeases(target.bucket).hold(f"data push {name}") as lease:
            there = set() if check else trees(target, name)
            if repair is not None:
                repair.make_readable()
            gone = given_up(target, name)
            for version in versions:
                said = _require_wanted(ws, target, version) if version.tree in gone - there else None
                if said is not None:
                    done.append(_line(version, target, Copied(0, 0, 0), note=said))
                    continue
                line = _push_version(ws, target, version, there, lease.add)
                done.append(line if repair is None else _checked(ws, repair, version, line))
                there.add(version.tree)
    if repair is not None:
        repair.require_whole()
    return _told(done, "pushed to", target, repair)


@verb(permission="data.add")
def pull(ws: Workspace, refs: Sequence[str] = (), remote: str = "", *, history: bool = False) -> Transferred:
    """Bring versions from a remote: those that the pins in noria.lock/ name, or those that are named.

    `flights` is what its pin names, else the newest that a remote has; `flights@3` and `flights@7c1e`
    are by number and by tree. What is here is not brought again, and a pull that was broken off goes
    on where it stopped.

    Args:
        refs: data sets or versions; every pin if none is named.
        remote: its name in noria.toml; else every remote is asked, the default one first.
        history: every version that the remote has, not only one.
    Raises: NotFound naming the remotes that were asked; ConfigError without a remote, or for a broken pin, when
        the others are here; Corrupt and Tampered for what was altered on a remote, likewise; StoreUnavailable.
    Example:
        noria data pull
    """
    sources = [open_remote(ws, remote)] if remote or not ws.project.remotes else remotes(ws)
    good, broken = ([], []) if refs else pins.sorted_pins(ws.project.root)
    names = list(refs) or [pin.name for pin in good]
    for ref in names:
        pins.read_pin(ws.project.root, ref.partition("@")[0])  # a pin with conflict marks is said first
    if len(sources) == 1:
        require_there(ws, sources[0])
    if not names and broken:
        raise broken[0].error
    if not names:
        raise UsageError(
            "there is nothing to pull: noria.lock/ holds no pin", hint="noria data pull NAME asks the remote for NAME"
        )
    done: list[TransferredVersion] = []
    lacking: list[NoriaError] = [each.error for each in broken]
    for ref in names:
        try:
            done += _pull_history(ws, sources, ref) if history else [_pull_ref(ws, sources, ref)]
        except (NotFound, Corrupt, Tampered) as error:
            lacking.append(error)  # the others are brought all the same; it is said at the end
    if lacking:
        raise _incomplete(lacking, done)
    here = dict.fromkeys(ref.partition("@")[0] for ref in names)
    return _told([*done, *_given_up_here(ws, sources, here, done)], "pulled from", sources[0])


def _given_up_here(
    ws: Workspace, sources: Sequence[Remote], names: Iterable[str], done: Sequence[TransferredVersion]
) -> Iterator[TransferredVersion]:
    """The versions here that somebody has dropped on a remote. One that was just brought from another is none."""
    brought = {(each.dataset, each.tree) for each in done if each.objects}
    for source in sources:
        try:
            gone = {name: given_up(source, name) for name in names}
        except StoreUnavailable:
            continue  # it was asked for what was wanted; that another had it is enough
        for name, tree in ((name, tree) for name, trees_there in gone.items() for tree in sorted(trees_there)):
            with ws.ledger.read() as tx:
                mine = records.by_tree(tx, name, tree)
            said = find_dropped(ws, source, name, tree) if mine is not None and (name, tree) not in brought else None
            if mine is not None and said is not None:
                note = f"it {said.words(source)}; noria data drop {mine.ref} gives it up here too"
                yield _line(mine, source, Copied(0, 0, 0), note=note)


def _incomplete(lacking: Sequence[NoriaError], done: Sequence[TransferredVersion]) -> NoriaError:
    if len(lacking) == 1 and not done:
        return lacking[0]
    told = "; ".join(error.message for error in lacking[:3]) + (f"; {len(lacking) - 3} more" if lacking[3:] else "")
    are = "other is" if len(done) == 1 else "others are"
    brought = f"{len(done)} {are} here now" if done else "nothing was brought"
    return type(lacking[0])(f"{told} ({brought})", where=lacking[0].where, hint=lacking[0].hint)


def pull_version(ws: Workspace, name: str, tree: str) -> DatasetVersion:
    """The version with this tree, brought from a remote if it is not here. Raises: NotFound; StoreUnavailable."""
    _pull_tree(ws, remotes(ws), name, tree)
    with ws.ledger.read() as tx:
        found = records.by_tree(tx, name, tree)
    assert found is not None, "the pull appended it"
    return found


def push_pinned(ws: Workspace) -> Transferred:
    """Send what the pins name, before the pins themselves are pushed.

    Raises: as push; NotFound for a pin whose data are not here.
    """
    refs: list[str] = []
    for pin in pins.pins(ws.project.root):
        with ws.ledger.read() as tx:
            found = records.by_tree(tx, pin.name, pin.tree)
        if found is None:
            raise NotFound(f"the pin of {pin.name} names {short(pin.tree)}, which is not here", hint="noria data pull")
        refs.append(found.ref)
    if not refs:
        return Transferred(versions=(), objects=0, size_bytes=0, summary="there is no pin")
    return push(ws, refs)


def absent_pins(ws: Workspace) -> list[str]:
    """The data sets whose pinned version is not here, as far as their pins can be read."""
    with ws.ledger.read() as tx:
        return [
            pin.name for pin in pins.sorted_pins(ws.project.root)[0] if records.by_tree(tx, pin.name, pin.tree) is None
        ]


def _asked(ws: Workspace, refs: Sequence[str]) -> dict[str, list[DatasetVersion]]:
    """The versions to push by data set, oldest first."""
    found: dict[str, list[DatasetVersion]] = {}
    with ws.ledger.read() as tx:
        names = list(refs) or records.names(tx)
        for ref in names:
            name, _, selector = ref.partition("@")
            if selector:
                version = choose(ws, ref).version
                found.setdefault(name, []).append(version)
                continue
            versions = records.versions(tx, name)
            if not versions:
                raise no_dataset(tx, name, ws.project.root)
            found[name] = versions
    if not found:
        raise NotFound("there is no data set to push", hint="noria data add PATH")
    return found


def _require_wanted(ws: Workspace, target: Remote, version: DatasetVersion) -> str | None:
    """Why a version that was dropped there is not sent; None if it was dropped here too, and added again since."""
    if drop_of(ws, version.name, version.tree):
        allow_again(target, version.name, version.tree)
        return None
    found = find_dropped(ws, target, version.name, version.tree)
    return None if found is None else f"it {found.words(target)}; noria data drop {version.ref} gives it up here too"


def _push_version(
    ws: Workspace, target: Remote, version: DatasetVersion, there: set[str], claim: Callable[[Iterable[str]], None]
) -> TransferredVersion:
    if version.tree in there:
        return _line(version, target, Copied(0, 0, 0))
    if not ws.objects.has(version.tree):
        return _line(version, target, Copied(0, 0, 0), note="its files are not here, so it was not pushed")
    wanted = _closure(ws, version, version.parent if version.parent in there else "")
    claim(wanted)  # before it is asked what is there: a collection leaves alone what we count on
    lacking = missing(target.objects, wanted)
    with task(f"pushing {version.ref} to {target.name}", total=sum(lacking.values())) as advance:
        copied = copy(ws.objects, target.objects, lacking, partial=_partial(ws), advance=_sent(advance))
    failpoint("push.objects")
    publish(ws, target, version)
    return _line(version, target, copied)


def _checked(ws: Workspace, repair: Repair, version: DatasetVersion, line: TransferredVersion) -> TransferredVersion:
    """The same line, when all of the version was read on the remote, and its record there."""
    target = repair.remote
    if line.note:
        return line
    is_mended = _mend_record(ws, target, version)
    wanted = _closure(ws, version, "")
    with task(f"reading {version.ref} on {target.name}", total=sum(wanted.values())) as advance:
        count = repair.look(wanted, advance) + is_mended
    note = f"{counted(count, 'altered object')} put right there" if count else ""
    return dataclasses.replace(line, repaired=count, note=note)


def _mend_record(ws: Workspace, target: Remote, version: DatasetVersion) -> bool:
    """Write anew what the remote says of a version, if that is altered."""
    try:
        find(ws, target, version.name, version.tree)
    except Tampered:
        withdraw(target, version.name, version.tree)
        return publish(ws, target, version)
    return False


def _closure(ws: Workspace, version: DatasetVersion, parent: str) -> dict[Digest, int]:
    """Every object of a version with its size; only what its parent does not have, if that is on the other side."""
    objects, tree = ws.objects, Digest(version.tree)
    if parent and objects.has(parent):
        known = set(tree_nodes(objects, Digest(parent)))
        nodes = [node for node in tree_nodes(objects, tree) if node not in known]
        entries = [new for _, new in diff_trees(objects, Digest(parent), tree) if new is not None]
    else:
        nodes, entries = list(tree_nodes(objects, tree)), list(iter_tree(objects, tree))
    wanted = {Digest(entry.digest): entry.size_bytes for entry in entries}
    return {**wanted, **{node: objects.size(node) for node in nodes}}


def _pull_ref(ws: Workspace, sources: Sequence[Remote], ref: str) -> TransferredVersion:
    name, _, selector = ref.partition("@")
    pin = pins.read_pin(ws.project.root, name)
    if not selector and pin is not None:
        return _pull_tree(ws, sources, name, pin.tree, pin=pin)
    tree = _tree_of(ws, sources, name, selector)
    done = _pull_tree(ws, sources, name, tree)
    if pin is None and not selector:
        with ws.ledger.read() as tx:
            found = records.by_tree(tx, name, tree)
        assert found is not None, "the pull appended it"
        lock.pin(ws, found)
    return done


def _pull_history(ws: Workspace, sources: Sequence[Remote], ref: str) -> list[TransferredVersion]:
    name, _, selector = ref.partition("@")
    if selector:
        raise UsageError(f"{ref} is one version: --history goes with the name alone", hint=f"noria data pull {name}")
    known: dict[str, tuple[Remote, Published]] = {}
    failed: list[tuple[Remote, NoriaError]] = []
    for source in sources:
        try:
            require_there(ws, source)
            for each in published(ws, source, name):
                known.setdefault(each.made.tree, (source, each))
        except StoreUnavailable as error:
            failed.append((source, error))
    if not known:
        raise _not_brought(name, "", sources, failed) if failed else _nowhere(name, "", sources)
    ordered = sorted(known.values(), key=lambda item: item[1].made.version)
    return [_pull_tree(ws, [source], name, each.made.tree) for source, each in ordered]


def _tree_of(ws: Workspace, sources: Sequence[Remote], name: str, selector: str) -> str:
    """The tree that a selector names on the remotes: a number, the first digits of a tree, or "" for the newest."""
    failed: list[tuple[Remote, NoriaError]] = []
    for source in sources:
        try:
            require_there(ws, source)
            found = published(ws, source, name)
        except StoreUnavailable as error:
            failed.append((source, error))
            continue
        if selector.isascii() and selector.isdigit() and len(selector) < 10:
            found = [each for each in found if each.made.version == int(selector)] or found
            if found and found[-1].made.version != int(selector):
                continue
        elif selector:
            digits = selector.removeprefix("sha256:")
            found = [each for each in found if each.made.tree[7:].startswith(digits)]
        if len({each.made.tree for each in found}) > 1 and selector:
            raise UsageError(
                f"{name}@{selector} fits several versions on {source.name}", hint="give the digits of its tree"
            )
        if found:
            return found[-1].made.tree
    for source in [] if failed else sources:
        for tree in sorted(given_up(source, name)):
            gone = find_dropped(ws, source, name, tree)
            if gone is not None and selector in (str(gone.made.version), tree[7 : 7 + len(selector)]):
                raise _dropped(name, source, gone)
    raise _not_brought(name, selector, sources, failed) if failed else _nowhere(name, selector, sources)


def _pull_tree(
    ws: Workspace, sources: Sequence[Remote], name: str, tree: str, pin: pins.Pin | None = None
) -> TransferredVersion:
    """Bring one version and append its fact, unless both are here."""
    with ws.ledger.read() as tx:
        here = records.by_tree(tx, name, tree)
    if here is not None and _is_whole(ws, tree):
        return _line(here, None, Copied(0, 0, 0))
    failed: list[tuple[Remote, NoriaError]] = []
    content = pin.content if pin is not None else tree
    for source in sources:
        try:
            require_there(ws, source)
            found = find(ws, source, name, tree)
            if found is None:
                continue
            content = found.made.content or tree
            with lock.leased(ws, f"data pull {name}") as claim:
                copied = _bring(ws, source, found, claim)
                failpoint("pull.objects")
                version = commit.adopt(ws, found.made, added=found.added, inputs=[("remote", f"remote/{source.name}")])
        except (NotFound, Corrupt, Tampered, StoreUnavailable) as error:
            failed.append((source, error))  # the next one may have all of it
            continue
        return _line(_with_roles(ws, version, pin), source, copied)
    for source in [] if failed else sources:
        gone = find_dropped(ws, source, name, tree)
        if gone is not None:
            raise _dropped(name, source, gone)
    raise _not_brought(name, short(content), sources, failed) if failed else _nowhere(name, short(content), sources)


def _bring(ws: Workspace, source: Remote, found: Published, claim: lock.Claim) -> Copied:
    tree = Digest(found.made.tree)
    nodes = list(tree_nodes(source.objects, tree))
    wanted: dict[Digest, int] = {}
    files = size_bytes = rows = 0
    for entry in iter_tree(source.objects, tree):
        wanted[Digest(entry.digest)] = entry.size_bytes
        files, size_bytes, rows = files + 1, size_bytes + entry.size_bytes, rows + entry.rows
    if (files, size_bytes) != (found.made.files, found.made.size_bytes):
        raise NotFound(
            f"the tree {short(tree)} has {files} files of {size_bytes} bytes, not the {found.made.files} of its record",
            where=source.told,
        )
    claim([*nodes, *wanted])
    wanted |= dict.fromkeys(nodes, 0)
    lacking = missing(ws.objects, wanted)
    words = f"pulling {found.made.name}@{found.made.version} from {source.name}"
    with task(words, total=sum(lacking.values())) as advance:
        return copy(source.objects, ws.objects, lacking, partial=_partial(ws), advance=_got(advance))


def _is_whole(ws: Workspace, tree: str) -> bool:
    """Whether every object of a tree is here; their bytes are not looked at."""
    if not ws.objects.has(tree):
        return False
    nodes: Iterable[Digest] = tree_nodes(ws.objects, Digest(tree))
    try:
        wanted = {*nodes, *(Digest(entry.digest) for entry in iter_tree(ws.objects, Digest(tree)))}
    except NotFound:
        return False  # a node is gone: it is pulled again
    return not missing(ws.objects, dict.fromkeys(wanted, 0))


def _with_roles(ws: Workspace, version: DatasetVersion, pin: pins.Pin | None) -> DatasetVersion:
    """The roles that the pin says, where they were changed after the version was added."""
    if pin is None or roles_of(version) == pin.roles:
        return version
    with ws.ledger.transaction() as tx:
        return commit.describe(tx, version, pin.roles, pin.time_min, pin.time_max)


def _not_brought(
    name: str, what: str, sources: Sequence[Remote], failed: Sequence[tuple[Remote, NoriaError]]
) -> NoriaError:
    """What each remote said, in the kind of the first that should have had it."""
    said = {source.name: f"{source.told}: {error.message}" for source, error in failed}
    asked = "; ".join(said.get(source.name, f"{source.told} does not have it") for source in sources)
    first = failed[0][1]
    kind = type(first) if isinstance(first, Corrupt | Tampered | StoreUnavailable) else NotFound
    ref = f"{name}@{what}" if what else name
    mended = "noria data push --check, from a clone that has it, puts right what is altered on a remote"
    hint = mended if isinstance(first, Corrupt) else first.hint
    return kind(f"{ref} could not be brought; asked: {asked}", where=first.where, hint=hint)


def _dropped(name: str, source: Remote, gone: GivenUp) -> NotFound:
    return NotFound(
        f"{name}@{gone.made.version} {gone.words(source)}",
        where=source.told,
        hint=f"noria data pull {name} --history brings what is kept; who still has it can add it again",
    )


def _nowhere(name: str, what: str, sources: Sequence[Remote]) -> NotFound:
    asked = ", ".join(source.told for source in sources)
    ref = f"{name}@{what}" if what else name
    return NotFound(
        f"{ref} is on no remote; asked: {asked or 'none'}", hint=f"noria data push {name}, from where it was added"
    )


def _sent(advance: Advance) -> Advance:
    def told(done: int) -> None:
        advance(done)
        failpoint("push.sent")

    return told


def _got(advance: Advance) -> Advance:
    def told(done: int) -> None:
        advance(done)
        failpoint("pull.got")

    return told


def _partial(ws: Workspace) -> Path:
    return ws.project.state / "cache" / "partial"


def _line(version: DatasetVersion, remote: Remote | None, copied: Copied, note: str = "") -> TransferredVersion:
    return TransferredVersion(
        dataset=version.name,
        version=version.version,
        tree=version.tree,
        content=version.content,
        objects=copied.objects,
        size_bytes=copied.size_bytes,
        remote=remote.name if remote is not None else "",
        note=note,
    )


def _told(done: Sequence[TransferredVersion], words: str, remote: Remote, repair: Repair | None = None) -> Transferred:
    moved = [each for each in done if each.objects]
    objects, size_bytes = sum(each.objects for each in done), sum(each.size_bytes for each in done)
    left = [each for each in done if each.is_left_out]
    same = len(done) - len(moved) - len(left)
    parts = [f"{counted(len(moved), 'version')} {words} {remote.told}"] if moved else []
    if same:
        here = "here" if words.startswith("pulled") else "there"
        parts.append(f"{counted(same, 'version was', 'versions were')} {here} already" if moved or left
                     else f"everything is {here}")  # fmt: skip
    if left:
        named = ", ".join(f"{each.dataset}@{each.version}" for each in left[:_SHOWN])
        more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        parts.append(f"{named}{more} {'still here' if words.startswith('pulled') else 'left out'}: {left[0].note}")
    if repair is not None:
        parts.append(f"{counted(len(repair.checked), 'object')} read there")
    repaired = sum(each.repaired for each in done)
    if repaired:
        parts.append(f"{counted(repaired, 'altered one', 'altered ones')} put right")
    return Transferred(
        versions=tuple(done),
        objects=objects,
        size_bytes=size_bytes,
        summary="; ".join(parts),
        checked=len(repair.checked) if repair else 0,
        repaired=repaired,
    )
