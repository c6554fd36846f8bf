"""Everything that must not be collected: what any fact, pin, branch or tag of any clone still names.

Digests are looked for in the whole text of every fact, so that a new kind of fact needs no line
here. Versions of data sets must be here whole; what other facts name counts where it is here. A
store that several clones share keeps a list of them beside its objects, and each clone's ledger,
working folders, branches and tags are read. What cannot be read ends the search with an error:
nothing is collected on half of the truth.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from dataclasses import field
from pathlib import Path

from noria.core.errors import StoreUnavailable
from noria.core.frozen import slotted
from noria.core.identity import canonical
from noria.data.clones import Clone, clones
from noria.data.pins import FOLDER, parse_pin, pins
from noria.store.contents import Contents
from noria.store.database import Database
from noria.store.ledger import Ledger
from noria.store.workspace import Workspace

__all__ = ["Roots", "find_roots", "ledger_roots"]

GIT_TIMEOUT_S = 120
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")


@slotted
class Roots:
    """`versions` must be here whole; `named` count where they are here. How many clones and Git refs were read.

    `dropped` are the trees, and the single files, of versions that were dropped, and what was said of things that
    are deleted, as far as no other version, pin, job or lease names it: what facts and documents still say of them
    does not keep them. `in_facts` is what facts name, `contents` the ids of the versions that are kept, `said` the
    objects with what clients said and can still ask for, `before` those with what they said before.
    """

    versions: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)
    in_facts: set[str] = field(default_factory=set)
    contents: set[str] = field(default_factory=set)
    said: set[str] = field(default_factory=set)
    before: set[str] = field(default_factory=set)
    clones: int = 0
    refs: int = 0


def find_roots(ws: Workspace) -> Roots:
    """Read all of them. Raises: StoreUnavailable; ConfigError; Corrupt: whatever cannot be read."""
    found = _of_project(ws, ws.ledger)
    mine, *others = clones(ws)
    _clone(mine, found)
    for clone in others:
        _clone(clone, found)
        if clone.ledger != mine.ledger:
            _other_ledger(ws, clone, found)
    return _settled(found)


def ledger_roots(ws: Workspace, ledger: Ledger, named: Iterable[str] = ()) -> Roots:
    """What the facts of one ledger, jobs and leases name, and nobody else's pins, branches or clones.

    Args:
        ledger: the project's own, or a snapshot of it.
        named: further digests that count where they are here.
    Raises: Corrupt; StoreUnavailable.
    """
    found = _of_project(ws, ledger)
    found.named |= set(named)
    return _settled(found)


def _of_project(ws: Workspace, ledger: Ledger) -> Roots:
    found = Roots()
    _ledger(ledger, found)
    for job in ws.jobs.waiting():
        found.named |= _digests(canonical([dict(job.payload), dict(job.result or {})]))
    for lease in ws.jobs.leases():
        found.named |= _digests(canonical(dict(lease.data)))
    return found


def _settled(found: Roots) -> Roots:
    """What is dropped is what nothing else names."""
    found.dropped |= found.before - found.in_facts
    found.dropped -= found.versions | found.named | found.contents | found.said | {""}
    found.named |= (found.in_facts | found.said) - found.dropped
    return found


def _ledger(ledger: Ledger, found: Roots) -> None:
    """Every digest in every fact, but for parents of versions: a clone need not have those."""
    after = 0
    kept: dict[tuple[str, int], tuple[str, str]] = {}
    said = Contents()
    while page := ledger.bodies(after=after):
        for each in page:
            document = json.loads(each.body)
            body = each.body.encode()
            here = said.read(document["kind"], document["data"])
            if document["kind"] == "dataset.committed":
                data = document["data"]
                kept[data["name"], data["version"]] = data["tree"], str(data.get("content") or "")
                body = body.replace(str(data.get("parent") or "-").encode(), b"-")
            elif document["kind"] == "dataset.dropped":
                data = document["data"]
                found.dropped |= {*kept.pop((data["name"], data["version"]), ()), data["tree"]}
            found.in_facts |= _digests(body) - here
            after = each.seq
    found.before |= said.before()
    found.said |= said.now()
    found.versions |= {tree for tree, _ in kept.values()}
    found.contents |= {content for _, content in kept.values()}


def _other_ledger(ws: Workspace, clone: Clone, found: Roots) -> None:
    """The facts of another clone that shares the store. Its versions count where they are here."""
    place = Path(clone.ledger)
    if "://" in clone.ledger or not place.is_file():
        raise StoreUnavailable(
            f"the ledger of the clone {clone.root} cannot be read from here: {clone.ledger}",
            where=clone.note,
            hint="collect where it can be read; if the clone is gone for good, remove that file",
        )
    database = Database(f"sqlite:///{place}")
    try:
        other = Ledger(
            database,
            slices=ws.ledger.slices,
            signer=lambda: ws.ledger.signer,
            seen=ws.ledger.seen,
            clock=ws.clock,
            actor=ws.actor,
        )
        _ledger(other, found)
    finally:
        database.close()


def _clone(clone: Clone, found: Roots) -> None:
    """The pins of a clone's working folders, branches, remote branches, tags and stashes."""
    if not clone.root.is_dir():
        raise StoreUnavailable(
            f"the clone {clone.root} cannot be read",
            where=clone.note,
            hint="mount it; if the clone is gone for good, remove that file",
        )
    found.clones += 1
    found.named |= {pin.tree for pin in pins(clone.root)}
    inside = _git(clone.root, "rev-parse", "--show-prefix", allowed=(0, 128))
    if inside is None:
        return
    prefix = inside.decode("utf-8", "surrogateescape").strip()
    for line in (_git(clone.root, "worktree", "list", "--porcelain") or b"").splitlines():
        if line.startswith(b"worktree "):
            place = Path(line[9:].decode("utf-8", "surrogateescape")) / prefix
            found.named |= {pin.tree for pin in pins(place)} if place.is_dir() else set()
        elif line.startswith(b"HEAD ") and line[5:].strip(b"0"):
            _commit_pins(clone.root, prefix, line[5:].decode(), found)
    refs = _git(clone.root, "for-each-ref", "--format=%(objectname)") or b""
    for name in sorted(set(refs.decode().split())):
        _commit_pins(clone.root, prefix, name, found)


