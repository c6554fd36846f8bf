"""Are the bytes on a remote what their names say? And if not, put there what a sound copy here has.

The opposite of `verify`, which heals what is here from a remote. Every object of a version is read from the
remote and hashed; small ones many at a time. An altered one gives way only to bytes that were verified here.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from typing import BinaryIO, Protocol, cast, runtime_checkable

from noria.core import identity
from noria.core.errors import Corrupt, NoriaError, NotFound, StoreUnavailable
from noria.core.frozen import slotted
from noria.core.identity import Digest, short
from noria.core.progress import Advance
from noria.core.words import counted
from noria.data.remote.remotes import Remote
from noria.store.objects import Objects

__all__ = ["HasTables", "Mends", "Repair"]

SMALL_BYTES = 1 << 20
BATCH_BYTES = 64 << 20
THREADS = 8
_SHOWN = 3


@runtime_checkable
class Mends(Protocol):
    """A store that takes our word for what replaces an altered object."""

    def mend(self, digest: Digest, content: BinaryIO, size: int) -> None:
        """Replace whatever is stored under a name by these bytes, which the caller has verified."""
        ...


@runtime_checkable
class HasTables(Protocol):
    """A store of which nothing can be read while one of its tables of contents is altered."""

    def set_aside_unreadable(self) -> int:
        """Move those tables away, with what they list, so that it is stored anew; gives how many."""
        ...


@slotted
class Repair:
    """Reads a remote's objects, each once, and mends the altered ones from `here`.

    `checked` counts what was read, `repaired` what was put right; `broken` says by digest why one could not be.
    """

    here: Objects
    remote: Remote
    checked: set[Digest] = field(default_factory=set)
    repaired: set[Digest] = field(default_factory=set)
    broken: dict[Digest, str] = field(default_factory=dict)

    def make_readable(self) -> None:
        """Before anything is asked of the remote: move aside what would answer every question with an error."""
        if isinstance(self.remote.objects.store, HasTables):
            self.remote.objects.store.set_aside_unreadable()

    def look(self, wanted: Mapping[Digest, int], advance: Advance = lambda _: None) -> int:
        """Read those that were not read before; gives how many were put right. Raises: StoreUnavailable."""
        fresh = {name: size for name, size in wanted.items() if name not in self.checked}
        self.checked |= set(fresh)
        before = len(self.repaired)
        for name in self._altered(fresh, advance):
            try:
                self._mend(name)
                self.repaired.add(name)
            except StoreUnavailable:
                raise
            except NoriaError as error:
                self.broken[name] = error.message
        return len(self.repaired) - before

    def require_whole(self) -> None:
        """Raises: Corrupt naming what is altered there and could not be put right."""
        if not self.broken:
            return
        named = "; ".join(f"{short(name)}: {why}" for name, why in list(self.broken.items())[:_SHOWN])
        more = f"; and {len(self.broken) - _SHOWN} more" if len(self.broken) > _SHOWN else ""
        mended = f" ({counted(len(self.repaired), 'other')} put right)" if self.repaired else ""
        raise Corrupt(
            f"{counted(len(self.broken), 'object is', 'objects are')} altered on {self.remote.name} and could not be"
            f" put right: {named}{more}{mended}",
            where=self.remote.told,
            hint="push --check from a clone that has a sound copy, or noria data verify heals this one first",
        )

    def _altered(self, wanted: Mapping[Digest, int], advance: Advance) -> list[Digest]:
        small = [name for name, size in wanted.items() if size <= SMALL_BYTES]
        large = [name for name, size in wanted.items() if size > SMALL_BYTES]

        def look(name: Digest) -> bool:
            is_sound = self._is_sound(name)
            advance(wanted[name])
            return is_sound

        with ThreadPoolExecutor(THREADS) as pool:
            doubtful = [name for each in pool.map(self._unread, _batches(small, wanted)) for name in each]
            advance(sum(wanted[name] for name in set(small) - set(doubtful)))
            rest = [*doubtful, *large]
            return [name for name, is_sound in zip(rest, pool.map(look, rest), strict=True) if not is_sound]

    def _unread(self, names: Sequence[Digest]) -> set[Digest]:
        """Those of a batch that were not read well; they are looked at one by one."""
        left = set(names)
        try:
            for name, _ in self.remote.objects.get_many(names):
                left.discard(name)
        except (Corrupt, NotFound):
            pass  # the batch ends at the first that is altered: whatever was not given is read alone
        return left

    def _is_sound(self, name: Digest) -> bool:
        try:
            self.remote.objects.verify(name)
        except (Corrupt, NotFound):
            return False
        return True

    def _mend(self, name: Digest) -> None:
        self.here.verify(name)  # what replaces it is what it says, or nothing is touched
        if not self._mend_pieces(name):
            self._replace(name)
        self.remote.objects.verify(name)

    def _mend_pieces(self, name: Digest) -> bool:
        """Put right the pieces that the remote keeps an object in; False if its list of them is wrong, or it has none.

        Only the altered pieces travel, and whatever else shares them is well again too.
        """
        try:
            pieces = self.remote.objects.chunks_of(name) or ()
        except (Corrupt, NotFound):
            return False
        with self.here.open(name) as stream:
            for piece, size in pieces:
                content = stream.read(size)
                if identity.digest(content) != piece:
                    return False
                if not self._is_sound(piece):
                    self._put(piece, content)
        return bool(pieces)

    def _replace(self, name: Digest) -> None:
        store = self.remote.objects.store
        if not isinstance(store, Mends):
            self._set_aside(name)
            self.remote.objects.put_file(self.here.path(name))
            return
        with self.here.path(name).open("rb") as stream:
            store.mend(name, cast("BinaryIO", stream), self.here.size(name))

    def _put(self, name: Digest, content: bytes) -> None:
        store = self.remote.objects.store
        if isinstance(store, Mends):
            store.mend(name, io.BytesIO(content), len(content))
            return
        self._set_aside(name)
        self.remote.objects.put_verified([(name, content)])

    def _set_aside(self, name: Digest) -> None:
        try:
            self.remote.objects.quarantine(name)
        except NotFound:
            return  # it is gone: there is nothing in the way


def _batches(names: Sequence[Digest], sizes: Mapping[Digest, int]) -> Iterator[list[Digest]]:
    batch: list[Digest] = []
    held = 0
    for name in names:
        batch.append(name)
        held += sizes[name]
        if held >= BATCH_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
