"""DVC's repository as it lies on disk: what it tracks, where its bytes are, and how it names them.

Both layouts of a cache are read: `files/md5/ab/cdef…` (DVC 3) and `ab/cdef…` (DVC 2, whose text files
are named by the md5 of their text with Unix line ends). A folder is a manifest, `….dir`: a JSON list
of md5s and relative paths. Nothing of the repository is changed, and no byte is believed before its
md5 was compared.

Source: DVC's documentation: `.dvc` files, `dvc.lock`, internal directories and files, configuration.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from noria import plugins
from noria.core.errors import ConfigError, Corrupt, NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.store.bucket import Bucket
from noria.store.objects import BLOCK_BYTES

__all__ = ["DvcRemote", "Layouts", "Output", "md5_of", "outputs_of", "remotes_of", "root_of", "tracking_files"]

yaml = lazy("yaml")
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_SKIPPED = frozenset({".git", ".dvc", ".noria", ".venv", "venv", "node_modules", "__pycache__", ".tox"})
_TEXT = frozenset(range(32, 127)) | {8, 9, 10, 12, 13}
_SNIFFED = 512
_BLOCK_BYTES = 1 << 20
_BINARY_SHARE = 0.30
MANIFEST_MAX_BYTES = 2 << 30


@frozen(kw_only=True)
class Output:
    """A file or folder that DVC tracks. `path` is relative to the repository's root.

    `is_legacy` is DVC 2's md5; `skipped` says why it cannot be taken over, or is empty.
    """

    path: str
    md5: str
    tracked_by: str
    is_legacy: bool
    size_bytes: int = 0
    files: int = 0
    skipped: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether the md5 is that of a manifest."""
        return self.md5.endswith(".dir")


@frozen(kw_only=True)
class DvcRemote:
    """A remote of the configuration; `url` is absolute."""

    name: str
    url: str
    endpoint: str = ""
    region: str = ""
    is_default: bool = False


def root_of(path: Path) -> Path:
    """The repository's root at `path` or above. Raises: NotFound."""
    start = path.resolve()
    for folder in (start, *start.parents):
        if (folder / ".dvc").is_dir():
            return folder
    raise NotFound(f"there is no DVC repository at {path} or above", hint="a folder that holds .dvc/")


def remotes_of(root: Path) -> tuple[list[DvcRemote], Path]:
    """The remotes, and the folder of the cache. Raises: UsageError for a configuration that cannot be read."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    files = [root / ".dvc" / "config", root / ".dvc" / "config.local"]
    try:
        parser.read([file for file in files if file.is_file()], encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise UsageError(f"the configuration of DVC cannot be read: {error}", where=str(files[0])) from error
    default = parser.get("core", "remote", fallback="")
    found: list[DvcRemote] = []
    for section in parser.sections():
        match = re.fullmatch(r"'?remote \"(.+)\"'?", section)
        if match and parser.has_option(section, "url"):
            found.append(
                DvcRemote(
                    name=match[1],
                    url=_absolute(parser.get(section, "url"), root / ".dvc", {each.name: each for each in found}),
                    endpoint=parser.get(section, "endpointurl", fallback=""),
                    region=parser.get(section, "region", fallback=""),
                    is_default=match[1] == default,
                )
            )
    cache = Path(parser.get("cache", "dir", fallback="cache"))
    return sorted(found, key=lambda each: not each.is_default), root / ".dvc" / cache


def tracking_files(root: Path) -> Iterator[str]:
    """The `.dvc` files and `dvc.lock`s of a repository by path, sorted folder by folder."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        here = Path(folder).relative_to(root)
        for name in sorted(files):
            if name == "dvc.lock" or (name.endswith(".dvc") and name != ".dvc"):
                yield (PurePosixPath(here.as_posix()) / name).as_posix()


