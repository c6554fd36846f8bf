"""Processes on a kernel without Landlock: a filter of system calls answers as such a kernel does."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

__all__ = ["ANSWERS", "COMMAND", "lacking", "linux"]

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
COMMAND = """
from noria.faces.cli.main import run
raise SystemExit(run(sys.argv[4:]))
"""
linux = pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="filters of system calls are Linux's; their numbers are known for x86_64 and aarch64",
)
ANSWERS = pytest.mark.parametrize("answer", [errno.ENOSYS, errno.EOPNOTSUPP], ids=["not built in", "switched off"])


def lacking(
    text: str, answer: int, folder: Path, *words: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a text of Python, in `folder`, where Landlock is refused with that error; `sys.argv[3:]` are folder, words.

    What the process starts is under the same filter.
    """
    given = [sys.executable, "-c", LACKING + text, "444", str(answer), str(folder), *words]
    ours, theirs = os.pipe()  # the child ends with its standard input
    try:
        return subprocess.run(given, cwd=folder, env=env, capture_output=True, text=True, check=False, stdin=ours)
    finally:
        os.close(ours)
        os.close(theirs)
