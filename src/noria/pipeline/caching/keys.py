"""The keys of a pipeline's steps: the code of all of them before the first one runs, the rest as inputs come.

So a key is of the snapshot that runs: what a step does to a module's state, or an edit while the
pipeline runs, is in no later key. `edited` tells afterwards whether the files are still the same.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.pipeline.ambient import Ambient, seed_of
from noria.pipeline.bindings import Binding, Const, DatasetRole, Group, Ref, Stored, leaves
from noria.pipeline.caching import plan
from noria.pipeline.caching.documents import KeyDocument
from noria.pipeline.code.fingerprint import CodeIdentity, Fingerprints
from noria.pipeline.code.ownership import Ownership
from noria.pipeline.define import PipelineDefinition
from noria.pipeline.outputs import values
from noria.pipeline.outputs.plain import Unstorable, to_json
from noria.pipeline.outputs.values import Value
from noria.pipeline.step import StepNode
from noria.pipeline.watching.digests import FileDigests
from noria.store import pickles
from noria.store.workspace import Workspace
from noria.tracking.environment import Environment, environment

if TYPE_CHECKING:
    from noria.data.records import DatasetVersion

__all__ = ["Keys", "Planned"]

Outputs = Mapping[str, Sequence[Value]]
_SCALARS = (str, int, float, bool, type(None))
_TELLING = ("pickle", "plain")
"""Types whose stored bytes name the classes and functions that a value is made of."""


@frozen(kw_only=True)
class Planned:
    """One step with its key: `document` is what the key was computed from, `opaque` why there is none.

    `call` names it within its run.
    """

    node: StepNode
    bindings: Mapping[str, Binding]
    code: CodeIdentity
    key: str
    call: str
    document: dict[str, JSON]
    opaque: tuple[str, ...]
    labels: Mapping[str, str]
    ambient: Ambient

    def key_document(self) -> KeyDocument:
        """What is kept of it, to tell later what changed."""
        return KeyDocument(self.key, self.document, self.code.shown)


class Keys:
    """Plans the steps of one execution. Made before anything runs; reads each source file once."""

    def __init__(
        self,
        ws: Workspace,
        definition: PipelineDefinition,
        pins: Mapping[str, DatasetVersion],
        overrides: Mapping[str, Mapping[str, JSON]],
    ) -> None:
        self._ws, self._definition, self._pins, self._overrides = ws, definition, pins, overrides
        self.environment: Environment = environment(ws.project.state)
        self.digests = FileDigests(ws.project.state / "cache" / "digests.json")
        ownership = Ownership(definition.root, self.environment)
        self.fingerprints = Fingerprints(definition.root, ownership, self.digests)
        self._python = platform.python_version().rpartition(".")[0] + (" -O" if sys.flags.optimize else "")
        self._globals: dict[str, set[tuple[str, str]]] = {}
        self._refused: set[str] = set()
        self._code = self._walked()

    def _walked(self) -> dict[str, CodeIdentity]:
        """The code of every node, by its name; a step that is called a hundred times alike is walked once."""
        walked: dict[tuple[int, tuple[tuple[str, str], ...]], CodeIdentity] = {}
        found = {}
        for node in self._definition.nodes:
            if node.cases:
                continue
            constants = _constants(self.bindings(node))
            if all(type(value) in _SCALARS for value in constants.values()):  # their text says value and type
                same = (id(node.step), tuple((name, _param_text(value)) for name, value in sorted(constants.items())))
                if same not in walked:
                    walked[same] = self.fingerprints.code(node.step, constants)
                found[node.name] = walked[same]
            else:
                found[node.name] = self.fingerprints.code(node.step, constants)
        return found

    def bindings(self, node: StepNode) -> dict[str, Binding]:
        """What a step takes, with the values given for this run."""
        given = self._overrides.get(node.name, {})
        return {name: Const(given[name]) if name in given else found for name, found in node.bindings.items()}

    def plan(self, node: StepNode, outputs: Outputs, item: Binding | None = None) -> Planned:
        """A step whose inputs are there, with its key; of a mapped step the whole, or one `item`."""
        bindings = self.bindings(node)
        if item is not None:
            bindings[node.over] = item
        params: dict[str, str] = {}
        inputs: dict[str, str] = {}
        labels: dict[str, str] = {}
        for name, binding in bindings.items():
            if isinstance(binding, Const):
                params[name] = _param_text(binding.value)
            else:
                inputs[name] = self._input_text(node, name, binding, outputs)
                labels[name] = _label(binding)
        things = self._things_in(bindings, outputs)
        is_odd = isinstance(item, Const) and not _is_plain(item.value)
        if things or is_odd:
            code = self.fingerprints.code(node.step, _constants(bindings), things)
        else:
            code = self._code[node.name]
        node = node if item is None else node.of_item()
        roles = self._definition.roles(node.name)
        seed = seed_of(self._ws.project.seed, node.name)
        document = plan.document(
            node,
            code,
            params=params,
            inputs=inputs,
            packages=self._packages(node, code),
            python=self._python,
            seed=seed,
            roles=roles,
        )
        uncached = () if node.step.options.cache else ("the step says cache=False",)
        return Planned(
            node=node,
            bindings=bindings,
            code=code,
            key=plan.key(document),
            call=plan.call(document),
            document=document,
            opaque=(*code.opaque, *uncached),
            labels=labels,
            ambient=Ambient(seed, roles, start=plan.start(document)),
        )

    def edited(self, code: CodeIdentity) -> str:
        """The first project file whose bytes are not those that the key was computed from."""
        for name, known in code.files.items():
            path = self._definition.root / name
            if not path.is_file() or known.removeprefix("sha256:") != _hashed(self.digests, path):
                return name
        return ""

    def will_read(self, value: Value) -> bool:
        """Whether `is_usable` reads the whole value, and so verifies it, the next time that it is asked."""
        return value.type in _TELLING and value.digest not in self._globals

    def is_usable(self, value: Value) -> bool:
        """Whether a stored value can still be made into an object: a pickle whose class was renamed cannot.

        Nor can one that names what may not be loaded, which an earlier version of Noria has kept.
        """
        is_there = all(_is_there(module, name) for module, name in self._own_globals(value))
        return is_there and value.digest not in self._refused

    def _things_in(self, bindings: Mapping[str, Binding], outputs: Outputs) -> list[Any]:
        """The project's classes and functions that stored inputs of a step are made of."""
        named: set[tuple[str, str]] = set()
        for binding in bindings.values():
            for leaf in leaves(binding):
                if isinstance(leaf, Ref):
                    named |= self._own_globals(outputs[leaf.node][leaf.output])
                elif isinstance(leaf, Stored):
                    named |= self._own_globals(Value(leaf.digest, leaf.type))
        return [getattr(importlib.import_module(module), name) for module, name in sorted(named)]

    def _own_globals(self, value: Value) -> set[tuple[str, str]]:
        if value.type not in _TELLING:
            return set()
        if value.digest not in self._globals:
            self._globals[value.digest] = self._read_globals(value)
        return self._globals[value.digest]

    def _read_globals(self, value: Value) -> set[tuple[str, str]]:
        content = self._ws.objects.get_bytes(value.digest)
        if value.type == "pickle":
            named = pickles.globals_of(content)
            if values.refused(content, self._ws.project.root):
                self._refused.add(value.digest)
            return {(module, name) for module, name in named if self._is_own_or_gone(module)}
        found: set[tuple[str, str]] = set()
        if b'"type":"p' in content:
            for digest, kind in _parts(json.loads(content)):
                found |= self._own_globals(Value(digest, kind))
                if digest in self._refused:
                    self._refused.add(value.digest)
        return found

    def _is_own_or_gone(self, module: str) -> bool:
        root = module.partition(".")[0]
        if root in sys.modules or root in sys.stdlib_module_names:
            return self.fingerprints.is_own(module)
        return self.fingerprints.is_own(module) or importlib.util.find_spec(root) is None

    def _packages(self, node: StepNode, code: CodeIdentity) -> dict[str, str]:
        if node.step.options.env == "none":
            return {}
        return dict(self.environment.packages) if node.step.options.env == "lock" else dict(code.packages)

    def _input_text(self, node: StepNode, name: str, binding: Binding, outputs: Outputs) -> str:
        if isinstance(binding, Ref):
            return outputs[binding.node][binding.output].digest
        if isinstance(binding, Stored):
            return binding.digest
        if isinstance(binding, DatasetRole):
            tree = self._pins[binding.name].tree
            form = table_form(node, name)
            return tree if form == "pandas" else f"{tree} as {form}"
        if isinstance(binding, Group):
            items = [self._input_text(node, "", item, outputs) for item in binding.items]
            return json.dumps([binding.kind, list(binding.keys), items])
        return _param_text(binding.value)


