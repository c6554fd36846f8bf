"""The step cache: what another process made is seen by whoever has the right to its key after it."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from noria.pipeline.cache import Cache
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
