"""From a folder to a stored tree: every new file read once, every known one not at all.

Nothing is stored before every new table among the files was found to be whole, and nothing is told
about files that were changed while they were read: the error names them. The files themselves are
never moved or changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from itertools import islice
from pathlib import Path

import msgspec

from noria.core.errors import Conflict, NotFound, UsageError
from noria.core.frozen import frozen, slotted
from noria.core.identity import Digest
from noria.core.printable import printable
from noria.core.progress import Advance, task
from noria.data.folders import ahead
from noria.data.folders.statcache import StatCache, Step, digest_at, packed, without_racy
from noria.data.folders.walk import Folder, looked_at_again, stamp_of, walk
from noria.data.forms import formats
from noria.data.forms.formats import Inspected
from noria.data.lock import Claim
from noria.store.objects import HasNamed, Objects
from noria.store.tree import Entry, update_tree, write_sorted

__all__ = ["DataFile", "Gathered", "gather"]

UPDATE_SHARE = 0.1
"""Up to this part of the files, a changed tree is made from the one before."""
LEFT_OUT_SHOWN = 5
AT_ONCE = 50_000
"""So many files are stored together: what is held of each until then is a few hundred bytes, whatever its size."""
_NOTED = 4
"""Counts up when a file can be found to hold other columns than before, so that older notes are not believed."""
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Inspected)


@frozen
class DataFile:
    """A stored file of a data set; `inspected` is None for a file that is no table."""

    name: str
    digest: str
    size_bytes: int
    inspected: Inspected | None


@frozen(kw_only=True)
class Gathered:
    """A stored tree. `tables` are the tables among its files, or None where they were not looked at.

    `content` is what names the one file that was asked for, whatever its own name: the digest of the table
    in it, else of its bytes. Empty for a folder, whose paths are content, and where nothing was looked at.
    `left_out` are the first of so many paths that are no content: see `walk.is_state`.
    """

    tree: Digest
    files: int
    size_bytes: int
    tables: tuple[DataFile, ...] | None
    content: str = ""
    left_out: tuple[str, ...] = ()
    left_out_count: int = 0


@slotted
class _Known:
    """A folder with the digests of its files as far as they are known, "" where they are not."""

    folder: Folder
    digests: list[str]
    is_changed: bool

    def fresh(self) -> Iterator[int]:
        """The places of files that must be read."""
        return (place for place, digest in enumerate(self.digests) if not digest)


@slotted
class _Seen:
    """What the walk found: `known` are the folders that matter, the others only count."""

    known: list[_Known] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)
    left_out_count: int = 0
    files: int = 0
    size_bytes: int = 0


def gather(
    objects: Objects,
    cache: StatCache,
    place: Path,
    *,
    time: str = "",
    as_files: bool = False,
    anew: bool = False,
    base: str = "",
    has_tables: bool = False,
    claim: Claim = lambda digests=(): None,
) -> Gathered:
    """Store what is new under a folder (or the one file), and the tree of all of it.

    Args:
        place: as `walk.located` gives it; time: the column whose range is wanted, or "".
        as_files: tables are not looked into.
        anew: every file is read again and stored again, whatever is known of it.
        base: a stored tree whose files need not be looked at again if the cache says that they are
            still those; "" looks at all. has_tables: among them are tables, so that any change
            means looking at all.
        claim: called before anything is stored, with the digests that are relied on without being stored again.
    Raises: UsageError for what cannot be part of a data set or is no whole table; Conflict naming a
        file that changes meanwhile; StoreFull; StoreUnavailable.
    """
    early = ahead.taken(place)
    work = _Gathering(objects, cache, place, time, as_files, claim, early)
    try:
        return work.run(base, has_tables=has_tables, anew=anew)
    finally:
        if early is not None:
            early.files.close()


@frozen
class _Gathering:
    """One `gather`; `early` is what was done ahead of it."""

    objects: Objects
    cache: StatCache
    place: Path
    time: str
    as_files: bool
    claim: Claim
    early: ahead.Seen | None

    def run(self, base: str, *, has_tables: bool = False, anew: bool = False) -> Gathered:
        """See `gather`."""
        root = self.cache.root(str(self.place))
        is_quick = bool(base) and base == self.cache.tree(root) and not anew
        walked = self.early.folders if self.early is not None else None
        seen = _look(self.cache, root, self.place, walked, is_quick=is_quick, anew=anew)
        if not seen.files:
            raise UsageError(
                f"the folder {self.place} holds no files",
                hint="what Git, DVC and Noria keep there for themselves is no content",
            )
        if is_quick and not seen.known and not seen.gone:
            return _gathered(seen, Digest(base), None)
        changed = sum(len(known.digests) for known in seen.known) + len(seen.lost)
        is_much = changed > max(UPDATE_SHARE * seen.files, 1000)
        if is_quick and (is_much or has_tables or self.place.is_file()):
            return self.run("")
        if is_quick:
            self.claim([base])
        else:
            _forget_absent(self.objects, seen, self.claim)
        return self._keep(root, seen, base if is_quick else "")

    def _keep(self, root: int, seen: _Seen, base: str) -> Gathered:
        """Look into the tables, store what is new, and make the tree, from that of `base` where there is one."""
        is_one = self.place.is_file()
        looks = _Looks(self.cache, self.time, is_named=is_one) if not self.as_files else None
        inspected = looks.all(seen.known) if looks else {}
        now_ns = self.cache.now_ns() - (self.early.age_ns() if self.early is not None else 0)
        _store(self.objects, seen, self.early)
        entries = [entry for known in seen.known for entry in _entries(known, inspected)]
        if base:
            changes: dict[str, Entry | None] = dict.fromkeys(seen.lost)
            tree = update_tree(self.objects, base, changes | {entry.path: entry for entry in entries})
        else:
            entries.sort(key=lambda entry: entry.path)
            tree = write_sorted(self.objects, entries)
        if looks:
            looks.keep(seen.known, inspected)
        rows = [_row(known, now_ns) for known in seen.known if known.is_changed or not base]
        self.cache.save(root, tree, rows, removed=seen.gone, is_source=True)
        tables = tuple(
            DataFile(entry.path, entry.digest, entry.size_bytes, inspected[entry.path])
            for entry in entries
            if entry.path in inspected
        )
        content = next((entry.digest for entry in entries), "") if is_one else ""
        if is_one and tables and tables[0].inspected is not None:
            content = tables[0].inspected.logical
        return _gathered(seen, tree, tables, content)


def _gathered(seen: _Seen, tree: Digest, tables: tuple[DataFile, ...] | None, content: str = "") -> Gathered:
    return Gathered(
        tree=tree,
        files=seen.files,
        size_bytes=seen.size_bytes,
        tables=tables,
        content=content,
        left_out=tuple(seen.left_out),
        left_out_count=seen.left_out_count,
    )


def _look(
    cache: StatCache, root: int, place: Path, early: Sequence[Folder] | None, *, is_quick: bool, anew: bool
) -> _Seen:
    """Walk, and find out what is known. Quick: an unchanged folder is only counted, and may have been seen ahead."""
    seen = _Seen()
    for found in cache.steps(root, walk(place) if early is None else early):
        step = found if early is None or found.is_same or not is_quick else _again(found, place)
        if step.folder is None:
            assert step.row is not None, "a step has a folder or a row"
            seen.gone.append(step.row.prefix)
            seen.lost |= {step.row.prefix + name for name in cache.known(step.row)}
            continue
        seen.files += len(step.folder.files)
        seen.size_bytes += sum(file[1] for file in step.folder.files)
        seen.left_out_count += len(step.folder.left_out)
        room = LEFT_OUT_SHOWN - len(seen.left_out)
        seen.left_out += [step.folder.prefix + name for name in step.folder.left_out[:room]]
        if is_quick and step.is_same:
            continue
        if not step.folder.files and step.row is None:
            continue
        seen.known.append(_known(cache, step, seen, anew=anew))
    return seen


def _again(step: Step, place: Path) -> Step:
    """A step whose folder was seen ahead and is not as it is remembered: what it is like now."""
    if step.folder is None:
        return step
    folder = looked_at_again(step.folder, place)
    return Step(folder, step.row, step.row is not None and packed(folder.files) == step.row.sign)


def _known(cache: StatCache, step: Step, seen: _Seen, *, anew: bool) -> _Known:
    assert step.folder is not None, "the caller has looked"
    files = step.folder.files
    if anew or step.row is None:
        return _Known(step.folder, [""] * len(files), True)
    if step.is_same:
        body = cache.digests(step.row)
        if body is None:
            return _Known(step.folder, [""] * len(files), True)
        return _Known(step.folder, [digest_at(body, place) for place in range(len(files))], False)
    before = cache.known(step.row)
    digests = []
    for file in files:
        found = before.pop(file[0], None)
        digests.append(found[1] if found is not None and found[0] == file else "")
    seen.lost |= {step.folder.prefix + name for name in before}
    return _Known(step.folder, digests, True)


def _forget_absent(objects: Objects, seen: _Seen, claim: Claim) -> None:
    """What is known but not stored any more is read and stored again. Claimed before it is looked for."""
    digests = {digest for known in seen.known for digest in known.digests if digest}
    claim(digests)
    absent = digests - objects.has_many(digests) if digests else set()
    if absent:
        for known in seen.known:
            known.digests = ["" if digest in absent else digest for digest in known.digests]
            known.is_changed = True


class _Looks:
    """What the tables among the files hold, each content looked at once for a time column.

    With `is_named` every value is read too, for the digest of what the table says.
    """

    def __init__(self, cache: StatCache, time: str, *, is_named: bool) -> None:
        self._cache = cache
        self._time = time
        self._is_named = is_named
        self._notes: dict[str, dict[str, bytes]] = {}

    def all(self, found: Sequence[_Known]) -> dict[str, Inspected]:
        """By path: what each table file holds. Raises: UsageError for one that is not whole, or repeated by a link."""
        inspected = {}
        for known in found:
            for place, file in enumerate(known.folder.files):
                if not formats.format_of(file[0]):
                    continue
                path = known.folder.prefix + file[0]
                if not formats.holds_rows(path, is_one=self._is_named):
                    continue
                if file[0] in known.folder.repeated:
                    raise UsageError(
                        f"the link {printable(path)} is a file of the folder once more", hint="remove the link"
                    )
                held = self._held(known.digests[place], file[0])
                inspected[path] = held or self._look(known.folder.path(file[0]), path)
        return inspected

    def keep(self, found: Sequence[_Known], inspected: dict[str, Inspected]) -> None:
        """Note what was found."""
        made: dict[str, list[tuple[str, bytes]]] = {}
        for known in found:
            for place, file in enumerate(known.folder.files):
                path = known.folder.prefix + file[0]
                if path in inspected and self._held(known.digests[place], file[0]) is None:
                    note = known.digests[place], _encoder.encode(inspected[path])
                    made.setdefault(self._kind(file[0]), []).append(note)
        for kind, notes in made.items():
            self._cache.keep_notes(kind, notes)

    def _held(self, digest: str, name: str) -> Inspected | None:
        kind = self._kind(name)
        if kind not in self._notes:
            self._notes[kind] = self._cache.notes(kind)
        content = self._notes[kind].get(digest)
        try:
            return None if content is None else _decoder.decode(content)
        except msgspec.DecodeError:
            return None  # a broken note is none: the file is looked at again

    def _kind(self, name: str) -> str:
        packed = ".gz" if name.lower().endswith(".gz") else ""
        return f"{formats.format_of(name)}{_NOTED}{packed}:{self._time}{':named' if self._is_named else ''}"

    def _look(self, place: str, path: str) -> Inspected:
        try:
            return formats.inspect(Path(place), printable(path), self._time, is_named=self._is_named)
        except FileNotFoundError as error:
            raise Conflict(f"{printable(path)} went away while it was added", hint="run the command again") from error
        except PermissionError as error:
            raise UsageError(f"{printable(path)} may not be read", hint="check its permissions") from error


def _store(objects: Objects, seen: _Seen, early: ahead.Seen | None) -> None:
    """Store every file whose digest is not known, and see that none changed since the walk."""
    if all(next(known.fresh(), None) is None for known in seen.known):
        return
    total = sum(known.folder.files[place][1] for known in seen.known for place in known.fresh())
    changed: list[str] = []
    with task("storing", total=total) as advance:
        if early is not None and isinstance(objects.store, HasNamed):
            changed += _stored_early(objects, seen, early, advance)
        waiting = ((known, place) for known in seen.known for place in list(known.fresh()))
        while some := list(islice(waiting, AT_ONCE)):
            changed += _stored(objects, some, advance)
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise Conflict(
            f"{', '.join(changed[:3])}{more} changed while it was added" if len(changed) == 1
            else f"{', '.join(changed[:3])}{more} changed while they were added",
            hint="nothing was versioned; run the command again when they are at rest",
        )  # fmt: skip


def _stored_early(objects: Objects, seen: _Seen, early: ahead.Seen, advance: Advance) -> list[str]:
    """Store what was read ahead, as `_stored` does; what changed since it was read is left to be read again."""
    wanted = {
        known.folder.path(known.folder.files[place][0]): (known, place)
        for known in seen.known
        for place in known.fresh()
    }
    stored: list[tuple[_Known, int, Digest]] = []

    def contents() -> Iterator[tuple[Digest, bytes]]:
        for path, stamp, key, content in early.files:
            known, place = wanted.get(path, (None, 0))
            if known is not None and known.folder.files[place][1:] == stamp:
                name = Digest(f"sha256:{key.hex()}")
                stored.append((known, place, name))
                yield name, content
                advance(stamp[0])

    waiting = contents()
    while objects.put_verified(islice(waiting, AT_ONCE)):
        pass
    for known, place, name in stored:
        known.digests[place] = name
    return _changed((known, place) for known, place, _ in stored)


def _stored(objects: Objects, files: Sequence[tuple[_Known, int]], advance: Advance) -> list[str]:
    """Store some files and note their digests; gives the names of those that changed since the walk."""
    paths = [known.folder.path(known.folder.files[place][0]) for known, place in files]
    try:
        digests = objects.put_files(paths, advance)  # a Path costs as much as a system call
    except NotFound as error:
        raise Conflict(f"a file went away while it was added: {error.message}", hint="run it again") from error
    for (known, place), digest in zip(files, digests, strict=True):
        known.digests[place] = digest
    return _changed(files)


def _changed(files: Iterable[tuple[_Known, int]]) -> list[str]:
    """The names of those that are not as the walk found them."""
    changed = []
    for known, place in files:
        file = known.folder.files[place]
        name = known.folder.prefix + file[0]
        if stamp_of(known.folder.path(file[0]), name) != file[1:]:
            changed.append(printable(name))
    return changed


def _entries(known: _Known, inspected: dict[str, Inspected]) -> Iterable[Entry]:
    for file, digest in zip(known.folder.files, known.digests, strict=True):
        path = known.folder.prefix + file[0]
        held = inspected.get(path)
        yield Entry(path, digest, file[1], held.rows if held is not None else 0)


def _row(known: _Known, now_ns: int) -> tuple[str, list[tuple[str, int, int, int, int]], bytes]:
    body = b"".join(bytes.fromhex(digest[7:]) for digest in known.digests)
    return known.folder.prefix, without_racy(known.folder.files, now_ns), body
