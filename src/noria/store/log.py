"""What is read straight off a connection: the stored tree, and the settings of the log."""

from __future__ import annotations

from noria.core.errors import Tampered
from noria.store import tables
from noria.store.merkle import Frontier, frontier_places
from noria.store.sql.words import Connection, bindparam, func, insert, select

__all__ = ["frontier_of", "get_setting", "head_of", "set_setting", "subtree"]


_HEAD = select(func.max(tables.fact.c.seq))
_LEAF = select(tables.fact.c.leaf).where(tables.fact.c.seq == bindparam("seq"))
_NODE = select(tables.node.c.hash).where(
    tables.node.c.level == bindparam("level"), tables.node.c.position == bindparam("position")
)


def head_of(connection: Connection) -> int:
    """The newest sequence number as the connection sees it."""
    return int(connection.execute(_HEAD).scalar() or 0)


def frontier_of(connection: Connection, size: int) -> Frontier:
    """The tree of that size from its stored subtrees. Raises: Tampered if one is missing."""
    hashes: list[bytes] = []
    for level, position in frontier_places(size):
        found = subtree(connection, level, position)
        if found is None:
            raise Tampered(
                f"the tree of {size} facts lacks the subtree {level}/{position}",
                hint="noria audit verify names what is wrong",
            )
        hashes.append(found)
    return Frontier(size, hashes)


def subtree(connection: Connection, level: int, position: int) -> bytes | None:
    """A stored subtree hash: a leaf for level 0."""
    if level == 0:
        found = connection.execute(_LEAF, {"seq": position + 1}).scalar()
    else:
        found = connection.execute(_NODE, {"level": level, "position": position}).scalar()
    return found if isinstance(found, bytes) else None


def get_setting(connection: Connection, name: str) -> str:
    """A setting of the log; empty when it is not set."""
    query = select(tables.setting.c.value).where(tables.setting.c.name == name)
    return str(connection.execute(query).scalar() or "")


def set_setting(connection: Connection, name: str, value: str) -> None:
    """Set a setting of the log."""
    connection.execute(tables.setting.delete().where(tables.setting.c.name == name))
    connection.execute(insert(tables.setting), {"name": name, "value": value})
