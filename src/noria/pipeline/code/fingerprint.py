"""Step identity `fp/1`, code part: everything of the project that a step's function can reach.

The walk begins at the function and follows what its text looks at, through the live globals and
closure cells: helpers, classes with their bases, constants, dispatch tables, imports inside
functions. Project code is hashed by its canonical text, values by content, other packages by
version. Nodes are numbered in the order of the walk, so neither file paths nor the module that a
helper lives in enter the hash, and cycles need no care. What cannot be hashed makes the step
uncacheable, with the reason; nothing is skipped in silence. What only shows when the step runs
(`reads.py`) is the second line: `covers` says which code this walk has seen.

Annotations of plain functions do nothing and stay out; those of classes (dataclasses live by them)
and of functions under another package's decorator count. Not seen: files read by compiled
extensions under computed names, and monkey-patching after the key.
"""

from __future__ import annotations

import ast
import builtins
import enum
import functools
import hashlib
import importlib
import inspect
import io
import os
import sys
import types
from collections import ChainMap
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

from noria.core.identity import JSON, canonical, digest
from noria.pipeline import syntax
from noria.pipeline.code import doors, live
from noria.pipeline.code.content import CHANGEABLE, Opaque, content_hash
from noria.pipeline.code.doors import PROCESS_ENVIRONMENT
from noria.pipeline.code.effects import effects_of, modules_run
from noria.pipeline.code.evaluate import Evaluator
from noria.pipeline.code.identity import CodeIdentity
from noria.pipeline.code.looks import Looks
from noria.pipeline.code.ownership import Ownership
from noria.pipeline.code.told import Node, Told
from noria.pipeline.define import Metric, Pipeline
from noria.pipeline.outputs.plain import Unstorable, to_json
from noria.pipeline.sources import SourceFile, Sources, is_inside
from noria.pipeline.step import Step, StepOptions
from noria.pipeline.syntax import Summary
from noria.pipeline.watching.digests import FileDigests, absolute
from noria.pipeline.watching.trace import variable_digest

__all__ = ["CodeIdentity", "Fingerprints"]

EMPTY: Mapping[str, Any] = types.MappingProxyType({})
_MISSING = object()
_WHOLE_MODULE = frozenset({"globals", "eval", "exec", "vars"})
_AMBIENT = {"seed": ("seed",), "xy": ("roles",), "split_by_time": ("roles",)}
_GETS = ((), ("get",), ("getenv",), ("getenvb",))
_ENVIRONMENT = (os.environ, os.environb, os.getenv, os.getenvb)
_FILES = (io.TextIOWrapper, io.BufferedReader)


class Fingerprints:
    """Computes the code identity of steps; shares parsed sources between them. One per planning."""

    def __init__(self, root: Path, ownership: Ownership, digests: FileDigests | None = None) -> None:
        self.root = root
        self.ownership = ownership
        self.sources = Sources(root)
        self.digests = digests or FileDigests()
        self.texts: dict[tuple[int, str], tuple[Any, str]] = {}

    def code(self, step: Step[..., Any], params: Mapping[str, Any], also: Iterable[Any] = ()) -> CodeIdentity:
        """The identity of a step's code, with these parameters (they may name files it reads).

        `also` are classes and functions that it reaches through its inputs: a stored object runs its class's code.
        """
        return _Walk(self, step, params).identity([step.function, *also])

    def of(self, things: Iterable[Any], named: Mapping[str, Any] = EMPTY) -> CodeIdentity:
        """The identity of code and of named values by themselves: what a run was seen to reach, beyond its step's."""
        return _Walk(self, None, {}).identity(things, named)

    def is_own(self, module: str) -> bool:
        """Whether a module is the project's."""
        return self.ownership.is_project_module(module)


