"""The clean place of a script: a copy of the part of the file system that its run stood on.

Every file stands there under the path that it had, so that `../data/rows.csv` leads to what it led to: the code of
the run, the files that it read with the content that they had when they were opened, and the folders that it wrote
into. Each time that the script runs, it runs in a fresh copy, always at the same path. Whatever it writes stays in
the place (`packaging/fence.py`); files that it names by their whole path are not in the place, and that is looked at.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from noria.core.errors import Corrupt, NotFound
from noria.core.frozen import frozen
from noria.project.again import causes
from noria.project.again.place import Lacking, Place, environ_of, restore_code
from noria.scripts.records import ScriptRecord
from noria.store.disk import hash_file
from noria.store.workspace import Workspace
from noria.tracking.records import RunRecord

__all__ = ["ScriptPlace", "lay_out", "plain_name"]

WORK = "work"
TEMPORARY = ("TMPDIR", "JOBLIB_TEMP_FOLDER")
"""Variables that say where temporary files go."""
PACKAGES = ("site-packages", "dist-packages")
"""Folders of an environment: what was imported from there belongs to it, and not to the code."""


@frozen(kw_only=True)
class ScriptPlace:
    """Where a script is done again. `root` and `cwd` are the project's and the current folder as they were then.

    `place.root` is the project's folder in the copy that runs; `words` are the script and its arguments.
    """

    place: Place
    root: Path
    cwd: Path
    words: tuple[str, ...]
    pristine: Path
    name: str = WORK

    @property
    def work(self) -> Path:
        """The copy that a run works in; `/` of that time."""
        return self.place.folder / self.name

    def moved(self) -> ScriptPlace:
        """The same in a copy with another path."""
        old, new = str(self.work), str(self.place.folder / f"{WORK}-moved")
        environ = {name: value.replace(old, new) for name, value in self.place.environ.items()}
        root, cwd = (Path(str(path).replace(old, new)) for path in (self.place.root, self.cwd))
        return dataclasses.replace(
            self,
            place=dataclasses.replace(self.place, root=root, environ=environ),
            cwd=cwd,
            words=tuple(word.replace(old, new) for word in self.words),
            name=f"{WORK}-moved",
        )

    @property
    def temporary(self) -> Path:
        """Its folder for temporary files."""
        return self.place.folder / "tmp"

    def fresh(self) -> None:
        """Make the copy anew, without anything that an earlier run left."""
        for folder in (self.work, self.temporary):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.pristine, self.work, symlinks=True)
        self.temporary.mkdir()
        self.place.state.mkdir(parents=True, exist_ok=True)


def _folders_then(ws: Workspace, record: ScriptRecord, config: Mapping[str, Any]) -> tuple[Path, Path]:
    """The project's folder and the current folder when a script ran."""
    root = ws.project.root.resolve()
    cwd = Path(str(config.get("folder") or root))
    given = os.path.normpath(cwd / _given(record)[0])
    if not Path(record.script).is_absolute() and given.endswith(f"{os.sep}{record.script}"):
        root = Path(given.removesuffix(f"{os.sep}{record.script}") or os.sep)
    return root, cwd


