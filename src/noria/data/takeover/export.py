"""Leave with everything: data sets as plain files, or as a repository that DVC reads.

Plain files come with `SHA256SUMS`, which `sha256sum -c` checks, and a JSON file that says what each
version is. A DVC repository gets DVC 3's cache and one `.dvc` file a data set, at the place where the
data came from, so that what was taken over can be given back. Whole or not at all: the folder
appears when it is complete.

Source: DVC's documentation of `.dvc` files and of the cache's layout.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from noria.core.errors import Conflict, NotFound
from noria.core.frozen import frozen
from noria.core.progress import task
from noria.core.verb import verb
from noria.data import checkout, records
from noria.data.folders import staging
from noria.data.records import DatasetVersion
from noria.data.select import resolve
from noria.store.objects import BLOCK_BYTES, disk_faults
from noria.store.workspace import Workspace

__all__ = ["Exported", "export_dvc", "export_files"]

SUMS = "SHA256SUMS"
ABOUT = "versions.json"


@frozen(kw_only=True)
class Exported:
    """What was written: the folder, the versions by ref, files and bytes, and how to check or use it."""

    folder: str
    versions: tuple[str, ...]
    files: int
    size_bytes: int
    next: str


@verb(permission="data.export", changes=False, where="project", name="export-files")
def export_files(ws: Workspace, to: str, refs: Sequence[str] = (), *, history: bool = False) -> Exported:
    """Write data sets as plain files into a new folder, with sums that other tools can check.

    Each data set is a folder `NAME/`; with `--history` each version is a folder `NAME/vN/`.

    Args:
        to: the new folder.
        refs: versions such as flights@3, or data sets, meaning the pinned version; by default every data set.
        history: every version of them.
    Raises: NotFound; Conflict if the folder holds something; Corrupt if a stored file was altered.
    Example:
        noria export files backup
    """
    chosen = _chosen(ws, refs, history=history)
    count = size_bytes = 0
    with _made(Path(to)) as folder:
        sums: list[str] = []
        for version in chosen:
            place = folder / version.name / (f"v{version.version}" if history else "")
            checkout.checkout(ws, version.ref, str(place))
            for file in _files_in(place):
                digest, size = _digest(file, "sha256")
                sums.append(_sum_line(digest, file.relative_to(folder).as_posix()))
                count, size_bytes = count + 1, size_bytes + size
        with disk_faults(folder):
            (folder / SUMS).write_text("".join(sums), encoding="utf-8", errors="surrogateescape")
            about = [_about(version) for version in chosen]
            (folder / ABOUT).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Exported(
        folder=str(Path(to).resolve()),
        versions=tuple(version.ref for version in chosen),
        files=count,
        size_bytes=size_bytes,
        next=f"cd {to} && sha256sum --check --quiet {SUMS}",
    )


@verb(permission="data.export", changes=False, where="project", name="export-dvc")
def export_dvc(ws: Workspace, to: str, refs: Sequence[str] = ()) -> Exported:
    """Write data sets as a new DVC repository: `.dvc` files and a cache that `dvc checkout` reads.

    Args:
        to: the new folder.
        refs: versions such as flights@3, or data sets, meaning the pinned version; by default every data set.
    Raises: NotFound; Conflict if the folder holds something, or two data sets come from one path; Corrupt.
    Example:
        noria export dvc ../as-dvc
    """
    chosen = _chosen(ws, refs, history=False)
    outs = {version.name: _place(version) for version in chosen}
    if len(set(outs.values())) < len(outs):
        raise Conflict("two data sets come from the same path", hint="export them one at a time")
    count = size_bytes = 0
    with _made(Path(to)) as folder:
        cache = folder / ".dvc" / "cache" / "files" / "md5"
        with disk_faults(folder):
            cache.mkdir(parents=True)
            (folder / ".dvc" / "config").write_text("[core]\n    no_scm = True\n", encoding="utf-8")
            (folder / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n", encoding="utf-8")
            (folder / ".dvcignore").write_text("", encoding="utf-8")
        with task("exporting", total=sum(version.size_bytes for version in chosen)) as advance:
            for version in chosen:
                work = folder / ".work"
                checkout.checkout(ws, version.ref, str(work))
                files: list[tuple[str, str, int]] = []
                for file in _files_in(work):
                    md5, size = _into_cache(file, cache)
                    files.append((file.relative_to(work).as_posix(), md5, size))
                    advance(size)
                shutil.rmtree(work)
                _write_dvc(folder, outs[version.name], files, cache)
                count, size_bytes = count + len(files), size_bytes + sum(size for _, _, size in files)
    return Exported(
        folder=str(Path(to).resolve()),
        versions=tuple(version.ref for version in chosen),
        files=count,
        size_bytes=size_bytes,
        next=f"cd {to} && dvc checkout",
    )


def _chosen(ws: Workspace, refs: Sequence[str], *, history: bool) -> list[DatasetVersion]:
    with ws.ledger.read() as tx:
        names = list(refs) or records.names(tx)
        if not names:
            raise NotFound("there is no data set to export", hint="noria data add PATH")
        if history:
            found = [version for name in names for version in records.versions(tx, name.partition("@")[0])]
            return list(dict.fromkeys(found))
    return [resolve(ws, name) for name in names]


def _sum_line(digest: str, path: str) -> str:
    """A line as sha256sum reads it: one that begins with a backslash has an escaped name."""
    escaped = path.replace("\\", "\\\\").replace("\n", "\\n")
    return f"{chr(92) if escaped != path else ''}{digest}  {escaped}\n"


def _place(version: DatasetVersion) -> str:
    """Where the data set came from in the project, else its name."""
    source = PurePosixPath(version.source)
    is_inside = version.source and not source.is_absolute() and ".." not in source.parts and "://" not in version.source
    return source.as_posix() if is_inside else version.name


def _write_dvc(folder: Path, place: str, files: Sequence[tuple[str, str, int]], cache: Path) -> None:
    """The `.dvc` file of an output: one file of that name, or a folder by its manifest."""
    target = folder / f"{place}.dvc"
    name = PurePosixPath(place).name
    if len(files) == 1 and files[0][0] == name:
        _, md5, size = files[0]
        lines = [f"- md5: {md5}", f"  size: {size}"]
    else:
        rows = [{"md5": md5, "relpath": path} for path, md5, _ in sorted(files)]
        manifest = json.dumps(rows, sort_keys=True).encode()
        md5 = hashlib.md5(manifest, usedforsecurity=False).hexdigest()
        with disk_faults(cache):
            (cache / md5[:2]).mkdir(exist_ok=True)
            (cache / md5[:2] / f"{md5[2:]}.dir").write_bytes(manifest)
        lines = [f"- md5: {md5}.dir", f"  size: {sum(size for _, _, size in files)}", f"  nfiles: {len(files)}"]
    with disk_faults(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(["outs:", *lines, "  hash: md5", f"  path: {json.dumps(name, ensure_ascii=False)}", ""])
        target.write_text(text, encoding="utf-8")


def _into_cache(file: Path, cache: Path) -> tuple[str, int]:
    md5, size = _digest(file, "md5")
    target = cache / md5[:2] / md5[2:]
    with disk_faults(target):
        target.parent.mkdir(exist_ok=True)
        file.replace(target)
    return md5, size


def _digest(file: Path, kind: str) -> tuple[str, int]:
    hasher, size = hashlib.new(kind, usedforsecurity=False), 0
    with file.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            hasher.update(block)
            size += len(block)
    return hasher.hexdigest(), size


def _files_in(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield Path(place, name)


def _about(version: DatasetVersion) -> dict[str, object]:
    kept = ("name", "version", "tree", "content", "parent", "rows", "size_bytes", "files", "key", "time", "label")
    return {field: getattr(version, field) for field in (*kept, "source", "note", "at", "columns")}


@contextmanager
def _made(target: Path) -> Iterator[Path]:
    """A new folder that appears when the block has ended well. Raises: Conflict if there is something."""
    full = target.absolute()
    if full.is_symlink() or (full.exists() and (not full.is_dir() or any(full.iterdir()))):
        raise Conflict(f"{target} exists and is not an empty folder", hint="name a new folder")
    short = os.fsdecode(os.fsencode(full.name)[: staging.PART_NAME_BYTES])
    part = full.with_name(f".{short}.{os.getpid()}.part")
    with disk_faults(full):
        part.mkdir(parents=True)
    try:
        yield part
        with disk_faults(full):
            part.replace(full)
    finally:
        shutil.rmtree(part, ignore_errors=True)