def outputs_of(content: str, tracked_by: str, pipeline: str = "") -> list[Output]:
    """What a `.dvc` file or a `dvc.lock` tracks.

    Args:
        pipeline: the text of the `dvc.yaml` beside a `dvc.lock`: it alone says in which folder (`wdir`) a stage works,
            from where the lock's paths count.
    Raises: UsageError for a file that is neither.
    """
    document = _loaded(content, tracked_by)
    if not document:
        return []
    if not isinstance(document, Mapping):
        raise UsageError("this is no file of DVC", where=tracked_by)
    folder = PurePosixPath(tracked_by).parent
    if PurePosixPath(tracked_by).name == "dvc.lock":
        stages = document.get("stages", {}) if "schema" in document else document
        declared = _loaded(pipeline, (folder / "dvc.yaml").as_posix()) if pipeline else {}
        found = []
        for name, stage in _tables(stages, tracked_by).items():
            works_in = _working_folder(name, declared)
            found += [_output(each, folder / works_in, tracked_by, works_in) for each in stage.get("outs") or ()]
        return found
    folder = folder / str(document.get("wdir") or ".")
    return [_output(each, folder, tracked_by) for each in document.get("outs") or ()]


def _working_folder(name: str, declared: Any) -> str:
    """Where a stage of a lock works, from the folder of its `dvc.yaml`; with "${" in it where only DVC could tell.

    A stage of `foreach` or `matrix` is called by its group and what it is for: `build@en`.
    """
    stages = declared.get("stages") if isinstance(declared, Mapping) else None
    group, _, of = name.partition("@")
    stage = (stages.get(name) or stages.get(group)) if isinstance(stages, Mapping) else None
    if not isinstance(stage, Mapping):
        return "."
    each, does = stage.get("foreach"), stage.get("do")
    works_in = str((does if isinstance(does, Mapping) else stage).get("wdir") or ".")
    if isinstance(each, list) and of in each:
        return works_in.replace("${item}", of)
    return works_in.replace("${key}", of) if isinstance(each, Mapping) else works_in


def _loaded(content: str, where: str) -> Any:
    """The document, every scalar as the text that it is: an md5 of digits stays one."""
    try:
        loader = yaml.BaseLoader(content)
    except ModuleNotFoundError as error:
        raise ConfigError("PyYAML is not installed: DVC's files are YAML", hint="pip install 'noria[dvc]'") from error
    except yaml.YAMLError as error:
        raise UsageError(f"this is not YAML: {error}".replace("\n", " "), where=where) from error
    try:
        return loader.get_single_data()
    except yaml.YAMLError as error:
        raise UsageError(f"this is not YAML: {error}".replace("\n", " "), where=where) from error
    finally:
        loader.dispose()


def _output(out: Any, folder: PurePosixPath, tracked_by: str, works_in: str = "") -> Output:
    if not isinstance(out, Mapping) or not isinstance(out.get("path"), str):
        raise UsageError("an output has no path", where=tracked_by)
    path, md5 = str(out["path"]), str(out.get("md5") or "")
    is_outside = "://" in path or path.startswith("/")
    full = path if is_outside else os.path.normpath((folder / path).as_posix())
    skipped = ""
    if "${" in works_in and not is_outside:
        skipped = f"its stage works in a folder that a template names ({works_in[:60]}): dvc add it, and import again"
    elif is_outside or full.startswith(".."):
        skipped = "it lies outside of the repository"
    elif not md5:
        named = next((word for word in ("etag", "checksum", "files", "cloud") if word in out), "")
        skipped = f"it is tracked by {named}, not by md5" if named else "it was never committed"
    elif not _MD5.fullmatch(md5):
        raise UsageError(f"{md5[:60]!r} is no md5", where=f"{tracked_by}: {path}")
    return Output(
        path=full,
        md5=md5,
        tracked_by=tracked_by,
        is_legacy=out.get("hash") != "md5",
        size_bytes=int(out.get("size") or 0),
        files=int(out.get("nfiles") or 0),
        skipped=skipped,
    )


def md5_of(path: Path, *, is_legacy: bool) -> str:
    """The md5 that DVC gives a file; DVC 2 takes text with Unix line ends. Memory is bounded."""
    hasher = hashlib.md5(usedforsecurity=False)
    is_text = False
    with path.open("rb") as stream:
        for number, block in enumerate(iter(lambda: stream.read(_BLOCK_BYTES), b"")):
            if number == 0:
                is_text = is_legacy and _is_text(block[:_SNIFFED])
            # DVC looks at each block alone: a line end that two blocks share stays as it is
            hasher.update(block.replace(b"\r\n", b"\n") if is_text else block)
    return hasher.hexdigest()


