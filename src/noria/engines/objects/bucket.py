"""Named bytes in S3, or in any store that speaks its protocol: the one place that knows boto3.

A key is written once by `create`, which asks the store to refuse a key that exists (If-None-Match),
so that of two writers exactly one succeeds; a key that changes (a lock's heartbeat) is replaced
only in the state that was seen (If-Match). What is sent is checked by the store against its
sha-256; a store that does not say that it did so is checked by the ETag of its answer, the md5 of
what it has. Nothing more is summed up on the way: whoever reads an object compares it with its digest.
Large files go in parts, in parallel, and an upload that a killed process left is continued part by part.

Credentials come from where boto3 looks for them, never from a URL or from noria.toml.

Source: Amazon S3 API reference: PutObject (conditional writes), UploadPart, ListParts, and the form
of a multipart ETag (md5 of the parts' md5s, `-`, number of parts).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from noria.core.errors import ConfigError, Conflict, Corrupt, Denied, NotFound, StoreFull, StoreUnavailable, UsageError
from noria.store.bucket import Item

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

__all__ = ["S3Bucket"]

PART_BYTES = 8 << 20
PARTS_MAX = 9000
"""S3 allows 10,000 parts of one object."""
THREADS = 4
ATTEMPTS = 4
_MISSING = frozenset({"NoSuchKey", "NoSuchUpload", "404", "NotFound"})
_OTHER_PARTS = frozenset({"InvalidPart", "InvalidPartOrder", "EntityTooSmall"})
_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412"})
_REFUSED = frozenset({"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"})


class S3Bucket:
    """A bucket of S3, or the part of one below a prefix: `s3://bucket/prefix`. Thread safe.

    Args:
        endpoint: address of another server that speaks S3; else AWS_ENDPOINT_URL_S3, else Amazon.
    """

    def __init__(self, url: str, endpoint: str = "", region: str = "") -> None:
        scheme, _, rest = url.partition("://")
        self._bucket, _, prefix = rest.partition("/")
        if scheme != "s3" or not self._bucket or "@" in self._bucket:
            raise ConfigError(f"{_without_secret(url)!r} is not the address of a bucket", hint="s3://BUCKET/PREFIX")
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.url = f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        self._endpoint, self._region = endpoint, region
        self._shared = _Shared()

    def below(self, prefix: str) -> S3Bucket:
        """The part of this bucket below a prefix, on the same connections."""
        made = S3Bucket(f"{self.url}/{prefix}", self._endpoint, self._region)
        made._shared = self._shared
        return made

    def open(self, key: str, start: int = 0, length: int = -1) -> BinaryIO:
        """The bytes of a key from `start` on, as a stream that is continued if the connection breaks.

        Raises: NotFound; Denied; StoreUnavailable.
        """
        return cast("BinaryIO", io.BufferedReader(_Body(self, key, start, length), 1 << 18))

    def read(self, key: str, start: int = 0, length: int = -1) -> bytes:
        """The bytes of a key, or of a part of it. Raises: NotFound; StoreUnavailable."""
        with contextlib.closing(_Body(self, key, start, length)) as body:
            return body.readall()

    def stat(self, key: str) -> Item | None:
        """Size and tag of a key, or None if it is not there. Raises: StoreUnavailable."""
        try:
            with self._faults(key):
                found = self._client().head_object(Bucket=self._bucket, Key=self._prefix + key)
        except NotFound:
            return None
        return Item(key, int(found["ContentLength"]), found["ETag"].strip('"'), found["LastModified"].timestamp())

    def create(self, key: str, content: bytes, *, instead_of: str = "") -> str:
        """Write a key that does not exist, or one whose tag is still `instead_of`; gives the new tag.

        Raises: Conflict if somebody else wrote it first; StoreUnavailable; Corrupt.
        """
        condition: dict[str, Any] = {"IfMatch": f'"{instead_of}"'} if instead_of else {"IfNoneMatch": "*"}
        return self._put(key, content, condition)

    def overwrite(self, key: str, content: bytes) -> str:
        """Write a key whatever is there. Raises: StoreUnavailable; Corrupt."""
        return self._put(key, content, {})

    def list(self, prefix: str = "") -> Iterator[Item]:
        """Every key that begins with `prefix`, in the order of the keys. Raises: StoreUnavailable."""
        token: dict[str, Any] = {}
        while True:
            with self._faults(prefix):
                page = self._client().list_objects_v2(Bucket=self._bucket, Prefix=self._prefix + prefix, **token)
            for each in page.get("Contents", ()):
                name, tag = each["Key"].removeprefix(self._prefix), each["ETag"].strip('"')
                yield Item(name, int(each["Size"]), tag, each["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, key: str) -> None:
        """Take a key away; nothing happens if it is not there. Raises: StoreUnavailable."""
        with self._faults(key):
            self._client().delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def copy(self, key: str, target: str) -> None:
        """Write the bytes of a key to another key, within the store. Raises: NotFound; StoreUnavailable."""
        place = {"Bucket": self._bucket, "Key": self._prefix + key}
        with self._faults(key):  # in parts where it is large, which one request may not copy
            self._client().copy(cast("Any", place), self._bucket, self._prefix + target)

    def signed(self, operation: Literal["get_object", "upload_part"], key: str, seconds: int, **given: Any) -> str:
        """An address that does one thing to a key for so long, for whoever has it. Nothing is asked of the store."""
        words = {"Bucket": self._bucket, "Key": self._prefix + key, **given}
        with self._faults(key):
            return self._client().generate_presigned_url(operation, Params=words, ExpiresIn=seconds)

    def begin_parts(self, key: str) -> str:
        """Begin a key that comes in parts; gives what the store calls it. Raises: StoreUnavailable."""
        with self._faults(key):
            return self._client().create_multipart_upload(**self._place(key))["UploadId"]

    def parts(self, key: str, upload: str) -> dict[int, tuple[str, int]]:
        """(tag, size) of the parts that are there, by number from 1. Raises: NotFound; StoreUnavailable."""
        found: dict[int, tuple[str, int]] = {}
        marker: dict[str, Any] = {}
        while True:
            with self._faults(key):
                page = self._client().list_parts(**self._place(key), UploadId=upload, **marker)
            for each in page.get("Parts", ()):
                found[each["PartNumber"]] = (each["ETag"].strip('"'), each["Size"])
            if not page.get("IsTruncated"):
                return found
            marker = {"PartNumberMarker": page["NextPartNumberMarker"]}

    def join_parts(self, key: str, upload: str, tags: Sequence[str]) -> None:
        """Make a key of its parts, named by their tags in order. Raises: NotFound; UsageError; StoreUnavailable."""
        named = [{"PartNumber": number, "ETag": f'"{tag}"'} for number, tag in enumerate(tags, 1)]
        with self._faults(key):
            self._client().complete_multipart_upload(
                **self._place(key), UploadId=upload, MultipartUpload={"Parts": cast("Any", named)}
            )

    def abort_parts(self, key: str, upload: str) -> None:
        """Take the parts of a key away. Raises: NotFound; StoreUnavailable."""
        with self._faults(key):
            self._client().abort_multipart_upload(**self._place(key), UploadId=upload)

    def _place(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def upload(self, key: str, source: BinaryIO, size: int, sent: Callable[[int], None] = lambda _: None) -> None:
        """Write `size` bytes of a seekable stream to a key, from its start; a key that has them is left as it is.

        Idempotent; a broken upload of the same bytes is continued. `sent` is told the bytes as they arrive.
        Raises: Conflict if the stream holds fewer bytes; Corrupt if the store has other bytes than were sent.
        """
        if size <= PART_BYTES:
            self.write(key, _exactly(source, 0, size))
            sent(size)
            return
        _Multipart(self, key, source, size, sent).run()

    def write(self, key: str, content: bytes, sha256: bytes = b"") -> None:
        """Write a key in one request; one that has these bytes is left as it is, and altered ones are put right.

        Args:
            sha256: of the content, where the caller knows it already.
        Raises: StoreUnavailable; StoreFull; Corrupt.
        """
        try:
            self._put(key, content, {"IfNoneMatch": "*"}, sha256)
        except Conflict:
            found = self.stat(key)
            if found is None or _is_other(found, len(content), hashlib.md5(content, usedforsecurity=False).hexdigest()):
                self.overwrite(key, content)

    def _put(self, key: str, content: bytes, condition: dict[str, Any], sha256: bytes = b"") -> str:
        checksum = _checksum(content, sha256)
        with self._faults(key):
            done = self._client().put_object(
                Bucket=self._bucket, Key=self._prefix + key, Body=content, ChecksumSHA256=checksum, **condition
            )
        self._require_same(key, content, checksum, done)
        return done["ETag"].strip('"')

    def _require_same(self, key: str, content: bytes, checksum: str, answer: Any) -> None:
        """The store says which sha-256 it found, or else the md5: its ETag, unless it encrypts with a key of its own.

        The md5 costs twice as much as everything else that is done here, so it is the second choice.
        """
        found = answer.get("ChecksumSHA256", "")
        expected, tag = checksum, answer["ETag"].strip('"')
        if not found and answer.get("ServerSideEncryption", "") in ("", "AES256") and len(tag) == 32:
            expected, found = hashlib.md5(content, usedforsecurity=False).hexdigest(), tag
        if found and found != expected:
            raise Corrupt(f"{key} arrived altered: the store says {found}, sent was {expected}", where=self.url)

    def _client(self) -> S3Client:
        with self._shared.lock:
            if self._shared.client is None:
                settings = Config(
                    connect_timeout=10,
                    read_timeout=60,
                    retries={"mode": "standard", "max_attempts": ATTEMPTS},
                    max_pool_connections=48,
                    signature_version="s3v4",  # of addresses too: the older form is not known everywhere
                    request_checksum_calculation="when_required",  # every body has its sha-256 already
                    response_checksum_validation="when_required",  # and is compared with its digest by the reader
                    s3={
                        "addressing_style": "path" if self._endpoint else "auto",
                        "payload_signing_enabled": False,  # each body has a checksum, which is signed
                    },
                )
                with self._faults(""):
                    session = boto3.Session()
                    self._shared.client = session.client(
                        "s3",
                        endpoint_url=self._endpoint or None,
                        region_name=self._region or session.region_name or "us-east-1",
                        config=settings,
                    )
            return self._shared.client

    @contextlib.contextmanager
    def _faults(self, key: str) -> Iterator[None]:
        """Turn boto3's errors into the error tree; a missing key is NotFound, a taken one Conflict."""
        try:
            yield
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise ConfigError(
                "there are no credentials for the bucket: AWS_ACCESS_KEY_ID is not set",
                where=self.url,
                hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
            ) from error
        except ClientError as error:
            raise self._told(key, error) from error
        except (BotoCoreError, ValueError) as error:
            place = self._endpoint or self.url
            raise StoreUnavailable(
                f"the bucket {self._bucket} cannot be reached: {_first_line(error)}",
                where=place,
                hint="check the remote's endpoint and the network, then run the command again",
            ) from error

    def _told(self, key: str, error: ClientError) -> Exception:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _MISSING:
            return NotFound(f"there is no {key}", where=self.url)
        if code in _OTHER_PARTS:
            hint = "parts have 5 MiB at least, but for the last; send it again"
            return UsageError(f"the parts are not as they were named, or too small: {code}", hint=hint)
        if code in _TAKEN:
            return Conflict(f"{key} was written by somebody else", where=self.url)
        if code == "NoSuchBucket":
            return StoreUnavailable(
                f"there is no bucket {self._bucket}", where=self._endpoint or self.url, hint="make it, or mend the url"
            )
        if code in _REFUSED or status == 403:
            hint = "check AWS_ACCESS_KEY_ID and what it may do"
            return Denied(f"the bucket {self._bucket} refuses: {code}", where=self.url, hint=hint)
        if code in ("BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch"):
            return Corrupt(f"{key} was altered on its way to the store", where=self.url, hint="run the command again")
        if code in ("InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "507"):
            return StoreFull(f"the bucket {self._bucket} is full", where=self.url, hint="free some space there")
        return StoreUnavailable(
            f"the bucket {self._bucket} failed: {code or status}",
            where=self._endpoint or self.url,
            hint="run the command again",
        )


class _Shared:
    """One client for a bucket and the parts of it: making one costs as much as a hundred requests."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.client: S3Client | None = None


class _Body(io.RawIOBase):
    """The body of a key: read in order, opened again where it stands when the connection breaks; can seek."""

    def __init__(self, bucket: S3Bucket, key: str, start: int, length: int) -> None:
        self._bucket, self._key = bucket, key
        self._start, self._length = start, length
        self._at = 0
        self._stream: Any = None
        self._size = -1
        self._tag = ""
        self._open()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        target = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if target != self._at:
            self._drop()
            self._at = max(target, 0)
        return self._at

    def readall(self) -> bytes:
        """The rest in few large reads: many small ones make threads wait for each other."""
        parts: list[bytes] = []
        while content := self._some(self._size - self._at):
            parts.append(content)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        content = self._some(len(view))
        view[: len(content)] = content
        return len(content)

    def _some(self, count: int) -> bytes:
        """Up to `count` bytes, none at the end only. Raises: StoreUnavailable."""
        for attempt in range(ATTEMPTS):
            if self._at >= self._size or count <= 0:
                return b""
            try:
                if self._stream is None:
                    self._open()
                content: bytes = self._stream.read(count)
            except (BotoCoreError, OSError) as error:
                self._drop()
                if attempt == ATTEMPTS - 1:
                    raise StoreUnavailable(
                        f"{self._key} broke off: {_first_line(error)}", where=self._bucket.url, hint="try again"
                    ) from error
                continue
            if content:
                self._at += len(content)
                return content
            self._drop()  # shorter than it said: ask for the rest
        raise StoreUnavailable(f"{self._key} ends early", where=self._bucket.url, hint="try again")

    def close(self) -> None:
        self._drop()
        super().close()

    def _open(self) -> None:
        first = self._start + self._at
        last = self._start + self._length - 1 if self._length >= 0 else ""
        span = {"Range": f"bytes={first}-{last}"} if first or self._length >= 0 else {}
        if self._tag:
            span["IfMatch"] = f'"{self._tag}"'
        if self._length == 0:
            self._size = 0
            return
        with self._bucket._faults(self._key):
            found = self._bucket._client().get_object(
                Bucket=self._bucket._bucket,
                Key=self._bucket._prefix + self._key,
                **span,  # type: ignore[arg-type]  # the two settings that are in it
            )
        if self._size < 0:
            self._size = int(found["ContentLength"])
        self._tag = found["ETag"].strip('"')
        self._stream = found["Body"]

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class _Multipart:
    """One large upload: parts in parallel, those that a killed process sent are not sent again."""

    def __init__(self, bucket: S3Bucket, key: str, source: BinaryIO, size: int, sent: Callable[[int], None]) -> None:
        self._bucket, self._key, self._size, self._sent = bucket, key, size, sent
        self._source = source
        self._lock = threading.Lock()
        self._part_bytes = max(PART_BYTES, -(-size // PARTS_MAX // (1 << 20)) * (1 << 20))
        while -(-size // self._part_bytes) > PARTS_MAX:
            self._part_bytes += 1 << 20
        self._place = bucket._place(key)

    def run(self) -> None:
        found = self._bucket.stat(self._key)
        if found is not None and found.size_bytes == self._size and "-" in found.tag:
            expected = f"{self._tag_of([self._md5(n) for n in range(self._count)])}"
            if found.tag == expected:
                self._sent(self._size)
                return
        for attempt in range(ATTEMPTS):
            try:
                self._send(self._unfinished())
                return
            except NotFound:  # another process finished this very upload, or took it away
                done = self._bucket.stat(self._key)
                if done is not None and done.size_bytes == self._size:
                    return
                if attempt == ATTEMPTS - 1:
                    raise

    @property
    def _count(self) -> int:
        return -(-self._size // self._part_bytes)

    def _send(self, upload: str) -> None:
        there = self._parts(upload)
        with ThreadPoolExecutor(THREADS) as pool:
            sent = list(pool.map(lambda number: self._part(upload, number, there), range(self._count)))
        tags = [tag for tag, _ in sent]
        parts = [
            {"PartNumber": number + 1, "ETag": f'"{tag}"', "ChecksumSHA256": checksum}
            for number, (tag, checksum) in enumerate(sent)
        ]
        with self._bucket._faults(self._key):
            done = self._bucket._client().complete_multipart_upload(
                **self._place, UploadId=upload, MultipartUpload={"Parts": cast("Any", parts)}
            )
        expected = self._tag_of([bytes.fromhex(tag) for tag in tags])
        tag = done["ETag"].strip('"')
        if all(len(each) == 32 for each in tags) and "-" in tag and tag != expected:
            raise Corrupt(f"{self._key} arrived altered: {tag}, not {expected}", where=self._bucket.url)
        for other in self._uploads():
            with self._bucket._faults(self._key):
                self._bucket._client().abort_multipart_upload(**self._place, UploadId=other)

    def _part(self, upload: str, number: int, there: dict[int, tuple[int, str]]) -> tuple[str, str]:
        """Send a part that is not there; gives its tag and its checksum."""
        content = self._read(number)
        checksum = _checksum(content)
        tag = hashlib.md5(content, usedforsecurity=False).hexdigest() if number in there else ""
        if there.get(number) != (len(content), tag):
            with self._bucket._faults(self._key):
                done = self._bucket._client().upload_part(
                    **self._place, UploadId=upload, PartNumber=number + 1, Body=content, ChecksumSHA256=checksum
                )
            self._bucket._require_same(self._key, content, checksum, done)
            tag = done["ETag"].strip('"')
        self._sent(len(content))
        return tag, checksum

    def _read(self, number: int) -> bytes:
        with self._lock:
            return _exactly(
                self._source,
                number * self._part_bytes,
                min(self._part_bytes, self._size - number * self._part_bytes),
            )

    def _md5(self, number: int) -> bytes:
        return hashlib.md5(self._read(number), usedforsecurity=False).digest()

    def _tag_of(self, md5s: list[bytes]) -> str:
        return f"{hashlib.md5(b''.join(md5s), usedforsecurity=False).hexdigest()}-{len(md5s)}"

    def _unfinished(self) -> str:
        found = self._uploads()
        if found:
            return found[-1]
        with self._bucket._faults(self._key):
            return self._bucket._client().create_multipart_upload(**self._place, ChecksumAlgorithm="SHA256")["UploadId"]

    def _uploads(self) -> list[str]:
        """Uploads of this key that nobody finished, oldest first."""
        with self._bucket._faults(self._key):
            page = self._bucket._client().list_multipart_uploads(
                Bucket=self._place["Bucket"], Prefix=self._place["Key"]
            )
        ours = [each for each in page.get("Uploads", ()) if each["Key"] == self._place["Key"]]
        return [each["UploadId"] for each in sorted(ours, key=lambda each: each["Initiated"])]

    def _parts(self, upload: str) -> dict[int, tuple[int, str]]:
        """(size, tag) of the parts that are there, by number from 0."""
        found = self._bucket.parts(self._key, upload)
        return {number - 1: (size, tag) for number, (tag, size) in found.items()}


def _exactly(source: BinaryIO, start: int, length: int) -> bytes:
    source.seek(start)
    content = source.read(length)
    if len(content) != length:
        raise Conflict(f"the source ended after {start + len(content)} bytes", hint="it changed while it was sent")
    return content


def _checksum(content: bytes, sha256: bytes = b"") -> str:
    return base64.b64encode(sha256 or hashlib.sha256(content).digest()).decode()


def _is_other(found: Item, size: int, md5: str) -> bool:
    return found.size_bytes != size or (len(found.tag) == 32 and found.tag != md5)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__


def _without_secret(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
