"""Are the stored bytes of every version what their names say? And if not, put right what a remote has.

Every object is read anew: the nodes of the trees, and each file once, whatever versions share it.
What is altered or missing is named with its path, the digest that was expected and the one that was
found. Verifying changes nothing but that an altered object gives way to a healed one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import field

from noria.core.errors import Corrupt, NoriaError, NotFound
from noria.core.frozen import frozen, slotted
from noria.core.identity import Digest
from noria.core.progress import Advance, task
from noria.core.verb import verb
from noria.data import records
from noria.data.pins import Pin, sorted_pins
from noria.data.records import DatasetVersion
from noria.data.remote import published, remotes
from noria.data.select import no_dataset, resolve
from noria.store.objects import BLOCK_BYTES, Objects
from noria.store.tree import iter_tree, tree_nodes
from noria.store.workspace import Workspace

__all__ = ["AbsentPin", "BadObject", "VerifyReport", "verify"]

LIMIT = 1000
"""So many bad objects are listed; all are counted."""


@frozen(kw_only=True)
class BadObject:
    """An object that is not what its name says.

    `path` is the file in the version, or "" for a part of its tree. `found` is the digest of what is
    stored now, "missing", or "unreadable". `healed` names the remote that had it; `why` says why not.
    """

    dataset: str
    version: int
    path: str
    expected: str
    found: str
    healed: str = ""
    why: str = ""


@frozen(kw_only=True)
class AbsentPin:
    """A version that noria.lock/ pins and that is not here; `asked` says what each remote said of it.

    A pin that cannot be read pins nothing that could be here: its `tree` is empty, and `asked` says what to do.
    """

    dataset: str
    version: int
    tree: str
    content: str
    asked: tuple[str, ...]


@frozen(kw_only=True)
class VerifyReport:
    """What was read: `ok` if everything is now what it should be. `bad` counts, `healed` of these were put right.

    `absent` are the versions that the project stands on and does not have.
    """

    ok: bool
    versions: int
    files: int
    objects: int
    size_bytes: int
    bad: int
    healed: int
    findings: tuple[BadObject, ...]
    absent: tuple[AbsentPin, ...] = ()


@slotted
class _State:
    heals: bool
    advance: Advance
    done: set[str] = field(default_factory=set)
    broken: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    findings: list[BadObject] = field(default_factory=list)
    files: int = 0
    size_bytes: int = 0


@verb(permission="data.verify", name="verify")
def verify(ws: Workspace, refs: Sequence[str] = (), look_only: bool = False) -> VerifyReport:
    """Read every stored byte of versions anew, name what is altered or missing, and heal it from a remote.

    A version that noria.lock/ pins and that was never pulled is named too, with what each remote says of it.

    Args:
        refs: versions, such as flights@3, or data sets, meaning every version of it; by default all of all.
        look_only: ask no remote for what is altered or missing.
    Raises: NotFound for an unknown data set or version.
    Example:
        noria data verify flights
    """
    absent = tuple(_absent(ws, refs, asks=not look_only))
    lacking = {each.dataset for each in absent}
    found = [version for ref in refs for version in _asked(ws, ref, lacking)] if refs else _all(ws)
    total = sum({version.tree: version.size_bytes for version in found}.values())
    with task("verifying", total=total) as advance:
        state = _State(heals=not look_only, advance=advance)
        for version in found:
            _version(ws, version, state)
    healed = sum(bool(name) for _, name, _ in state.broken.values())
    return VerifyReport(
        ok=healed == len(state.broken) and not absent,
        versions=len(found),
        files=state.files,
        objects=len(state.done),
        size_bytes=state.size_bytes,
        bad=len(state.broken),
        healed=healed,
        findings=tuple(state.findings[:LIMIT]),
        absent=absent,
    )


def found_instead(objects: Objects, digest: str) -> str:
    """The digest of what is stored under a name now, "missing" or "unreadable"."""
    hasher = hashlib.sha256()
    try:
        with objects.store.get(Digest(digest)) as stream:
            while block := stream.read(BLOCK_BYTES):
                hasher.update(block)
    except NotFound:
        return "missing"
    except (Corrupt, OSError):
        return "unreadable"
    return f"sha256:{hasher.hexdigest()}"


def _absent(ws: Workspace, refs: Sequence[str], *, asks: bool) -> Iterator[AbsentPin]:
    """The pinned versions, of all data sets or of those that are named, that are not here."""
    good, broken = sorted_pins(ws.project.root)
    for each in broken:
        if not refs or each.name in refs:
            yield AbsentPin(dataset=each.name, version=0, tree="", content="", asked=(each.told,))
    for pin in good:
        with ws.ledger.read() as tx:
            is_here = records.by_tree(tx, pin.name, pin.tree) is not None
        if is_here or (refs and pin.name not in refs):
            continue
        said = tuple(_said(ws, remote, pin) for remote in remotes.remotes(ws)) if asks else ("no remote was asked",)
        yield AbsentPin(
            dataset=pin.name,
            version=pin.version,
            tree=pin.tree,
            content=pin.content,
            asked=said or ("there is no remote to ask",),
        )


def _said(ws: Workspace, remote: remotes.Remote, pin: Pin) -> str:
    try:
        remotes.require_there(ws, remote)
        found = published.find(ws, remote, pin.name, pin.tree)
    except NoriaError as error:
        return f"{remote.told}: {error.message}"
    return f"{remote.told} {'has it' if found else 'does not have it'}"


def _asked(ws: Workspace, ref: str, lacking: set[str]) -> list[DatasetVersion]:
    if "@" in ref:
        return [resolve(ws, ref)]
    with ws.ledger.read() as tx:
        found = records.versions(tx, ref)
        if not found and ref not in lacking:
            raise no_dataset(tx, ref, ws.project.root)
    return found


def _all(ws: Workspace) -> list[DatasetVersion]:
    with ws.ledger.read() as tx:
        return [version for name in records.names(tx) for version in records.versions(tx, name)]


def _version(ws: Workspace, version: DatasetVersion, state: _State) -> None:
    """The nodes of the tree, each before what it lists is asked for; then its files, if every node can be read."""
    if not _is_good(ws, version, "", version.tree, state):
        return
    nodes = (digest for digest in tree_nodes(ws.objects, version.tree) if digest != version.tree)
    if not all(_is_good(ws, version, "", digest, state) for digest in nodes):
        return
    for entry in iter_tree(ws.objects, version.tree):
        state.files += 1
        if entry.digest not in state.done:
            state.size_bytes += entry.size_bytes
        _is_good(ws, version, entry.path, entry.digest, state)
        state.advance(entry.size_bytes)


def _is_good(ws: Workspace, version: DatasetVersion, path: str, digest: str, state: _State) -> bool:
    """Read an object, once whatever names it; each version that has a bad one is told."""
    if digest not in state.done:
        state.done.add(digest)
        try:
            ws.objects.verify(digest)
        except (Corrupt, NotFound):
            state.broken[digest] = (found_instead(ws.objects, digest), *_healed(ws, digest, state))
    if digest not in state.broken:
        return True
    found, healed, why = state.broken[digest]
    if len(state.findings) < LIMIT:
        state.findings.append(
            BadObject(
                dataset=version.name,
                version=version.version,
                path=path,
                expected=digest,
                found=found,
                healed=healed,
                why=why,
            )
        )
    return bool(healed)


def _healed(ws: Workspace, digest: str, state: _State) -> tuple[str, str]:
    """The remote that had it, or why it could not be healed."""
    if not state.heals:
        return "", "no remote was asked"
    try:
        name = remotes.heal(ws, digest)
        ws.objects.verify(digest)
    except NoriaError as error:
        return "", error.message
    return name, ""
