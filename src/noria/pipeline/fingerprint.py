"""Step identity `fp/1`, code part: everything of the project that a step's function can reach.

The walk begins at the function and follows what its text looks at, through the live globals and
closure cells: helpers, classes with their bases, constants, dispatch tables, imports inside
functions. Project code is hashed by its canonical text, values by content, other packages by
version. Nodes are numbered in the order of the walk, so neither file paths nor the module that a
helper lives in enter the hash, and cycles need no care. What cannot be hashed makes the step
uncacheable, with the reason; nothing is skipped in silence.

Not seen: files read by compiled extensions under computed names, and monkey-patching after the key.
"""

from __future__ import annotations

import ast
import builtins
import enum
import hashlib
import importlib
import os
import sys
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noria.core.identity import canonical, digest
from noria.pipeline import syntax
from noria.pipeline.content import Opaque, content_hash
from noria.pipeline.define import Metric, Pipeline
from noria.pipeline.ownership import Ownership
from noria.pipeline.sources import SourceFile, Sources
from noria.pipeline.step import Step

__all__ = ["CodeIdentity", "Fingerprints"]

_MISSING = object()
_WHOLE_MODULE = frozenset({"globals", "eval", "exec", "vars"})
_AMBIENT = {"seed": ("seed",), "xy": ("roles",), "split_by_time": ("roles",)}
_NOT_DATA = (types.MemberDescriptorType, types.GetSetDescriptorType, types.BuiltinFunctionType)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeIdentity:
    """The code of one step.

    `digest` is all that enters the key. `names` maps each thing reached ("helper clean",
    "constant RATE") to a short hash, for saying what changed. `packages` are the distributions
    reached, `ambient` what the step asks its surroundings for ("seed", "roles"), `files` the
    project files reached with the digests of the bytes that were read, `opaque` the reasons why
    the step cannot be cached.
    """

    digest: str
    names: Mapping[str, str]
    packages: Mapping[str, str]
    ambient: frozenset[str]
    files: Mapping[str, str]
    opaque: tuple[str, ...]


@dataclass(slots=True)
class _Node:
    """One thing that was reached: its text, what its names lead to, and how people call it."""

    label: str
    text: str = ""
    links: dict[str, str] = field(default_factory=dict)


class Fingerprints:
    """Computes the code identity of steps; shares parsed sources between them. One per planning."""

    def __init__(self, root: Path, ownership: Ownership) -> None:
        self.root = root
        self._sources = Sources(root)
        self._ownership = ownership

    def code(self, step: Step[..., Any], params: Mapping[str, Any], also: Iterable[Any] = ()) -> CodeIdentity:
        """The identity of a step's code, with these parameters (they may name files it reads).

        `also` are classes and functions that it reaches through its inputs: a stored object runs
        the code of its class.
        """
        return _Walk(self.root, self._sources, self._ownership, step, params).identity(also)

    def is_own(self, module: str) -> bool:
        """Whether a module is the project's."""
        return self._ownership.is_project_module(module)


