"""Take over a DVC repository in place: every output becomes a data set, its history its versions.

DVC's files, cache and remotes are read and never written. Each file's md5 is compared before its
bytes are taken, and the versions are the same as `noria data add` would make of the same files, so
taking over twice adds nothing. At the end the report says what could not be taken over and why, and
where the work tree differs from what DVC says: nothing is left out in silence.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from noria.config import CONFIG_NAME
from noria.core.clock import utc_text
from noria.core.errors import Corrupt, NotFound, UsageError
from noria.core.frozen import frozen, slotted
from noria.core.progress import task
from noria.core.verb import verb
from noria.core.words import counted
from noria.data import lock, records
from noria.data.commit import Content, commit
from noria.data.content import content_of
from noria.data.git.gitlink import git
from noria.data.records import DatasetVersion
from noria.data.tabular.tables import scratch
from noria.data.takeover.dvc import DvcRemote, Layouts, Output, md5_of, outputs_of, remotes_of, root_of, tracking_files
from noria.store.objects import disk_faults
from noria.store.workspace import Workspace

__all__ = ["TakenOver", "TakenVersion", "import_dvc", "prepare"]

NAME_MAX = 64
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]+")


@frozen(kw_only=True)
class TakenVersion:
    """One version that was taken over, or was here; `commit` is the Git commit that it was found at."""

    dataset: str
    version: int
    path: str
    md5: str
    files: int
    size_bytes: int
    is_new: bool
    commit: str = ""


@frozen(kw_only=True)
class TakenOver:
    """What a takeover did. `ok` if nothing was left out and nothing differs.

    `left_out` says which outputs were not taken over and why, `differences` what the work tree holds
    otherwise than DVC says. `remotes` are DVC's, as `[remote.NAME]` would read beside them.
    """

    ok: bool
    root: str
    datasets: int
    versions: tuple[TakenVersion, ...]
    new: int
    verified: int
    left_out: tuple[str, ...]
    differences: tuple[str, ...]
    remotes: tuple[str, ...]
    summary: str


@frozen
class _Found:
    """The commit at which an output was found, "" for the work tree, and when it was made (UTC text, or "")."""

    commit: str = ""
    at: str = ""


@slotted
class _Order:
    """The last number that a data set was given in this takeover, and whether it has got a new one."""

    number: int = 0
    is_grown: bool = False


@verb(permission="data.add", where="project", name="import-dvc")
def import_dvc(ws: Workspace, path: str = ".", *, history: bool = False) -> TakenOver:
    """Take over what DVC tracks: each output becomes a data set, with its bytes verified by md5.

    Nothing of DVC is changed: both can go on side by side. Doing it again adds nothing. Versions are numbered in
    the order of the history and dated by their commits; what was taken over without it before gets its place
    in that order as one more number, whose note names the first: the newest version stays the newest commit's.

    Args:
        path: a folder in the DVC repository.
        history: every version that Git's history of this branch names, oldest first.
    Raises: NotFound if there is no DVC repository; UsageError for a file of DVC that cannot be read.
    Example:
        noria import dvc --history
    """
    root = root_of(ws.project.root / path if not Path(path).is_absolute() else Path(path))
    remotes, cache = remotes_of(root)
    now = [(output, _now(root, name)) for name in tracking_files(root) for output in _outputs(root / name, name)]
    past = list(_past(root)) if history else []
    names = _names([output.path for output, _ in (*past, *now)])
    versions: dict[tuple[str, int], TakenVersion] = {}
    left_out: dict[str, None] = {}
    seen: set[tuple[str, str]] = set()
    order: dict[str, _Order] = {}
    with scratch(ws) as folder, task("taking over", total=len(past) + len(now), unit="outputs") as advance:
        places = Layouts(cache, remotes, folder / "fetched")
        for output, found_at in (*past, *now):
            advance(1)
            key = (output.path, output.md5)
            if key in seen and found_at.commit:
                continue
            seen.add(key)
            given = order.setdefault(names[output.path], _Order())
            try:
                taken = _take(ws, output, names[output.path], places, folder, (root, found_at), given)
                versions.setdefault((taken.dataset, taken.version), taken)
            except (NotFound, Corrupt, UsageError) as error:
                left_out.setdefault(f"{output.path}{_at(found_at.commit)}: {error.message}")
    differences = tuple(_differences(root, [output for output, _ in now]))
    return _told(root, remotes, list(versions.values()), tuple(left_out), differences, places.verified)


def prepare(path: Path) -> list[str]:
    """Make a project of a DVC repository that is none: a `noria.toml` with its outputs and remotes.

    Gives the files that were written.

    A `noria.toml` that is there is left as it is. Raises: NotFound if there is no DVC repository.
    """
    root = root_of(path)
    config = root / CONFIG_NAME
    if config.exists():
        return []
    remotes, _ = remotes_of(root)
    paths = [out.path for name in tracking_files(root) for out in _outputs(root / name, name) if not out.skipped]
    names = _names(paths)
    lines = ["[project]", f"name = {json.dumps(_fit(root.name))}", ""]
    for path_in_tree in dict.fromkeys(paths):
        lines += [f"[data.{json.dumps(names[path_in_tree])}]", f"source = {json.dumps(path_in_tree)}", ""]
    for remote in remotes:
        lines += [_as_setting(remote).replace("] ", "]\n", 1).replace('" ', '"\n'), ""]
    ignore = root / ".gitignore"
    with disk_faults(config):
        config.write_text("\n".join(lines), encoding="utf-8")
        known = ignore.read_text(encoding="utf-8") if ignore.is_file() else ""
        if ".noria/" not in known.splitlines():
            gap = "" if not known or known.endswith("\n") else "\n"
            ignore.write_text(f"{known}{gap}.noria/\n", encoding="utf-8")
    return [str(config), str(ignore)]


def _take(
    ws: Workspace,
    output: Output,
    name: str,
    places: Layouts,
    folder: Path,
    where: tuple[Path, _Found],
    order: _Order,
) -> TakenVersion:
    """One version: the files by name, each compared with its md5, then as `add` would.

    Numbers follow the history: what was taken over before, out of this order, gets one more number, so that the
    newest version is the newest commit's.
    """
    root, found_at = where
    if output.skipped:
        raise UsageError(output.skipped)
    files = _files(output, places, root)
    total = sum(place.stat().st_size for _, place in files)
    if output.size_bytes and not output.is_legacy and total != output.size_bytes:
        raise Corrupt(f"its files have {total} bytes, not the {output.size_bytes} that DVC says")
    named = list(_named(files, folder))
    with lock.dataset_lock(ws, name), lock.leased(ws, f"import dvc {name}") as claim:
        claim()
        with ws.ledger.read() as tx:
            before = records.newest(tx, name)
        time = before.time if before is not None else ""
        content = content_of(ws, named, time=time, is_one=not output.is_folder)
        roles = (
            {"key": before.key, "time": time, "label": before.label}
            if before
            else dict.fromkeys(("key", "time", "label"), "")
        )
        made, is_new = _committed(ws, name, content, roles, output, found_at, order)
    return TakenVersion(
        dataset=name,
        version=made.version,
        path=output.path,
        md5=output.md5,
        files=made.files,
        size_bytes=made.size_bytes,
        is_new=is_new,
        commit=found_at.commit,
    )


def _committed(
    ws: Workspace, name: str, content: Content, roles: dict[str, str], output: Output, found: _Found, order: _Order
) -> tuple[DatasetVersion, bool]:
    """The version in its order, and whether it is new."""
    add = functools.partial(
        commit,
        ws,
        name,
        content,
        roles=roles,
        source=output.path,
        note=f"DVC {output.md5[:8]}{_at(found.commit)}",
        is_pinned=not found.commit,
        added=found.at,
    )
    with ws.ledger.read() as tx:
        highest = records.highest(tx, name)
    made = add()
    if made.version <= order.number and order.is_grown:
        note = f"{add.keywords['note']}; what {made.ref} says, in its place in the history"
        made = add(anew=True, note=note)
    order.number = made.version
    order.is_grown = order.is_grown or made.version > highest
    return made, made.version > highest


def _now(root: Path, name: str) -> _Found:
    """The present state of a tracking file; its time is that of the commit that made it, if it is committed."""
    if git(root, "status", "--porcelain", "--", name).stdout.strip():
        return _Found()
    log = git(root, "log", "-1", "--format=%cI", "--", name)
    return _Found(at=_utc(log.stdout) if log.returncode == 0 else "")


def _utc(text: str) -> str:
    return utc_text(datetime.fromisoformat(text.strip()).astimezone(UTC)) if text.strip() else ""


def _files(output: Output, places: Layouts, root: Path) -> list[tuple[str, Path]]:
    """The files of an output: (name in the data set, where its bytes are)."""
    if output.is_folder:
        return [(name, places.find(md5, is_legacy=output.is_legacy)) for name, md5 in places.manifest(output)]
    name = PurePosixPath(output.path).name
    try:
        return [(name, places.find(output.md5, is_legacy=output.is_legacy))]
    except NotFound:
        here = root / output.path  # an output that DVC does not cache lies in the work tree alone
        if here.is_file() and md5_of(here, is_legacy=output.is_legacy) == output.md5:
            return [(name, here)]
        raise


def _named(files: Sequence[tuple[str, Path]], folder: Path) -> Iterator[tuple[str, Path]]:
    """The same files under names that say what they hold: a table is known by its ending."""
    target = folder / "named"
    shutil.rmtree(target, ignore_errors=True)
    for name, place in files:
        here = target / name
        with disk_faults(here):
            here.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(place, here)
            except OSError:
                shutil.copyfile(place, here)  # another disk, or a file system without links
        yield name, here


def _outputs(file: Path, name: str) -> list[Output]:
    try:
        beside = file.with_name("dvc.yaml")
        pipeline = beside.read_text(encoding="utf-8") if file.name == "dvc.lock" and beside.is_file() else ""
        return outputs_of(file.read_text(encoding="utf-8"), name, pipeline)
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8 text") from error


def _past(root: Path) -> Iterator[tuple[Output, _Found]]:
    """Every output that a commit of this branch brought, oldest first, with the commit."""
    log = git(root, "log", "--reverse", "--first-parent", "--format=%H %cI", "--", "*.dvc", "*dvc.lock")
    if log.returncode != 0:
        raise NotFound(f"Git has no history of {root}", hint="leave out --history")
    prefix = git(root, "rev-parse", "--show-prefix").stdout.strip()
    for line in log.stdout.splitlines():
        sha, _, moment = line.partition(" ")
        changed = git(
            root, "diff-tree", "--root", "-m", "--first-parent", "-r", "-z", "--name-only", "--no-commit-id", sha
        )
        for full in changed.stdout.split("\0"):
            name = full.removeprefix(prefix)
            if not full.startswith(prefix) or not (name.endswith(".dvc") or PurePosixPath(name).name == "dvc.lock"):
                continue
            shown = git(root, "show", f"{sha}:{full}")
            if shown.returncode == 0:  # it is gone in this commit otherwise
                beside = git(root, "show", f"{sha}:{PurePosixPath(full).with_name('dvc.yaml').as_posix()}")
                pipeline = beside.stdout if beside.returncode == 0 and name.endswith("dvc.lock") else ""
                for output in outputs_of(shown.stdout, name, pipeline):
                    yield output, _Found(sha, _utc(moment))


def _names(paths: Iterable[str]) -> dict[str, str]:
    """A name for each path: its last part, or more of it where two would be the same."""
    unique = list(dict.fromkeys(paths))
    short = {path: _fit(_stem(PurePosixPath(path).name)) for path in unique}
    counts: dict[str, int] = {}
    for name in short.values():
        counts[name] = counts.get(name, 0) + 1
    found: dict[str, str] = {}
    taken: set[str] = set()
    for path in unique:
        name = short[path] if counts[short[path]] == 1 else _fit(_stem(path).replace("/", "-"))
        number = 2
        while name in taken:
            name, number = f"{name[: NAME_MAX - 4]}-{number}", number + 1
        taken.add(name)
        found[path] = name
    return found


def _stem(name: str) -> str:
    for ending in (".gz", ".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json"):
        name = name.removesuffix(ending) or name
    return name


def _fit(name: str) -> str:
    return _UNFIT.sub("-", name).strip("-._")[:NAME_MAX] or "data"


def _differences(root: Path, outputs: Sequence[Output]) -> Iterator[str]:
    """Where the work tree holds something else than DVC says: what `dvc status` would say too."""
    for output in outputs:
        if output.skipped:
            continue
        place = root / output.path
        if not place.exists():
            yield f"{output.path} is not in the work tree (dvc checkout, or noria data checkout)"
        elif output.is_folder != place.is_dir():
            yield f"{output.path} is a {'folder' if place.is_dir() else 'file'} in the work tree"
        elif not output.is_folder and md5_of(place, is_legacy=output.is_legacy) != output.md5:
            yield f"{output.path} was changed in the work tree since DVC saw it"


def _told(
    root: Path,
    remotes: Sequence[DvcRemote],
    versions: Sequence[TakenVersion],
    left_out: tuple[str, ...],
    differences: tuple[str, ...],
    verified: int,
) -> TakenOver:
    datasets = {each.dataset for each in versions}
    new = sum(each.is_new for each in versions)
    text = f"{counted(len(datasets), 'data set')}, {counted(len(versions), 'version')}, {new} of them new"
    text += f"; {counted(verified, 'md5')} compared"
    if left_out or differences:
        text += f"; {len(left_out)} left out, {len(differences)} differ in the work tree"
    return TakenOver(
        ok=not left_out and not differences,
        root=str(root),
        datasets=len(datasets),
        versions=tuple(versions),
        new=new,
        verified=verified,
        left_out=left_out,
        differences=differences,
        remotes=tuple(_as_setting(each) for each in remotes),
        summary=text,
    )


def _as_setting(remote: DvcRemote) -> str:
    """The remote as noria.toml would have it: Noria's objects beside DVC's."""
    name = _fit(remote.name)
    extra = f' endpoint = "{remote.endpoint}"' if remote.endpoint else ""
    default = " default = true" if remote.is_default else ""
    return f'[remote.{name}] url = "{remote.url.rstrip("/")}/noria"{extra}{default}'


def _at(commit: str) -> str:
    return f" at {commit[:10]}" if commit else ""
