"""A project from a backup: all of it, verified, or nothing.

Everything is brought together beside the place where it is to be: the ledger, the state, the keys, and the objects,
each hashed on its way. Then it is audited there as any project is: every fact, record, object and log, held against
the checkpoint of the manifest. Only what passes gets its name, by one rename; a database that is elsewhere is filled
before that, in one transaction. A restore that is killed leaves a folder that the next one takes away.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from noria.config import CONFIG_NAME, Project, load_project
from noria.core.errors import Conflict, Corrupt, NoriaError, NotFound, Tampered, UsageError
from noria.core.frozen import frozen
from noria.core.identity import Digest, is_digest
from noria.core.progress import task
from noria.data import clones, lock
from noria.governance.audit import SIGNERS, AuditReport
from noria.governance.audit import verify as audit
from noria.project.backups.files import KEYS
from noria.project.backups.keep import PARTIAL, stored_in
from noria.project.backups.manifest import OBJECTS, Manifest, find, read, require_files
from noria.store import snapshot
from noria.store.checkpoint import Checkpoint, parse_checkpoint
from noria.store.database import Database, database_url
from noria.store.disk import disk_faults, sync_folder
from noria.store.failpoint import failpoint
from noria.store.seen import Seen
from noria.store.transfer import copy
from noria.store.workspace import Workspace

__all__ = ["Restored", "restore"]

STAGED = ".noria-restore."
STATE = ".noria"
_NEW = "name a new folder: noria admin restore FROM FOLDER"


class Opener(Protocol):
    """Opens the workspace of a project whose settings are read."""

    def __call__(self, *, project: Project, is_audit: bool = ...) -> Workspace:
        """The workspace; see `bootstrap.open_workspace`."""
        ...


@frozen(kw_only=True)
class _Place:
    """Where it is to be: the folder, its settings and database; `is_new` if the settings come from the backup."""

    target: Path
    staging: Path
    project: Project
    database: Database
    is_new: bool


@frozen(kw_only=True)
class Restored:
    """What was restored: from which backup of when, into which folder and database, and what the audit read.

    With `is_dry_run` all of it was brought together and audited, and taken away again.
    """

    backup: str
    at: str
    folder: str
    database: str
    facts: int
    checkpoint: str
    objects: int
    lines: int
    compared: tuple[str, ...]
    has_keys: bool
    is_dry_run: bool = False


def restore(source: str, folder: str, opener: Opener, *, checkpoint: str = "", dry_run: bool = False) -> Restored:
    """Make a project of a backup in a folder that has none, verified whole before anything of it is visible.

    Args:
        source: a backup, or a folder of backups, of which the newest is taken.
        folder: a project's folder (with its noria.toml) that has no state yet, or a new one, which gets the settings
            that were in the backup.
        checkpoint: the text of a checkpoint that was kept elsewhere, to be compared with too.
        dry_run: bring everything together, verify it, and take it away again.
    Raises: NotFound; Conflict if something is there already; Corrupt or Tampered naming what is not what was backed
        up; StoreUnavailable; StoreFull. Nothing is restored then.
    """
    made = find(Path(source).expanduser())
    manifest = read(made)
    require_files(made, manifest)
    target = Path(folder).expanduser().resolve()
    project, is_new = _project(target, made)
    with closing(_database(project)) as database:
        if not dry_run:
            snapshot.require_room(database, parse_checkpoint(manifest.checkpoint))
        staging = _staging(target, is_new=is_new)
        place = _Place(target=target, staging=staging, project=project, database=database, is_new=is_new)
        try:
            with disk_faults(staging):
                _lay(made, manifest, staging, is_new=is_new)
            failpoint("restore.laid")
            report = _brought(made, manifest, _staged(project, staging, dry_run=dry_run), opener, checkpoint)
            failpoint("restore.verified")
            if not dry_run:
                _show(place, parse_checkpoint(manifest.checkpoint), opener)
        finally:
            shutil.rmtree(staging, ignore_errors=True)  # it has its name by now, or is not wanted
    return Restored(
        backup=str(made),
        at=manifest.at,
        folder=str(target),
        database=database.where,
        facts=report.size,
        checkpoint=manifest.checkpoint,
        objects=manifest.objects,
        lines=report.lines,
        compared=report.compared,
        has_keys=manifest.has_keys,
        is_dry_run=dry_run,
    )


def _project(target: Path, made: Path) -> tuple[Project, bool]:
    """The settings of the place, and whether they come from the backup. Raises: Conflict; UsageError."""
    if (target / CONFIG_NAME).is_file():
        if (target / STATE).is_dir() and any((target / STATE).iterdir()):
            raise Conflict(
                f"{target} has a state already; a restore goes into a new place only",
                where=str(target / STATE),
                hint=f"to put it in its place, stop what runs there, then: mv {STATE} {STATE}.before",
            )
        return load_project(target), False
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Conflict(f"{target} is no project and is not empty", hint=_NEW)
    if not (made / "project" / CONFIG_NAME).is_file():
        raise UsageError("the backup holds no settings", hint="restore into a folder with a noria.toml")
    if target == Path.cwd().resolve():
        raise UsageError("the present folder has no noria.toml", hint=_NEW)
    return replace(load_project(made / "project"), root=target), True


def _url(project: Project) -> str:
    return database_url(project.store.database, project.state)


def _database(project: Project) -> Database:
    return Database(_url(project))


def _staging(target: Path, *, is_new: bool) -> Path:
    """A new folder beside the place, on the same disk; those that killed restores left go."""
    parent, prefix = (target.parent, f".{target.name}{STAGED}") if is_new else (target, STAGED)
    with disk_faults(parent):
        parent.mkdir(parents=True, exist_ok=True)
        for path in parent.glob(f"{prefix}*"):
            if lock.is_left(path.name.removeprefix(prefix), float("inf")):
                shutil.rmtree(path)
        staging = parent / f"{prefix}{lock.mark()}"
        staging.mkdir(mode=0o700)
        (staging / ".gitignore").write_text("*\n", encoding="utf-8")
    return staging


def _lay(made: Path, manifest: Manifest, staging: Path, *, is_new: bool) -> None:
    """Files, keys and the ledger; what they hold is looked at by the audit."""
    state = staging / STATE
    state.mkdir()
    for name in manifest.files:
        part, _, rest = name.partition("/")
        if part == "project" and is_new:
            _copied(made / name, staging / rest)
        elif part == "state":
            _copied(made / name, state / rest)
        elif part == "keys" and rest in KEYS:
            _copied(made / name, state / rest, mode=0o600)
    (state / ".gitignore").write_text("*\n", encoding="utf-8")
    if not manifest.has_keys:
        with (state / SIGNERS).open("a", encoding="utf-8") as sink:
            sink.write(f"{manifest.signer}\n")  # what it signed still counts; a new key signs from here on
    Seen(state / "seen").store(manifest.size, manifest.checkpoint)
    snapshot.place(made / snapshot.NAME, state / snapshot.NAME)


def _copied(source: Path, to: Path, mode: int = 0) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode or source.stat().st_mode & 0o777)
    with os.fdopen(handle, "wb") as sink, source.open("rb") as stream:
        shutil.copyfileobj(stream, sink, 1 << 20)
        sink.flush()
        os.fsync(sink.fileno())


def _staged(project: Project, staging: Path, *, dry_run: bool) -> Project:
    """The project as it stands while it is verified: its database is the copy, its objects are where they will be."""
    objects = "" if dry_run else project.store.objects
    if objects and "://" not in objects:
        objects = str(project.root / objects)
    return replace(project, root=staging, store=replace(project.store, database="", objects=objects))


def _brought(made: Path, manifest: Manifest, staged: Project, opener: Opener, checkpoint: str) -> AuditReport:
    """Bring the objects and audit everything. Raises: Corrupt; Tampered."""
    ws = opener(project=staged, is_audit=True)
    try:
        with lock.leases(ws).hold("restore"):
            source, names = stored_in(made.parent), _names(made)
            there = ws.objects.has_many(names)
            new = {name: size for name, size in names.items() if name not in there}
            try:
                with task("copying objects", total=sum(new.values())) as advance:
                    copy(source, ws.objects, new, partial=staged.state / "cache" / PARTIAL, advance=advance)
            except (Corrupt, NotFound) as error:
                raise Corrupt(
                    f"nothing was restored: {error.message}",
                    where=str(made.parent / "objects"),
                    hint="a backup with --check puts right what it can: noria admin backup FOLDER --check",
                ) from error
        failpoint("restore.objects")
        report = audit(ws, manifest.checkpoint)
        if report.ok and checkpoint:
            report = audit(ws, checkpoint)
    finally:
        ws.ledger.database.close()
    if not report.ok or report.size != manifest.size:
        said = report.message if not report.ok else f"it holds {report.size} facts, its manifest says {manifest.size}"
        kind: type[NoriaError] = Corrupt if report.kind in ("object", "log", "damaged") else Tampered
        raise kind(f"nothing was restored: {said}", where=str(made), hint="name another backup")
    return report


def _names(made: Path) -> dict[Digest, int]:
    """The objects of a backup with their sizes in bytes."""
    found = {}
    for line in (made / OBJECTS).read_text(encoding="ascii").splitlines():
        name, _, size = line.partition(" ")
        assert is_digest(name), "the file is what was written: its digest was compared"
        found[Digest(name)] = int(size)
    return found


def _show(place: _Place, checkpoint: Checkpoint, opener: Opener) -> None:
    """Give everything its name; a database that is elsewhere first, and the state last."""
    state, target = place.staging / STATE, place.target
    with disk_faults(target):
        _settle_database(place, checkpoint, opener)
        failpoint("restore.poured")
        if place.is_new:
            (place.staging / ".gitignore").unlink()
            place.staging.rename(target)
        else:
            if (target / STATE).is_dir():
                (target / STATE).rmdir()  # it is empty
            state.rename(target / STATE)
        sync_folder(target)
        sync_folder(target.parent)
    failpoint("restore.done")
    ws = opener(project=place.project)
    try:
        clones.register(ws)
    finally:
        ws.ledger.database.close()


def _settle_database(place: _Place, checkpoint: Checkpoint, opener: Opener) -> None:
    """Bring the ledger to where the settings want it, if that is not where it was verified."""
    database, copied = place.database, place.staging / STATE / snapshot.NAME
    file = database.file
    if file is not None and file.parent == (place.target / STATE).resolve():
        if file.name != snapshot.NAME:
            _checkpointed(copied)
            copied.rename(copied.with_name(file.name))
        return
    staged = opener(project=_staged(place.project, place.staging, dry_run=True))
    slices = staged.ledger.slices
    staged.ledger.database.close()
    if file is None:
        snapshot.pour(copied, database, slices, checkpoint)
    elif not snapshot.require_room(database, checkpoint):
        snapshot.place(copied, file)
    for end in ("", "-wal", "-shm", ".lock"):
        copied.with_name(copied.name + end).unlink(missing_ok=True)


def _checkpointed(file: Path) -> None:
    """Move SQLite's log into the file, so that it may get another name."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for end in ("-wal", "-shm", ".lock"):
        file.with_name(file.name + end).unlink(missing_ok=True)