class _Walk:
    """The walk of one step: a queue of things reached, numbered in order."""

    def __init__(
        self,
        root: Path,
        sources: Sources,
        ownership: Ownership,
        step: Step[..., Any],
        params: Mapping[str, Any],
    ) -> None:
        self._root = root
        self._sources = sources
        self._owners = ownership
        self._step = step
        self._params = params
        self._ignored = frozenset(step.options.ignore)
        self._numbers: dict[int, int] = {}
        self._queue: list[Any] = []
        self._nodes: list[_Node] = []
        self._values: dict[str, str] = {}
        self._files: dict[str, str] = {}
        self._packages: dict[str, str] = {}
        self._ambient: set[str] = set()
        self._opaque: dict[str, None] = {}

    def identity(self, also: Iterable[Any]) -> CodeIdentity:
        """Walk everything; then hash the nodes in order."""
        self._token(self._step.function)
        for thing in also:
            self._token(thing)
        for index in range(10**6):
            if index == len(self._queue):
                break
            self._visit(self._queue[index])
        extra = {name: self._file_hash(self._root / name) for name in self._step.options.extra_files}
        self._values.update({f"file {name}": value for name, value in extra.items()})
        content = canonical(
            {
                "nodes": [[_sha(node.text), node.links] for node in self._nodes],
                "version": self._step.options.version,
                "files": extra,
            }
        )
        return CodeIdentity(
            digest=digest(content),
            names=dict(sorted({**self._node_names(), **self._values}.items())),
            packages=dict(sorted(self._packages.items())),
            ambient=frozenset(self._ambient),
            files=dict(sorted(self._files.items())),
            opaque=tuple(self._opaque),
        )

    def _node_names(self) -> dict[str, str]:
        names: dict[str, str] = {}
        for node in self._nodes:
            label, number = node.label, 2
            while label in names:
                label, number = f"{node.label} ({number})", number + 1
            names[label] = _sha(node.text)[:16]
        return names

    # What a thing is: the token that stands for it in the hash of what refers to it.

    def _token(self, thing: Any) -> str:
        if isinstance(thing, Step | Metric | Pipeline):
            thing = thing.function
        if isinstance(thing, types.ModuleType):
            return self._module_token(thing)
        owner = self._owners.of(thing)
        if owner == "project":
            return self._number(thing)
        name = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', repr(thing))}"
        if owner == "extension":
            return self._extension(thing, name)
        if owner == "noria":
            self._ambient.update(_AMBIENT.get(getattr(thing, "__name__", ""), ()))
        self._reach(owner)
        return f"{owner}:{name}"

    def _module_token(self, module: types.ModuleType) -> str:
        owner = self._owners.of(module)
        if owner == "project":
            return self._number(module)
        if owner == "extension":
            return self._extension(module, module.__name__)
        if owner == "noria":
            self._ambient.update(("seed", "roles"))
        self._reach(owner)
        return f"{owner}:{module.__name__}"

    def _extension(self, thing: Any, name: str) -> str:
        path = self._owners.file_of(thing)
        value = self._file_hash(Path(path))
        self._values[f"extension {Path(path).name}"] = value[:16]
        return f"extension:{name}:{value}"

    def _reach(self, owner: str) -> None:
        if owner not in ("stdlib", "project"):
            name, version = self._owners.environment.version_of(owner)
            self._packages[name] = version

    def _number(self, thing: Any) -> str:
        if id(thing) not in self._numbers:
            self._numbers[id(thing)] = len(self._queue)
            self._queue.append(thing)
        return f"#{self._numbers[id(thing)]}"

    # What a node holds.

    def _visit(self, thing: Any) -> None:
        node = _Node(self._label(thing))
        self._nodes.append(node)
        if isinstance(thing, types.FunctionType):
            self._visit_function(thing, node)
        elif isinstance(thing, type):
            self._visit_class(thing, node)
        else:
            self._visit_module(thing, node)

    def _label(self, thing: Any) -> str:
        if thing is self._step.function:
            return f"step {self._step.name}"
        if isinstance(thing, types.ModuleType):
            return f"module {thing.__name__}"
        kind = "class" if isinstance(thing, type) else "helper"
        module = thing.__module__ or ""
        inside = module in (self._step.function.__module__, "__main__")
        return f"{kind} {thing.__qualname__ if inside else f'{module}.{thing.__qualname__}'}"

    def _visit_function(self, function: types.FunctionType, node: _Node) -> None:
        file = self._sources.of_function(function)
        definition = file.function(function.__code__) if file else None
        if file is None or definition is None:
            node.text = _bytecode(function.__code__)
            for name in sorted(syntax.global_names(function.__code__)):
                self._follow(syntax.Use(name), function, node, {})
        else:
            self._saw(file)
            node.text = syntax.canonical_syntax(definition)
            self._follow_uses(definition, function, node)
        if function is not self._step.function:
            self._value(node, "defaults", (function.__defaults__, function.__kwdefaults__), node.label)
        extra = {key: value for key, value in vars(function).items() if key != "__wrapped__"}
        if extra:
            self._value(node, "attributes", extra, node.label)
        if hasattr(function, "__wrapped__"):
            node.links["wrapped"] = self._token(function.__wrapped__)

    def _follow_uses(self, definition: ast.AST, function: types.FunctionType, node: _Node) -> None:
        local = self._local_imports(definition, function.__globals__, node)
        names = syntax.global_names(function.__code__) | {*function.__code__.co_freevars} | {*local}
        for use in sorted(syntax.uses(definition)):
            if use.root in names:
                self._follow(use, function, node, local)
        params = self._params if function is self._step.function else {}
        for argument in syntax.read_arguments(definition):
            self._read_file(argument, {**function.__globals__, **_cells(function), **params}, node)

    def _visit_class(self, made: type, node: _Node) -> None:
        for index, base in enumerate(made.__bases__):
            if base is not object:
                node.links[f"base{index}"] = self._token(base)
        if type(made) is not type:
            node.links["metaclass"] = self._token(type(made))
        file = self._sources.of_class(made)
        definition = file.class_(made) if file else None
        if file is None or definition is None:
            self._opaque[f"{node.label} has no source"] = None
            return
        self._saw(file)
        node.text = syntax.canonical_syntax(definition)
        scope = getattr(sys.modules.get(made.__module__), "__dict__", {})
        local = self._local_imports(definition, scope, node)
        names = syntax.global_names(syntax.code_of(definition)) | {*local}
        for use in sorted(syntax.uses(definition)):
            if use.root in names:
                self._follow(use, None, node, local, scope)
        self._class_attributes(made, definition, file, node)

    def _class_attributes(self, made: type, definition: ast.ClassDef, file: SourceFile, node: _Node) -> None:
        """Live attributes that the class's text does not say: assigned later, or functions from elsewhere."""
        from_enum = isinstance(made, enum.EnumMeta)
        for name, value in sorted(vars(made).items()):
            if name.startswith(("__", "_abc_")) or isinstance(value, _NOT_DATA) or from_enum:
                continue
            function = _unwrapped(value)
            if isinstance(function, types.FunctionType):
                code = function.__code__
                inside = definition.lineno <= code.co_firstlineno <= (definition.end_lineno or 0)
                if not (code.co_filename == file.path and inside):
                    node.links[f"attribute {name}"] = self._token(function)
            else:
                self._value(node, f"attribute {name}", value, f"{node.label}.{name}")

    def _visit_module(self, module: types.ModuleType, node: _Node) -> None:
        """A module that is used as an object: all of its text and all of its data may matter."""
        file = self._sources.of_module(module)
        if file is None:
            self._opaque[f"{node.label} has no source"] = None
            return
        self._saw(file)
        node.text = syntax.canonical_syntax(file.tree)
        scope = vars(module)
        names = syntax.global_names(syntax.code_of(file.tree)) | {*scope}
        for use in sorted(syntax.uses(file.tree)):
            if use.root in names and use.root in scope:
                self._follow(use, None, node, {}, scope)
        for name, value in sorted(scope.items()):
            if not name.startswith("__") and not isinstance(value, types.ModuleType):
                self._value(node, f"global {name}", value, f"constant {module.__name__}.{name}")

    # What a name leads to.

    def _follow(
        self,
        use: syntax.Use,
        function: types.FunctionType | None,
        node: _Node,
        local: Mapping[str, Any],
        scope: Mapping[str, Any] | None = None,
    ) -> None:
        if use.root in self._ignored or ".".join((use.root, *use.attrs)) in self._ignored:
            return
        names = function.__globals__ if function is not None else scope or {}
        found = local.get(use.root, _MISSING)
        if found is _MISSING and function is not None:
            found = _cells(function).get(use.root, _MISSING)
        if found is _MISSING:
            found = names.get(use.root, _MISSING)
        if found is _MISSING:
            self._follow_builtin(use, names, node)
            return
        self._follow_attributes(use, found, node)

    def _follow_builtin(self, use: syntax.Use, names: Mapping[str, Any], node: _Node) -> None:
        if not hasattr(builtins, use.root):
            node.links[f"{use.root}"] = "missing"
        elif use.root in _WHOLE_MODULE:
            module = sys.modules.get(str(names.get("__name__", "")))
            node.links[use.root] = self._token(module) if module is not None else "missing"
        elif use.root == "__import__":
            self._dynamic_import(use, node)

    def _follow_attributes(self, use: syntax.Use, found: Any, node: _Node) -> None:
        """Walk `root.a.b` through modules to the thing that is really used."""
        path, name = list(use.attrs), use.root
        while path and isinstance(found, types.ModuleType):
            if self._owners.of(found) == "noria":
                found = getattr(found, path[0], found)
                break
            following = getattr(found, path[0], _MISSING)
            if following is _MISSING:  # made at run time: the whole module decides
                break
            name = f"{name}.{path[0]}"
            found = following
            path.pop(0)
        if found is os.environ or found is os.getenv:
            self._environment_variable(use, node)
        elif found is importlib.import_module or found is importlib.__import__:
            self._dynamic_import(use, node)
        elif isinstance(found, types.ModuleType | type | types.FunctionType | Step | Metric | Pipeline):
            node.links[name] = self._token(found)
        else:
            self._value(node, name, found, f"constant {name}")

    def _value(self, node: _Node, key: str, value: Any, label: str) -> None:
        try:
            content = content_hash(value, self._token, root=str(self._root))
        except Opaque as error:
            self._opaque[f"{label}: {error.reason}"] = None
            node.links[key] = "opaque"
            return
        node.links[key] = f"value:{content}"
        if label.startswith("constant "):
            self._values[label] = content[:16]

    def _environment_variable(self, use: syntax.Use, node: _Node) -> None:
        if use.how == "store" or (use.attrs and use.attrs[-1] == "setdefault"):
            return
        if not use.literal:
            self._opaque[f"{node.label} reads the whole environment"] = None
            return
        value = _sha(repr(os.environ.get(use.literal)))
        node.links[f"environment {use.literal}"] = value
        self._values[f"environment variable {use.literal}"] = value[:16]

    def _dynamic_import(self, use: syntax.Use, node: _Node) -> None:
        if use.literal and not use.literal.startswith("."):
            node.links[f"import {use.literal}"] = self._imported(use.literal)
            return
        every = {}
        for path in self._owners.project_files():
            file = self._sources.of_file(path)
            if file is not None:
                self._saw(file)
                every[str(path.relative_to(self._root))] = _sha(syntax.canonical_syntax(file.tree))
        node.links["import of any module"] = _sha(repr(sorted(every.values())))
        self._values.update({f"module {name}": value[:16] for name, value in every.items()})

    def _local_imports(self, definition: ast.AST, scope: Mapping[str, Any], node: _Node) -> dict[str, Any]:
        """What the import statements inside a definition bind; other packages count by version only."""
        bound: dict[str, Any] = {}
        package = str(scope.get("__package__") or "")
        for module, level, name, alias in syntax.imports(definition):
            if level == 0 and not self._owners.is_project_module(module):
                self._reach(self._owners.of_root(module.partition(".")[0]))
                node.links[f"import {alias}"] = f"{module}:{name}"
                continue
            try:
                full = importlib.util.resolve_name("." * level + module, package) if level else module
                made = importlib.import_module(full)
                if not name:
                    bound[alias] = made if alias != module.partition(".")[0] else sys.modules[alias]
                elif hasattr(made, name):
                    bound[alias] = getattr(made, name)
                else:
                    bound[alias] = importlib.import_module(f"{full}.{name}")
            except ImportError:
                node.links[f"import {alias}"] = "missing"
        return bound

    def _imported(self, name: str) -> str:
        if not self._owners.is_project_module(name):
            owner = self._owners.of_root(name.partition(".")[0])
            self._reach(owner)
            return f"{owner}:{name}"
        try:
            return self._token(importlib.import_module(name))
        except ImportError:
            return "missing"

    # Files.

    def _read_file(self, argument: ast.expr, scope: Mapping[str, Any], node: _Node) -> None:
        path = _path_of(argument, scope)
        if not path or len(path) > 1024 or "\n" in path or "\0" in path:
            return
        file = self._root / path  # an absolute path stays as it is
        if file.is_file():
            value = self._file_hash(file)
            name = os.path.relpath(file, self._root)
            node.links[f"file {name}"] = value
            self._values[f"file {name}"] = value[:16]

    def _file_hash(self, path: Path) -> str:
        try:
            with path.open("rb") as file:
                value = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return "missing"
        self._files[str(path)] = f"sha256:{value}"
        return value

    def _saw(self, file: SourceFile) -> None:
        if Path(file.path).is_file():
            self._files[file.path] = digest(file.content)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _cells(function: types.FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            found[name] = None  # not assigned yet
    return found


def _unwrapped(value: Any) -> Any:
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, property):
        value = value.fget
    return (
        getattr(value, "func", value) if type(value).__name__ in ("cached_property", "singledispatchmethod") else value
    )


