"""Signed addresses of a bucket: a client reads objects, and sends the parts of new ones, without the server.

What is sent lies at `incoming/ID` until it is known what it is: the server reads it once, for its digest, and
has the store copy it to the key of its content. `incoming/ID.json` says what was begun, so that every server
over the bucket can go on with it, and `incoming/ID.done` that it ended.

Source: Amazon S3 user guide, "Sharing objects with presigned URLs" and "Uploading using multipart upload".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import urllib.parse
import uuid
from collections.abc import Callable, Mapping, Sequence

from noria.core.errors import Conflict, NotFound
from noria.core.identity import Digest
from noria.engines.objects.bucket import S3Bucket
from noria.store.direct import Begun, Underway
from noria.store.disk import BLOCK_BYTES
from noria.store.failpoint import failpoint

__all__ = ["S3Direct"]

INCOMING = "incoming/"
READ_S = 3600
SEND_S = 12 * 3600
KEPT_S = 7 * 86400.0
"""How long what was sent waits for the rest."""
_ID = re.compile(r"[0-9a-f]{32}")


class S3Direct:
    """See `noria.store.direct.Direct`.

    Args:
        key_of: gives the key of an object that is a key of its own.
        clock: gives the seconds since the epoch.
    """

    def __init__(self, bucket: S3Bucket, key_of: Callable[[Digest], str], clock: Callable[[], float]) -> None:
        self._bucket = bucket
        self._key_of = key_of
        self._clock = clock

    def address_of(self, digest: Digest, name: str) -> str:
        """Where an object is read; empty if it lies in a pack, in pieces, or in the trash."""
        key = self._key_of(digest)
        if self._bucket.stat(key) is None:
            return ""
        kept = f"attachment; filename*=UTF-8''{urllib.parse.quote(name, safe='')}"
        said = {"ResponseContentDisposition": kept, "ResponseContentType": "application/octet-stream"}
        return self._bucket.signed("get_object", key, READ_S, **said)

    def begin(self, note: str, count: int) -> Begun:
        """Begin an upload; its parts are sent within twelve hours."""
        self._sweep()
        upload = uuid.uuid4().hex
        key = INCOMING + upload
        place = self._bucket.begin_parts(key)
        about = json.dumps({"note": note, "count": count, "place": place}, sort_keys=True)
        self._bucket.create(f"{key}.json", about.encode())
        failpoint("direct.begun")
        signed = self._bucket.signed
        numbers = range(1, count + 1)
        return Begun(
            upload, tuple(signed("upload_part", key, SEND_S, UploadId=place, PartNumber=number) for number in numbers)
        )

    def find(self, upload: str) -> Underway | None:
        """An upload that is under way."""
        if not _ID.fullmatch(upload):
            return None
        try:
            about = json.loads(self._bucket.read(f"{INCOMING}{upload}.json"))
        except NotFound:
            return None
        return Underway(upload, str(about["note"]), int(about["count"]), str(about["place"]))

    def parts(self, upload: Underway) -> Mapping[int, tuple[str, int]]:
        """What is there of it; nothing more once it was joined."""
        try:
            return self._bucket.parts(INCOMING + upload.id, upload.place)
        except NotFound:
            return {}

    def join(self, upload: Underway, tags: Sequence[str]) -> tuple[Digest, int]:
        """One object of all parts, read once for its name."""
        key = INCOMING + upload.id
        try:
            self._bucket.join_parts(key, upload.place, tags)
        except NotFound:
            if self._bucket.stat(key) is None:  # else it was joined before, by who was killed or is at it
                raise
        failpoint("direct.joined")
        digest, size = self._named(key)
        target = self._key_of(digest)
        self._bucket.copy(key, target)  # also where it is there: it counts as stored now, for a collection
        found = self._bucket.stat(target)
        if found is None or found.size_bytes != size:
            raise Conflict("what was sent changed while it was kept", where=self._bucket.url, hint="send it again")
        failpoint("direct.copied")
        return digest, size

    def end(self, upload: Underway) -> None:
        """Forget an upload whose object is kept."""
        with contextlib.suppress(Conflict):  # another request, the same, was first
            self._bucket.create(f"{INCOMING}{upload.id}.done", upload.note.encode())
        self._forget(upload.id)

    def has_ended(self, upload: str, note: str) -> bool:
        """Whether it was ended."""
        if not _ID.fullmatch(upload):
            return False
        try:
            return self._bucket.read(f"{INCOMING}{upload}.done") == note.encode()
        except NotFound:
            return False

    def abort(self, upload: Underway) -> None:
        """Take away what was sent."""
        with contextlib.suppress(NotFound):  # it was joined, or aborted before
            self._bucket.abort_parts(INCOMING + upload.id, upload.place)
        self._forget(upload.id)

    def _named(self, key: str) -> tuple[Digest, int]:
        """The digest of what lies at a key, and its size. Raises: NotFound; StoreUnavailable."""
        hasher, size = hashlib.sha256(), 0
        with self._bucket.open(key) as stream:
            while block := stream.read(BLOCK_BYTES):
                hasher.update(block)
                size += len(block)
        return Digest(f"sha256:{hasher.hexdigest()}"), size

    def _forget(self, upload: str) -> None:
        self._bucket.delete(INCOMING + upload)
        self._bucket.delete(f"{INCOMING}{upload}.json")

    def _sweep(self) -> None:
        """Take away uploads that nobody ended, and the marks of those that were ended."""
        before = self._clock() - KEPT_S
        for item in self._bucket.list(INCOMING):
            if item.modified >= before:
                continue
            found = self.find(item.key.removeprefix(INCOMING).removesuffix(".json")) if ".json" in item.key else None
            if found is not None:
                self.abort(found)
            self._bucket.delete(item.key)
