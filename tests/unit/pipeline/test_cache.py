"""The step cache: what another process made is seen by whoever has the right to its key after it."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from noria.pipeline.cache import Cache
from noria.store.workspace import Workspace
from noria.testing import open_memory, random_payload

KEY = "sha256:" + "7" * 64


def test_a_result_that_was_written_after_the_keys_were_looked_up_is_found(tmp_path: Path) -> None:
    ws = open_memory(root=tmp_path)
    keys: Any = SimpleNamespace(is_usable=lambda value: True)
    reads: Any = SimpleNamespace(differing=lambda found, ambient: "")
    planned: Any = SimpleNamespace(key=KEY, opaque="", ambient=None)
    other: Any = SimpleNamespace(key="sha256:" + "8" * 64, opaque="", ambient=None)
    cache = Cache(ws, keys, reads, ["train"])
    cache.expect([planned.key, other.key])
    made = random_payload(random.Random(1), ws.ledger.slices.kinds, "step.finished")
    made = dataclasses.replace(made, step="train", key=KEY, status="done", cacheable=True, outputs=(), reads=())
    with ws.ledger.transaction() as tx:
        tx.append(made)
    found, _ = cache.find(planned)
    assert found is not None
    assert (found.key, found.status) == (KEY, "done")
    assert cache.find(other) == (None, "")


def test_a_result_is_found_also_where_other_keys_were_looked_up_since_it_was_written(tmp_path: Path) -> None:
    """A mapped step looks its items up a few at a time, while other runs write what they make."""
    ws, cache = cached(tmp_path)
    one, other = planned("7"), planned("8")
    cache.expect([one.key])
    write(ws, one.key)
    cache.expect([other.key])
    found, _ = cache.find(one)
    assert found is not None
    assert found.key == one.key
    assert cache.find(other) == (None, "")


def test_a_newer_result_of_a_key_is_found_where_the_older_does_not_hold(tmp_path: Path) -> None:
    """Of a step that reads what its key does not cover: what is written after the look is seen beside what was."""
    name = "file settings.toml"
    ws, cache = cached(tmp_path, lambda found, ambient: "" if dict(found)[name] == "new" else f"{name} was edited")
    one = planned("7")
    write(ws, one.key, "old")
    cache.expect([one.key])
    write(ws, one.key, "new")
    found, _ = cache.find(one)
    assert found is not None
    assert dict(found.reads) == {name: "new"}


def planned(digit: str) -> Any:
    return SimpleNamespace(key="sha256:" + digit * 64, opaque="", ambient=None)


def cached(root: Path, differing: Any = lambda found, ambient: "") -> tuple[Workspace, Cache]:
    ws = open_memory(root=root)
    keys: Any = SimpleNamespace(is_usable=lambda value: True)
    reads: Any = SimpleNamespace(differing=differing)
    return ws, Cache(ws, keys, reads, ["train"])


def write(ws: Workspace, key: str, content: str = "new") -> None:
    """Put a result on record that read a file with that content."""
    made = random_payload(random.Random(content), ws.ledger.slices.kinds, "step.finished")
    reads = (("file settings.toml", content),)
    made = dataclasses.replace(
        made, run=f"run_{content}", step="train", key=key, status="done", cacheable=True, outputs=(), reads=reads
    )
    with ws.ledger.transaction() as tx:
        tx.append(made)
