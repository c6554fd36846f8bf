"""What became of the models that a script left: plain values, between the process that ships and the one that tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noria.core.frozen import frozen
from noria.registry.facts import Verdict
from noria.tracking.facts import Pin

__all__ = ["ModelLine", "Question", "model_lines"]


@frozen(kw_only=True)
class Question:
    """What is to be shipped: a run's capture. `model` is the name that was asked for, empty if none was."""

    run: str
    script: str
    folder: str
    model: str
    pins: tuple[Pin, ...]


@frozen(kw_only=True)
class ModelLine:
    """What became of one model. `version` 0: it is not registered, and `note` says why.

    `asked` is whether noria.toml has gates for it; `is_refused` whether one of them, or a check, said no.
    """

    model: str
    type: str = ""
    source: str = ""
    version: int = 0
    release: int = 0
    state: str = ""
    champion: int = 0
    size_bytes: int = 0
    inputs: int = 0
    holdout: int = 0
    asked: bool = False
    is_refused: bool = False
    gates: tuple[Verdict, ...] = ()
    note: str = ""


def model_lines(found: Sequence[Mapping[str, Any]]) -> tuple[ModelLine, ...]:
    """The lines of a way through JSON."""
    return tuple(
        ModelLine(**{**line, "gates": tuple(Verdict(**verdict) for verdict in line["gates"])}) for line in found
    )
