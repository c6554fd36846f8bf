"""Whether a source that is no folder still says what a version says: asked of the database or the object store.

A database is asked for its rows, which are hashed and not kept. Of a prefix only the list of keys is
fetched: a key is unchanged if its tag is the one that the version was added with.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from noria.core.errors import NotFound, StoreUnavailable, UsageError
from noria.core.verb import verb
from noria.core.words import counted
from noria.data import records
from noria.data.folders.elsewhere import about, address_of, user_of
from noria.data.folders.worktree import SHOWN, DatasetStatus, statuses
from noria.data.forms import logical
from noria.data.pins import Pin, sorted_pins
from noria.data.standing import GROWING
from noria.data.status import numbers
from noria.data.tabular import sources
from noria.store.tree import iter_tree
from noria.store.workspace import Workspace

__all__ = ["ask"]

_QUERY = re.compile(r"(\S+) ((?:select|with|values)\b.*)", re.IGNORECASE | re.DOTALL)


@verb(permission="data.read", changes=False, where="project")
def ask(ws: Workspace, names: Sequence[str] = ()) -> list[DatasetStatus]:
    """Ask the database or object store that a data set came from whether it says what the pinned version says.

    The rows of a database are read and hashed, nothing is kept; of a prefix the keys are listed. What
    cannot be asked is said. Nothing is changed. A password is not kept by `noria data add`: let the
    driver find it (PGPASSWORD, ~/.pgpass).

    Args:
        names: of data sets; by default every pinned one that came from an address.
    Raises: NotFound for a data set without a pin; ConfigError for a broken pin that is named; UsageError if one
        came from no address.
    Example:
        noria data ask orders
    """
    known = {pin.name: pin for pin in sorted_pins(ws.project.root)[0]}
    found = statuses(ws.project, lambda: ws.objects, numbers(ws), names)
    unread = [each for each in found if each.dataset not in known]
    found = [each for each in found if each.dataset in known]
    placed = [each.dataset for each in found if not address_of(ws.project, known[each.dataset])]
    if names and placed:
        pin = known[placed[0]]
        if pin.operation in (*GROWING, "compact"):
            raise UsageError(
                f"{pin.name} cannot be asked: {about(ws.project, pin)}",
                hint=f"noria data append or upsert {pin.name} SOURCE takes what is new there",
            )
        raise UsageError(
            f"{', '.join(placed)} came from no database and no object store", hint=f"noria data status {placed[0]}"
        )
    return [*(_asked(ws, each, known[each.dataset]) for each in found if each.dataset not in placed), *unread]


def _asked(ws: Workspace, found: DatasetStatus, pin: Pin) -> DatasetStatus:
    address = address_of(ws.project, pin)
    try:
        return _of_bucket(ws, found, pin, address) if sources.is_bucket(address) else _of_rows(ws, found, pin, address)
    except (NotFound, StoreUnavailable, UsageError) as error:
        return dataclasses.replace(found, note=f"could not be asked: {error.message}")


def _of_rows(ws: Workspace, found: DatasetStatus, pin: Pin, address: str) -> DatasetStatus:
    query = table = ""
    if address == pin.source:  # the pin says what was asked for behind the address
        found_query = _QUERY.fullmatch(address)
        if found_query is not None:
            address, query = found_query[1], found_query[2]
        else:
            address, _, table = address.partition(" table ")
        user = user_of(ws.project, pin.name)  # a fact and a pin do not tell it; the password is the driver's to find
        address = address.replace("://", f"://{user}@", 1) if user else address
    with sources.open_rows(ws, address, query=query, table=table) as rows:
        content = logical.digest(rows)
    if content == pin.content:
        return dataclasses.replace(found, state="same", note="asked: the same rows")
    return dataclasses.replace(found, state="changed", note="asked: other rows; noria data add keeps them")


def _of_bucket(ws: Workspace, found: DatasetStatus, pin: Pin, address: str) -> DatasetStatus:
    with ws.ledger.read() as tx:
        version = records.by_tree(tx, pin.name, pin.tree)
    known = sources.known_tags(ws, address, version.time if version is not None else pin.time)
    before = {entry.path: entry for entry in iter_tree(ws.objects, pin.tree)}
    lines: list[str] = []
    counts = {"+": 0, "-": 0, "~": 0}
    unsure = size_bytes = files = 0

    def tell(sign: str, path: str) -> None:
        counts[sign] += 1
        if len(lines) < SHOWN:
            lines.append(f"{sign} {path}")

    for item in sources.listed(ws, address):
        files += 1
        size_bytes += item.size_bytes
        entry = before.pop(item.key, None)
        held = known.get(item.key)
        if entry is None:
            tell("+", item.key)
        elif entry.size_bytes != item.size_bytes:
            tell("~", item.key)
        elif held is None or held.digest != entry.digest:
            unsure += 1
        elif held.tag != item.tag:
            tell("~", item.key)
    for path in before:
        tell("-", path)
    is_changed = bool(lines)
    note = "asked: the same keys and tags"
    if unsure:
        note = f"asked: {counted(unsure, 'key')} of the same size, whose tags are not known here: noria data add tells"
    elif is_changed:
        note = "asked"
    return dataclasses.replace(
        found,
        state="changed" if is_changed else "elsewhere" if unsure else "same",
        note=note,
        files=files,
        size_bytes=size_bytes,
        added=counts["+"],
        removed=counts["-"],
        changed=counts["~"],
        paths=tuple(lines),
    )