def _commit_pins(root: Path, prefix: str, commit: str, found: Roots) -> None:
    """The pins in a commit. An object that is no commit (a tag of a file) has none."""
    listed = _git(root, "ls-tree", "-z", "--full-tree", commit, f"{prefix}{FOLDER}/", allowed=(0, 128))
    if listed is None:
        kind = (_git(root, "cat-file", "-t", commit) or b"").decode().strip()
        if kind in ("commit", "tag"):
            raise StoreUnavailable(f"Git cannot read {commit[:12]}", where=str(root), hint="git fsck")
        return
    found.refs += 1
    for line in filter(None, listed.split(b"\0")):
        head, _, path = line.partition(b"\t")
        if path.endswith(b".toml"):
            where = f"{commit[:12]}:{path.decode('utf-8', 'replace')}"
            content = _git(root, "cat-file", "blob", head.split()[2].decode()) or b""
            found.named.add(parse_pin(content, where).tree)


def _git(root: Path, *words: str, allowed: Iterable[int] = (0,)) -> bytes | None:
    """What git prints; None if it ended with another code that is allowed, or there is no git and no repository."""
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, timeout=GIT_TIMEOUT_S, check=False)
    except FileNotFoundError as error:
        if any((folder / ".git").exists() for folder in (root, *root.parents)):
            raise StoreUnavailable("git is not installed, so its branches cannot be read", where=str(root)) from error
        return None
    except subprocess.TimeoutExpired as error:
        raise StoreUnavailable(f"git {words[0]} did not end in {GIT_TIMEOUT_S} s", where=str(root)) from error
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode in allowed and ("not a git repository" in said or words[0] == "ls-tree"):
        return None
    raise StoreUnavailable(f"git {words[0]} failed: {said.partition(chr(10))[0]}", where=str(root))


def _digests(content: bytes) -> set[str]:
    return {found.decode("ascii") for found in _DIGEST.findall(content)}
