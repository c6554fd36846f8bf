"""What is known of the code of one step before it runs: the identity that enters its key, and what it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from noria.core.frozen import frozen

__all__ = ["CodeIdentity"]


@frozen(kw_only=True)
class CodeIdentity:
    """The code of one step.

    `digest` is all that enters the key. `names` maps each thing reached ("helper clean",
    "constant RATE") to a short hash, for saying what changed; `links` says what the names in each of them
    lead to, in words. `packages` are the distributions
    reached, `ambient` what the step asks its surroundings for ("seed", "roles"), `files` the
    project's source files reached with the digests of the bytes that were read, `named` the files
    and folders that the code names to read them (True: it is declared to depend on them), whose
    content counts when the step begins, not now; `opaque` the reasons why the step cannot be
    cached. `shown` has the text behind a name, for people; `covers` the lines of each source file
    that were followed ((0, 0): all); `variables` the environment variables known; `is_declared`
    whether the step's options say what it depends on out of sight.
    """

    digest: str
    names: Mapping[str, str]
    packages: Mapping[str, str]
    ambient: frozenset[str]
    files: Mapping[str, str]
    opaque: tuple[str, ...]
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    shown: Mapping[str, str] = field(default_factory=dict)
    covers: Mapping[str, frozenset[tuple[int, int]]] = field(default_factory=dict)
    variables: frozenset[str] = frozenset()
    named: Mapping[str, bool] = field(default_factory=dict)
    is_dynamic: bool = False
    is_declared: bool = False
