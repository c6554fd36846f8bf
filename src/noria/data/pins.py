"""The pin files: `noria.lock/NAME.toml` says which version of a data set the project stands on.

One small file for each data set and one line for each field, so that a change of data is a small
difference in Git and two branches that change different data sets never touch the same file. Only
text here: no ledger and no database, so that `noria data status` starts quickly.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noria.core.errors import ConfigError
from noria.core.frozen import frozen
from noria.core.identity import is_digest
from noria.core.printable import printable
from noria.store.objects import disk_faults

__all__ = [
    "FOLDER",
    "BrokenPin",
    "Pin",
    "conflict_sides",
    "parse_pin",
    "pin_path",
    "pin_text",
    "pins",
    "read_pin",
    "sorted_pins",
    "unmerged_label",
    "write_pin",
]

FOLDER = "noria.lock"
FIELDS = (
    "name",
    "version",
    "content",
    "tree",
    "rows",
    "size_bytes",
    "files",
    "key",
    "time",
    "label",
    "time_min",
    "time_max",
    "source",
    "operation",
)
_TEXTS = ("key", "time", "label", "time_min", "time_max", "source", "operation")
_SHOWN, _LABEL_MAX = 6, 400
_UNMERGED = re.compile(r"^<<<<<<< ours, not merged by Noria: (.+)$", re.MULTILINE)
_HEAD = "# Written by `noria data add`: the version of this data set that the project stands on."


@frozen(kw_only=True)
class Pin:
    """What a pin file says. `version` is the number it had where it was written; `tree` is what counts.

    `content` is the version's id, which a file's name and a table's format do not change; an older pin has
    none, and its tree is its id. `operation` is how the version came to be; with one, `source` is where its
    last rows came from, not where the data set lies.
    """

    name: str
    version: int
    tree: str
    rows: int = 0
    size_bytes: int = 0
    files: int = 0
    key: str = ""
    time: str = ""
    label: str = ""
    time_min: str = ""
    time_max: str = ""
    source: str = ""
    content: str = ""
    operation: str = ""

    @property
    def is_placed(self) -> bool:
        """Whether it was added whole from `source`, rather than made from rows that came from there."""
        return self.operation in ("", "merge")

    @property
    def is_one_file(self) -> bool:
        """Whether it is one file or table, of which the name is not content."""
        return self.files == 1 and self.content != self.tree

    @property
    def roles(self) -> dict[str, str]:
        """The columns that are key, time and label; "" for none."""
        return {"key": self.key, "time": self.time, "label": self.label}


@frozen
class BrokenPin:
    """A pin file that says nothing, such as one with the marks of a conflict in it; `error` tells what to do."""

    name: str
    error: ConfigError

    @property
    def told(self) -> str:
        """In one line: what is wrong, and what to do."""
        return f"{self.error.message}: {self.error.hint}"


def pin_path(root: Path, name: str) -> Path:
    """Where the pin of a data set is, or would be."""
    return root / FOLDER / f"{name}.toml"


def pins(root: Path) -> list[Pin]:
    """Every pin of a project, by name. Raises: ConfigError for a broken file."""
    folder = root / FOLDER
    names = sorted(path.stem for path in folder.glob("*.toml")) if folder.is_dir() else []
    return [found for name in names if (found := read_pin(root, name)) is not None]


def sorted_pins(root: Path) -> tuple[list[Pin], list[BrokenPin]]:
    """Every pin of a project that can be read, and every other one, by name: one must not stop the work on others."""
    folder = root / FOLDER
    good: list[Pin] = []
    broken: list[BrokenPin] = []
    for name in sorted(path.stem for path in folder.glob("*.toml")) if folder.is_dir() else ():
        try:
            found = read_pin(root, name)
        except ConfigError as error:
            broken.append(BrokenPin(name, error))
        else:
            good += [found] if found is not None else []
    return good, broken


def read_pin(root: Path, name: str) -> Pin | None:
    """The pin of a data set, or None. Raises: ConfigError for a broken file."""
    path = pin_path(root, name)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except IsADirectoryError as error:
        raise ConfigError("the pin is a folder", where=str(path), hint="move it away, then git checkout it") from error
    found = parse_pin(content, str(path))
    if found.name != name:
        raise ConfigError(
            f"the pin says name = {found.name[:64]!r}, and the file is that of {name!r}",
            where=str(path),
            hint=f"git checkout the file, or noria data add the data again with --name {name}",
        )
    return found


def parse_pin(content: bytes, where: str) -> Pin:
    """The pin that a file's bytes hold. Raises: ConfigError."""
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        if b"\n<<<<<<< " in content and b"\n>>>>>>> " in content:
            raise _conflicted(content.decode("utf-8", "replace"), where) from error
        hint = "noria data add again, or git checkout the file"
        raise ConfigError(f"the pin is not valid TOML: {error}", where=where, hint=hint) from error
    tree, name = document.get("tree"), document.get("name")
    if not isinstance(tree, str) or not is_digest(tree) or not isinstance(name, str):
        raise ConfigError("the pin names no tree", where=where, hint="add the data again")
    return Pin(
        name=name,
        version=_number(document, "version"),
        tree=tree,
        rows=_number(document, "rows"),
        size_bytes=_number(document, "size_bytes"),
        files=_number(document, "files"),
        content=str(document.get("content", "")) or tree,
        **{field: str(document.get(field, "")) for field in _TEXTS},
    )


