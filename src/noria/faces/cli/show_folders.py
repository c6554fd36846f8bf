"""What folders of data look like on a terminal: versions with their files, what changed, what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from noria.core.printable import printable
from noria.core.words import counted
from noria.faces.cli.show_data import version
from noria.faces.cli.text import columns, count, lasting, name_of, size

__all__ = ["checked_out", "files", "gc", "status", "verify"]

FILES_MAX = 40
FINDINGS_MAX = 20
PATH_MAX = 60
"""A longer path does not move the columns of the others."""
_SIGNS = {"+": "green", "-": "red", "~": "yellow"}


def files(found: Mapping[str, Any]) -> str:
    """A version with its columns, tags and files."""
    dataset, entries = found["dataset"], found["entries"]
    kinds = columns([[name, kind, "may be null" if nullable else ""] for name, kind, nullable in dataset["columns"]])
    rows = [
        [
            printable(each["path"]),
            count(each["rows"]) if each["rows"] else "",
            size(each["size_bytes"]),
            name_of(each["digest"]),
        ]
        for each in entries
    ]
    rest = "  … more: name a folder, such as noria data show NAME FOLDER"
    is_cut = found.get("more") or len(rows) > FILES_MAX
    tags = "         tags " + ", ".join(found["tags"]) if found["tags"] else ""
    parts = [version(dataset), tags, _choice(found), kinds, columns(rows[:FILES_MAX], right=" rr", most=PATH_MAX)]
    return "\n".join([part for part in parts if part] + ([rest] if is_cut else []))


def status(found: Sequence[Mapping[str, Any]]) -> str:
    """Each data set: the same, or what is new, gone and changed."""
    if not found:
        return "  the project stands on no data: noria data add PATH"
    return "\n".join(_one(each) for each in found)


def checked_out(found: Mapping[str, Any]) -> str:
    """What was written, taken away and left; of all data sets one after the other."""
    if not found["dataset"]:
        lines = [checked_out(each) for each in found["each"]]
        lines += [f"  data   {name}: {why}" for name, why in found["skipped"].items()]
        return "\n".join(lines) or "  the project stands on no data: noria data add PATH"
    text = f"  data   {click.style(_ref(found), bold=True)}  in {found['to']}"
    text += f"   {_files(found['files'])}  {size(found['size_bytes'])}"
    told = [f"{count(found[word])} {word}" for word in ("written", "removed") if found[word]]
    if found["kept"]:
        told.append(f"{count(found['kept'])} that you changed left as they are")
    lines = [text, "         " + (", ".join(told) or "nothing had to be written")]
    return "\n".join([*lines, *filter(None, [_choice(found)])])


def verify(found: Mapping[str, Any]) -> str:
    """What was read, and each object that is not what its name says."""
    read = f"{counted(found['versions'], 'version')}, {_files(found['files'])}, {size(found['size_bytes'])} read"
    absent = [_absent(each) for each in found["absent"][:FINDINGS_MAX]]
    hidden = len(found["absent"]) - len(absent)
    absent += [f"    … {hidden} more"] if hidden else []
    if not found["bad"]:
        return "\n".join([f"  data   {read}: every byte is what it was", *absent])
    rows = []
    for each in found["findings"][:FINDINGS_MAX]:
        place = f"{each['dataset']}@{each['version']} {printable(each['path']) or '(its list of files)'}"
        end = click.style(f"healed from {each['healed']}", fg="green") if each["healed"] else each["why"]
        rows.append([place, f"expected {name_of(each['expected'], 12)}", f"found {name_of(each['found'], 12)}", end])
    left = found["bad"] - found["healed"]
    label = click.style("STOP", fg="red", bold=True) if left else "data  "
    bad = counted(found["bad"], "object was", "objects were")
    head = f"  {label} {read}: {bad} altered or gone, {count(found['healed'])} healed"
    more = len(found["findings"]) - len(rows)
    rest = [f"    … {more} more"] if more > 0 else []
    return "\n".join([head, columns(rows, indent="    "), *rest, *absent])


def _absent(each: Mapping[str, Any]) -> str:
    label = click.style("STOP", fg="red", bold=True)
    if not each["tree"]:
        return f"  {label} {each['dataset']}: {'; '.join(each['asked'])}"
    name = f"{_ref(each)} {name_of(each['content'], 12)}"
    next_step = f"noria data pull {each['dataset']}"
    return f"  {label} {name} is pinned and not here; asked: {'; '.join(each['asked'])}: {next_step}"


def gc(found: Mapping[str, Any]) -> str:
    """What nothing names any more."""
    live = counted(found["live"], "object is", "objects are")
    roots = f"{live} named by facts, pins, branches, tags and leases of"
    if found["remote"]:
        live = counted(found["live"], f"object on {found['remote']} is", f"objects on {found['remote']} are")
        roots = f"{live} named by what was pushed there and by"
    clones = counted(found["clones"], "clone")
    rows = [
        ["unnamed", count(found["unnamed"]), size(found["unnamed_bytes"])],
        ["too young to judge", count(found["young"]), f"for {lasting(found['young_s'])} after they were stored"],
        ["in the trash", count(found["trashed"]), size(found["trashed_bytes"])],
        ["gone for good", count(found["purged"]), size(found["purged_bytes"])],
    ]
    shown = [row for row in rows if row[1] != "0"]
    if found["freed_bytes"]:
        word = "given back by packs" if found["swept"] else "to give back by packs"
        shown.append([word, "", f"{size(found['freed_bytes'])} of copies stored twice, or gone before"])
    if found["copies"]:
        bound = f"of {size(found['copies_bound_bytes'])} at the most"
        shown.append(["copies in the cache", count(found["copies"]), f"{size(found['copies_bytes'])} {bound}"])
    if found["copies_freed"]:
        word = "freed of those" if found["swept"] else "to free of those"
        shown.append([word, count(found["copies_freed"]), size(found["copies_freed_bytes"])])
    left = [each for each in found["local"] if each["left"]]
    for each in left:
        word = "left over in" if found["swept"] else "to clear in"
        shown.append([f"{word} {each['folder']}", count(each["left"]), size(each["left_bytes"])])
    head = f"  data   {roots} {clones}"
    is_done = found["swept"] or not (found["unnamed"] or found["copies_freed"] or found["freed_bytes"] or left)
    tail = [] if is_done else ["         nothing was changed: this was a dry run"]
    return "\n".join([head, *([columns(shown, indent="         ", right=" rr")] if shown else []), *tail])


def _one(each: Mapping[str, Any]) -> str:
    ref = click.style(_ref(each), bold=True)
    place = each["place"] or "nowhere"
    if each["state"] == "unread":
        name = click.style(each["dataset"], bold=True)
        return f"  {click.style('STOP', fg='red', bold=True)}   {name}  {place}: {each['note']}"
    if each["state"] in ("elsewhere", "unpulled"):
        return f"  data   {ref}  {place}: {each['note']}"
    if each["state"] == "absent":
        return f"  data   {ref}  {place} is not here: noria data checkout {each['dataset']}"
    here = f"{_files(each['files'])}  {size(each['size_bytes'])}"
    if each["state"] == "same":
        about = f"{here}   " if each["files"] else ""
        return f"  data   {ref}  {place}   {about}{click.style('unchanged', fg='green')}{_note(each)}"
    counts = [f"{count(each[word])} {name}" for word, name in _WORDS if each[word]]
    total = sum(each[word] for word, _ in _WORDS)
    lines = [click.style(f"         {path}", fg=_SIGNS.get(path[:1])) for path in each["paths"]]
    more = [f"         … {count(total - len(lines))} more"] if total > len(lines) else []
    told = f"{here}   {', '.join(counts)}" if counts else click.style("changed", fg="yellow")
    return "\n".join([f"  data   {ref}  {place}   {told}{_note(each)}", *lines, *more])


def _note(each: Mapping[str, Any]) -> str:
    return f"\n         {each['note']}" if each["note"] else ""


_WORDS = (("added", "new"), ("removed", "gone"), ("changed", "changed"))


def _choice(found: Mapping[str, Any]) -> str:
    return f"         {found['choice']}" if found.get("choice") else ""


def _files(number: int) -> str:
    return counted(number, "file")


def _ref(found: Mapping[str, Any]) -> str:
    """How to name a version here: by its number, or by its id where it has none in this clone."""
    return f"{found.get('name') or found['dataset']}@{found['version'] or name_of(found.get('content'))}"
