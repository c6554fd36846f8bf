"""What is forked from a loaded process is what a process of its own would be: its parent, files, words, end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import adopted
import warm

PROGRAM = """
import json, os, signal, sys
told = {"id": os.getpid(), "parent": os.getppid(), "words": sys.argv, "name": __name__}
told |= {"place": os.getcwd(), "said": os.environ["SAID"]}
told |= {"names": len(os.environ), "session": os.getsid(0) == os.getpid(), "loaded": "sklearn.ensemble" in sys.modules}
told |= {"read": sys.stdin.read(), "action": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL}
told["children"] = open(f"/proc/self/task/{os.getpid()}/children").read().split()
print(json.dumps(told), flush=True)
print("complaint", file=sys.stderr)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(sys.argv[2]))
"""
adopted.forked(PROGRAM)


def test_a_fork_is_a_child_with_its_own_words_folder_environment_streams_and_end(tmp_path: Path) -> None:
    seen = []
    for turn in range(warm.FEW + 2):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "ends", str(turn)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=tmp_path, env={**os.environ, "SAID": f"turn {turn}"}, start_new_session=turn % 2 == 0,
        )  # fmt: skip
        output, errors = process.communicate("a question", timeout=100)
        told = json.loads(output)
        assert told["parent"] == os.getpid()
        assert told["words"] == ["-c", "ends", str(turn)]
        assert (told["name"], told["place"], told["said"]) == ("__main__", str(tmp_path), f"turn {turn}")
        assert told["names"] == len({**os.environ, "SAID": ""})
        assert (told["session"], told["read"], told["children"]) == (turn % 2 == 0, "a question", [])
        assert told["action"]
        assert errors == "complaint\n"
        assert process.returncode == turn
        seen.append(told["loaded"])
    assert seen[-1], "none was forked"


def test_a_fork_that_is_killed_ends_by_its_signal_and_leaves_nothing() -> None:
    environ = {**os.environ, "SAID": ""}
    for _ in range(warm.FEW + 1):
        words = [sys.executable, "-c", PROGRAM, "killed"]
        done = subprocess.run(words, input="", capture_output=True, text=True, env=environ, check=False)
        assert done.returncode == -signal.SIGKILL
        told = json.loads(done.stdout)
        assert told["parent"] == os.getpid()
        assert not Path(f"/proc/{told['id']}").exists(), "nobody waited for it"


def test_what_a_new_process_has_can_be_asked_for() -> None:
    with adopted.anew():
        words = [sys.executable, "-c", PROGRAM, "ends", "0"]
        done = subprocess.run(
            words, input="", capture_output=True, text=True, env={**os.environ, "SAID": ""}, check=True
        )
    assert not json.loads(done.stdout)["loaded"]
