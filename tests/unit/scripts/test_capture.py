"""Events of processes, put together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from noria.core.errors import WorldError
from noria.scripts.capture import collect
from noria.scripts.recorder import plain


def event(kind: str, at: float, *, outer: bool = True, **data: Any) -> str:
    return repr((kind, at, outer, data)) + "\n"


def begin(pid: int, *, main: bool) -> str:
    return event("begin", 0.0, pid=pid, parent=1, is_main=main, argv=[])


def fit(at: float, began: float, number: int = 1, name: str = "A") -> str:
    return event(
        "fit", at, number=number, name=name, module="m", began=began, seconds=at - began, rows=3, width=2, columns=[],
        label="", kept="", after="", is_model=True, params={}, curves={},
    )  # fmt: skip


def metric(at: float, name: str, value: Any, *, on: str = "", line: int = 1, **options: Any) -> str:
    return event("metric", at, name=name, value=value, on=on, line=line, number=0, options=options, of="")


def test_a_cut_last_line_is_left_out_and_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "1.events").write_text(begin(1, main=True) + event("read", 1.0, path="/a", mark=[1, 2, 3]) + "('rea")
    assert [file.path for file in collect(tmp_path).read] == ["/a"]
    assert not collect(tmp_path).is_whole
    (tmp_path / "1.events").write_text("")
    with pytest.raises(WorldError):
        collect(tmp_path)


def test_what_a_worker_fits_inside_a_fit_of_the_script_is_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "1.events").write_text(begin(1, main=True) + fit(10.0, 5.0, name="Search"))
    (tmp_path / "2.events").write_text(begin(2, main=False) + fit(7.0, 6.0, name="Inner") + fit(12.0, 11.0, name="Own"))
    assert [each.name for each in collect(tmp_path).fits] == ["Search", "Own"]


def test_what_the_script_wrote_before_it_read_it_is_no_input(tmp_path: Path) -> None:
    lines = [
        event("write", 1.0, path="/b", existed=False),
        event("read", 2.0, path="/b", mark=[1, 1, 1]),
        event("read", 1.0, path="/c", mark=[1, 1, 1]),
        event("write", 2.0, path="/c", existed=True),
    ]
    (tmp_path / "1.events").write_text(begin(1, main=True) + "".join(lines))
    assert [file.path for file in collect(tmp_path).read] == ["/c"]


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([metric(1, "auc", 0.5)], ["auc"]),
        ([metric(1, "auc", 0.5), metric(2, "auc", 0.6)], ["auc"]),
        ([metric(1, "auc", 0.5, on="a"), metric(2, "auc", 0.6, on="b")], ["auc a", "auc b"]),
        ([metric(1, "f1", 0.5, average="macro"), metric(2, "f1", 0.6, average="micro")],
         ["f1 average=macro", "f1 average=micro"]),
        ([metric(1, "auc", 0.5, line=3), metric(2, "auc", 0.6, line=4)], ["auc line 3", "auc line 4"]),
    ],
)  # fmt: skip
def test_metrics_get_the_least_name_that_tells_them_apart(tmp_path: Path, lines: list[str], names: list[str]) -> None:
    (tmp_path / "1.events").write_text(begin(1, main=True) + "".join(lines))
    assert [each.name for each in collect(tmp_path).metrics] == names


def test_metrics_of_many_thousand_calls_are_named_by_their_few_places(tmp_path: Path) -> None:
    lines = [metric(n, "auc", 0.5, line=3 + n % 2) for n in range(40_000)]  # 4,000 took 34 s, each beside each
    (tmp_path / "1.events").write_text(begin(1, main=True) + "".join(lines))
    assert [(each.name, len(each.values)) for each in collect(tmp_path).metrics] == [
        ("auc line 3", 20_000), ("auc line 4", 20_000),
    ]  # fmt: skip


def test_a_file_that_was_written_over_by_something_else_is_no_model(tmp_path: Path) -> None:
    lines = [
        event("dump", 1.0, path="/m.pkl", number=1, name="A", kept="/k", is_model=True),
        event("dump", 2.0, path="/m.pkl", number=0, name="dict", kept="", is_model=False),
        event("alive", 3.0, variable="model", number=1, name="A", kept="/k2"),
    ]
    (tmp_path / "1.events").write_text(begin(1, main=True) + "".join(lines))
    assert [(each.path, each.variable) for each in collect(tmp_path).models] == [("", "model")]


def test_values_become_literals() -> None:
    class Odd:
        def __repr__(self) -> str:
            return "<odd>"

    assert plain({"a": [1, 2.5, None, True, "x"], 3: (float("nan"), Odd(), 2**70)}) == {
        "a": [1, 2.5, None, True, "x"],
        "3": ["nan", "<odd>", str(2**70)],
    }
