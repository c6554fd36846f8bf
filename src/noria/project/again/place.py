"""The clean place: a temporary folder with the pinned code, a throw-away store with the pinned data.

Code comes from the commit (read from git's objects, not from the working tree), the patch and the
snapshot of the run. Data are copied object by object, each hashed on its way. A file that a step
was seen to read, and that is neither, is taken from the project's folder only if it still has the
digest that it had: it is then as pinned as the rest.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from pathlib import Path
from typing import Any

from noria import plugins
from noria.core.errors import Corrupt, NoriaError, NotFound, WorldError
from noria.core.frozen import frozen
from noria.core.identity import Digest, is_digest, short
from noria.data import records as data
from noria.pipeline.caching.reads import looked
from noria.store.disk import hash_file
from noria.store.objects import Objects
from noria.store.transfer import copy, missing
from noria.store.tree import iter_tree, tree_nodes
from noria.store.workspace import Workspace
from noria.tracking.facts import Code, Pin
from noria.tracking.records import RunRecord

__all__ = ["CODE", "Lacking", "Place", "bring", "environ_of", "make_place", "restore_code", "stored"]

GIT_TIMEOUT_S = 300
CODE = "code"
"""The folder of a place that the code stands in."""


class Lacking(Exception):
    """Something that a run stood on cannot be had any more. Ends as a verdict, not as an error.

    `kind` is that of a cause, `about` the data set or the file, `hint` what may bring it back.
    """

    def __init__(self, kind: str, message: str, *, about: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.kind, self.message, self.about, self.hint = kind, message, about, hint


@frozen(kw_only=True)
class Place:
    """Where a run is done again. `root` is the project's folder in it, `code` says where the code came from.

    `environ` are the variables of its processes; `brought` the files that were taken by their digest.
    """

    folder: Path
    root: Path
    code: str
    pins: tuple[Mapping[str, Any], ...]
    brought: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        """Noria's own folder in it."""
        return self.root / ".noria"


def make_place(ws: Workspace, run: RunRecord, folder: Path, reads: Sequence[tuple[str, str]]) -> Place:
    """Restore code and data of a run in an empty folder.

    Args:
        reads: what the steps were seen to read, as (what, digest).
    Raises: Lacking, with kind "changed code" or "changed data", if either cannot be had.
    """
    root, told = restore_code(ws, run.code, folder / CODE)
    if not (root / "noria.toml").is_file():
        raise Lacking("changed code", f"what {run.run} kept of the code has no noria.toml", about="noria.toml")
    place = Place(folder=folder, root=root, code=told, pins=(), environ=environ_of(root))
    place.state.mkdir(parents=True, exist_ok=True)
    pins = tuple(_version(ws, pin) for pin in run.pins)
    for pin in run.pins:
        _data(ws, place, pin)
    brought = tuple(_files(ws.project.root, root, reads, _moment(run.started_at)))
    return dataclasses.replace(place, pins=pins, brought=brought)


def bring(ws: Workspace, place: Place, names: Iterable[str]) -> None:
    """Copy objects of the project's store, to be compared with what was made. Raises: NotFound; Corrupt."""
    wanted: dict[Digest, int] = {}
    waiting = [name for name in names if is_digest(name)]
    while waiting:
        name = Digest(waiting.pop())
        if name not in wanted:
            wanted[name] = ws.objects.size(name)
            waiting += _parts(ws.objects, name, wanted[name])
    target = stored(place)
    copy(ws.objects, target, missing(target, wanted), partial=place.folder / "partial")


def environ_of(root: Path) -> dict[str, str]:
    """The present variables, without what would lead to the project's own stores: these win over any noria.toml."""
    state = root / ".noria"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NORIA_")}
    return kept | {"NORIA_DATABASE": f"sqlite:///{state / 'ledger.db'}", "NORIA_OBJECTS": str(state / "objects")}


def stored(place: Place) -> Objects:
    """The throw-away object store: of the kind that every project has in its own folder."""
    return Objects(plugins.load("objects", "file")(place.state / "objects"), place.state / "cache")


# code


def restore_code(ws: Workspace, code: Code, folder: Path) -> tuple[Path, str]:
    """Write the code of a run into a new folder; gives the project's folder in it, and where the code came from.

    Raises: Lacking.
    """
    folder.mkdir(parents=True)
    root, told = folder, []
    if code.commit:
        root = folder / _checked_out(ws.project.root, code.commit, folder)
        told.append(f"commit {code.commit[:12]}")
    if code.patch:
        patch = folder.parent / "code.patch"
        patch.write_bytes(_object(ws, code.patch, "the patch of its uncommitted changes"))
        _git(
            folder, "apply", "--whitespace=nowarn", str(patch), environ={"GIT_CEILING_DIRECTORIES": str(folder.parent)}
        )
        told.append("its patch")
    if code.source:
        try:
            for entry in iter_tree(ws.objects, code.source):
                target = root / entry.path
                target.parent.mkdir(parents=True, exist_ok=True)
                ws.objects.copy_to(entry.digest, target)
        except (NotFound, WorldError) as error:
            raise Lacking("changed code", f"the snapshot of the code is not whole: {error.message}") from error
        told.append("its snapshot")
    if not told:
        raise Lacking("changed code", "the run kept nothing of its code")
    return root, " + ".join(told)


