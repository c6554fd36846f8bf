"""The step cache: what another process made is seen by whoever has the right to its key after it."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from noria.pipeline.caching.cache import Cache
from noria.store.workspace import Workspace
from noria.testing import open_memory, random_payload

KEY, OTHER = "sha256:" + "7" * 64, "sha256:" + "8" * 64


def planned(key: str) -> Any:
    return SimpleNamespace(key=key, opaque="", ambient=None)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return open_memory(root=tmp_path)


@pytest.fixture
def cache(ws: Workspace) -> Cache:
    keys: Any = SimpleNamespace(is_usable=lambda value: True)
    reads: Any = SimpleNamespace(differing=lambda found, ambient: "other" if list(found) == [("file x", "1")] else "")
    return Cache(ws, keys, reads, ["train"])


def write(ws: Workspace, key: str, seed: int = 1, reads: tuple[tuple[str, str], ...] = ()) -> None:
    made = random_payload(random.Random(seed), ws.ledger.slices.kinds, "step.finished")
    made = dataclasses.replace(made, step="train", key=key, status="done", cacheable=True, outputs=(), reads=reads)
    with ws.ledger.transaction() as tx:
        tx.append(made)


def test_a_result_that_was_written_after_the_keys_were_looked_up_is_found(ws: Workspace, cache: Cache) -> None:
    cache.expect([KEY, OTHER])
    write(ws, KEY)
    found, _ = cache.find(planned(KEY))
    assert found is not None
    assert (found.key, found.status) == (KEY, "done")
    assert cache.find(planned(OTHER)) == (None, "")


def test_looking_up_other_keys_later_hides_no_result_of_the_ones_before(ws: Workspace, cache: Cache) -> None:
    cache.expect([KEY])
    write(ws, KEY)
    cache.expect([OTHER])
    found, _ = cache.find(planned(KEY))
    assert found is not None
    assert cache.find(planned(OTHER)) == (None, "")


def test_a_second_result_of_a_key_is_found_where_the_first_no_longer_holds(ws: Workspace, cache: Cache) -> None:
    write(ws, KEY, reads=(("file x", "1"),))
    cache.expect([KEY])
    assert cache.find(planned(KEY)) == (None, "other")
    cache.expect([KEY])
    write(ws, KEY, seed=3)
    cache.expect([OTHER])
    found, _ = cache.find(planned(KEY))
    assert found is not None
    assert found.reads == ()
