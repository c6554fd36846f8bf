"""Taking over the files of runs and logged models: each is read whole, and its bytes compared by their digest."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from noria.catalog.facts import LoggedModelFile
from noria.catalog.takeover.documents import FileDoc, ModelDoc, RunDoc
from noria.catalog.takeover.intake import Intake
from noria.core.errors import NoriaError, WorldError
from noria.core.frozen import slotted
from noria.store.failpoint import failpoint
from noria.store.objects import BLOCK_BYTES, disk_faults
from noria.tracking.facts import ArtifactLogged

__all__ = ["Waiting", "take_files"]

BATCH_FILES, BATCH_BYTES = 200, 64 << 20
BLOCK = BLOCK_BYTES


@slotted
class Waiting:
    """Files that were copied from the store and are not stored here yet: memory holds their names alone."""

    folder: Path
    files: list[tuple[RunDoc | ModelDoc, str, Path]]
    size_bytes: int = 0
    number: int = 0

    def take(self, owner: RunDoc | ModelDoc, name: str, stream: BinaryIO) -> None:
        """Copy a stream to a file of its own."""
        self.number += 1
        place = self.folder / f"{self.number}"
        with disk_faults(place), place.open("xb") as target:
            shutil.copyfileobj(stream, target, BLOCK)
        self.size_bytes += place.stat().st_size
        self.files.append((owner, name, place))


def take_files(intake: Intake, owners: Sequence[RunDoc] | Sequence[ModelDoc], folder: Path) -> None:
    """Bring the files of runs or logged models in, and say where they differ."""
    waiting = Waiting(folder, [])
    for owner in owners:
        try:
            _look(intake, owner, waiting)
        except WorldError:
            raise
        except NoriaError as error:
            intake.tally.differ("artifact", owner.id, f"its files are left out: {error.message}")
    _store(intake, waiting)


def _look(intake: Intake, owner: RunDoc | ModelDoc, waiting: Waiting) -> None:
    """Compare what is here already, and copy what is not."""
    tally = intake.tally
    here = intake.ours.digests(owner)
    there = {each.name: each for each in intake.store.files.listing(owner)}
    for name, each in there.items():
        tally.seen["artifact"] += 1
        try:
            _take(intake, owner, each, here.get(name, ("", 0))[0], waiting)
        except WorldError:
            raise
        except NoriaError as error:
            tally.differ("artifact", f"{owner.id}/{name}", f"is left out: {error.message}")
        if len(waiting.files) >= BATCH_FILES or waiting.size_bytes >= BATCH_BYTES:
            _store(intake, waiting)
    for name in sorted(here.keys() - there.keys()):
        tally.differ("artifact", f"{owner.id}/{name}", "is not there")


def _take(intake: Intake, owner: RunDoc | ModelDoc, each: FileDoc, known: str, waiting: Waiting) -> None:
    with intake.store.files.open(owner, each.name) as stream:
        if not known:
            waiting.take(owner, each.name, stream)
            return
        hashed = hashlib.sha256()
        while block := stream.read(BLOCK):
            hashed.update(block)
            intake.tally.size_bytes += len(block)
    if known != f"sha256:{hashed.hexdigest()}":
        what = f"sha256 {hashed.hexdigest()[:12]} there, {known.removeprefix('sha256:')[:12]} here"
        intake.tally.differ("artifact", f"{owner.id}/{each.name}", what)


def _store(intake: Intake, waiting: Waiting) -> None:
    """Make the copies objects, then facts; the copies go."""
    if not waiting.files:
        return
    ws, tally = intake.ws, intake.tally
    digests = ws.objects.put_files([place for _, _, place in waiting.files])
    intake.begin()
    failpoint("import.filed")
    with ws.ledger.transaction() as tx:
        for (owner, name, place), digest in zip(waiting.files, digests, strict=True):
            size = place.stat().st_size
            known = intake.ours.digests(owner).get(name)
            if known is not None:
                continue  # another takeover of the same store was quicker
            if isinstance(owner, ModelDoc):
                tx.append(
                    LoggedModelFile(model=owner.id, name=name, digest=digest, size_bytes=size),
                    outputs=[(name, digest)],
                )
            else:
                tx.append(
                    ArtifactLogged(run=owner.id, name=name, digest=digest, size_bytes=size), outputs=[(name, digest)]
                )
            tally.new["artifact"] += 1
            tally.size_bytes += size
    for _, _, place in waiting.files:
        place.unlink()
    waiting.files.clear()
    waiting.size_bytes = 0