def _bytecode(code: types.CodeType) -> str:
    """The text of code without source (made by exec): stable within one minor version of Python."""
    parts = [_bytecode(item) if isinstance(item, types.CodeType) else repr(item) for item in code.co_consts]
    return f"bytecode:{code.co_code.hex()}:{code.co_names}:{code.co_varnames}:{parts}"


def _path_of(node: ast.expr, scope: Mapping[str, Any]) -> str:
    """The path that an expression of constants, names, `/` and `Path(...)` stands for; "" if unknown."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.Name | ast.Attribute):
        found = scope.get(node.id) if isinstance(node, ast.Name) else _attribute(node, scope)
        return str(found) if isinstance(found, str | os.PathLike) else ""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div | ast.Add):
        left, right = _path_of(node.left, scope), _path_of(node.right, scope)
        if not left or not right:
            return ""
        return str(Path(left) / right) if isinstance(node.op, ast.Div) else left + right
    if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
        "Path",
        "join",
        "str",
    ):
        parts = [_path_of(item, scope) for item in node.args]
        return str(Path(*parts)) if parts and all(parts) else ""
    return ""


def _attribute(node: ast.Attribute, scope: Mapping[str, Any]) -> Any:
    inner = scope.get(node.value.id) if isinstance(node.value, ast.Name) else None
    if isinstance(inner, types.ModuleType | type):
        return vars(inner).get(node.attr)
    return None


def merged(identities: Iterable[CodeIdentity]) -> dict[str, str]:
    """The files of several identities together."""
    return {path: value for identity in identities for path, value in identity.files.items()}
