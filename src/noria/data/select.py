"""Which version a text names: `flights`, `flights@3`, `flights@gold`, `flights@2013-03`, `flights@latest~1`.

A name alone is the version that this working tree stands on: the one that `noria.lock/` pins, so that
it follows the branch; without a pin, the newest. `flights@latest` is the newest in any case.

A date means the newest version that was added by the end of that date (UTC). A date before the
first one was added cannot mean that; it then means event time: the newest version whose own times
end by then. `added:2026-11` and `until:2013-03` say which of the two is meant. Whoever chose by a
date is told so in words: `choice`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from noria.core.clock import utc_text
from noria.core.errors import NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.identity import is_digest, short
from noria.data import records
from noria.data.pins import pin_path, read_pin
from noria.data.records import DatasetVersion
from noria.store.ledger import Reader
from noria.store.workspace import Workspace

__all__ = ["Chosen", "checked_name", "choose", "dropped", "is_date", "no_dataset", "resolve"]

SHOWN = 12
_ALLOWED = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_HEX = re.compile(r"[0-9a-f]{4,64}")
_DATE = re.compile(r"(\d{4})-(\d{2})(?:-(\d{2})(T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}:\d{2})?)?)?")


@frozen(kw_only=True)
class Chosen:
    """A version, and in words why a date meant it; empty for any other way to name one."""

    version: DatasetVersion
    choice: str = ""


def resolve(ws: Workspace, ref: str) -> DatasetVersion:
    """The version that a text names.

    `flights` is what the pin in `noria.lock/` names, or the newest without one; `flights@latest` is the
    newest, `flights@latest~1` the one before; `flights@3` is by number, `flights@TAG` by tag,
    `flights@2013-03` by date, `flights@7c1e` by the first hex digits (four or more) of its id, or of its
    tree; tried in this order.
    Raises: NotFound, naming what there is; UsageError if a prefix fits several contents; ConfigError for a
        broken pin.
    """
    return choose(ws, ref).version


def choose(ws: Workspace, ref: str) -> Chosen:
    """The same, with the words that say what a date meant. Raises: NotFound; UsageError."""
    name, _, selector = ref.partition("@")
    with ws.ledger.read() as tx:
        last = records.newest(tx, name)
        if last is None:
            gone = records.history(tx, name)
            raise dropped(gone[-1]) if gone else no_dataset(tx, name, ws.project.root)
        if not selector:
            return Chosen(version=_pinned(ws, tx, last))
        found = Chosen(version=last) if selector == "latest" else _selected(tx, last, selector)
        if found is None:
            raise _no_version(tx, last, selector)
        if found.version.dropped_at:
            raise dropped(found.version)
    return found


def _no_version(tx: Reader, last: DatasetVersion, selector: str) -> NotFound:
    """The error for a version that is not here: one that was only never pulled can be."""
    here = [version.version for version in records.history(tx, last.name)]
    if selector.isascii() and selector.isdigit() and len(selector) < 10 and 0 < int(selector) < max(here):
        numbers = ", ".join(map(str, sorted(here)[-SHOWN:]))
        return NotFound(
            f"{last.name}@{selector} is not in this clone, which has {'…, ' if here[SHOWN:] else ''}{numbers}",
            hint=f"noria data pull {last.name}@{selector}, or noria data pull {last.name} --history",
        )
    date = selector.removeprefix("added:").removeprefix("until:")
    if is_date(date):
        first = min(records.versions(tx, last.name), key=lambda each: each.at)
        why = "none has times that end by then" if selector.startswith("until:") else "nothing had been added by then"
        return NotFound(
            f"{last.name} has no version {selector!r}: {why}",
            hint=f"the first is {first.ref}, added {first.at[:19]}Z: noria data log {last.name}",
        )
    names = ", ".join(sorted(records.tags(tx, last.name))) or "none"
    return NotFound(
        f"{last.name} has no version {selector!r}",
        hint=f"versions up to {max(here)}, latest~N, a date such as {last.at[:10]}; tags: {names}",
    )


def dropped(version: DatasetVersion) -> NotFound:
    """The error for a version that was dropped: when, by whom and why."""
    why = f": {version.dropped_why}" if version.dropped_why else ""
    return NotFound(
        f"{version.ref} was dropped {version.dropped_at[:10]} by {version.dropped_by}{why}",
        hint=f"noria data log {version.name}; adding the same files again makes a new version",
    )


def is_date(text: str) -> bool:
    """Whether a text could be read as a date, and so cannot be a tag."""
    return _DATE.fullmatch(text) is not None


def checked_name(name: str) -> str:
    """A name that a data set may have. Raises: UsageError."""
    if not _ALLOWED.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a data set", hint="give --name: letters, digits, dot, dash, underscore"
        )
    return name


def no_dataset(tx: Reader, name: str, root: Path) -> NotFound:
    """The error for a name that no data set has here; one that is pinned only has to be pulled."""
    if _ALLOWED.fullmatch(name) and pin_path(root, name).is_file():
        return NotFound(f"the data set {name!r} is pinned, but not here yet", hint=f"noria data pull {name}")
    known: Sequence[str] = records.names(tx)
    near = difflib.get_close_matches(name, known, n=1)
    hint = (
        f"did you mean {near[0]!r}?" if near else f"data sets: {', '.join(known[:12]) or 'none; noria data add PATH'}"
    )
    return NotFound(f"there is no data set {name!r}", hint=hint)


def _pinned(ws: Workspace, tx: Reader, last: DatasetVersion) -> DatasetVersion:
    pin = read_pin(ws.project.root, last.name) if _ALLOWED.fullmatch(last.name) else None
    if pin is None:
        return last
    found = records.by_tree(tx, last.name, pin.tree)
    if found is None:
        gone = [each for each in records.history(tx, last.name) if each.tree == pin.tree]
        if gone:
            raise dropped(gone[-1])
        raise NotFound(
            f"the pin of {last.name} names {short(pin.content)}, which is not here",
            hint=f"noria data pull {last.name}, or {last.name}@latest for {last.ref}",
        )
    return found


def _selected(tx: Reader, last: DatasetVersion, selector: str) -> Chosen | None:
    back = re.fullmatch(r"latest~(\d{1,9})", selector)
    if back:
        return _chosen(records.nth_newest(tx, last.name, int(back[1])))
    if selector.isascii() and selector.isdigit() and len(selector) < 10:
        found = records.by_number(tx, last.name, int(selector))
        if found is not None:
            return _chosen(found)
    found = records.tagged(tx, last.name, selector)
    if found is not None:
        return _chosen(found)
    which, _, date = selector.rpartition(":") if selector.startswith(("added:", "until:")) else ("", "", selector)
    if is_date(date):
        return _by_date(tx, last.name, which, date)
    if is_digest(selector):
        return _chosen(records.by_tree(tx, last.name, selector) or records.by_content(tx, last.name, selector))
    if not _HEX.fullmatch(selector):
        return None
    fitting = records.by_tree_prefix(tx, last.name, selector)
    if len({version.content for version in fitting}) > 1:
        ids = ", ".join(sorted({short(version.content) for version in fitting}))
        raise UsageError(f"{last.name}@{selector} fits several contents: {ids}", hint="give more digits")
    return _chosen(fitting[0] if fitting else None)


def _chosen(version: DatasetVersion | None) -> Chosen | None:
    return None if version is None else Chosen(version=version)


def _by_date(tx: Reader, name: str, which: str, date: str) -> Chosen | None:
    end = _end_of(date)
    if which != "until":
        found = records.added_by(tx, name, end)
        if found is not None:
            words = f"{found.ref} is the newest version added by {_told(date)}; it was added {found.at[:16]}Z"
            return Chosen(version=found, choice=words)
    if which != "added":
        found = records.ended_by(tx, name, end)
        if found is not None:
            before = "" if which else f", since none was added by {_told(date)}"
            return Chosen(
                version=found,
                choice=f"{found.ref} is the newest version whose times end by {_told(date)}, at"
                f" {found.time_max[:16]}Z{before}",
            )
    return None


def _told(date: str) -> str:
    """A date as it was given, with the zone that it was taken in."""
    return date if re.search(r"(Z|[+-]\d{2}:\d{2})\Z", date) and "T" in date else f"{date} (UTC)"


def _end_of(date: str) -> str:
    """The last microsecond of a month, day, minute or second, as it was said, as UTC text. Raises: UsageError."""
    year, month, day, clock = _groups(date)
    try:
        if clock:
            moment = datetime.fromisoformat(date)
            end = moment + _unit_of(clock) - timedelta(microseconds=1)
            return utc_text(end if end.tzinfo else end.replace(tzinfo=UTC))
        start = datetime(year, month, day or 1, tzinfo=UTC)
        after = start + timedelta(days=1) if day else datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        return utc_text(after - timedelta(microseconds=1))
    except ValueError as error:
        raise UsageError(
            f"{date} is no date: {error}", hint="such as 2013-03, 2013-03-31 or 2013-03-31T12:00Z"
        ) from error


def _unit_of(clock: str) -> timedelta:
    """How long the moment is that a time of day means: a minute, a second, or the least there is."""
    if "." in clock:
        return timedelta(microseconds=1)
    return timedelta(seconds=1) if re.match(r"T\d{2}:\d{2}:", clock) else timedelta(minutes=1)


def _groups(date: str) -> tuple[int, int, int, str]:
    found = _DATE.fullmatch(date)
    assert found is not None, "the caller has looked"
    return int(found[1]), int(found[2]), int(found[3] or 0), found[4] or ""