def _checked_out(project: Path, commit: str, folder: Path) -> str:
    """Write a commit's files, from git's objects; gives the project's place in them."""
    index = folder.parent / "git-index"
    environ = {"GIT_INDEX_FILE": str(index)}
    try:
        prefix = _git(project, "rev-parse", "--show-prefix").strip()
        top = _git(project, "rev-parse", "--show-toplevel").strip()
        _git(project, "cat-file", "-e", f"{commit}^{{commit}}")
        _git(project, "read-tree", commit, environ=environ)
        _git(Path(top), "checkout-index", "--all", f"--prefix={folder}/", environ=environ)
    except WorldError as error:
        raise Lacking(
            "changed code",
            f"the commit {commit[:12]} of the run cannot be had: {error.message}",
            about=commit,
            hint="git fetch --all brings what a remote has",
        ) from error
    return prefix


def _git(folder: Path, *words: str, environ: Mapping[str, str] | None = None) -> str:
    given = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", **(environ or {})}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            env=given,
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise WorldError("git is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise WorldError(f"git {words[0]} took more than {GIT_TIMEOUT_S} s") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise WorldError(f"git {words[0]}: {lines[0] if lines else done.returncode}")
    return done.stdout


def _object(ws: Workspace, name: str, what: str) -> bytes:
    try:
        return ws.objects.get_bytes(name)
    except (NotFound, WorldError) as error:
        raise Lacking("changed code", f"{what} cannot be had: {error.message}", about=name) from error


# data


def _version(ws: Workspace, pin: Pin) -> dict[str, Any]:
    with ws.ledger.read() as tx:
        found = data.by_number(tx, pin.dataset, pin.version)
    if found is None or found.tree != pin.tree:
        raise Lacking(
            "changed data", f"{pin.dataset}@{pin.version} is not on record as what the run used", about=pin.dataset
        )
    return dataclasses.asdict(found)


def _data(ws: Workspace, place: Place, pin: Pin) -> None:
    """Copy a pinned version's objects; each byte is hashed on its way."""
    name = f"{pin.dataset}@{pin.version}"
    try:
        wanted = {Digest(each): ws.objects.size(each) for each in tree_nodes(ws.objects, pin.tree)}
        wanted |= {Digest(entry.digest): entry.size_bytes for entry in iter_tree(ws.objects, pin.tree)}
        target = stored(place)
        copy(ws.objects, target, missing(target, wanted), partial=place.folder / "partial")
    except (NotFound, Corrupt) as error:
        raise Lacking(
            "changed data",
            f"the data of {name} are not what they were: {error.message}",
            about=pin.dataset,
            hint=f"noria data verify {name} heals them from a remote",
        ) from error


def _moment(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _files(project: Path, root: Path, reads: Sequence[tuple[str, str]], began: float) -> Iterable[str]:
    """Bring what steps were seen to read, or to look at, and the code does not hold, if it is what it was.

    What was only looked at may be what a step then made: it is brought if it is older than the run.
    """
    for what, known in reads:
        kind, _, name = what.partition(" ")
        source, target = project / name, root / name
        if kind not in ("file", "stat", "there") or Path(name).is_absolute():
            continue
        if kind == "file" and not target.exists() and len(known) >= 16 and source.is_file():
            if hash_file(source).removeprefix("sha256:").startswith(known):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
                yield f"{name} {short('sha256:' + known)}"
        elif kind != "file" and known != "missing" and looked(source, is_whole=kind == "stat") == known:
            if not target.exists() and source.stat().st_mtime < began:
                _brought_as_seen(source, target)
                yield f"{name} {known.partition(' ')[0]}"
            if kind == "stat" and target.is_file() and target.stat().st_size == source.stat().st_size:
                shutil.copystat(source, target)


def _brought_as_seen(source: Path, target: Path) -> None:
    """A file, or a folder without what is in it: nobody asked for that."""
    if source.is_dir():
        target.mkdir(parents=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _parts(objects: Objects, name: str, size_bytes: int) -> list[str]:
    """The stored parts of a container; none of anything else."""
    if size_bytes > 64 << 20:
        return []
    content = objects.get_bytes(name)
    if not content.startswith((b"{", b"[")):
        return []
    try:
        document = objects.get_json(name)
    except NoriaError:
        return []
    found, waiting = [], [document]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            if each.get("$") == "value":
                found.append(str(each["digest"]))
            waiting += list(each.values())
        elif isinstance(each, list):
            waiting += each
    return found