class Layouts:
    """The places where DVC's objects may be: its cache, then its remotes, in both layouts."""

    def __init__(self, cache: Path, remotes: Sequence[DvcRemote], scratch: Path) -> None:
        self._cache = cache
        self._remotes = remotes
        self._scratch = scratch
        self._buckets: dict[str, Bucket] = {}
        self.asked = [str(cache), *(f"{each.name} ({each.url})" for each in remotes)]
        self.verified = 0

    def find(self, md5: str, *, is_legacy: bool) -> Path:
        """A local file with the bytes of that md5, compared with it.

        Raises: NotFound naming every place that was asked; Corrupt if the bytes are others.
        """
        bad: list[str] = []
        for key in self._keys(md5):
            place = self._cache / key
            if place.is_file():
                if self._is(place, md5, is_legacy):
                    return place
                bad.append(str(place))
        for remote in self._remotes:
            for key in self._keys(md5):
                found = self._fetched(remote, key)
                if found is not None:
                    if self._is(found, md5, is_legacy):
                        return found
                    bad.append(f"{remote.name}: {key}")
                    found.unlink()
        if bad:
            raise Corrupt(
                f"the bytes of {md5} are others: {', '.join(bad[:3])}", hint="dvc pull or dvc fetch where they are well"
            )
        raise NotFound(f"{md5} is nowhere; asked: {', '.join(self.asked)}", hint="dvc pull, or name a reachable remote")

    def manifest(self, output: Output) -> list[tuple[str, str]]:
        """The (relative path, md5) pairs of a folder. Raises: NotFound; Corrupt; UsageError for unsafe paths."""
        place = self.find(output.md5, is_legacy=False)
        try:
            rows = json.loads(place.read_bytes())
            found = [(str(row["relpath"]), str(row["md5"])) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"{output.md5} is no manifest of a folder: {error}", where=output.path) from error
        for path, md5 in found:
            parts = path.split("/")
            if path.startswith("/") or any(part in ("", ".", "..") for part in parts) or not _MD5.fullmatch(md5):
                raise UsageError(f"{path!r} cannot be a file of the folder {output.path}", where=output.md5)
        return found

    def _keys(self, md5: str) -> list[str]:
        return [f"files/md5/{md5[:2]}/{md5[2:]}", f"{md5[:2]}/{md5[2:]}"]

    def _is(self, place: Path, md5: str, is_legacy: bool) -> bool:
        wanted = md5.removesuffix(".dir")
        self.verified += 1
        return md5_of(place, is_legacy=False) == wanted or (is_legacy and md5_of(place, is_legacy=True) == wanted)

    def _fetched(self, remote: DvcRemote, key: str) -> Path | None:
        """A copy of a remote's key in the scratch folder, or None if it is not there."""
        bucket = self._bucket(remote)
        target = self._scratch / remote.name / key
        if target.is_file():
            return target
        try:
            stream = bucket.open(key)
        except NotFound:
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        with stream, part.open("wb") as sink:
            while block := stream.read(BLOCK_BYTES):
                sink.write(block)
        part.replace(target)
        return target

    def _bucket(self, remote: DvcRemote) -> Bucket:
        if remote.name not in self._buckets:
            scheme = remote.url.partition("://")[0] if "://" in remote.url else "file"
            if scheme not in plugins.names("bucket"):
                raise UsageError(
                    f"the remote {remote.name} is on {scheme}, which Noria does not read",
                    hint="dvc fetch --all-commits",
                )
            made: Bucket = plugins.load("bucket", scheme)(remote.url, remote.endpoint, remote.region)
            self._buckets[remote.name] = made
        return self._buckets[remote.name]


def _tables(stages: Any, where: str) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(stages, Mapping) or not all(isinstance(each, Mapping) for each in stages.values()):
        raise UsageError("the stages of this dvc.lock cannot be read", where=where)
    return stages


def _absolute(url: str, base: Path, known: Mapping[str, DvcRemote]) -> str:
    scheme, separator, rest = url.partition("://")
    if scheme == "remote" and separator:  # a place below another remote
        name, _, path = rest.partition("/")
        if name in known:
            return f"{known[name].url.rstrip('/')}/{path}"
    if separator and scheme != "file":
        return url
    return str((base / url.removeprefix("file://")).resolve())


def _is_text(head: bytes) -> bool:
    """DVC 2's guess, from a file's first 512 bytes."""
    if b"\0" in head:
        return False
    return sum(byte not in _TEXT for byte in head) / len(head) <= _BINARY_SHARE