def _conflicted(text: str, where: str) -> ConfigError:
    """What to say of a pin with Git's conflict marks: whether Noria has tried, and what stood against it."""
    file = f"{FOLDER}/{where.replace(os.sep, '/').rpartition('/')[2]}"
    found = _UNMERGED.search(text)
    if found:
        return ConfigError(
            f"both branches changed the same of this data set: {found[1]}",
            where=where,
            hint=f"git checkout --ours (or --theirs) {file}, or noria data add the merged data",
        )
    return ConfigError(
        "two branches changed this data set, and Git alone could not merge its pin",
        where=where,
        hint=f"noria data link, then git checkout --merge {file} merges the data; or --ours, --theirs",
    )


def conflict_sides(root: Path, name: str) -> tuple[Pin, ...]:
    """Our pin and theirs of a file in which Git left a conflict; nothing without one, or if a side is no pin."""
    path = pin_path(root, name)
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if "\n<<<<<<< " not in text or "\n>>>>>>> " not in text:
        return ()
    try:
        return tuple(parse_pin(_side(text, side).encode(), str(path)) for side in ("<", "="))
    except ConfigError:
        return ()


def _side(text: str, side: str) -> str:
    """What one side says: the lines after its mark (`<` ours, `=` theirs) and those that no mark encloses."""
    kept: list[str] = []
    at = ""
    for line in text.splitlines():
        if re.match(r"(<{7}|\|{7}|>{7}) |={7}$", line):
            at = "" if line[0] == ">" else line[0]
        elif at in ("", side):
            kept.append(line)
    return "\n".join(kept) + "\n"


def unmerged_label(conflicts: Sequence[str]) -> str:
    """What the first mark of a conflict says after Noria's own merge: the paths or keys that both sides changed."""
    shown = "; ".join(printable(each) for each in conflicts[:_SHOWN])
    more = f"; and {len(conflicts) - _SHOWN} more" if len(conflicts) > _SHOWN else ""
    return f"ours, not merged by Noria: {shown[:_LABEL_MAX]}{more}"


def pin_text(version: Any) -> str:
    """The text of the pin of a version (anything with the fields of a pin)."""
    lines = [_HEAD]
    lines += [f"{field} = {json.dumps(getattr(version, field), ensure_ascii=False)}" for field in FIELDS]
    return "\n".join(lines) + "\n"


def write_pin(root: Path, name: str, text: str) -> Path:
    """Put a pin into its place: atomic and durable. Raises: StoreFull; StoreUnavailable."""
    target = pin_path(root, name)
    with disk_faults(target):
        target.parent.mkdir(exist_ok=True)
        if target.is_file() and target.read_text(encoding="utf-8", errors="replace") == text:
            return target
        part = target.parent / f".{name}.{uuid.uuid4().hex}.part"
        try:
            with part.open("w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    return target


def _number(document: Mapping[str, Any], field: str) -> int:
    found = document.get(field, 0)
    return found if isinstance(found, int) else 0
