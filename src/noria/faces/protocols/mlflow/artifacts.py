"""Artifacts through the server: files of runs and of logged models, streamed to and from the object store.

A path names a run or a logged model and what its file is called, `…/<run>/artifacts/<name>` or
`…/models/<model>/artifacts/<name>`, and nothing else: no path of a client is a place to read or to write.
An upload is a file of the inbox until it is whole, and then an object and a fact; memory does not grow
with its size.

Source: mlflow/server/handlers.py of MLflow 3.17 (`_upload_artifact` and those beside it).
"""

from __future__ import annotations

import mimetypes
import posixpath
import re
import urllib.parse
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from noria.catalog import filing, keeping
from noria.catalog import records as catalog
from noria.catalog.records import FileRecord
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.experiments import records
from noria.faces.http.replies import drain
from noria.faces.protocols.mlflow.messages import TEXT, Spec
from noria.faces.protocols.mlflow.refusals import Refused, invalid, missing
from noria.faces.protocols.mlflow.runs import RUN_CHECKS, RUN_ID
from noria.faces.protocols.mlflow.shapes import run_info
from noria.faces.protocols.mlflow.wire import Wire, experiment_of, found_logged_model, found_run, logged_model_uri
from noria.store.ledger import Reader
from noria.store.objects import disk_faults
from noria.store.workspace import Workspace
from noria.tracking import records as tracking

__all__ = [
    "ENDPOINTS",
    "Opened",
    "Owner",
    "delete",
    "download",
    "find",
    "keep",
    "list_files",
    "named",
    "note",
    "receive",
    "require_open",
    "upload",
]

msgspec_json = lazy("msgspec.json")
BLOCK = 256 << 10
"""How much of a file is in memory at once."""
SMALL_BYTES = (64 << 10) - 1
"""So much is kept in memory until it is stored: what is written into files, and handed to a thread for each of its
steps, takes twice as long."""
SIZE_MAX = 1 << 40
PATH_MAX = 1000
Opened = Callable[[], Wire]
_RANGE = re.compile(r"bytes=(?P<first>\d{0,18})-(?P<last>\d{0,18})")


@frozen
class Owner:
    """What has files: a run, or a logged model."""

    id: str
    is_model: bool = False


async def upload(wire: Opened, ws: Workspace, request: Request) -> Response:
    """`PUT …/artifacts/{path}`: keep the body as an artifact. A small one is never a file of the inbox."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and len(length) < len(str(SIZE_MAX)) and int(length) <= SMALL_BYTES:
        body = await _small(request)
        await run_in_threadpool(_keep_small, wire, ws, request.path_params["path"], body)
        return Response(b"", media_type="application/json")
    try:
        shared, owner, name = await _asked(wire, ws, request)
    except Refused:
        await drain(request.receive)  # else the caller, who is sending, does not see why
        raise
    place = shared.inbox.folder / "uploads" / uuid.uuid4().hex
    try:
        await receive(request, place)
        await run_in_threadpool(_keep, shared, ws, owner, name, place)
    except ClientDisconnect as error:
        raise _cut() from error
    finally:
        await run_in_threadpool(place.unlink, missing_ok=True)
    return Response(b"", media_type="application/json")


async def _small(request: Request) -> bytes:
    """The body of a request that said how short it is. Raises: Refused if the caller left before its end."""
    try:
        return b"".join([part async for part in request.stream()])
    except ClientDisconnect as error:
        raise _cut() from error


def _cut() -> Refused:
    return Refused("BAD_REQUEST", "The body ended before its length; nothing of it was kept.")


def _keep_small(wire: Opened, ws: Workspace, path: str, content: bytes) -> None:
    """Runs in a worker thread: all of a small upload. Raises: Refused; NotFound; Conflict; StoreFull."""
    owner, name = _file_of(path)
    shared = wire()
    require_open(shared, ws, owner)
    _keep(shared, ws, owner, name, content)


async def download(wire: Opened, ws: Workspace, request: Request) -> Response:
    """`GET …/artifacts/{path}`: the bytes of an artifact, always as an attachment."""
    path = request.path_params["path"]
    owner, name = named(path)
    found = await run_in_threadpool(find, ws, owner, name, path)
    stretch = _stretch(request.headers, found)
    if stretch is None:
        return Response(b"", 416, {"content-range": f"bytes */{found.size_bytes}"})
    first, end = stretch
    is_part = (first, end) != (0, found.size_bytes)
    stream = await run_in_threadpool(ws.objects.open, found.digest)
    if first:
        await run_in_threadpool(stream.seek, first)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    headers = {
        "content-length": str(end - first),
        "accept-ranges": "bytes",
        **({"content-range": f"bytes {first}-{end - 1}/{found.size_bytes}"} if is_part else {}),
        "content-disposition": _attachment(posixpath.basename(name)),
        "x-content-type-options": "nosniff",
        "etag": f'"{found.digest}"',
    }
    return StreamingResponse(_blocks(stream, end - first), 206 if is_part else 200, headers, media_type=kind)


async def delete(wire: Opened, ws: Workspace, request: Request) -> Response:
    """`DELETE …/artifacts/{path}`: take a file, or a folder of them, off its run or logged model."""
    _, owner, name = await _asked(wire, ws, request)
    await run_in_threadpool(keeping.remove_files if owner.is_model else filing.remove_artifacts, ws, owner.id, name)
    return _json({})


async def list_files(wire: Opened, ws: Workspace, request: Request) -> Response:
    """`GET …/artifacts?path=`: what is in a folder, by name."""
    path = request.query_params.get("path", "")
    owner, name = named(path)
    files = await run_in_threadpool(_listed, ws, owner, name) if owner.id else []
    told = [{**each, "path": posixpath.basename(each["path"])} for each in files]
    return _json({"files": told} if told else {})


def list_of_run(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """What is in a folder of a run's artifacts, with where they are."""
    run = str(given.get("run_id", "") or given.get("run_uuid", ""))
    path = given.get("path", "")
    name = _safe(path) if path else ""
    with ws.ledger.read() as tx:
        found = found_run(tx, run)
        root = run_info(found, experiment_of(tx, found))["artifact_uri"]
    files = _listed(ws, Owner(run), name)
    return {"root_uri": root, **({"files": files} if files else {})}


