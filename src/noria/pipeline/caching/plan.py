"""Step keys, and why a step runs: pure functions over what was read before.

The key is the sha-256 of a document: code, parameters, the content of the inputs, the packages
reached and the serialisers. The document is kept, so a miss can be explained by comparing two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from noria.core.identity import JSON, canonical, digest
from noria.pipeline.code.fingerprint import CodeIdentity
from noria.pipeline.outputs.values import FORMATS
from noria.pipeline.step import DatasetRole, StepNode

__all__ = ["FORMAT", "because", "call", "document", "key", "start"]

FORMAT = "fp/1"
MAX_REASONS = 3


def document(
    node: StepNode,
    code: CodeIdentity,
    *,
    params: Mapping[str, str],
    inputs: Mapping[str, str],
    packages: Mapping[str, str],
    python: str,
    seed: int,
    roles: Sequence[DatasetRole],
) -> dict[str, JSON]:
    """Everything that a step's result depends on. `params` and `inputs` are canonical texts and digests.

    Only what the step asks of its surroundings is in it: the seed, the roles of columns.
    """
    ambient: dict[str, JSON] = {}
    if "seed" in code.ambient:
        ambient["seed"] = seed
    if "roles" in code.ambient:
        ambient["roles"] = [[role.name, role.key, role.time, role.label] for role in roles]
    return {
        "format": FORMAT,
        "code": code.digest,
        "names": dict(code.names),
        "links": {label: dict(told) for label, told in code.links.items()},
        "params": dict(params),
        "inputs": dict(inputs),
        "env": {"python": python, "packages": dict(packages)},
        "ambient": ambient,
        "outputs": [list(node.outputs), dict(FORMATS), [_type_text(hint) for hint in node.step.output_types()]],
        "version": node.step.options.version,
        **({"over": node.over} if node.over else {}),
    }


def _type_text(hint: Any) -> str:
    """The name of an output's type, which is checked; the same for every module that imports it."""
    return f"{hint.__module__}.{hint.__qualname__}" if isinstance(hint, type) and not get_args(hint) else str(hint)


def key(made: Mapping[str, JSON]) -> str:
    """The name of a step's result. Names of helpers, and what they lead to, are for people and stay out of it."""
    return digest(canonical({name: value for name, value in made.items() if name not in ("names", "links")}))


def call(made: Mapping[str, JSON]) -> str:
    """The name of a call within one run, whose code and packages are pinned: what the step was given.

    Unlike the key it has no content of files that the code names: a step that appends to one is the same call.
    """
    return digest(canonical({name: made.get(name) for name in ("params", "inputs", "ambient", "version", "over")}))


def start(made: Mapping[str, JSON]) -> str:
    """What a call is, but for its surroundings: its code, and what it was given. Equal keys have an equal one."""
    return digest(canonical({name: made.get(name) for name in ("code", "params", "inputs")}))


def because(before: Mapping[str, Any] | None, now: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """Why a step runs, from the document of its last result and the present one.

    `labels` gives the text for an input that changed, such as "data flights".
    """
    if before is None:
        return "first run"
    if before.get("format") != now["format"]:
        return "the form of step keys changed"
    reasons = _changed("", before["names"], now["names"])
    if not reasons and before["code"] != now["code"]:
        reasons = ["its code changed"]
    reasons += [labels.get(name, f"input {name} changed") for name in _differing(before["inputs"], now["inputs"])]
    reasons += _params(before["params"], now["params"])
    reasons += _packages(before["env"], now["env"])
    if before["ambient"].get("seed") != now["ambient"].get("seed"):
        reasons.append("the seed changed")
    if before["ambient"].get("roles") != now["ambient"].get("roles"):
        reasons.append("the roles of columns changed")
    if before["version"] != now["version"]:
        reasons.append("its version changed")
    if before["outputs"] != now["outputs"]:
        reasons.append("its outputs or their form changed")
    if not reasons:
        return "its result was not there"
    more = f" and {len(reasons) - MAX_REASONS} more" if len(reasons) > MAX_REASONS else ""
    return ", ".join(reasons[:MAX_REASONS]) + more


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return [name for name in dict.fromkeys([*b, *a]) if a.get(name) != b.get(name)]


def _changed(prefix: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    found = []
    for name in _differing(a, b):
        what = "is new" if name not in a else "is gone" if name not in b else "changed"
        found.append(f"{prefix}{name} {what}")
    return found


def _params(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    return [f"parameter {name} {a.get(name, 'unset')} -> {b.get(name, 'unset')}" for name in _differing(a, b)]


def _packages(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    found = [] if a["python"] == b["python"] else [f"Python {a['python']} -> {b['python']}"]
    old, new = a["packages"], b["packages"]
    return found + [f"{name} {old.get(name, 'absent')} -> {new.get(name, 'absent')}" for name in _differing(old, new)]
