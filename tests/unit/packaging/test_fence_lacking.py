"""A kernel without Landlock, or with too old a one: said at the system call, and nothing is run without the fence."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

LACKING = """
import ctypes, struct, sys
from pathlib import Path
number, answer = (int(each) for each in sys.argv[1:3])

# a filter of system calls: landlock_create_ruleset answers with an error, as a kernel that has it not
program = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | answer), (0x06, 0, 0, 0x7FFF0000)]
body = b"".join(struct.pack("HBBI", *each) for each in program)
held = ctypes.create_string_buffer(body, len(body))
told = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(held)), 16)
library = ctypes.CDLL(None, use_errno=True)
none = ctypes.c_ulong(0)
assert library.prctl(38, ctypes.c_ulong(1), none, none, none) == 0
assert library.prctl(22, ctypes.c_ulong(2), ctypes.byref(told), none, none) == 0, ctypes.get_errno()
assert library.syscall(ctypes.c_long(number), None, ctypes.c_size_t(0), ctypes.c_uint32(1)) == -1
assert ctypes.get_errno() == answer
"""
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
linux = pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="filters of system calls are Linux's; their numbers are known for x86_64 and aarch64",
)
ANSWERS = pytest.mark.parametrize("answer", [errno.ENOSYS, errno.EOPNOTSUPP], ids=["not built in", "switched off"])


def lacking(text: str, answer: int, folder: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", LACKING + text, "444", str(answer), str(folder)]
    ours, theirs = os.pipe()  # the child ends with its standard input
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False, stdin=ours)
    finally:
        os.close(ours)
        os.close(theirs)


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
