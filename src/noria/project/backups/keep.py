"""A backup of a project while it works.

In this order: a lease, so that no collection takes what is still to be copied; the files of the state; the ledger, as
of one moment, whose tree is recomputed and held against its signed checkpoints; the objects that those name and the
folder does not have yet; last the signed manifest. Everything that was acknowledged before the backup began is in it.
A backup that is killed is none: the next one takes its folder away, and its objects count as there.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from noria import plugins
from noria.core.clock import utc_text
from noria.core.errors import Corrupt, NotFound, Tampered, UsageError
from noria.core.frozen import frozen
from noria.core.identity import Digest, short
from noria.core.progress import task
from noria.core.words import counted
from noria.data import clones, lock
from noria.data.roots import ledger_roots
from noria.governance.audit import lacking, verifiers_of
from noria.project.backups.files import copy_keys, copy_state, digests_in
from noria.project.backups.manifest import MANIFEST, OBJECTS, Manifest, write
from noria.store import snapshot
from noria.store.checkpoint import Checkpoint, parse_checkpoint
from noria.store.collect import present, reachable
from noria.store.database import Database, database_url
from noria.store.disk import disk_faults, hash_file, sync_files
from noria.store.failpoint import failpoint
from noria.store.ledger import Ledger
from noria.store.objects import HasForms, Objects
from noria.store.packs import as_name
from noria.store.seen import Seen
from noria.store.transfer import copy
from noria.store.verify import verify
from noria.store.workspace import Workspace

__all__ = ["Backup", "backup", "stored_in"]

SHARED = "objects"
PARTIAL = "partial"
LOCK_WAIT_S = 5.0
_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ(-\d{3})?")
PROJECT_FILES = ("noria.toml",)
PROJECT_FOLDERS = ("noria.lock",)


@frozen(kw_only=True)
class Backup:
    """A backup that was made; with `is_dry_run` what one would have copied.

    `facts` are in it, covered by the signed note `checkpoint`; of its `objects` so many `copied_objects`, and bytes,
    were not in the folder yet. `checked` objects were there already and were read anew, of which `mended` were altered.
    """

    folder: str
    facts: int
    checkpoint: str
    objects: int
    objects_bytes: int
    copied_objects: int
    copied_bytes: int
    files: int
    has_keys: bool
    checked: int = 0
    mended: int = 0
    is_dry_run: bool = False


def stored_in(place: Path) -> Objects:
    """The objects of the backups in a folder."""
    return Objects(plugins.load("objects", "file")(place / SHARED), place / PARTIAL)


def backup(ws: Workspace, to: str, *, keys: bool = True, check: bool = False, dry_run: bool = False) -> Backup:
    """Copy the project's ledger, objects, logs and keys into a folder of backups, while it works.

    Args:
        keys: also the key that signs and the one that seals secrets, readable by their owner only.
        check: read the objects that are in the folder already, and put right what is altered there.
        dry_run: only say what would be copied.
    Raises: UsageError for a folder in the project's state; Tampered or Corrupt if the ledger is not what was signed,
        or an object is altered or gone: then no backup is made; StoreUnavailable; StoreFull.
    """
    place = _place(ws, to)
    with disk_faults(place):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with lock.file_lock(place / "backup.lock", f"the folder of backups {place}", LOCK_WAIT_S), _leased(ws):
        _clear(place)
        failpoint("backup.begun")
        made = _folder(ws, place)
        try:
            done = _filled(ws, made, stored_in(place), keys=keys, check=check, dry_run=dry_run)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)  # without a manifest it is none; the next backup clears what stays
            raise
        if dry_run:
            shutil.rmtree(made)
        failpoint("backup.done")
        return done


def _place(ws: Workspace, to: str) -> Path:
    if "://" in to:
        raise UsageError(f"a backup goes into a folder, not to {to}", hint="a mounted disk, or copy the folder there")
    place = Path(to).expanduser().resolve()
    state = ws.project.state.resolve()
    if place == state or state in place.parents:
        raise UsageError(f"{to} is in the project's own state", hint="a folder on another disk survives this one's end")
    return place


@contextmanager
def _leased(ws: Workspace) -> Iterator[None]:
    with lock.leased(ws, "backup") as claim:
        claim()
        yield


def _clear(place: Path) -> None:
    """Take away what backups left that were broken off. Nobody else is at work here: the lock is held."""
    with disk_faults(place):
        for path in place.iterdir():
            if _NAME.fullmatch(path.name) and not (path / MANIFEST).is_file():
                shutil.rmtree(path)


def _folder(ws: Workspace, place: Path) -> Path:
    """A new folder, named by the moment, so that the names are in order."""
    moment = utc_text(ws.clock.now())[:19].replace(":", "-")
    newest = max((path.parent.name for path in place.glob(f"*/{MANIFEST}")), default="")
    name, number = f"{moment}Z", 1
    while (place / name).exists() or name <= newest:
        number += 1
        name = f"{max(moment, newest[:19])}Z-{number:03}"
    with disk_faults(place):
        (place / name).mkdir(mode=0o700)
    return place / name


def _filled(ws: Workspace, made: Path, target: Objects, *, keys: bool, check: bool, dry_run: bool) -> Backup:
    state = copy_state(ws.project.state, made / "state", _elsewhere(ws))
    names = [f"state/{name}" for name in state]
    names += [f"project/{name}" for name in _copy_settings(ws.project.root, made / "project")]
    if keys:
        assert ws.ledger.signer, "the first use makes the key"
        names += [f"keys/{name}" for name in copy_keys(ws.project.state, made / "keys")]
    failpoint("backup.files")
    at = utc_text(ws.clock.now())
    url = database_url(ws.project.store.database, ws.project.state)
    names.append(snapshot.take(ws.ledger.database, url, ws.ledger.slices, made).name)
    failpoint("backup.ledger")
    ledger = _ledger(ws, made)
    try:
        checkpoint, note = _proved(ws, ledger)
        wanted = _wanted(ws, ledger, digests_in(made / "state", state))
    finally:
        ledger.database.close()
    checked, mended = _checked(target, wanted) if check and not dry_run else (0, 0)
    there = target.has_many(wanted)
    new = {name: size for name, size in wanted.items() if name not in there}
    if not dry_run:
        with task("copying objects", total=sum(new.values())) as advance:
            copy(ws.objects, target, new, partial=made.parent / PARTIAL, advance=advance)
        failpoint("backup.objects")
        _write_names(made / OBJECTS, wanted)
        _seal(ws, made, [*names, OBJECTS], checkpoint, note, wanted, at=at, keys=keys)
    return Backup(
        folder=str(made),
        facts=checkpoint.size,
        checkpoint=note,
        objects=len(wanted),
        objects_bytes=sum(wanted.values()),
        copied_objects=len(new),
        copied_bytes=sum(new.values()),
        files=len(names),
        has_keys=keys,
        checked=checked,
        mended=mended,
        is_dry_run=dry_run,
    )


def _seal(
    ws: Workspace,
    made: Path,
    names: Iterable[str],
    checkpoint: Checkpoint,
    note: str,
    wanted: dict[Digest, int],
    *,
    at: str,
    keys: bool,
) -> None:
    with disk_faults(made):
        sync_files([made / name for name in names])
        files = {name: (hash_file(made / name), (made / name).stat().st_size) for name in names}
    signer = ws.ledger.signer
    manifest = Manifest(
        project=ws.project.name,
        at=at,
        origin=checkpoint.origin,
        size=checkpoint.size,
        checkpoint=note,
        signer=str(signer.verifier),
        objects=len(wanted),
        objects_bytes=sum(wanted.values()),
        has_keys=keys,
        files=files,
    )
    write(made, manifest, signer)


def _elsewhere(ws: Workspace) -> set[Path]:
    """Database and objects, where they lie in the state under names of their own."""
    found = {ws.project.state / "objects"}
    file = ws.ledger.database.file
    if file is not None:
        found |= {file.with_name(file.name + end) for end in ("", "-wal", "-shm", ".lock", "-journal")}
    shared = clones.shared_store(ws)
    return found | ({shared} if shared is not None else set())


def _copy_settings(root: Path, to: Path) -> list[str]:
    """The project's settings and pins, for a restore into an empty folder; its code is in Git."""
    with disk_faults(to):
        to.mkdir()
        found = [name for name in PROJECT_FILES if (root / name).is_file()]
        for folder in PROJECT_FOLDERS:
            found += sorted(path.relative_to(root).as_posix() for path in (root / folder).glob("*.toml"))
        for name in found:
            (to / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(root / name, to / name)
    return found


def _ledger(ws: Workspace, folder: Path) -> Ledger:
    """The snapshot as a ledger, to be read."""
    return Ledger(
        Database(database_url("", folder)),
        slices=ws.ledger.slices,
        signer=lambda: ws.ledger.signer,
        seen=Seen(None),
        clock=ws.clock,
        actor=ws.actor,
    )


def _proved(ws: Workspace, ledger: Ledger) -> tuple[Checkpoint, str]:
    """The newest checkpoint of a snapshot whose tree is the one that was signed. Raises: Tampered; Corrupt."""
    found = verify(ledger, verifiers_of(ws))
    if found.kind:
        hint = "noria audit verify names what is wrong; restore the newest backup, if there is one: noria admin restore"
        kind = Corrupt if found.kind == "damaged" else Tampered
        raise kind(f"no backup was made: {found.message}", where=ws.ledger.database.where, hint=hint)
    note = ledger.checkpoint()
    return parse_checkpoint(note), note


def _wanted(ws: Workspace, ledger: Ledger, mentioned: set[str]) -> dict[Digest, int]:
    """Every object that the facts of the snapshot name, or what is not in the ledger yet, with its size in bytes.

    Raises: Corrupt if one is gone.
    """
    roots = ledger_roots(ws, ledger, mentioned)
    try:
        counted_on = [*roots.versions, *present(ws.objects, roots.named - roots.versions)]
        names = {as_name(key) for key in reachable(ws.objects, counted_on, roots.dropped)}
        here = present(ws.objects, names) | _pieces(ws.objects, names)
    except NotFound as error:
        raise _not_whole(error.message) from error
    gone = lacking(replace(ws, ledger=ledger), here)
    if gone:
        raise _not_whole(f"{counted(len(gone), 'object')} that facts name, such as {short(gone[0])}, not in the store")
    return {name: ws.objects.size(name) for name in sorted(here)}


def _pieces(objects: Objects, names: set[Digest]) -> set[Digest]:
    """Small objects that are in packs, also where `has` does not tell of them."""
    return set(objects.store.packed(names)) if isinstance(objects.store, HasForms) else set()


def _not_whole(message: str) -> Corrupt:
    return Corrupt(
        f"no backup was made, because something that it needs is not here: {message}",
        hint="noria audit verify says what it belonged to; noria data verify heals it from a remote",
    )


def _checked(target: Objects, wanted: dict[Digest, int]) -> tuple[int, int]:
    """Read what is there anew, and put aside what is altered, so that it is copied again."""
    there = target.has_many(wanted)
    mended = 0
    with task("reading objects of the backup", total=sum(wanted[name] for name in there)) as advance:
        for name in there:
            try:
                target.verify(name)
            except (Corrupt, NotFound):
                with suppress(NotFound):  # an altered piece went with the whole, or before it
                    target.quarantine(name)
                mended += 1
            advance(wanted[name])
    return len(there), mended


def _write_names(path: Path, wanted: dict[Digest, int]) -> None:
    with disk_faults(path), path.open("w", encoding="ascii") as sink:
        sink.writelines(f"{name} {size}\n" for name, size in wanted.items())
