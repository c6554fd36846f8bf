"""The one place where a data set gets a version: a fact, decided under the ledger's lock, then the pin.

Whoever calls has stored every object of the tree before, and holds the data set's lock. The same
content gives the version that is there and appends nothing, in one process or many.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from noria.core.errors import Conflict
from noria.core.fact import Edge
from noria.core.frozen import frozen
from noria.core.identity import short
from noria.data import lock, records
from noria.data.columns import check_roles, roles_of
from noria.data.facts import DatasetCommitted, DatasetDescribed
from noria.data.forms.formats import Columns
from noria.data.pins import read_pin
from noria.data.records import DatasetVersion
from noria.store.failpoint import failpoint
from noria.store.ledger import Transaction
from noria.store.workspace import Workspace

__all__ = ["Content", "adopt", "code_of", "commit", "describe"]

_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF_HOPS = 5
_BUILT_ON = frozenset({"append", "upsert", "delete", "compact"})


@frozen(kw_only=True)
class Content:
    """A tree that is stored, and what is true of it. `content` names a table or a single file; empty for a folder."""

    tree: str
    files: int
    size_bytes: int
    rows: int = 0
    columns: Columns = ()
    time_min: str = ""
    time_max: str = ""
    content: str = ""
    as_files: bool = False


def commit(
    ws: Workspace,
    name: str,
    content: Content,
    *,
    roles: Mapping[str, str],
    source: str,
    note: str = "",
    is_pinned: bool = True,
    operation: str = "",
    watermark: str = "",
    inputs: Sequence[Edge] = (),
    parent: str | None = None,
    is_newest: bool = True,
    anew: bool = False,
    added: str = "",
) -> DatasetVersion:
    """The version with this content: the one that is there, or the next one. Pins it.

    Args:
        roles: the columns that are key, time and label; "" for none.
        operation, watermark, inputs: as in the fact; `inputs` are further edges of lineage.
        parent: the tree of the version that the caller built on ("" for none); None is the newest, whichever it is.
        is_newest: `parent` was taken for being the newest version, and has to be it still.
        added: when it was added where it comes from (UTC text); "" is now.
        anew: only that version's own tree is the same, or what was made of it in the same way: what an append or a
            compaction made is the next.
    Raises: NoSuchColumn; Conflict if `parent` is not the newest version's tree any more, or is not kept; ConfigError
        where rows were changed of a data set whose pin is in conflict.
    """
    if is_pinned and operation in _BUILT_ON:
        read_pin(ws.project.root, name)  # on which side of a conflict it builds, nobody said
    check_roles(content.columns, roles)
    failpoint("data.copied")
    payload = DatasetCommitted(
        name=name,
        version=0,
        tree=content.tree,
        rows=content.rows,
        size_bytes=content.size_bytes,
        files=content.files,
        columns=content.columns,
        time_min=content.time_min,
        time_max=content.time_max,
        source=source,
        note=note,
        content=content.content if content.content != content.tree else "",
        operation=operation,
        watermark=watermark,
        code=code_of(ws.project.root),
        as_files=content.as_files,
        added=added,
        **roles,
    )
    with ws.ledger.transaction() as tx:
        before = records.newest(tx, name)
        if parent and not is_newest:
            before = records.by_tree(tx, name, parent)
        if parent is not None and parent != (before.tree if before else ""):
            now = f"{before.ref} ({short(before.content)})" if before else "nothing"
            raise Conflict(
                f"{name} has moved on to {now}",
                hint="somebody else added a version; try again",
            )
        version = _decide(tx, payload, before, inputs, anew=anew)
    failpoint("data.committed")
    if is_pinned:
        lock.pin(ws, version)
    return version


def adopt(ws: Workspace, made: DatasetCommitted, *, added: str, inputs: Sequence[Edge] = ()) -> DatasetVersion:
    """A version that was made in another workspace, as it was made: its fact, with its own number if that is free.

    What is here already is not appended again. `added` is when it was added there (UTC text); nothing is pinned.
    """
    with ws.ledger.transaction() as tx:
        same = records.by_tree(tx, made.name, made.tree)
        if same is not None:
            return same
        is_free = records.by_number(tx, made.name, made.version) is None
        number = made.version if is_free else records.highest(tx, made.name) + 1
        edges = [("parent", made.parent)] if made.parent else []
        tx.append(
            dataclasses.replace(made, version=number, added=added),
            inputs=[*edges, *inputs],
            outputs=[("tree", made.tree), ("version", f"dataset/{made.name}@{number}")],
        )
        found = records.by_number(tx, made.name, number)
    assert found is not None, "the projection wrote the version"
    failpoint("data.committed")
    return found


def describe(
    tx: Transaction, version: DatasetVersion, roles: Mapping[str, str], time_min: str, time_max: str
) -> DatasetVersion:
    """Say which columns of a version have a role, without a new version."""
    payload = DatasetDescribed(
        name=version.name, version=version.version, time_min=time_min, time_max=time_max, **roles
    )
    tx.append(payload, inputs=[("tree", version.tree)])
    return dataclasses.replace(
        version, time_min=time_min, time_max=time_max, key=roles["key"], time=roles["time"], label=roles["label"]
    )


def code_of(root: Path) -> str:
    """The Git commit that a folder stands on, read from its `.git`; "" outside of Git or before the first commit."""
    for folder in (root, *root.parents):
        place = folder / ".git"
        if place.is_dir():
            return _head_of(place)
        if place.is_file():
            target = place.read_text(encoding="utf-8", errors="replace").removeprefix("gitdir:").strip()
            return _head_of((folder / target).resolve())
    return ""


def _decide(
    tx: Transaction, payload: DatasetCommitted, before: DatasetVersion | None, inputs: Sequence[Edge], *, anew: bool
) -> DatasetVersion:
    """Under the ledger's lock: the version that has this content, or the next one, made from the one before."""
    roles = {"key": payload.key, "time": payload.time, "label": payload.label}
    same = _same(tx, payload, before, anew=anew)
    if same is not None:
        if roles_of(same) == roles:
            return same
        return describe(tx, same, roles, payload.time_min, payload.time_max)
    number = records.highest(tx, payload.name) + 1  # a number that was dropped is not given again
    edges = [("parent", before.tree)] if before else []
    tx.append(
        dataclasses.replace(payload, version=number, parent=before.tree if before else ""),
        inputs=[*edges, *inputs],
        outputs=[("tree", payload.tree), ("version", f"dataset/{payload.name}@{number}")],
    )
    made = records.by_number(tx, payload.name, number)
    assert made is not None, "the projection wrote the version"
    return made


def _same(
    tx: Transaction, payload: DatasetCommitted, before: DatasetVersion | None, *, anew: bool
) -> DatasetVersion | None:
    content = payload.content or payload.tree
    if anew:  # a compaction says the same in another tree, and is the next version
        if before is None or before.tree == payload.tree:
            return before
        made = records.by_tree(tx, payload.name, payload.tree)  # by the same change of another branch
        return made if made is not None and made.parent == before.tree and made.version > before.version else None
    return records.by_tree(tx, payload.name, payload.tree) or records.by_content(tx, payload.name, content)


def _head_of(git: Path) -> str:
    shared = git / "commondir"
    rest = (git / shared.read_text(encoding="utf-8").strip()).resolve() if shared.is_file() else git
    text = _read(git / "HEAD")
    for _ in range(_REF_HOPS):
        if _SHA.fullmatch(text):
            return text
        name = text.removeprefix("ref:").strip()
        if not text.startswith("ref:") or ".." in name:
            return ""
        text = _read(git / name) or _read(rest / name) or _packed(rest, name)
    return ""


def _packed(git: Path, name: str) -> str:
    for line in _read(git / "packed-refs").splitlines():
        sha, _, ref = line.partition(" ")
        if ref.strip() == name:
            return sha
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""
