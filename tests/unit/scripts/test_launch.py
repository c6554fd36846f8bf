"""A child's output comes out whole, whatever becomes of its log."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from noria.scripts.launch import follow

LINES = 20_000
PRINTS = f"import sys\nfor n in range({LINES}): print(n)\nprint('bad', file=sys.stderr)"


def test_a_log_on_a_full_disk_holds_up_no_output(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with (tmp_path / "out").open("wb") as out:
        ended = follow([sys.executable, "-c", PRINTS], environment=os.environ, log=Path("/dev/full"), out=out)
    assert ended.code == 0
    assert (tmp_path / "out").read_text().splitlines() == [str(number) for number in range(LINES)]
    assert ended.complaints == "bad\n"
    assert "No space left" in ended.lost


def test_a_log_that_could_be_written_is_whole(tmp_path: Path) -> None:
    ended = follow([sys.executable, "-c", PRINTS], environment=os.environ, log=tmp_path / "log")
    assert ended.lost == ""
    assert len((tmp_path / "log").read_text().splitlines()) == LINES + 1