def _constants(bindings: Mapping[str, Binding]) -> dict[str, Any]:
    """The constants that a step is given; of those inside lists only what has no canonical text of its own."""
    found: dict[str, Any] = {}
    for name, binding in bindings.items():
        if isinstance(binding, Const):
            found[name] = binding.value
        elif isinstance(binding, Group):
            inner = [leaf.value for leaf in leaves(binding) if isinstance(leaf, Const) and not _is_plain(leaf.value)]
            found |= {f"{name} {place}": value for place, value in enumerate(inner)}
    return found


def _is_plain(value: Any) -> bool:
    try:
        to_json(value)
    except Unstorable:
        return False
    return True


def table_form(node: StepNode, name: str) -> str:
    """The library whose table a step wants for a data set: what its annotation says, else pandas."""
    module = getattr(node.step.hints().get(name), "__module__", "") or ""
    root = module.partition(".")[0]
    return root if root in ("pyarrow", "polars") else "pandas"


def _hashed(digests: FileDigests, path: Any) -> str:
    if path.stat().st_size < 1 << 20:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return digests.of(path)


def _is_there(module: str, name: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), name.partition(".")[0])
    except ImportError:
        return False


def _parts(document: Any) -> list[tuple[str, str]]:
    """The stored parts (digest, type) of a plain value."""
    if isinstance(document, list):
        return [part for item in document for part in _parts(item)]
    if not isinstance(document, dict):
        return []
    if document.get("$") == "value":
        return [(str(document["digest"]), str(document["type"]))]
    return [part for item in document.values() for part in _parts(item)]


def _label(binding: Binding) -> str:
    if isinstance(binding, DatasetRole):
        return f"data {binding.name} changed"
    if isinstance(binding, Ref):
        return f"{binding.node} gave another result"
    return "its inputs changed"


def _param_text(value: Any) -> str:
    """A parameter's canonical text; its type is part of it. What is not plain is in the code's identity."""
    try:
        return json.dumps(to_json(value), sort_keys=False, separators=(",", ":"), allow_nan=False)
    except Unstorable:
        return f"a {type(value).__name__}"
