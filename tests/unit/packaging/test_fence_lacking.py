"""A kernel without Landlock, or with too old a one: said at the system call, and nothing is run without the fence."""

from __future__ import annotations

from pathlib import Path

from lacking import ANSWERS, lacking, linux

ASKED = """
from noria.packaging.fence import can_fence, fence
assert not can_fence()
assert not fence([Path(sys.argv[3])])
Path(sys.argv[3], "still free").write_text("x")
"""
CHILD = """
import json, os
from noria.faces import again_script
spec = Path(sys.argv[3], "spec.json")
folder = str(spec.parent)
spec.write_text(json.dumps({"mode": "whole", "root": folder, "fence": folder, "guarded": [],
    "result": str(spec.parent / "result.json")}))
again_script.main([str(spec)])
print((spec.parent / "result.json").read_text())
"""


@linux
@ANSWERS
def test_where_the_system_has_no_fence_it_is_said_and_none_is_claimed(answer: int, tmp_path: Path) -> None:
    done = lacking(ASKED, answer, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "still free").exists()


@linux
@ANSWERS
def test_the_process_of_a_script_runs_nothing_without_its_fence(answer: int, tmp_path: Path) -> None:
    done = lacking(CHILD, answer, tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"isolation"' in done.stdout
    assert "cannot be kept inside its folder" in done.stdout
