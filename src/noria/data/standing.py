"""What a verb does to the version that a data set stood on: nobody loses rows, or a branch's work, unsaid.

Adding a source replaces what the pin says. That is what was asked for, so it is never refused; but where
the pin was in conflict between two branches, or the table had grown since it was added, the result says
what is not in it any more, and how to see it. A verb that changes rows builds on the newest version: it
refuses where what the pin says is not here, and says what it brings in where the pin stood elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from noria.core.errors import NotFound
from noria.core.frozen import frozen
from noria.core.identity import short
from noria.data import records
from noria.data.pins import Pin, conflict_sides, read_pin
from noria.data.records import DatasetVersion
from noria.store.ledger import Reader
from noria.store.workspace import Workspace

__all__ = ["Standing", "brought_in", "ground", "settled", "standing", "taken_back"]

GROWING = ("append", "upsert", "delete")
_ID_DIGITS = 8


@frozen
class Standing:
    """What a data set stood on: the version of its pin, else the newest; of a pin in conflict, ours and theirs.

    `absent` is the pin if it names a version that is not here.
    """

    version: DatasetVersion | None
    sides: tuple[Pin, ...] = ()
    absent: Pin | None = None


def standing(ws: Workspace, name: str, pin: Pin | None) -> Standing:
    """What a data set stands on now. A pin that cannot be read is None."""
    sides = conflict_sides(ws.project.root, name)
    with ws.ledger.read() as tx:
        version = records.by_tree(tx, name, pin.tree) if pin is not None else None
        absent = pin if pin is not None and _named(tx, pin) is None else None
        return Standing(version or records.newest(tx, name), sides, absent)


def ground(ws: Workspace, name: str) -> Pin | None:
    """The pin of a data set whose rows are about to be changed; None without one.

    Raises: ConfigError for a pin in conflict; NotFound where what it names is not here: rows would be changed of
    an older version, or of none, and the pin would lose the others.
    """
    pin = read_pin(ws.project.root, name)
    if pin is None:
        return None
    with ws.ledger.read() as tx:
        if _named(tx, pin) is not None:
            return pin
        last = records.newest(tx, name)
    here = f"the newest here is {last.ref}" if last is not None else "nothing of it is"
    raise NotFound(
        f"{name} stands on {short(pin.content)}, which is not here ({here}): its rows cannot be changed",
        hint=f"noria data pull {name}",
    )


def brought_in(ws: Workspace, pin: Pin | None, base: DatasetVersion) -> str:
    """In words: that a change was built on `base`, the newest, while the pin named another; "" if it was the same."""
    if pin is None or pin.tree == base.tree or pin.content == base.content:
        return ""
    with ws.ledger.read() as tx:
        was = _named(tx, pin)
    if was is None:
        return ""
    return (
        f"noria.lock stood on {was.ref}; this is built on {base.ref}, the newest, and has what that has: "
        f"noria data diff {was.ref} {base.ref}"
    )


def _named(tx: Reader, pin: Pin) -> DatasetVersion | None:
    """The version that a pin names, a dropped one too; or another one that says the same."""
    same = [each for each in records.history(tx, pin.name) if each.tree == pin.tree]
    return same[-1] if same else records.by_content(tx, pin.name, pin.content)


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
    if before.absent is not None and before.absent.operation in (*GROWING, "compact"):
        return _absent(before.absent, made)
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


def _absent(pin: Pin, made: DatasetVersion) -> str:
    """In words: that the pin's table, which grew and was never pulled here, is not what the project stands on now."""
    if pin.content == made.content:
        return ""
    ref = f"{pin.name}@{short(pin.tree, _ID_DIGITS)}"
    return (
        f"stands on its source alone: the pin named {short(pin.content, _ID_DIGITS)}, a table that grew "
        f"({pin.operation}), which is not here; its rows: noria data pull {ref}, then noria data diff {ref} {made.ref}"
    )


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
