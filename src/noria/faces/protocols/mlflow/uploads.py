"""Artifacts in several parts: an upload is begun, its parts come in any order, and it is completed or given up.

A part is a file of `.noria/uploads` from the moment that it is answered; the artifact is there when all of them
were put together, and not before. What a kill or a cut connection left is gone on with: the parts that are there
are told, and only the others are sent again. An upload that nobody completes is taken away after a week.
Downloads of stretches (`range`) are the same the other way round, and `presigned` says where.

Parts come to this server by the addresses that `create` gives, with the authorization that its request had; or
past it, where the project says so (direct.py).

Source: mlflow/server/handlers.py of MLflow 3.17 (`_create_multipart_upload_artifact` and those beside it), and its
client, mlflow/store/artifact/http_artifact_repo.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
import shutil
import time
import urllib.parse
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.faces.http.body import read_body
from noria.faces.http.replies import drain
from noria.faces.protocols.mlflow import artifacts, direct
from noria.faces.protocols.mlflow.artifacts import Opened
from noria.faces.protocols.mlflow.messages import INT, TEXT, Message, Repeated, Spec, read
from noria.faces.protocols.mlflow.refusals import Refused, invalid, missing
from noria.store.disk import BLOCK_BYTES, disk_faults, sync_folder
from noria.store.failpoint import failpoint
from noria.store.workspace import Workspace

__all__ = ["abort", "complete", "create", "part", "parts", "presigned"]

msgspec_json = lazy("msgspec.json")
PARTS_MAX = 10_000
"""As S3 has it."""
BODY_MAX = 4 << 20
KEPT_S = 7 * 86400.0
"""How long the parts of an upload wait for the others."""
ABOUT, DONE = "about.json", "done"
_ID = re.compile(r"[0-9a-f]{32}")
_PART = re.compile(r"(?P<number>\d{5})\.(?P<tag>[0-9a-f]{64})")
_CREATE = Spec({"path": TEXT, "num_parts": INT}, {"path": ("required", "text"), "num_parts": ("int",)})
_PARTS = Repeated(Message({"part_number": INT, "etag": TEXT, "url": TEXT}))
_COMPLETE = Spec(
    {"path": TEXT, "upload_id": TEXT, "parts": _PARTS},
    {"path": ("required", "text"), "upload_id": ("text",), "parts": ("required",)},
)
_ABORT = Spec({"path": TEXT, "upload_id": TEXT}, {"path": ("required", "text"), "upload_id": ("text",)})


@frozen
class _Upload:
    """An upload that was begun: its folder, the artifact's path, and how many parts it has."""

    folder: Path
    path: str
    count: int


async def create(wire: Opened, ws: Workspace, request: Request) -> Response:
    """`POST …/mpu/create/{path}`: begin an upload; an address for each part."""
    given = await _given(request, _CREATE)
    path = _path(request, given)
    count = int(given.get("num_parts", 0)) or 1
    if not 0 < count <= PARTS_MAX:
        raise invalid(f"An upload has between 1 and {PARTS_MAX} parts, not {count}.")
    await run_in_threadpool(_require_open, wire, ws, path)
    past = await run_in_threadpool(direct.begin, ws, path, count)
    if past is not None:
        return _json(past)
    upload = await run_in_threadpool(_begin, ws, path, count)
    root = request.url.path.partition("/mpu/")[0]
    base = f"{request.url.scheme}://{request.headers.get('host', '')}{root}/mpu/part/{upload}"
    allowed = request.headers.get("authorization", "")
    headers = {"Authorization": allowed} if allowed else {}
    told = [{"url": f"{base}/{number}", "part_number": number, "headers": headers} for number in range(1, count + 1)]
    return _json({"upload_id": upload, "credentials": told})


async def part(wire: Opened, ws: Workspace, request: Request) -> Response:
    """`PUT …/mpu/part/{upload}/{number}`: keep a part; the same again takes its place."""
    try:
        upload = await run_in_threadpool(_found, ws, request.path_params["upload"])
        number = int(request.path_params["number"])
        if not 0 < number <= upload.count:
            raise invalid(f"The upload has parts 1 to {upload.count}, not {number}.")
    except Refused:
        await drain(request.receive)  # else the caller, who is sending, does not see why
        raise
    place = upload.folder / f"{uuid.uuid4().hex}.part"
    try:
        await artifacts.receive(request, place)
        tag = await run_in_threadpool(_place, upload, number, place)
    except ClientDisconnect as error:
        raise Refused("BAD_REQUEST", "The body ended before its length; nothing of it was kept.") from error
    finally:
        await run_in_threadpool(place.unlink, missing_ok=True)
    return Response(b"", headers={"etag": f'"{tag}"'})


