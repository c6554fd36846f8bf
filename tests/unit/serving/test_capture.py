"""The prediction log as a table: sealed and open together, typed, without repetitions."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from noria.core.errors import NotFound
from noria.serving import capture, records
from noria.serving.answers import Ids
from noria.serving.segment import SegmentWriter, folder, sources
from noria.store.workspace import Workspace
from noria.testing import open_memory

T0 = 1_770_000_000_000_000


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return open_memory(root=tmp_path)


class Log:
    """Writes lines as the server does."""

    def __init__(self, ws: Workspace, start: int = T0) -> None:
        self.now = start
        self.writer = SegmentWriter(folder(ws.project.state, "m"), lambda: self.now)
        self.ids = Ids(start % 2**40)

    def row(self, rid: str, x: dict[str, Any], *, at: str = "2026-02-01T00:00:00Z", **more: Any) -> str:
        self.now += 1000
        name = self.ids.next(self.now // 1000)
        line = {"id": name, "rid": rid, "t": self.now, "at": at, "key": rid, "dep": 4, "rel": 1, "arm": "stable",
                "pi": 1.0, "st": 200, "us": 900, "b": 1, "x": x, "y": 0.5, "c": True, **more}  # fmt: skip
        self.writer.append([json.dumps(line).encode()])
        return name


def test_sealed_and_open_rows_are_one_table(ws: Workspace) -> None:
    first, second = Log(ws), Log(ws, T0 + 10**9)
    first.row("a", {"n": 1, "s": "02139", "f": None})
    first.writer.close()
    second.row("b", {"n": 2.5, "s": "x", "f": 1.5})
    assert capture.seal(ws) == 1
    table = capture.predictions(ws, "m")
    assert table.select(["rid", "x_n", "x_s", "x_f", "y", "c"]).to_pylist() == [
        {"rid": "a", "x_n": 1.0, "x_s": "02139", "x_f": None, "y": 0.5, "c": True},
        {"rid": "b", "x_n": 2.5, "x_s": "x", "x_f": 1.5, "y": 0.5, "c": True},
    ]
    assert [path.name for path in sources(folder(ws.project.state, "m"))] == [second.writer._writer.path.name]  # type: ignore[union-attr]  # open
    second.writer.close()


def test_of_several_answers_to_one_id_the_first_counts(ws: Workspace) -> None:
    log = Log(ws)
    name = log.row("same", {"n": 1})
    log.row("same", {"n": 1}, y=0.9)
    log.row("other", {"n": 2})
    assert capture.predictions(ws, "m")["id"].to_pylist()[0] == name
    assert capture.predictions(ws, "m").num_rows == 2
    log.writer.close()
    capture.seal(ws)
    assert capture.predictions(ws, "m").num_rows == 2
    assert capture.predictions(ws, "m", every=True).num_rows == 3
    assert capture.find(ws, "same")["id"] == name


def test_only_answers_in_the_window_come_and_a_day_is_half_open(ws: Workspace) -> None:
    log = Log(ws)
    moments = {
        "early": "2026-01-31T23:59:59Z",
        "first": "2026-02-01",
        "zone": "2026-02-02T00:30:00+01:00",
        "late": "2026-02-02T00:00:00Z",
    }
    for rid, at in moments.items():
        log.row(rid, {"n": 1}, at=at)
    log.row("refused", {"n": 1}, st=400, e="rejected", y=None, c=None)
    log.writer.append(
        [
            json.dumps(
                {"sh": "pred_x", "t": T0, "at": "2026-02-01", "dep": 4, "rel": 2, "us": 1, "st": 200, "y": 1.0}
            ).encode()
        ]
    )
    found = capture.predictions(ws, "m", "2026-02-01", "2026-02-02")
    assert found["rid"].to_pylist() == ["first", "zone"]
    log.writer.close()
    capture.seal(ws)
    assert capture.predictions(ws, "m", "2026-02-01", "2026-02-02").equals(found)


def test_a_row_without_event_time_counts_at_the_time_of_its_answer(ws: Workspace) -> None:
    log = Log(ws)
    log.row("now", {"n": 1}, at="")
    (row,) = capture.predictions(ws, "m").to_pylist()
    assert row["at_time"] == row["t"]
    log.writer.close()


def test_columns_of_several_types_become_text_not_an_error(ws: Workspace) -> None:
    for value in (1, "one", True):
        log = Log(ws, T0 + len(str(value)) * 10**9)
        log.row(str(value), {"mixed": value})
        log.writer.close()
        capture.seal(ws)
    log = Log(ws, T0 + 10**10)
    log.row("p", {"mixed": 1})
    log.row("q", {"mixed": "b", "new": 1})
    log.writer.close()
    values = capture.predictions(ws, "m")["x_mixed"].to_pylist()
    assert sorted(map(str, values)) == ["1", "1", "b", "one", "true"]


@pytest.mark.parametrize(
    "values", [[10**25], [1, 10**25], [1.5, 10**25], [2**53 + 1, 0.5, None], [2**63, 7], [10**400, 1]], ids=range(6)
)
def test_numbers_that_no_one_type_holds_are_doubles(ws: Workspace, values: list[Any]) -> None:
    log = Log(ws)
    for number, value in enumerate(values):
        log.row(f"r{number}", {"n": value})
    log.writer.close()
    capture.seal(ws)
    log = Log(ws, T0 + 10**10)
    log.row("whole", {"n": 2**53 + 1})
    log.writer.close()
    found = capture.predictions(ws, "m")["x_n"].to_pylist()
    expected = [None if each is None else math.inf if each == 10**400 else float(each) for each in [*values, 2**53 + 1]]
    assert sorted(found, key=str) == sorted(expected, key=str)


def test_sealing_twice_or_after_a_crash_between_fact_and_removal_makes_one_segment(ws: Workspace) -> None:
    log = Log(ws)
    log.row("a", {"n": 1})
    log.writer.close()
    (path,) = sources(folder(ws.project.state, "m"))
    content = path.read_bytes()
    assert capture.seal(ws) == 1
    path.write_bytes(content)
    assert capture.predictions(ws, "m").num_rows == 1
    assert capture.seal(ws) == 0
    assert not path.exists()
    with ws.ledger.read() as tx:
        (segment,) = records.segments(tx, "m")
    assert (segment.count, segment.releases, segment.event_min) == (1, (1,), "2026-02-01T00:00:00.000000Z")


def test_what_is_nowhere_is_not_found(ws: Workspace) -> None:
    assert capture.predictions(ws, "m").num_rows == 0
    with pytest.raises(NotFound):
        capture.find(ws, "pred_nothing")


def test_prediction_ids_sort_by_time_and_never_repeat() -> None:
    ids = Ids(2**49 + 7)
    names = [ids.next(1_770_000_000_000 + i // 3) for i in range(5000)]
    assert names == sorted(names)
    assert len(set(names)) == 5000
    assert {len(name) for name in names} == {31}
