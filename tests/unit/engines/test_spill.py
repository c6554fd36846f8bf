"""What a reader writes out of another tool's store is what Noria reads of it."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.core.errors import Corrupt, StoreUnavailable, UsageError
from noria.engines.trackers.noria_readers import spill as written
from noria.engines.trackers.noria_readers.spill import Spill, flat, number, safe_name, within
from noria.engines.trackers.spilled import Spilled, spill_with, store_of

POINT = st.tuples(st.integers(-(2**40), 2**40), st.integers(0, 2**52), st.floats(allow_nan=False))
KEYS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=5)
SERIES = st.dictionaries(KEYS, st.lists(POINT, min_size=1, max_size=12), max_size=4)
LEAVES = st.one_of(st.integers(), st.floats(), st.text(max_size=3), st.none(), st.lists(st.integers(), max_size=2))


@settings(deadline=None)
@given(runs=st.lists(SERIES, max_size=3), held=st.integers(1, 20))
def test_points_come_back_each_once_however_they_were_cut(runs: list[dict[str, Any]], held: int) -> None:
    before, written.HELD_MAX = written.HELD_MAX, held
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with Spill(folder) as spill:
                for number_of_run, series in enumerate(runs):
                    into = spill.run("same", f"origin {number_of_run}", "e")
                    for key, points in series.items():
                        for point in [*points, points[0]]:
                            into.point(key, *point)
                    into.end()
                spill.end("a form")
            found = Spilled(folder)
            for number_of_run, series in enumerate(runs):
                told = {
                    key: list(zip(each.steps.tolist(), each.at_us.tolist(), each.values.tolist(), strict=True))
                    for key, each in found.points(f"origin {number_of_run}")
                }
                assert told.keys() == series.keys()
                for key, points in told.items():
                    assert sorted(map(repr, points)) == sorted({repr(each) for each in series[key]})
    finally:
        written.HELD_MAX = before


def test_what_was_not_written_to_its_end_is_refused(tmp_path: Path) -> None:
    with Spill(tmp_path) as spill:
        spill.run("r", "o", "e").end()
    with pytest.raises(Corrupt):
        Spilled(tmp_path)


def test_no_name_of_a_file_leads_out_of_a_folder_and_no_file_is_lost(tmp_path: Path) -> None:
    with Spill(tmp_path) as spill:
        into = spill.run("r", "o", "e")
        for name in ("../up", "/etc/passwd", "a/../../b", "", "..", "a//b", "a/b", "._"):
            into.file(name, tmp_path / "runs.jsonl")
        into.end()
        spill.end("f")
    store = store_of(tmp_path, "here")
    (experiment,) = store.tracker.experiments()
    (run,) = store.tracker.runs(experiment)
    names = [each.name for each in store.files.listing(run.__class__(**{**_fields(run), "id": run.origin}))]
    assert len(names) == 8
    for name in names:
        path = PurePosixPath(name)
        assert not path.is_absolute()
        assert not {"..", "."} & set(path.parts)


def _fields(doc: Any) -> dict[str, Any]:
    return {name: getattr(doc, name) for name in doc.__dataclass_fields__}


@given(st.text(), st.text())
def test_a_key_is_one_part_of_a_name_and_two_keys_are_two(one: str, other: str) -> None:
    assert "/" not in safe_name(one)
    assert not safe_name(one).startswith(".")
    assert len(safe_name(one)) <= written.NAME_MAX + 14
    if one.encode("utf-8", "replace") != other.encode("utf-8", "replace") and "_." not in one + other:
        assert safe_name(one) != safe_name(other)


@given(st.recursive(LEAVES, lambda below: st.dictionaries(st.text(max_size=3), below, max_size=3), max_leaves=8))
def test_a_nested_value_has_as_many_leaves_flat(value: Any) -> None:
    def leaves(each: Any) -> int:
        return sum(map(leaves, each.values())) if isinstance(each, dict) and each else 1

    if isinstance(value, dict):
        assert len(list(flat(value))) == (leaves(value) if value else 0)


@given(st.one_of(st.integers(-(10**300), 10**300), st.floats(), st.booleans(), st.text(), st.none()))
def test_a_number_is_taken_for_one_only_if_it_is_kept_exactly(value: Any) -> None:
    found = number(value)
    if found is None:
        assert not isinstance(value, float | bool)
        assert not isinstance(value, int) or value != float(value)
    else:
        assert found == value or math.isnan(value)


def test_a_long_param_is_a_file_that_its_value_names(tmp_path: Path) -> None:
    with Spill(tmp_path) as spill:
        into = spill.run("r", "o", "e")
        into.param("words", "x" * 200_000)
        into.param("few", "x\x00\ud800")
        into.end()
        spill.end("f")
    found = Spilled(tmp_path)
    (run,) = found.runs(found.experiments()[0])
    assert run.params["few"] == "x\ufffd?"
    assert "params/words.txt" in run.params["words"]
    assert len(run.params["words"]) < 1000
    with found.open(run.__class__(**{**_fields(run), "id": "o"}), "params/words.txt") as stream:
        assert stream.read() == b"x" * 200_000


def test_within_is_not_beside(tmp_path: Path) -> None:
    assert within(tmp_path / "a" / "b", [tmp_path / "a"])
    assert not within(tmp_path / "ab", [tmp_path / "a"])


def test_a_reader_whose_tool_is_missing_or_that_fails_is_told_by_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no_such_tool") as caught:
        spill_with("no_such_tool", "wandb_files", [], python="", env=os.environ)
    assert "noria[no_such_tool]" in caught.value.hint
    with pytest.raises(StoreUnavailable, match="json's library could not read"):
        spill_with("json", "aim_repository", ["x", str(tmp_path)], python=sys.executable, env=os.environ)
    with pytest.raises(UsageError, match="no interpreter"):
        spill_with("json", "wandb_files", [], python=str(tmp_path / "none"), env=os.environ)
