"""The content of what no RECORD answers for: editable installs, installs from a folder, modules copied by hand.

Their files may be edited where they lie, and no note of an installer changes with them. So their code is read:
once, and again only when a file's size or time is another. Of an editable install that is the code of the folders
it makes importable (`.py` and compiled modules), of anything in a folder of packages every file but bytecode.
"""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from noria.core.identity import Digest

__all__ = ["contents", "editable_places", "unclaimed"]

_File = tuple[str, str, int, int]
"""Name, path, size and time."""
_CODE = (".py", ".so", ".pyd")
_NOT_CODE = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages", "build", "dist"})
_OF_ENVIRONMENTS = frozenset({"_virtualenv", "__pycache__"})
"""What tools that make environments put there: it says how one was made, not what it holds."""


def contents(places: Mapping[str, Iterable[str]], known: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, Digest]]:
    """What lies at the places of each name: a stamp, by sizes and times, and the digest of all names and bytes.

    `known` is what this gave before: what has the same stamp is not read again. Names whose places hold no code
    are left out.
    """
    found: dict[str, tuple[str, Digest]] = {}
    for name, folders in places.items():
        files = sorted({*(each for folder in folders for each in _files(folder))})
        stamp = hashlib.sha256(repr(files).encode("utf-8", "surrogateescape")).hexdigest()
        stamped, *content = known.get(name, ("",))
        if files:
            found[name] = (stamp, Digest(content[0]) if content and stamped == stamp else _digest(files))
    return found


def editable_places(notes: Iterable[Path], source: Path) -> list[str]:
    """What an editable install makes importable: by its `.pth` files and finders, or else its source folder."""
    found: list[str] = []
    for note in notes:
        if note.suffix == ".pth":
            found += [line for line in _text(note).splitlines() if os.path.isabs(line)]  # noqa: PTH117  # of a line
        elif note.name.endswith("_finder.py"):
            found += _mapped(_text(note))
    inner = source / "src"
    return sorted({*found}) or [str(inner if inner.is_dir() else source)]


def unclaimed(folder: str, claimed: set[str]) -> dict[str, str]:
    """What can be imported from a folder of packages and belongs to no distribution: name -> path."""
    found = {}
    for each in sorted(Path(folder).iterdir()):
        name = each.name.partition(".")[0]
        is_module = each.suffix in _CODE and each.is_file()
        if each.name in claimed or not name.isidentifier() or name in _OF_ENVIRONMENTS:
            continue
        if is_module or (each.is_dir() and "." not in each.name and any(each.glob("*.py"))):
            found[name] = str(each)
    return found


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _mapped(finder: str) -> list[str]:
    """The places in the finder that setuptools writes: `MAPPING: dict[str, str] = {…}`."""
    try:
        tree = ast.parse(finder)
    except SyntaxError:
        return []
    for node in tree.body:
        target = node.target if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [None])[0]
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and target.id == "MAPPING" and isinstance(value, ast.Dict):
            return [
                each.value for each in value.values if isinstance(each, ast.Constant) and isinstance(each.value, str)
            ]
    return []


def _files(place: str) -> Iterator[_File]:
    """The files at a place; names begin with that of a package, and with nothing of a folder of the import path."""
    path = Path(place)
    if not path.is_dir():
        module = path if path.is_file() else path.with_suffix(".py")  # a finder leaves the ending out
        yield from _looked(module.name, str(module))
        return
    in_packages = path.parent.name in ("site-packages", "dist-packages")
    head = f"{path.name}/" if in_packages or (path / "__init__.py").is_file() else ""
    for folder, folders, names in os.walk(path):
        if in_packages:
            folders[:] = [each for each in folders if each != "__pycache__"]
        else:
            folders[:] = [each for each in folders if _may_hold_code(folder, each)]
        inner = os.path.relpath(folder, path)
        for name in names:
            if name.endswith(_CODE) or (in_packages and not name.endswith(".pyc")):
                yield from _looked(f"{head}{'' if inner == '.' else inner + '/'}{name}", f"{folder}/{name}")


def _looked(name: str, path: str) -> Iterator[_File]:
    try:
        found = os.stat(path)  # noqa: PTH116  # of thousands of texts
    except FileNotFoundError:
        return  # a link that leads nowhere, as editors leave them; or taken away meanwhile
    yield name, path, found.st_size, found.st_mtime_ns


def _may_hold_code(folder: str, name: str) -> bool:
    is_apart = name.startswith(".") or name in _NOT_CODE or name.endswith(".egg-info")
    return not is_apart and not os.path.isfile(f"{folder}/{name}/pyvenv.cfg")  # noqa: PTH113  # of thousands of texts


def _digest(files: list[_File]) -> Digest:
    told = hashlib.sha256()
    for name, path, _, _ in files:
        try:
            content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        except OSError as error:  # nobody can import what cannot be read
            content = type(error).__name__
        told.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
    return Digest(f"sha256:{told.hexdigest()}")