def lay_out(
    ws: Workspace,
    run: RunRecord,
    record: ScriptRecord,
    document: Mapping[str, Any],
    config: Mapping[str, Any],
    folder: Path,
) -> ScriptPlace:
    """Lay out what a run of a script stood on, in an empty folder.

    Raises: Lacking if its code, or a file that it read, cannot be had.
    """
    root, cwd = _folders_then(ws, record, config)
    pristine = folder / "pristine"
    there, told = restore_code(ws, run.code, folder / "code")
    top = root
    for _ in there.relative_to(folder / "code").parts:
        top = top.parent
    _under(pristine, top).parent.mkdir(parents=True, exist_ok=True)
    (folder / "code").rename(_under(pristine, top))
    here = _under(pristine, root)
    for file in document.get("code", ()):
        if file["digest"] and not file["note"] and not _is_installed(file["path"]):
            _put(ws, file["digest"], _under(pristine, root / file["path"]), causes.CODE, file["path"])
    for file in document["read"]:
        _input(ws, root, file, _under(pristine, root / file["path"]))
    _folders(pristine, root, document)
    for listed in document.get("listed", ()):
        _names(_under(pristine, root / listed["path"]), listed["entries"])
    _under(pristine, cwd).mkdir(parents=True, exist_ok=True)
    if not (here / "noria.toml").is_file():
        raise Lacking(causes.CODE, f"what {run.run} kept of the code has no noria.toml", about="noria.toml")
    words = [_moved(folder / WORK, word) if number == 0 else word for number, word in enumerate(_given(record))]
    inside = _under(folder / WORK, root)
    environ = environ_of(inside) | dict.fromkeys(TEMPORARY, str(folder / "tmp"))
    if environ.get("PYTHONPATH"):
        environ["PYTHONPATH"] = _paths(environ["PYTHONPATH"], pristine, folder / WORK)
    place = Place(folder=folder, root=inside, code=told, pins=(), environ=environ)
    return ScriptPlace(place=place, root=root, cwd=_under(folder / WORK, cwd), words=tuple(words), pristine=pristine)


def plain_name(root: Path, name: str) -> str:
    """What a file is called on record: by its path in the project's folder of then, or by its whole path."""
    path = Path(name)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else name


def _given(record: ScriptRecord) -> Sequence[str]:
    """The script as it was named, and its arguments."""
    return record.command[1:] if record.command[0] == "python" else record.command[2:]


def _under(top: Path, path: Path) -> Path:
    """Where a path of that time stands in a copy."""
    return top / PurePosixPath(os.path.normpath(path)).relative_to("/")


def _moved(work: Path, word: str) -> str:
    return str(_under(work, Path(word))) if Path(word).is_absolute() else word


def _is_installed(path: str) -> bool:
    return any(part in PACKAGES for part in Path(path).parts)


def _paths(text: str, pristine: Path, work: Path) -> str:
    """PYTHONPATH with the folders whose code is on record where they stand in the copy."""
    found = []
    for entry in text.split(os.pathsep):
        is_copied = Path(entry).is_absolute() and not _is_installed(entry) and _under(pristine, Path(entry)).is_dir()
        found.append(_moved(work, entry) if is_copied else entry)
    return os.pathsep.join(found)


def _put(ws: Workspace, digest: str, target: Path, kind: str, name: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        ws.objects.copy_to(digest, target)
    except (NotFound, Corrupt) as error:
        raise Lacking(kind, f"{name} is not what it was: {error.message}", about=name) from error


def _input(ws: Workspace, root: Path, file: Mapping[str, Any], target: Path) -> None:
    """A file that was read, as it was when it was opened; one that is not stored is taken if it still is what it was.

    Raises: Lacking.
    """
    name, digest, note = str(file["path"]), str(file["digest"]), str(file["note"])
    if digest and not note:
        _put(ws, digest, target, causes.DATA, name)
        return
    for place in dict.fromkeys((root / name, ws.project.root / name)):
        if digest and place.is_file() and place.stat().st_size == file["size_bytes"] and hash_file(place) == digest:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place, target)
            return
    hint = f"bring it back to {root / name}, or keep it as a data set: noria data add" if digest else ""
    raise Lacking(causes.DATA, f"{name}, which it read, cannot be had: {note}", about=name, hint=hint)


def _names(folder: Path, entries: Sequence[Sequence[Any]]) -> None:
    """What a folder held that was listed: what was not opened has its name, size and time, and no content."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, is_folder, size, changed in entries:
        place = folder / name
        if is_folder:
            place.mkdir(exist_ok=True)
        elif not place.exists():
            with place.open("wb") as file:
                file.truncate(size)  # a hole, which takes no space
        os.utime(place, ns=(int(changed), int(changed)))


def _folders(pristine: Path, root: Path, document: Mapping[str, Any]) -> None:
    """The folders that it wrote into, but for those that it made itself."""
    made = [root / name for name in document.get("made", ())]
    for file in document["written"]:
        folder = (root / file["path"]).parent
        while any(folder == each or each in folder.parents for each in made):
            folder = folder.parent
        _under(pristine, folder).mkdir(parents=True, exist_ok=True)
