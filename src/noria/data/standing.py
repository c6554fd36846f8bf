"""What a verb does to the version that a data set stood on: nobody loses rows, or a branch's work, unsaid.

Adding a source replaces what the pin says. That is what was asked for, so it is never refused; but where
the pin was in conflict between two branches, or the table had grown since it was added, the result says
what is not in it any more, and how to see it. A verb that changes rows builds on the version of the pin, as
whatever else is asked of the data set by its name alone, so that no branch gets another's rows: it says
which newer version is not in it, and refuses where what the pin says is not here.
"""

from __future__ import annotations

from collections.abc import Sequence

from noria.core.errors import NotFound
from noria.core.frozen import frozen
from noria.core.identity import short
from noria.data import records, select
from noria.data.pins import Pin, conflict_sides, read_pin
from noria.data.records import DatasetVersion
from noria.store.ledger import Reader
from noria.store.workspace import Workspace

__all__ = ["Ground", "Standing", "brought_in", "ground", "left_out", "settled", "standing", "taken_back"]

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


@frozen
class Ground:
    """What a change of rows is built on: `base`, None for a data set that there is not yet.

    `pin` is the project's, `named` the version that it names, `newest` that of the ledger; `is_newest` if `base` was
    taken for being that.
    """

    name: str
    base: DatasetVersion | None
    newest: DatasetVersion | None
    pin: Pin | None
    named: DatasetVersion | None
    is_newest: bool

    @property
    def version(self) -> DatasetVersion:
        """The base of a change that needs one."""
        assert self.base is not None, "asked before rows are looked at"
        return self.base


def standing(ws: Workspace, name: str, pin: Pin | None) -> Standing:
    """What a data set stands on now. A pin that cannot be read is None."""
    sides = conflict_sides(ws.project.root, name)
    with ws.ledger.read() as tx:
        version = records.by_tree(tx, name, pin.tree) if pin is not None else None
        absent = pin if pin is not None and _named(tx, pin) is None else None
        return Standing(version or records.newest(tx, name), sides, absent)


def ground(ws: Workspace, ref: str) -> Ground:
    """What rows are about to be changed of: what `t` alone names, the version of its pin; or `t@latest`, `t@3`.

    Raises: UsageError for what is no name; ConfigError for a pin in conflict; NotFound for a version that there is
    not, or where what the pin names is not here: rows would be changed of an older version, or of none, and the pin
    would lose the others.
    """
    text, _, asked = ref.partition("@")
    name = select.checked_name(text)
    pin = read_pin(ws.project.root, name)
    with ws.ledger.read() as tx:
        named = _named(tx, pin) if pin is not None else None
        last = records.newest(tx, name)
    if pin is not None and named is None:
        here = f"the newest here is {last.ref}" if last is not None else "nothing of it is"
        raise NotFound(
            f"{name} stands on {short(pin.content)}, which is not here ({here}): its rows cannot be changed",
            hint=f"noria data pull {name}",
        )
    if asked:
        return Ground(name, select.resolve(ws, ref), last, pin, named, is_newest=asked == "latest")
    if named is not None and named.dropped_at:
        raise select.dropped(named)
    return Ground(name, named or last, last, pin, named, is_newest=named is None)


def brought_in(on: Ground) -> str:
    """In words: that a change was built on a version that was asked for, while the pin named another; else ""."""
    if on.named is None or on.base is None or _is_same(on.named, on.base):
        return ""
    return (
        f"noria.lock stood on {on.named.ref}; this is built on {on.base.ref}, which was asked for, and has what that "
        f"has: noria data diff {on.named.ref} {on.base.ref}"
    )


def left_out(on: Ground, made: DatasetVersion) -> str:
    """In words: that the ledger has a newer version, of another branch or clone, which is not in this; else ""."""
    if on.base is None or on.newest is None or _is_same(on.base, on.newest) or _is_same(on.newest, made):
        return ""
    stood = ", on which noria.lock stood" if on.named is not None and _is_same(on.named, on.base) else ""
    return (
        f"this is built on {on.base.ref}{stood}; {on.newest.ref} is newer, and what it has besides is not in this: "
        f"noria data diff {on.newest.ref} {made.ref}; {made.name}@latest names it, to build on it"
    )


def _is_same(one: DatasetVersion, other: DatasetVersion) -> bool:
    return one.tree == other.tree or one.content == other.content


def _named(tx: Reader, pin: Pin) -> DatasetVersion | None:
    """The version that a pin names; else another one that says the same; else one that was dropped."""
    same = [each for each in records.history(tx, pin.name) if each.tree == pin.tree]
    kept = [each for each in same if not each.dropped_at]
    found = kept[-1] if kept else records.by_content(tx, pin.name, pin.content)
    return found or (same[-1] if same else None)


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