def list_of_model(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """What is in a folder of a logged model's files, with where they are."""
    path = given.get("artifact_directory_path", "")
    name = _safe(path) if path else ""
    with ws.ledger.read() as tx:
        found = found_logged_model(tx, given["model_id"])
        root = logged_model_uri(tx, found)
    files = _listed(ws, Owner(found.model, is_model=True), name)
    return {**({"files": files} if files else {}), "root_uri": root}


async def _asked(wire: Opened, ws: Workspace, request: Request) -> tuple[Wire, Owner, str]:
    """What a path names, which may be changed, and the file. Raises: Refused."""
    owner, name = _file_of(request.path_params["path"])
    shared = await run_in_threadpool(wire)
    await run_in_threadpool(require_open, shared, ws, owner)
    return shared, owner, name


def _file_of(path: str) -> tuple[Owner, str]:
    """Whose file a path names, and which. Raises: Refused if it names none."""
    owner, name = named(path)
    if not owner.id or not name:
        raise missing("Artifacts are kept with runs and logged models: …/RUN_ID/artifacts/NAME")
    return owner, name


def require_open(wire: Wire, ws: Workspace, owner: Owner) -> None:
    """What has files may be changed. Raises: Refused."""
    if not owner.is_model:
        wire.active(owner.id)
        return
    with ws.ledger.read() as tx:
        found_logged_model(tx, owner.id)


def keep(ws: Workspace, owner: Owner, name: str, content: Path | bytes) -> None:
    """Make a file, or a few bytes, the artifact of a run or logged model. Raises: NotFound; Conflict; StoreFull."""
    (keeping.keep_file if owner.is_model else filing.keep_artifact)(ws, owner.id, name, content)


def _keep(wire: Wire, ws: Workspace, owner: Owner, name: str, content: Path | bytes) -> None:
    """The same, one after the other for one name: who finds its bytes there already finds them on disk."""
    with wire.naming(f"{owner.id}/{name}"):
        keep(ws, owner, name, content)


def note(ws: Workspace, owner: Owner, name: str, stored: str, size: int) -> None:
    """Make an object that is stored the artifact of a run or logged model. Raises: NotFound; Conflict."""
    (keeping.note_file if owner.is_model else filing.note_artifact)(ws, owner.id, name, stored, size)


def _known(tx: Reader, owner: Owner) -> Sequence[tracking.ArtifactRecord | FileRecord]:
    return catalog.model_files(tx, owner.id) if owner.is_model else tracking.artifacts(tx, owner.id)


def _listed(ws: Workspace, owner: Owner, folder: str) -> list[dict[str, Any]]:
    """The files and folders right inside a folder of what has files; none for what is a file."""
    inside = folder.rstrip("/") + "/" if folder else ""
    files: dict[str, dict[str, Any]] = {}
    with ws.ledger.read() as tx:
        known = _known(tx, owner)
    for each in known:
        if not each.name.startswith(inside):
            continue
        first, deeper, _ = each.name[len(inside) :].partition("/")
        path = inside + first
        if deeper:
            files[path] = {"path": path, "is_dir": True}
        elif first:
            files.setdefault(path, {"path": path, "is_dir": False, "file_size": each.size_bytes})
    return [files[path] for path in sorted(files)]


def find(ws: Workspace, owner: Owner, name: str, path: str) -> tracking.ArtifactRecord | FileRecord:
    """An artifact by name. Raises: Refused if there is none, or it is a folder."""
    with ws.ledger.read() as tx:
        is_there = owner.is_model or (owner.id and records.run(tx, owner.id) is not None)
        known = _known(tx, owner) if is_there else []
    for each in known:
        if each.name == name:
            return each
    if any(each.name.startswith(f"{name}/") for each in known):
        raise invalid(f"Artifact path refers to a directory, not a file: '{path}'")
    raise missing(f"No such artifact: '{path}'")


def named(path: str) -> tuple[Owner, str]:
    """(whose, name) of a path such as `1/<run>/artifacts/<name>`; both empty if it names nobody's files."""
    parts = _safe(path).split("/") if path else []
    for place, part in enumerate(parts):
        if part == "artifacts" and place:
            is_model = place > 1 and parts[place - 2] == "models" and parts[place - 1].startswith("m-")
            return Owner(parts[place - 1], is_model=is_model), "/".join(parts[place + 1 :])
    return Owner(""), ""


def _safe(path: str) -> str:
    """A path of plain names. Raises: Refused."""
    parts = path.rstrip("/").split("/")
    bad = len(path) > PATH_MAX or any(part in ("", ".", "..") for part in parts)
    if bad or any(mark in path for mark in "#\\") or not path.isprintable():
        raise invalid("Invalid path")
    return "/".join(parts)


async def receive(request: Request, place: Path) -> None:
    """Write the body to a file, a block at a time. Raises: StoreFull; Refused; ClientDisconnect."""
    size = 0
    waiting = bytearray()
    with disk_faults(place):
        stream = await run_in_threadpool(_create, place)
        try:
            async for part in request.stream():
                waiting += part
                size += len(part)
                if size > SIZE_MAX:
                    raise invalid(f"An artifact may have {SIZE_MAX} bytes.")
                if len(waiting) >= BLOCK:
                    await run_in_threadpool(stream.write, bytes(waiting))
                    waiting.clear()
            await run_in_threadpool(stream.write, bytes(waiting))
        finally:
            await run_in_threadpool(stream.close)


def _create(place: Path) -> BinaryIO:
    place.parent.mkdir(parents=True, exist_ok=True)
    return place.open("xb", buffering=0)


async def _blocks(stream: BinaryIO, size: int) -> AsyncIterator[bytes]:
    try:
        while size and (block := await run_in_threadpool(stream.read, min(BLOCK, size))):
            size -= len(block)
            yield block
    finally:
        stream.close()


def _stretch(headers: Mapping[str, str], found: tracking.ArtifactRecord | FileRecord) -> tuple[int, int] | None:
    """(first byte, byte after the last) that a request wants, or None if there are none such.

    One stretch of bytes is given; of another form, or of a file that has changed since (`if-range`), all of it.
    """
    size = found.size_bytes
    asked = _RANGE.fullmatch(headers.get("range", "").strip())
    condition = headers.get("if-range", "")
    if asked is None or not any(asked.groups()) or (condition and condition != f'"{found.digest}"'):
        return 0, size
    first, last = asked["first"], asked["last"]
    if not first:
        return (max(size - int(last), 0), size) if int(last) and size else None
    if int(first) >= size or (last and int(last) < int(first)):
        return None
    return int(first), min(int(last) + 1, size) if last else size


def _attachment(name: str) -> str:
    """The header that makes a browser keep a file and not show it (RFC 6266, RFC 5987)."""
    plain = "".join(mark if mark.isascii() and mark not in '"\\' else "_" for mark in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{urllib.parse.quote(name, safe='')}"


def _json(value: dict[str, Any]) -> Response:
    return Response(msgspec_json.encode(value), media_type="application/json")


ENDPOINTS = {
    ("GET", "artifacts/list"): (
        Spec(
            {**RUN_ID, "path": TEXT, "page_token": TEXT},
            {**RUN_CHECKS, "path": ("text",), "page_token": ("text",)},
        ),
        list_of_run,
    ),
    ("GET", "logged-models/{model_id}/artifacts/directories"): (
        Spec({"artifact_directory_path": TEXT}, {"artifact_directory_path": ("text",)}),
        list_of_model,
    ),
}
