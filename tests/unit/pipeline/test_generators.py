"""Generators that a process has one of: who seeded them is told, and each call of a step begins with its own state."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import numpy as np
import polars
import pytest

from noria.pipeline import generators


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    states = generators.states()
    yield
    with generators.importing():
        pass
    generators.put_back(states)


def draws(start: str) -> tuple[float, float]:
    generators.begin(start)
    return random.random(), float(np.random.rand())


def test_a_call_draws_the_same_whatever_was_drawn_before_it() -> None:
    with generators.importing():
        random.seed(3)
        np.random.seed(4)
    first = draws("a")
    random.random(), np.random.rand(100)
    assert draws("a") == first
    other = draws("b")
    assert other[0] != first[0]
    assert other[1] != first[1]


def test_the_seed_of_the_import_decides() -> None:
    found = []
    for seed in (3, 3, 4):
        with generators.importing():
            random.seed(seed)
            np.random.seed(seed)
        found.append((draws("a"), generators.left("random"), generators.left("numpy")))
    assert found[0] == found[1]
    assert all(a != b for a, b in zip(found[1], found[2], strict=True))


def test_who_seeds_nothing_keeps_what_the_system_gave() -> None:
    found = set()
    for _ in range(3):
        with generators.importing():
            pass
        assert generators.left("random") == generators.left("numpy") == generators.UNSEEDED
        found |= {draws("a"), draws("a")}
    assert len(found) == 6


@pytest.mark.parametrize("count", [1, 623, 624, 625, 5000])
def test_a_library_that_draws_while_it_is_imported_has_seeded_nothing(count: int) -> None:
    with generators.importing():
        for _ in range(count):
            random.getrandbits(32)
        random.gauss()
    assert generators.left("random") == generators.UNSEEDED


def test_a_step_that_draws_or_seeds_is_told_from_one_that_does_not() -> None:
    before = generators.states()
    assert generators.drawn(before) == []
    random.random()
    assert generators.drawn(before) == ["random"]
    np.random.standard_normal()
    assert generators.drawn(before) == ["random", "numpy"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import numpy.random", "missing"),
        ("import sklearn.ensemble", "missing"),
        ("import numpy as np; np.random.seed(0)", "seeded"),
        ("import numpy as np; np.random.seed(2**31)", "seeded"),
        ("import numpy as np; np.random.seed([1, 2]); np.random.rand()", "seeded"),
    ],
)
def test_numpy_that_the_import_loads(text: str, found: str) -> None:
    code = f"""
    from noria.pipeline import generators
    with generators.importing():
        {text}
    print(generators.left("random"), "missing" if generators.left("numpy") == "missing" else "seeded")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["missing", found]


def test_processes_for_steps_begin_with_the_hashes_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A project that sets PYTHONHASHSEED while it is imported changes no hash here, and so none in workers."""
    monkeypatch.setattr(generators, "_began", {})
    for before in (None, "3"):
        generators._began.clear()
        monkeypatch.delenv("PYTHONHASHSEED", raising=False)
        if before is not None:
            monkeypatch.setenv("PYTHONHASHSEED", before)
        for _ in range(2):  # imported anew, as for the next run of the same process
            with generators.importing():
                monkeypatch.setenv("PYTHONHASHSEED", "7")
                monkeypatch.setenv("MODE", "one")
        found = generators.environment()
        assert (found.get("PYTHONHASHSEED"), found["MODE"]) == (before, "one")


def test_polars_draws_the_same_in_a_call_whatever_was_drawn_before_it() -> None:
    rows = polars.DataFrame({"a": range(1000)})

    def drawn(start: str) -> tuple[list[int], list[int]]:
        generators.begin(start)
        return rows.sample(5)["a"].to_list(), rows["a"].shuffle().to_list()

    first = drawn("a")
    rows.sample(3)
    polars.set_random_seed(1)
    assert drawn("a") == first
    other = drawn("b")
    assert other[0] != first[0]
    assert other[1] != first[1]
