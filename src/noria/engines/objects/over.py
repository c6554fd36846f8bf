"""A throw-away store over another: what is new goes on top, what is below is read and never changed.

For a trial of a whole project: it sees every object of the real store and leaves it byte for byte as
it was. The address names both: `over://FOLDER?base=ADDRESS`, the address of the store below quoted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qs, urlsplit

from noria import plugins
from noria.core.errors import ConfigError, NotFound
from noria.core.identity import Digest
from noria.store.objects import HasPaths, ObjectStore

__all__ = ["OverObjects"]


class OverObjects:
    """See `noria.store.objects.ObjectStore`. Safe as the two stores are.

    Raises: ConfigError for an address without both parts.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        base = parse_qs(parts.query).get("base", [""])[0]
        if not parts.path or not base:
            raise ConfigError(f"store.objects {url!r} names no folder or no base", hint="over:///FOLDER?base=ADDRESS")
        folder = Path(parts.path)
        self.top: ObjectStore = plugins.load("objects", "file")(folder)
        self.base: ObjectStore = _opened(base, folder)

    def put(self, source: BinaryIO) -> Digest:
        """Store on top."""
        return self.top.put(source)

    def get(self, digest: Digest) -> BinaryIO:
        """From the top, else from below. Raises: NotFound."""
        try:
            return self.top.get(digest)
        except NotFound:
            return self.base.get(digest)

    def has(self, digest: Digest) -> bool:
        """Whether it is in either."""
        return self.top.has(digest) or self.base.has(digest)

    def list(self) -> Iterator[tuple[Digest, int]]:
        """Every object of both, once."""
        seen = set()
        for name, size in self.top.list():
            seen.add(name)
            yield name, size
        for name, size in self.base.list():
            if name not in seen:
                yield name, size

    def delete(self, digest: Digest) -> None:
        """Take away what is on top; what is below stays. Raises: NotFound if it is not on top."""
        self.top.delete(digest)

    def path_of(self, digest: Digest) -> Path:
        """The file on top or below where there is one, so that reading needs no copy."""
        found = [store.path_of(digest) for store in (self.top, self.base) if isinstance(store, HasPaths)]
        return next((path for path in found if path.exists()), found[0])


def _opened(address: str, folder: Path) -> ObjectStore:
    """The store below, as a project's own is opened."""
    scheme, separator, rest = address.partition("://")
    if not separator or scheme == "file":
        found: ObjectStore = plugins.load("objects", "file")(Path(rest if separator else address))
    elif scheme == "s3":
        found = plugins.load("objects", "s3")(address, cache=folder.parent / "packs")
    else:
        found = plugins.load("objects", scheme)(address)
    return found
