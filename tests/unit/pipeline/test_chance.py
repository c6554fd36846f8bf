"""Stand-ins for clocks and generators, in a process of their own: what is pickled names what they stand for."""

from __future__ import annotations

import subprocess
import sys

WATCHED = """
import datetime, os, pickle, sys, time
from pathlib import Path
from noria.pipeline.watching import chance
before = [datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC), datetime.date(2026, 1, 2)]
written = pickle.dumps(before, protocol=4)
made = chance.install(Path.cwd(), {"time": "1600000000000000000"})
with made.around():
    assert datetime.datetime.now(datetime.UTC).year == 2020
    assert pickle.dumps(before, protocol=4) == written, "a moment is pickled as without the stand-ins"
    assert pickle.loads(written) == before
    named = [pickle.dumps(each) for each in (time.time, os.getpid, os.urandom, datetime.datetime)]
print(os.environ["JOBLIB_MULTIPROCESSING"])
sys.stdout.flush()
sys.stdout.buffer.write(repr(named).encode())
"""
READ = """
import ast, datetime, os, pickle, sys, time
found = [pickle.loads(each) for each in ast.literal_eval(sys.stdin.read())]
assert found == [time.time, os.getpid, os.urandom, datetime.datetime], found
"""


def test_what_is_pickled_while_a_step_is_watched_is_the_real_thing_in_another_process() -> None:
    done = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    workers, named = done.stdout.split("\n", 1)
    assert workers == "0", "joblib starts no workers whose clocks are their own"
    read = subprocess.run([sys.executable, "-c", READ], input=named, capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr
