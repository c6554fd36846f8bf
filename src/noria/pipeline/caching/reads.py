"""The conditions of a cache entry: what its step was seen to read beyond what its key covers.

A key holds what can be told before a step runs. The rest (a configuration file, a plugin, a function
that a library called back) is known from the trace of the run that made the entry, and is kept with
it as (what, digest). The entry is good only while each still has that digest.
"""

from __future__ import annotations

import importlib
import os
import stat
import sys
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from noria.core.frozen import frozen
from noria.core.identity import canonical, digest
from noria.pipeline.ambient import Ambient
from noria.pipeline.code.fingerprint import CodeIdentity, Fingerprints
from noria.pipeline.watching import lookups, patterns
from noria.pipeline.watching.digests import FileDigests, Stamp, absolute, stamp_of
from noria.pipeline.watching.making import is_lasting, was_changed
from noria.pipeline.watching.trace import EVERY, EVERY_SETTING, Trace, temporary, variable_digest

__all__ = ["CHANGED", "NOT_AS_LEFT", "Conditions", "Reads", "looked"]

_QUIET = frozenset({".noria", "__pycache__", ".git"})
GONE = "gone"
CHANGED = " changed while the step ran"
NOT_AS_LEFT = " is not as the step left it"
FEW = 1000
_OF_FILES = frozenset(
    {"file", "made", "folder", "tree", "there", "stat", "access", "link", "xattr", "size", "time", "pattern"}
)
_SAID = (
    {f"variable {each}": "the names of variables" for each in (EVERY, EVERY_SETTING)}
    | {"umask *": "the umask"}
    | {
        f"generator {name}": f"the seed of {of}"
        for name, of in (("random", "random"), ("numpy", "numpy.random"), ("torch", "torch"))
    }
)
_MODES = (os.F_OK, os.R_OK, os.W_OK, os.X_OK)


@frozen(kw_only=True)
class Conditions:
    """What must hold for an entry: (what, digest) in order; `reason` says why there can be none."""

    reads: tuple[tuple[str, str], ...] = ()
    reason: str = ""


class Reads:
    """Makes conditions from traces, and checks them. One per execution; what it looks up it remembers."""

    def __init__(self, fingerprints: Fingerprints) -> None:
        self._fingerprints = fingerprints
        self._digests: FileDigests = fingerprints.digests
        self._root = fingerprints.root
        self._known: dict[str, str] = {}
        self._trees: dict[str, tuple[int, str]] = {}

    def of(self, trace: Trace, code: CodeIdentity, ambient: Ambient) -> Conditions:
        """The conditions of what a step was seen to read, without what its code identity covers."""
        found: dict[str, str] = {}
        reason = self._blindness(trace, code)
        self._forget_trees(trace)
        if trace.unseen and not code.is_declared:
            reason = reason or f"{trace.unseen[0]}: extra_files, variables or version of the step can say it"
        for path, stamp in trace.files:
            if path not in code.files and not reason:
                reason = self._file(path, stamp, trace.began_ns, found)
        for path, stamp in trace.made:
            reason = self._made_file(path, stamp, found) or reason
        reason = reason or self._named(code, trace, found)
        for folder, changed_ns in (*trace.folders, *trace.searched):
            if Path(folder).is_dir():
                if Path(folder).stat().st_mtime_ns != changed_ns and not _is_temporary(folder, self._root):
                    reason = reason or f"{self.shown(folder)} changed while the step ran"
                if (folder, changed_ns) in trace.folders:
                    found[f"folder {self.shown(folder)}"] = self._folder(folder)
        for how, pattern, folder in trace.patterns:
            text = patterns.shown(how, pattern, self.shown(folder))
            found[f"pattern {text}"] = self._now("pattern", text)
        for path, what in trace.stats:
            if path not in self._used_up(trace) and f"file {self.shown(path)}" not in found:
                found[f"{what} {self.shown(path)}"] = self._now(what, self.shown(path))
        things, gone = self._things(trace, code)
        reason = reason or gone
        self._extensions(trace, found)
        extra = self._code(things, code, found)
        reason = reason or extra
        found |= {f"variable {name}": value for name, value in trace.variables if name not in code.variables}
        found |= {what: _ambient(what, ambient) for what in trace.asked if what not in code.ambient}
        found |= {what: self._now(*what.split(" ", 1)) for what in trace.lookups}
        for name in trace.names:
            if name != EVERY:
                found[f"constant {name}"] = self._now("constant", name)
                reason = reason or next(iter(self._constant(name).opaque), "")
        found |= {f"note {note}": "" for note in trace.notes}
        return Conditions(reads=tuple(sorted(found.items())), reason=reason)

    def differing(self, reads: Iterable[tuple[str, str]], ambient: Ambient) -> str:
        """The first condition that does not hold, in words; "" if all do."""
        for what, known in reads:
            kind, _, name = what.partition(" ")
            if kind == "note":
                continue
            now = _ambient(kind, ambient) if kind in ("seed", "roles") else self._now(kind, name)
            if now != known and (part := _part(kind, known, now)):
                return f"the {part} of {name} changed"
            if now != known:
                if kind == "made" and "missing" not in (now, known) and now != GONE:
                    return f"file {name}{NOT_AS_LEFT}"
                gone = "is gone" if now in (GONE, "missing") else "is new" if known == "missing" else "changed"
                said = f"file {name}, which it made," if kind == "made" else _SAID.get(what, what)
                return f"{said} {gone}"
        return ""

    # what was seen

    def _blindness(self, trace: Trace, code: CodeIdentity) -> str:
        if not trace.blind.startswith("native:"):
            return f"what ran could not be watched: {trace.blind}" if trace.blind else ""
        if code.named or any(not path.endswith(".py") for path in code.files):
            return ""  # it reads what the code names
        return f"{trace.blind[7:]} reads files out of sight: name them by a constant, or in extra_files"

    def _file(self, path: str, stamp: Stamp | None, began_ns: int, found: dict[str, str]) -> str:
        """Add the condition of one file; gives why there can be none."""
        now = stamp_of(path)
        is_new = stamp is not None and stamp[2] >= began_ns
        if is_new and (now is None or _is_temporary(path, self._root)):
            return ""  # made and used up by the step
        if stamp is not None and now != stamp:
            return f"{self.shown(path)}{' was taken away while the step ran' if now is None else CHANGED}"
        found[f"file {self.shown(path)}"] = "missing" if stamp is None else self._digests.of(Path(path))
        return ""

    def _made_file(self, path: str, stamp: Stamp, found: dict[str, str]) -> str:
        """Add the condition of a file that the step made; gives why there can be none."""
        if not is_lasting(path, self._root):
            return ""
        if stamp_of(path) != stamp:
            return f"{self.shown(path)}, which it made, was changed again at once"
        found[f"made {self.shown(path)}"] = self._digests.of(Path(path))
        return ""

    def _named(self, code: CodeIdentity, trace: Trace, found: dict[str, str]) -> str:
        """Add the conditions of what the code names to read it, and was not seen to; gives why there can be none."""
        seen = {path for path, _ in (*trace.files, *trace.made)}
        for name, is_declared in code.named.items():
            path = absolute(self._root / name)
            if path in seen:
                continue
            if was_changed(path, trace.began_ns) and not Path(path).is_dir():
                if trace.blind or is_declared:
                    return f"{self.shown(path)}{CHANGED}"
                found[f"made {self.shown(path)}"] = self._digests.of(Path(path))  # a compiled library wrote it
            elif Path(path).is_dir() and any(each.startswith(path + os.sep) for each, _ in trace.made):
                for file in _files_in(path):
                    if file not in seen:
                        self._condition(self.shown(file), found)
            else:
                self._condition(self.shown(path), found, is_declared=is_declared or bool(trace.blind))
        return ""

    def _condition(self, name: str, found: dict[str, str], *, is_declared: bool = False) -> None:
        """That a file or folder holds what it does; where there is none, only of what was declared."""
        place = self._root / name
        if place.is_dir():
            found.setdefault(f"tree {name}", self._now("tree", name))
        elif is_declared or place.exists():
            found.setdefault(f"file {name}", self._now("file", name))

    def _tree(self, name: str) -> str:
        if name not in self._trees:
            files = [[os.path.relpath(each, self._root / name), each] for each in _files_in(str(self._root / name))]
            held = [[inner, self._digests.of(Path(each))] for inner, each in files]
            self._trees[name] = (len(files), digest(canonical(held)))
        return self._trees[name][1]

    def _forget_trees(self, trace: Trace) -> None:
        """A step ran: what it may have changed is looked at again. Large folders only if it was seen to write there."""
        for name, (count, _) in list(self._trees.items()):
            inside = str(self._root / name) + os.sep
            if count < FEW or any(path.startswith(inside) for path, _ in trace.made):
                del self._trees[name]

    def _things(self, trace: Trace, code: CodeIdentity) -> tuple[dict[str, Any], str]:
        """The modules, functions and classes that were reached at run time only, by a name that finds them again."""
        found: dict[str, Any] = {}
        owners = self._fingerprints.ownership
        for name in trace.modules:
            if name in sys.modules and owners.of(sys.modules[name]) == "project":
                if not _is_covered(code, owners.file_of(sys.modules[name]), 0):
                    found[f"module {name}"] = sys.modules[name]
            elif not owners.is_project_module(name):
                found.setdefault(f"package {owners.of_root(name.partition('.')[0])}", None)
            elif name not in sys.modules:  # another process of the step imported it
                try:
                    found[f"module {name}"] = importlib.import_module(name)
                except Exception:  # noqa: BLE001  # the boundary to the project's code
                    return found, f"{name} was imported by a worker, and cannot be imported here"
        if EVERY in trace.names:  # the modules whose frames were there count as a whole
            ran = {file for file, _, _ in trace.code if file.startswith("<ipython") or not file.startswith("<")}
            modules = (self._module_at(file if file.startswith("<") else absolute(file)) for file in ran)
            found |= {f"module {module.__name__}": module for module in modules if module is not None}
        files = (
            {path for path, _ in trace.files} | set(code.files) | {absolute(self._root / name) for name in code.named}
        )
        for name, qualname, line in trace.code:
            file = name if name.startswith("<") else absolute(name)  # a template has the name that it was asked for by
            if _is_covered(code, file, line) or (qualname == "<module>" and file in code.covers):
                continue
            module = self._module_at(file)
            if module is None and not file.endswith(".py") and file in files:
                continue  # a template that was read: its content is a condition, what it calls was seen to run
            if module is None and not file.endswith(".py") and Path(file).is_file():
                return found, f"{self.shown(file)} ran, and was read before the step: extra_files can name it"
            if module is None:
                return found, f"{self.shown(file)} ran, and cannot be imported again by a name"
            top = qualname.partition(".")[0]
            thing = getattr(module, top, None)
            is_known = isinstance(getattr(thing, "function", thing), types.FunctionType | type)
            if is_known and f"module {module.__name__}" not in found:
                found[f"code {module.__name__}:{top}"] = thing
            else:
                found[f"module {module.__name__}"] = module
        return found, ""

    def _extensions(self, trace: Trace, found: dict[str, str]) -> None:
        """Add the conditions of the project's compiled modules that were reached at run time only."""
        owners = self._fingerprints.ownership
        for name in trace.modules:
            if name in sys.modules and owners.of(sys.modules[name]) == "extension":
                self._condition(self.shown(owners.file_of(sys.modules[name])), found)

    def _code(self, things: Mapping[str, Any], code: CodeIdentity, found: dict[str, str]) -> str:
        reason = ""
        for what, thing in things.items():
            kind, _, name = what.partition(" ")
            if kind == "package":
                dist, version = self._fingerprints.ownership.version_of(name)
                if name not in ("stdlib", "noria") and dist not in code.packages:
                    found[what] = version
                continue
            identity = self._identity(thing)
            found[what] = _digest_of(identity)
            for name, is_declared in identity.named.items():
                self._condition(name, found, is_declared=is_declared)
            if identity.opaque:
                reason = reason or identity.opaque[0]
        return reason

    def _module_at(self, file: str) -> types.ModuleType | None:
        for module in sys.modules.copy().values():
            if getattr(module, "__file__", None) == file and module.__name__ != "__main__":
                return module
        for folder in (str(self._root), *sys.path):
            if folder and file.startswith(folder + os.sep) and file.endswith(".py"):
                parts = Path(file).relative_to(folder).with_suffix("").parts
                try:
                    return importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
                except Exception:  # noqa: BLE001  # the boundary to the project's code; the caller says so
                    continue
        main = sys.modules.get("__main__")
        return main if main is not None and not Path(file).is_file() else None

    # as it is now

    def _now(self, kind: str, name: str) -> str:
        what = f"{kind} {name}"
        if kind in _OF_FILES:  # a step before this one may have written it since
            return self._look(kind, name)
        if what not in self._known:
            self._known[what] = self._look(kind, name)
        return self._known[what]

    def _look(self, kind: str, name: str) -> str:
        if kind in ("file", "made"):
            return self._digests.of(self._root / name)
        if kind == "tree":
            return self._tree(name)
        if kind == "folder":
            return self._folder(str(self._root / name))
        if kind in ("there", "stat"):
            return looked(self._root / name, is_whole=kind == "stat")
        if kind == "pattern":
            return digest(canonical(patterns.matches(name, self._root)))
        if kind in ("size", "time"):
            return _one_part(self._root / name, kind)
        if kind in ("access", "link"):
            return _permitted(self._root / name) if kind == "access" else _target(self._root / name)
        if kind == "xattr":
            return _attributes(self._root / name)
        if kind in lookups.KINDS:
            return lookups.answer(kind, name)
        if kind == "variable":
            return variable_digest(name)
        if kind == "package":
            return self._fingerprints.ownership.version_of(name)[1]
        if kind == "constant":
            return _digest_of(self._constant(name))
        try:
            module = importlib.import_module(name.partition(":")[0])
            thing = getattr(module, name.partition(":")[2]) if kind == "code" else module
        except Exception:  # noqa: BLE001  # the boundary to the project's code: what does not import has no digest
            return GONE
        return _digest_of(self._identity(thing))

    def _constant(self, name: str) -> CodeIdentity:
        """The identity of what a module has under a name ("module:name"), if it has that."""
        module, _, name = name.partition(":")
        try:
            found = vars(importlib.import_module(module))
        except Exception:  # noqa: BLE001  # the boundary to the project's code: what does not import has no names
            found = {}
        return self._fingerprints.of([], {f"{module}.{name}": found[name]} if name in found else {})

    def _identity(self, thing: Any) -> CodeIdentity:
        return self._fingerprints.of([thing])

    def _folder(self, folder: str) -> str:
        try:
            names = sorted(entry.name for entry in os.scandir(folder) if entry.name not in _QUIET)
        except OSError:
            return GONE
        return digest(canonical(names))

    def _used_up(self, trace: Trace) -> set[str]:
        """Files that the step itself made: whether they were there before is not known, nor what it asked for."""
        return {
            path for path, _ in trace.stats if _changed_ns(path) >= trace.began_ns and _is_temporary(path, self._root)
        }

    def shown(self, path: str) -> str:
        """The path as it is kept: relative to the project inside of it, absolute elsewhere."""
        try:
            return str(Path(path).relative_to(self._root))
        except ValueError:
            return path


def looked(path: Path, *, is_whole: bool) -> str:
    """What a look at a file tells: what it is; for all of `stat`, also its size, time and rights."""
    try:
        found = path.stat()
    except OSError:
        return "missing"
    kind = "folder" if stat.S_ISDIR(found.st_mode) else "file"
    if not is_whole:
        return kind
    size = found.st_size if kind == "file" else ""  # of a folder the size is the file system's own affair
    return f"{kind} {size} {found.st_mtime_ns} {found.st_mode:o}"


def _files_in(folder: str) -> list[str]:
    """All files of a folder and those below it, in order."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if each not in _QUIET]
        found += [os.path.join(place, file) for file in files]  # noqa: PTH118  # of texts
    return sorted(found)


def _one_part(path: Path, part: str) -> str:
    """The size or the time of a file."""
    try:
        found = path.stat()
    except OSError:
        return "missing"
    return str(found.st_mtime_ns) if part == "time" else "" if stat.S_ISDIR(found.st_mode) else str(found.st_size)


def _part(kind: str, known: str, now: str) -> str:
    """Which part of a file differs between two looks, if it is there in both."""
    if "missing" in (known, now) or kind not in ("stat", "size", "time"):
        return ""
    if kind in ("size", "time"):
        return kind
    parts = zip(("kind", "size", "time", "rights"), known.split(" "), now.split(" "), strict=True)
    return " and ".join(name for name, before, after in parts if before != after)


def _attributes(path: Path) -> str:
    """The extended attributes of a file."""
    try:
        found = [[name, os.getxattr(path, name).hex()] for name in sorted(os.listxattr(path))]
    except OSError:
        return "missing"
    return digest(canonical(found))


def _permitted(path: Path) -> str:
    """What this process may do with a file."""
    return "".join(letter for letter, mode in zip("frwx", _MODES, strict=True) if os.access(path, mode)) or "missing"


def _target(path: Path) -> str:
    """Where a link leads."""
    try:
        return str(path.readlink())
    except OSError:
        return "missing"


def _changed_ns(path: str) -> int:
    try:
        return Path(path).stat().st_ctime_ns
    except OSError:
        return 1 << 63  # gone again


def _is_temporary(path: str, root: Path) -> bool:
    return path.startswith(temporary()) and not path.startswith(str(root) + os.sep)


def _is_covered(code: CodeIdentity, file: str, line: int) -> bool:
    lines = code.covers.get(file, frozenset())
    return (0, 0) in lines or (line > 0 and any(first <= line <= last for first, last in lines))


def _digest_of(identity: CodeIdentity) -> str:
    return digest(canonical([identity.digest, dict(identity.packages), list(identity.opaque)]))


def _ambient(what: str, ambient: Ambient) -> str:
    value: Any = ambient.seed if what == "seed" else [[r.name, r.key, r.time, r.label] for r in ambient.roles]
    return digest(canonical(value))