class _Walk:
    """The walk of one step: a queue of things reached, numbered in order."""

    def __init__(self, shared: Fingerprints, step: Step[..., Any] | None, params: Mapping[str, Any]) -> None:
        self._root = shared.root
        self._sources = shared.sources
        self._owners = shared.ownership
        self._digests = shared.digests
        self._function = step.function if step is not None else None
        self._options = step.options if step is not None else StepOptions()
        self._params = params
        self._ignored = frozenset(self._options.ignore)
        self._numbers: dict[int, int] = {}
        self._queue: list[Any] = []
        self._nodes: list[Node] = []
        self._told = Told(shared.texts)
        self._values = self._told.values
        self._within = ""
        self._files: dict[str, str] = {}
        self._named: dict[str, bool] = {}
        self._covers: dict[str, set[tuple[int, int]]] = {}
        self._packages: dict[str, str] = {}
        self._ambient: set[str] = set()
        self._variables: set[str] = set()
        self._opaque: dict[str, None] = {}
        self._is_dynamic = False
        self._looks = Looks()
        self._changeable: dict[int, int] = {}
        self._classes: list[type] = []

    def identity(self, things: Iterable[Any], named: Mapping[str, Any] = EMPTY) -> CodeIdentity:
        """Walk everything; then hash the nodes in order."""
        first = [self._token(thing) for thing in things]
        given = self._declared(Node("given"), named)
        below = self._visit_all()
        effects = self._effects()
        below |= self._visit_all()
        if self._looks.at_any_attribute and any(isinstance(thing, types.ModuleType) for thing in self._queue):
            below["any attribute"] = [self._any_module()]  # from a module on, to whichever hangs on it
        seen: list[JSON] = [[_sha(node.text), node.links] for node in self._nodes]
        if self._looks.at_text:  # docstrings, annotations and names are data for it
            seen.append([_sha(node.label + node.shown) for node in self._nodes])
        if loggers := self._looks.loggers():
            seen.append(["loggers", loggers])
            self._told.value("levels of loggers", digest(canonical(loggers)), loggers, "")
        content = canonical({"nodes": seen, "first": first, "given": given, "below": below, "effects": effects})
        return CodeIdentity(
            digest=digest(content),
            names=self._told.names(self._nodes, at_text=self._looks.at_text),
            links=self._told.links(self._nodes),
            packages=dict(sorted(self._packages.items())),
            ambient=frozenset(self._ambient),
            files=dict(sorted(self._files.items())),
            opaque=tuple(self._opaque),
            shown=self._told.shown,
            covers={file: frozenset(lines) for file, lines in self._covers.items()},
            variables=frozenset(self._variables),
            named=dict(sorted(self._named.items())),
            is_dynamic=self._is_dynamic,
            is_declared=bool(self._options.extra_files or self._options.variables or self._options.version),
        )

    def _effects(self) -> list[JSON]:
        """What the modules that a step runs with did to others when they were imported."""
        things = [self._function, *self._queue] if self._function is not None else []
        names = [getattr(each, "__module__", None) or getattr(each, "__name__", "") for each in things]
        found: list[JSON] = []
        for module, file in modules_run(map(str, names), self._sources, self._is_own):
            for effect in effects_of(file, ChainMap(vars(module)), self._sources, self._is_own):
                statement, scope, file = effect.statement, effect.scope, effect.file  # maybe of a helper
                node = Node(f"import of {module.__name__}: {file.text_of(statement).strip()[:60]}")
                for use in sorted(syntax.uses(statement)):
                    if use.root in scope and use.root != "__file__":
                        self._follow(use, scope, node)
                text = syntax.canonical_syntax(statement)
                self._files[file.path] = file.digest or digest(file.content)
                self._values[node.label] = _sha(text)[:16]
                found.append([text, node.links])
        return sorted(found, key=repr)

    def _visit_all(self) -> dict[str, list[str]]:
        """Visit the queue to its end; gives the subclasses of each class, if any code asks for them."""
        below: dict[str, list[str]] = {}
        for index in range(len(self._nodes), 10**6):
            if index == len(self._queue):
                break
            thing = self._queue[index]
            self._visit(thing)
            if isinstance(thing, type):
                self._classes.append(thing)
            while self._looks.at_subclasses and self._classes:
                made = self._classes.pop()
                found: list[type] = sorted(
                    type.__subclasses__(made), key=lambda item: (item.__qualname__, item.__module__)
                )
                below[self._token(made)] = [self._token(item) for item in found]
        return below

    def _declared(self, node: Node, named: Mapping[str, Any]) -> dict[str, str]:
        """What the step's options and parameters add: files, variables, a version, values that are not plain."""
        for name in named:
            self._follow(syntax.Use(name), named, node)
        self._named |= dict.fromkeys(self._options.extra_files, True)
        for name in self._options.variables:
            self._link_variable(name, node)
        for name, value in sorted(self._params.items()):
            try:
                to_json(value)
            except Unstorable:
                self._value(node, f"parameter {name}", value, f"parameter {name}")
        return {**node.links, "version": self._options.version}

    # What a thing is: the token that stands for it in the hash of what refers to it.

    def _token(self, thing: Any) -> str:
        if isinstance(thing, Step | Metric | Pipeline):
            thing = thing.function
        if isinstance(thing, types.ModuleType):
            return self._module_token(thing)
        owner = self._owners.of(thing)
        if owner == "project" or (owner != "noria" and self._carries(thing)):
            return self._number(thing)
        name = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', repr(thing))}"
        if owner == "extension":
            return self._extension(thing, name)
        if owner == "noria":
            self._ambient.update(_AMBIENT.get(getattr(thing, "__name__", ""), ()))
        self._looks.reached(name)
        self._reach(owner)
        return f"{owner}:{name}"

    def _carries(self, thing: Any) -> bool:
        """Whether another package's function holds the project's code, as a decorator's result does."""
        if not isinstance(thing, types.FunctionType) or not (thing.__closure__ or vars(thing)):
            return False
        return bool(live.carried(thing, self._is_own))

    def _is_own(self, thing: Any) -> bool:
        return self._owners.of(thing) == "project"

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
            name, version = self._owners.version_of(owner)
            self._packages[name] = version

    def _number(self, thing: Any) -> str:
        if id(thing) not in self._numbers:
            if self._within and isinstance(thing, types.FunctionType):
                self._told.known_as.setdefault(id(thing), self._within)
            self._numbers[id(thing)] = len(self._queue)
            self._queue.append(thing)
        return f"#{self._numbers[id(thing)]}"

    # What a node holds.

    def _visit(self, thing: Any) -> None:
        node = Node(live.label_of(thing, self._function))
        if isinstance(thing, types.FunctionType):
            self._told.function(thing, node)
        self._nodes.append(node)
        if isinstance(thing, types.FunctionType) and not self._is_own(thing):
            self._visit_carrier(thing, node)
        elif isinstance(thing, types.FunctionType):
            self._visit_function(thing, node)
        elif isinstance(thing, type):
            self._visit_class(thing, node)
        else:
            self._visit_module(thing, node)

    def _visit_carrier(self, function: types.FunctionType, node: Node) -> None:
        """Another package's function that holds the project's: by its version, and what it holds."""
        owner = self._owners.of(function)
        self._reach(owner)
        node.text = f"{owner}:{function.__module__}.{function.__code__.co_qualname}"
        for name, value in live.state_of(function).items():
            try:
                node.links[name] = f"value:{content_hash(value, self._token, root=str(self._root))}"
            except Opaque:  # a cache or a lock of that package; the project's code in it is followed
                node.links[name] = type(value).__name__
        for index, thing in enumerate(live.carried(function, self._is_own)):
            node.links[f"holds {index}"] = self._token(thing)
            if isinstance(thing, types.FunctionType):
                node.links[f"annotations {index}"] = _sha(repr(sorted(thing.__annotations__.items(), key=str)))

    def _visit_function(self, function: types.FunctionType, node: Node) -> None:
        file = self._sources.of_function(function)
        definition = file.function(function.__code__) if file else None
        if file is None or definition is None:
            node.text = live.bytecode(function.__code__)
            for name in sorted(syntax.global_names(function.__code__)):
                self._follow(syntax.Use(name), ChainMap(live.cells(function), function.__globals__), node)
        else:
            self._saw(file, definition)
            node.text = file.summary(definition).text
            node.shown = file.text_of(definition)
            names = syntax.global_names(function.__code__) | {*function.__code__.co_freevars}
            scope = ChainMap(live.cells(function), function.__globals__)
            self._follow_uses(definition, file.summary(definition), names, scope, node)
        if function is not self._function:
            given = (function.__defaults__, function.__kwdefaults__)
            self._value(node, "defaults", given, node.label, live.defaults(function))
        extra = {key: value for key, value in vars(function).items() if key != "__wrapped__"}
        if extra:
            self._value(node, "attributes", extra, node.label)
        if hasattr(function, "__wrapped__"):
            wrapped = function.__wrapped__  # maybe another decorator's object, as functools.lru_cache gives
            if isinstance(wrapped, types.FunctionType):
                node.links["wrapped"] = self._token(wrapped)
            else:
                self._value(node, "wrapped", wrapped, node.label)

    def _follow_uses(
        self, definition: ast.AST, told: Summary, names: Set[str], scope: ChainMap[str, Any], node: Node
    ) -> None:
        """Follow every name of a definition that comes from outside of it."""
        local = self._local_imports(definition, told, scope, node)
        seen = scope.new_child(local)
        params = self._params if node.label.startswith("step ") else {}
        evaluator = Evaluator(definition, seen.new_child(dict(params)))
        for use in sorted(syntax.uses(definition, evaluator.text)):
            if use.root in names or use.root in local:
                self._follow(use, seen, node)
        self._looks.written(told.attributes | {name for name in names if not name.startswith("__")})
        for called, argument in told.reads:
            self._name_file(called, argument, evaluator)

    def _visit_class(self, made: type, node: Node) -> None:
        for index, base in enumerate(made.__bases__):
            if base is not object:
                node.links[f"base{index}"] = self._token(base)
        if type(made) is not type:
            node.links["metaclass"] = self._token(type(made))
        file = self._sources.of_class(made)
        definition = file.class_(made) if file else None
        if file is None or definition is None:
            node.text = "class without source"
        else:
            self._saw(file, definition)
            told = file.summary(definition)
            node.text = told.text
            node.shown = file.text_of(definition)
            scope = ChainMap(live.class_cells(made), getattr(sys.modules.get(made.__module__), "__dict__", {}))
            node.cells, node.owner = {*scope.maps[0]}, node.label.partition(" ")[2]
            self._follow_uses(definition, told, told.names, scope, node)
        self._class_attributes(made, definition, file, node)
        is_told = bool(definition and file and file.tells(made))
        later = live.set_later(made, file.summary(definition).attributes if file and definition else frozenset())
        for name, value in {**later, **({} if is_told else live.untold(made))}.items():
            # without the names of parameters: maybe a secret
            text = "defaults" if name.startswith("defaults ") else None
            self._value(node, name, value, f"{node.label}.{name.removeprefix('attribute ')}", text)

    def _class_attributes(
        self, made: type, definition: ast.ClassDef | None, file: SourceFile | None, node: Node
    ) -> None:
        """Live attributes that the class's text does not say: assigned later, or functions from elsewhere."""
        from_enum = isinstance(made, enum.EnumMeta) and file is not None and file.tells(made)
        for name, value in sorted(vars(made).items()):
            if name.startswith("_abc_") or from_enum or live.is_no_data(name, value, definition):
                continue
            functions = [item for item in live.methods_of(value) if not is_inside(item, definition, file)]
            for index, function in enumerate(functions):
                is_made = inspect.unwrap(function).__code__.co_filename.startswith("<")  # by a library
                if not (name.startswith("__") and is_made and definition is not None):
                    node.links[f"attribute {name} {index}"] = self._token(function)
            if isinstance(value, functools.singledispatchmethod):
                node.links[f"attribute {name}"] = self._token(value.dispatcher)
            elif not name.startswith("__") and not list(live.methods_of(value)):
                self._value(node, f"attribute {name}", value, f"{node.label}.{name}")

    def _visit_module(self, module: types.ModuleType, node: Node) -> None:
        """A module that is used as an object: all of its text and all of its data may matter."""
        if (file := self._sources.of_module(module)) is None:
            self._opaque[f"{node.label} has no source"] = None
            return
        self._saw(file, file.tree)
        told = file.summary(file.tree)
        node.text = told.text
        node.shown = file.text_of(file.tree)
        scope = vars(module)
        self._follow_uses(file.tree, told, {*scope}, ChainMap(scope), node)
        for name, value in sorted(scope.items()):
            if not name.startswith("__") and not isinstance(value, types.ModuleType):
                self._value(node, f"global {name}", value, f"constant {module.__name__}.{name}")

    # What a name leads to.

    def _follow(self, use: syntax.Use, scope: Mapping[str, Any], node: Node) -> None:
        if use.root in self._ignored or ".".join((use.root, *use.attrs)) in self._ignored:
            return
        found = scope.get(use.root, _MISSING)
        if live.is_of_shell(use.root, found):
            return
        if found is _MISSING:
            self._follow_builtin(use, scope, node)
            return
        try:
            _ = found.__class__  # isinstance asks an object for its class, and a proxy may refuse
        except Exception as error:  # noqa: BLE001  # the boundary to the project's code
            name = type(found).__qualname__
            self._opaque[f"constant {use.root}: a {name} raises {type(error).__name__} when asked for its class"] = None
            return
        self._follow_attributes(use, found, scope, node)

    def _follow_builtin(self, use: syntax.Use, names: Mapping[str, Any], node: Node) -> None:
        if not hasattr(builtins, use.root):
            node.links[f"{use.root}"] = "missing"
        elif use.root in _WHOLE_MODULE:
            module = sys.modules.get(str(names.get("__name__", "")))
            node.links[use.root] = self._token(module) if module is not None else "missing"
        elif use.root == "__import__":
            self._dynamic_import(use, names, node, is_traced=False)
        elif use.root == "getattr" and use.how == "plain":
            self._looks.at_any_attribute = True
        elif isinstance(patched := getattr(builtins, use.root), types.FunctionType):
            node.links[use.root] = self._token(patched)

    def _follow_attributes(self, use: syntax.Use, found: Any, scope: Mapping[str, Any], node: Node) -> None:
        """Walk `root.a.b` through modules to the thing that is really used."""
        path, name = list(use.attrs), use.root
        while path and isinstance(found, types.ModuleType):
            if self._owners.of(found) == "noria":
                found = getattr(found, path[0], found)
                break
            try:
                following = getattr(found, path[0], _MISSING)
            except Exception:  # noqa: BLE001  # the boundary to the project's code, which has a __getattr__
                following = _MISSING
            if following is _MISSING:  # made at run time: the whole module decides
                break
            name = f"{name}.{path[0]}"
            found = following
            path.pop(0)
        if path[:1] == ["__globals__"] and (module := sys.modules.get(getattr(found, "__module__", None) or "")):
            node.links[f"{name}.__globals__"] = self._token(module)
        if any(found is each for each in _ENVIRONMENT):
            self._environment_variable(use, node)
        elif found is importlib.import_module:
            self._dynamic_import(use, scope, node, is_traced=True)
        elif found is PROCESS_ENVIRONMENT:
            self._opaque[f"{node.label} reads the environment that the process began with: ask os.environ"] = None
        elif found is sys.modules or found is importlib.__import__:
            self._dynamic_import(use, scope, node, is_traced=False)
        elif doors.is_locate(found):
            self._located(use, scope, node)
        elif doors.is_any_attribute(found, use.literal):
            self._looks.at_any_attribute = True
        elif isinstance(found, types.ModuleType | type | types.FunctionType | Step | Metric | Pipeline):
            self._told.known_as.setdefault(id(found), name)
            node.links[name] = self._token(found)
        elif isinstance(found, _FILES) and found.closed and isinstance(found.name, str):
            place = Path(absolute(found.name))  # the import has read it: nothing but its content is left of it
            label = f"file {os.path.relpath(place, self._root)}"
            node.links[label] = value = self._file_hash(place)
            self._values[label] = value[:16]
        else:
            label = f"closure variable {name} of {node.owner}" if use.root in node.cells else f"constant {name}"
            self._value(node, name, found, label)

    def _value(self, node: Node, key: str, value: Any, label: str, shown: Any = None) -> None:
        self._within = label
        try:
            content = content_hash(value, self._token, root=str(self._root))
        except Opaque as error:
            self._opaque[f"{label}: {error.reason}"] = None
            node.links[key] = "opaque"
            return
        finally:
            self._within = ""
        node.links[key] = f"value:{content}{self._again(value)}"
        if type(value) is tuple and value == (None, None):
            return  # no defaults
        kind, _, name = label.partition(" ")
        label = f"attribute {name}" if kind == "class" and label != node.label else label
        label = f"{key} of {label}" if label == node.label else label
        self._told.value(label, content[:16], shown or value, key.replace(".", " ").rpartition(" ")[2])

    def _again(self, value: Any) -> str:
        """Marks a list, table or set that has been met under another name: what changes the one, changes both."""
        if type(value) not in CHANGEABLE:
            return ""
        place = len(self._changeable)
        return "" if (met := self._changeable.setdefault(id(value), place)) == place else f" of {met}"

    def _environment_variable(self, use: syntax.Use, node: Node) -> None:
        if use.how == "store" or (use.attrs and use.attrs[-1] == "setdefault"):
            return
        if use.literal:
            self._link_variable(use.literal, node)
        elif use.how not in ("item", "in") and not (use.how == "call" and use.attrs[-1:] in _GETS):
            self._opaque[f"{node.label} reads the whole environment"] = None

    def _link_variable(self, name: str, node: Node) -> None:
        value = variable_digest(name)
        self._variables.add(name)
        node.links[f"environment {name}"] = value
        self._values[f"environment variable {name}"] = value[:16]

    def _dynamic_import(self, use: syntax.Use, scope: Mapping[str, Any], node: Node, *, is_traced: bool) -> None:
        """An import by a computed name: the module if the name is known, else what the run shows, else all."""
        if use.literal and use.how != "in":
            name = doors.absolute_name(use.literal, str(scope.get("__package__") or ""))
            link = "import " if self._owners.is_project_module(name) else f"import {use.literal}"
            node.links[link] = self._imported(name)
            return
        self._is_dynamic = True
        if is_traced:
            return
        node.links["import of any module"] = self._any_module()

    def _any_module(self) -> str:
        """Stands for the texts of all modules of the project."""
        every = {}
        for path in self._owners.project_files():
            file = self._sources.of_file(path)
            if file is not None:
                self._saw(file, file.tree)
                every[str(path.relative_to(self._root))] = _sha(file.summary(file.tree).text)
        self._values.update({f"module {name}": value[:16] for name, value in every.items()})
        return _sha(repr(sorted(every.values())))

    def _located(self, use: syntax.Use, scope: Mapping[str, Any], node: Node) -> None:
        """`pydoc.locate`: a thing by its dotted path, or any."""
        first, *rest = use.literal.split(".")
        if not use.literal:
            self._dynamic_import(use, scope, node, is_traced=False)
        elif (found := doors.modules_on(use.literal)) is not None:
            self._follow_attributes(syntax.Use(first, tuple(rest)), found, scope, node)

    def _local_imports(
        self, definition: ast.AST, told: Summary, scope: Mapping[str, Any], node: Node
    ) -> dict[str, Any]:
        """What the import statements inside a definition bind; other packages count by version only."""
        bound: dict[str, Any] = {}
        package = str(scope.get("__package__") or "")
        for module, level, name, alias in told.imports:
            if level == 0 and not self._owners.is_project_module(module):
                self._reach(self._owners.of_root(module.partition(".")[0]))
                if (door := doors.imported_here(module, name)) is not None:
                    bound[alias] = door
                earlier = node.links.get(f"import {alias}", "")  # the same name in another branch
                node.links[f"import {alias}"] = f"{earlier} {module}:{name}".strip()
                continue
            try:
                made = doors.bound_by(module, level, name, alias, package)
                if name == "*":
                    node.links[f"import *{len(node.links)}"] = self._token(made)
                else:
                    bound[alias] = made
            except ImportError:
                node.links[f"import {alias}"] = "missing"
            if alias in bound and alias not in told.roots and not isinstance(definition, ast.Module):
                node.links[f"import {len(node.links)}"] = self._token(bound[alias])  # for what it does when imported
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

    def _name_file(self, called: ast.expr, argument: ast.expr, evaluator: Evaluator) -> None:
        """A file that a call names to read it. It may be a step before this one that writes it: see `reads.py`."""
        path = evaluator.text(argument)
        if not path or len(path) > 1024 or "\n" in path or "\0" in path:
            return
        place = self._root / path  # an absolute path stays as it is
        is_inside = place.is_relative_to(self._root)
        name = os.path.relpath(place, self._root) if is_inside or not Path(path).is_absolute() else str(place)
        if not place.is_dir() or type(evaluator.value(called)) is not types.BuiltinFunctionType:
            self._named.setdefault(name, False)

    def _file_hash(self, path: Path) -> str:
        value = self._digests.of(path)
        if value != "missing":
            self._files[str(path)] = f"sha256:{value}"
        return value

    def _saw(self, file: SourceFile, definition: ast.AST) -> None:
        if file.digest:
            self._files[file.path] = file.digest
        self._covers.setdefault(file.path, set()).add(syntax.lines_of(definition))


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