async def parts(wire: Opened, ws: Workspace, request: Request) -> Response:
    """`GET …/mpu/part/{upload}`: the parts that are there, to go on with the others."""
    past = await run_in_threadpool(direct.parts, ws, request.path_params["upload"])
    if past is not None:
        return _json(past)
    upload = await run_in_threadpool(_found, ws, request.path_params["upload"])
    known = await run_in_threadpool(_kept, upload)
    told = [{"part_number": number, "etag": f'"{tag}"', "size": size} for number, (tag, size) in sorted(known.items())]
    return _json({"num_parts": upload.count, "parts": told})


async def complete(wire: Opened, ws: Workspace, request: Request) -> Response:
    """`POST …/mpu/complete/{path}`: the artifact of all parts; again changes nothing."""
    given = await _given(request, _COMPLETE)
    path = _path(request, given)
    await run_in_threadpool(_complete, wire, ws, path, given.get("upload_id", ""), given.get("parts", []))
    return _json({})


async def abort(wire: Opened, ws: Workspace, request: Request) -> Response:
    """`POST …/mpu/abort/{path}`: take the parts away; one that is not there changes nothing."""
    given = await _given(request, _ABORT)
    path = _path(request, given)
    await run_in_threadpool(_abort, ws, path, given.get("upload_id", ""))
    return _json({})


async def presigned(wire: Opened, ws: Workspace, request: Request) -> Response:
    """`GET …/presigned/{path}`: where an artifact is downloaded, in stretches if that is wanted, and its size."""
    path = request.path_params["path"]
    owner, name = artifacts.named(path)
    found = await run_in_threadpool(artifacts.find, ws, owner, name, path)
    past = await run_in_threadpool(direct.address, ws, path, found.digest)
    if past:
        return _json({"url": past, "headers": {}, "file_size": found.size_bytes})
    root = request.url.path.partition("/presigned/")[0]
    address = f"{request.url.scheme}://{request.headers.get('host', '')}{root}/artifacts/{urllib.parse.quote(path)}"
    allowed = request.headers.get("authorization", "")
    headers = {"Authorization": allowed} if allowed else {}
    return _json({"url": address, "headers": headers, "file_size": found.size_bytes})


async def _given(request: Request, spec: Spec) -> dict[str, Any]:
    path = request.path_params["path"]
    artifacts.named(path)  # a path that leads elsewhere is refused before anything is read
    body = await read_body(request.scope, request.receive, limit=BODY_MAX)
    return read(spec, "POST", [], request.headers.get("content-type", ""), body)


def _path(request: Request, given: Mapping[str, Any]) -> str:
    """The artifact's path: the folder that was asked for, and the last name of the client's own path."""
    name = posixpath.basename(given["path"])
    if not name:
        raise invalid("Invalid path")
    return f"{request.path_params['path'].rstrip('/')}/{name}"


def _require_open(wire: Opened, ws: Workspace, path: str) -> None:
    """A path names a file of what may be changed. Raises: Refused."""
    owner, name = artifacts.named(path)
    if not owner.id or not name:
        raise missing("Artifacts are kept with runs and logged models: …/RUN_ID/artifacts/NAME")
    artifacts.require_open(wire(), ws, owner)


def _begin(ws: Workspace, path: str, count: int) -> str:
    """Make the folder of an upload; gives its id."""
    place = _root(ws)
    upload = uuid.uuid4().hex
    with disk_faults(place):
        _sweep(place)
        (place / upload).mkdir(parents=True)
        _written(place / upload / ABOUT, json.dumps({"path": path, "parts": count}).encode())
    failpoint("upload.begun")
    return upload


def _root(ws: Workspace) -> Path:
    return ws.project.state / "uploads"


def _sweep(place: Path) -> None:
    """Take away uploads that nobody completed, and the marks of those that were completed."""
    for folder in place.glob("*"):
        if time.time() - folder.stat().st_mtime > KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)


