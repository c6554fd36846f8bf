"""What an add does to the version that a data set stood on: nobody loses rows, or a branch's work, unsaid.

Adding a source replaces what the pin says. That is what was asked for, so it is never refused; but where
the pin was in conflict between two branches, or the table had grown since it was added, the result says
what is not in it any more, and how to see it.
"""

from __future__ import annotations

from collections.abc import Sequence

from noria.core.frozen import frozen
from noria.core.identity import short
from noria.data import records
from noria.data.pins import Pin, conflict_sides
from noria.data.records import DatasetVersion
from noria.store.workspace import Workspace

__all__ = ["Standing", "settled", "standing", "taken_back"]

GROWING = ("append", "upsert", "delete")
_ID_DIGITS = 8


@frozen
class Standing:
    """What a data set stood on: the version of its pin, else the newest; of a pin in conflict, ours and theirs."""

    version: DatasetVersion | None
    sides: tuple[Pin, ...] = ()


def standing(ws: Workspace, name: str, pin: Pin | None) -> Standing:
    """What a data set stands on now. A pin that cannot be read is None."""
    sides = conflict_sides(ws.project.root, name)
    with ws.ledger.read() as tx:
        version = records.by_tree(tx, name, pin.tree) if pin is not None else None
        return Standing(version or records.newest(tx, name), sides)


def settled(ws: Workspace, before: Standing, made: DatasetVersion) -> str:
    """In words: between which two a conflict was, what it is now, and how to see the other side; "" without one."""
    if not before.sides:
        return ""
    ours, theirs = before.sides
    other = ours if made.content == theirs.content else theirs
    ids = [short(each.content, _ID_DIGITS) for each in (ours, theirs)]
    side = {ours.content: "ours", theirs.content: "theirs"}.get(made.content, "")
    now = f"{side}, and nothing of the other" if side else "this version, which has of either only what its source has"
    with ws.ledger.read() as tx:
        is_here = records.by_tree(tx, made.name, other.tree) is not None
    ref = f"{made.name}@{short(other.content, _ID_DIGITS)}"
    first = "" if is_here else f"noria data pull {made.name}@{short(other.tree)}, then "
    return (
        f"the pin was in conflict between {ids[0]} (ours) and {ids[1]} (theirs): it is now {now}; "
        f"the other side: {first}noria data diff {ref} {made.ref}, or noria data checkout {ref} FOLDER"
    )


def taken_back(ws: Workspace, before: Standing, made: DatasetVersion) -> str:
    """In words: which changes of a table that grew are not in the version now, and where they are; "" for none."""
    last = before.version
    if before.sides or last is None or made.operation in GROWING or made.content == last.content:
        return ""
    with ws.ledger.read() as tx:
        base, operations = _grown_from(records.history(tx, made.name), last)
    if not operations:
        return ""
    changes = f"the {_listed(operations)} {f'since {base.ref}' if base else f'that made {last.ref}'}"
    if base is not None and made.content == base.content:
        said = f"takes back {changes}"
    else:
        said = f"stands on its source alone: {changes} {'is' if len(operations) == 1 else 'are'} not kept"
    ways = f"noria data diff {last.ref} {made.ref}, or noria data checkout {last.ref} FOLDER"
    return f"{said}; {last.ref} has them: {ways}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _grown_from(
    history: Sequence[DatasetVersion], last: DatasetVersion
) -> tuple[DatasetVersion | None, tuple[str, ...]]:
    """The version that one grew from, if it is here, and the operations since, in the order of the first of each."""
    found: list[str] = []
    at: DatasetVersion | None = last
    while at is not None and at.operation in (*GROWING, "compact"):
        found.append(at.operation)
        before = [each for each in history if at.parent and each.tree == at.parent and each.version < at.version]
        at = before[-1] if before else None
    return at, tuple(dict.fromkeys(each for each in reversed(found) if each in GROWING))