def _found(ws: Workspace, upload: str) -> _Upload:
    """An upload that is under way. Raises: Refused."""
    folder = _root(ws) / upload
    if not _ID.fullmatch(upload) or not (folder / ABOUT).is_file():
        raise missing(f"There is no upload {upload[:64]!r}: it was completed, aborted, or never begun here.")
    about = json.loads((folder / ABOUT).read_bytes())
    return _Upload(folder, about["path"], int(about["parts"]))


def _kept(upload: _Upload) -> dict[int, tuple[str, int]]:
    """(tag, size) of the parts that are there, by number."""
    known = {}
    for entry in os.scandir(upload.folder):
        found = _PART.fullmatch(entry.name)
        if found is not None:
            known[int(found["number"])] = (found["tag"], entry.stat().st_size)
    return known


def _place(upload: _Upload, number: int, place: Path) -> str:
    """Give a part that came whole its name; gives its tag. What it replaces goes."""
    content = hashlib.sha256()
    with disk_faults(place), place.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            content.update(block)
        os.fsync(stream.fileno())
    tag = content.hexdigest()
    before = _kept(upload).get(number)
    with disk_faults(place):
        if not (upload.folder / ABOUT).is_file():
            raise missing("The upload is over: it was completed or aborted.")
        place.rename(upload.folder / f"{number:05d}.{tag}")
        if before is not None and before[0] != tag:
            (upload.folder / f"{number:05d}.{before[0]}").unlink(missing_ok=True)
        sync_folder(upload.folder)
    failpoint("upload.part")
    return tag


def _complete(wire: Opened, ws: Workspace, path: str, name: str, said: Sequence[Mapping[str, Any]]) -> None:
    """Put the parts together and keep them as one artifact. Raises: Refused."""
    if _ID.fullmatch(name) and _is_done(_root(ws) / name, path):
        return  # the answer to an earlier request was lost on its way
    _require_open(wire, ws, path)
    if direct.complete(ws, path, name, said):
        return
    upload = _found(ws, name)
    if upload.path != path:
        raise invalid("The upload is of another artifact.")
    known = _kept(upload)
    numbers = [int(each.get("part_number", 0)) for each in said]
    if numbers != list(range(1, upload.count + 1)):
        raise invalid(f"The upload has parts 1 to {upload.count}, in this order; {len(numbers)} were named.")
    for each in said:
        number, tag = int(each["part_number"]), str(each.get("etag", "")).strip('"')
        if known.get(number, ("", 0))[0] != tag:
            raise invalid(f"Part {number} is not there as it was named: send it again.")
    owner, file = artifacts.named(path)
    whole = upload.folder / f"{uuid.uuid4().hex}.whole"
    try:
        with disk_faults(whole):
            _join([upload.folder / f"{number:05d}.{known[number][0]}" for number in numbers], whole)
        failpoint("upload.joined")
        artifacts.keep(ws, owner, file, whole)
    finally:
        whole.unlink(missing_ok=True)
    _written(upload.folder / DONE, path.encode())
    _clear(upload.folder)


def _join(sources: Sequence[Path], target: Path) -> None:
    """One file of many, a block at a time."""
    with target.open("xb") as output:
        for source in sources:
            with source.open("rb") as stream:
                shutil.copyfileobj(stream, output, BLOCK_BYTES)


def _is_done(folder: Path, path: str) -> bool:
    return (folder / DONE).is_file() and (folder / DONE).read_bytes() == path.encode()


def _clear(folder: Path) -> None:
    """Take the parts away; the mark that it was completed stays for a while."""
    (folder / ABOUT).unlink(missing_ok=True)
    for entry in os.scandir(folder):
        if entry.name != DONE:
            Path(entry.path).unlink(missing_ok=True)


def _abort(ws: Workspace, path: str, name: str) -> None:
    if direct.abort(ws, path, name):
        return
    folder = _root(ws) / name
    if not _ID.fullmatch(name) or not (folder / ABOUT).is_file():
        return
    if _found(ws, name).path != path:
        raise invalid("The upload is of another artifact.")
    (folder / ABOUT).unlink(missing_ok=True)  # from now on no part comes
    shutil.rmtree(folder)


def _written(place: Path, content: bytes) -> None:
    """Write a small file whole or not at all."""
    fresh = place.with_suffix(".new")
    with fresh.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.rename(place)
    sync_folder(place.parent)


def _json(value: dict[str, Any]) -> Response:
    return Response(msgspec_json.encode(value), media_type="application/json")
