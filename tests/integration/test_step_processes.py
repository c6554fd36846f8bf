"""Steps that end their process, fork, or print below Python; and processes of the pool that are killed from outside."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from steps_project import begin, environment, make, noria, seen, until

STEP = """

@nr.step
def work() -> int:
{body}

@nr.step
def after(found: int) -> int:
    note(f"after {{found}}")
    return found

@nr.pipeline
def chain():
    after(work())
"""


def project(root: Path, body: str, head: str = "") -> Path:
    """A chain of two steps; the first does that."""
    indented = "".join(f"    {line}\n" for line in body.strip("\n").split("\n"))
    return make(root, head + STEP.format(body=indented))


def notes(root: Path) -> list[str]:
    path = seen(root) / "marks.txt"
    return path.read_text().splitlines() if path.is_file() else []


@pytest.mark.parametrize(
    ("head", "call"), [("", "os._exit(0)"), ("from os import _exit as out\n", "out(3)")], ids=["zero", "other"]
)
def test_a_step_that_ends_the_process_of_the_command_has_failed(tmp_path: Path, head: str, call: str) -> None:
    """The exit code is that of failed code, whatever the step said; the run has its end, and the step is named."""
    root = project(tmp_path / "p", f"{call}\nreturn 1", head)
    done = noria(root, "run")
    assert done.returncode == 4, (done.stdout, done.stderr)
    assert "step work ended its process with os._exit(" in done.stderr
    assert "pipeline.py:" in done.stderr
    assert "lost" not in noria(root, "status").stdout
    assert notes(root) == []


def test_a_thread_of_a_step_that_ends_the_process_never_ends_it_well(tmp_path: Path) -> None:
    body = "import threading\nthreading.Thread(target=os._exit, args=(0,)).start()\ntime.sleep(60)\nreturn 1"
    done = noria(project(tmp_path / "p", body), "run")
    assert done.returncode == 4, (done.stdout, done.stderr)
    assert "a thread of step work ended the process with os._exit(0)" in done.stderr


@pytest.mark.parametrize("executor", ["inline", "pool"])
def test_children_of_a_step_end_as_they_like(tmp_path: Path, executor: str) -> None:
    """`os._exit` and `sys.exit` in a child give its parent that code; `multiprocessing` forks as ever."""
    body = """
import multiprocessing, sys
codes = []
for how in (os._exit, sys.exit):
    child = os.fork()
    if child == 0:
        how(5)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
with multiprocessing.get_context("fork").Pool(1) as pool:
    codes += pool.map(abs, [-7])
note(str(codes))
return 8
"""
    done = noria(root := project(tmp_path / "p", body), "run", "--executor", executor)
    assert done.returncode == 0, done.stderr
    assert notes(root) == ["[5, 5, 7]", "after 8"]


@pytest.mark.parametrize("executor", ["inline", "pool"])
@pytest.mark.parametrize("way", ["return 7", "raise ValueError('child')"])
def test_a_child_that_comes_back_out_of_a_step_is_ended(tmp_path: Path, executor: str, way: str) -> None:
    """One process goes on: the parent's result counts, and everything after it happens once."""
    body = f"print('head', end='')\nif os.fork() == 0:\n    {way}\nos.wait()\nreturn 8"
    done = noria(root := project(tmp_path / "p", body), "run", "--executor", executor, "--json")
    assert done.returncode == 0, (done.stdout, done.stderr)
    report = json.loads(done.stdout)
    assert notes(root) == ["after 8"]
    log = (root / ".noria" / "runs" / report["run"] / "work.log").read_text()
    assert log.count("head") == 1
    assert "which step work forked," in log
    assert "it was ended there" in log


@pytest.mark.parametrize("executor", ["inline", "pool"])
def test_what_a_step_writes_below_python_is_in_its_log(tmp_path: Path, executor: str) -> None:
    """The one document is all that `--json` prints: children and compiled code print to the log, as `print` does."""
    body = """
import ctypes, subprocess
print("one")
subprocess.run(["echo", "two"])
os.write(1, b"three\\n")
ctypes.CDLL(None).printf(b"four\\n")
print("five")
return 8
"""
    done = noria(root := project(tmp_path / "p", body), "run", "--executor", executor, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(done.stdout.splitlines()) == 1
    log = (root / ".noria" / "runs" / report["run"] / "work.log").read_text()
    assert sorted(log.split()) == ["five", "four", "one", "three", "two"]


def test_a_worker_that_is_killed_costs_no_retry(tmp_path: Path) -> None:
    """Its attempt begins again, and the run finishes."""
    body = """
note("begun")
if not (HERE / "killed").exists():
    (HERE / "killed").touch()
    os.kill(os.getpid(), 9)
return 8
"""
    root = project(tmp_path / "p", body, "from marks import HERE\n")
    done = noria(root, "run", "--executor", "pool")
    assert done.returncode == 0, done.stderr
    assert notes(root) == ["begun", "begun", "after 8"]


def test_a_step_under_which_workers_are_killed_again_and_again_has_failed(tmp_path: Path) -> None:
    root = project(tmp_path / "p", "note('begun')\nos.kill(os.getpid(), 9)\nreturn 8")
    done = noria(root, "run", "--executor", "pool")
    assert done.returncode == 4
    assert "the process of step work was killed by SIGKILL" in done.stderr
    assert notes(root) == ["begun"] * 3


def test_a_step_that_asks_itself_to_leave_again_and_again_has_failed(tmp_path: Path) -> None:
    """What it does to the world it does each time: a few times, and not for ever."""
    root = project(tmp_path / "p", "note('begun')\nos.kill(os.getpid(), 15)\ntime.sleep(60)\nreturn 8")
    done = noria(root, "run", "--executor", "pool")
    assert done.returncode == 4
    assert "step work was asked to leave by SIGTERM, 6 times in a row" in done.stderr
    assert notes(root) == ["begun"] * 6


def test_a_step_that_comes_further_each_time_may_be_asked_to_leave_more_often(tmp_path: Path) -> None:
    body = """
for place in nr.checkpointed(range(9), seen := []):
    seen.append(place)
    note(f"pass {place}")
    os.kill(os.getpid(), 15)
return sum(seen)
"""
    done = noria(root := project(tmp_path / "p", body), "run", "--executor", "pool")
    assert done.returncode == 0, done.stderr
    assert notes(root) == [*(f"pass {place}" for place in range(9)), "after 36"]


@pytest.mark.parametrize(
    ("call", "name", "advice"),
    [
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV", "compiled code that the step called crashed"),
        ("import signal; signal.alarm(1); time.sleep(60)", "SIGALRM", "the step set an alarm"),
        ("os.kill(os.getpid(), 10)", "SIGUSR1", "the step, or somebody else, sent that signal"),
    ],
)
def test_the_advice_is_about_the_signal(tmp_path: Path, call: str, name: str, advice: str) -> None:
    """Memory is spoken of where SIGKILL came; a crash has its line in the log."""
    root = project(tmp_path / "p", f"{call}\nreturn 8")
    done = noria(root, "run", "--executor", "pool")
    assert done.returncode == 4
    assert f"the process of step work was killed by {name}" in done.stderr
    assert f"next:  {advice}" in done.stderr
    assert "memory" not in done.stderr
    logs = "".join(log.read_text() for log in (root / ".noria" / "runs").glob("*/work.log"))
    assert ("in work" in logs) == (name == "SIGSEGV")


def test_an_interrupt_that_a_step_of_the_pool_raises_is_its_failure(tmp_path: Path) -> None:
    """Nobody pressed a key: a terminal interrupts the command, not its workers."""
    done = noria(project(tmp_path / "p", "raise KeyboardInterrupt"), "run", "--executor", "pool")
    assert done.returncode == 4
    assert "step work raised KeyboardInterrupt" in done.stderr


def test_a_step_that_closes_what_the_ledger_is_read_by_ends_the_command_at_once(tmp_path: Path) -> None:
    """In the process of the command nothing can go on; in one of its own the step's result counts."""
    root = project(tmp_path / "p", "note('begun')\nos.closerange(3, 300)\nreturn 8")
    done = noria(root, "run", "--executor", "inline")
    assert done.returncode == 4, (done.stdout, done.stderr)
    assert done.stderr.startswith("error: step work closed descriptors that are not its own")
    assert len(done.stderr.splitlines()) == 2
    again = noria(root, "run", "--resume", "--executor", "pool")
    assert again.returncode == 0, again.stderr
    assert notes(root) == ["begun", "after 8"]


def test_a_step_that_came_to_its_end_as_the_driver_died_is_not_made_again(tmp_path: Path) -> None:
    """Its worker goes with the driver, once what the step gave is on record: here that takes until it is let go."""
    head = """
class Slow:
    def __init__(self):
        self.value = 8

    def __getstate__(self):
        note("storing")
        while not (Path(os.environ["MARKS"]) / "go").exists():
            time.sleep(0.02)
        return {"value": 8}
"""
    text = head + STEP.format(body="    note('effect')\n    return Slow()\n").replace("-> int", "").replace(": int", "")
    root = make(tmp_path / "p", text.replace("return found", "return 1").replace("{found}", "{found.value}"))
    with begin(root, "run", "--executor", "pool") as driver:
        until(lambda: "storing" in notes(root))
        workers = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
        driver.wait(timeout=60)
    until(lambda: sum(is_running(each) for each in workers) <= 1)
    (seen(root) / "go").touch()
    until(lambda: not any(is_running(each) for each in workers))
    done = noria(root, "run", "--resume")
    assert done.returncode == 0, done.stderr
    assert [note for note in notes(root) if note != "storing"] == ["effect", "after 8"]


def is_running(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_the_process_that_starts_workers_is_started_again_once(tmp_path: Path) -> None:
    """Killed while it reads the project, it has begun nothing: another takes its place."""
    head = """
import sys
from marks import HERE
if sys.argv[1].isdigit():
    note("reading")
    if len((HERE / "marks.txt").read_text().splitlines()) <= int(os.environ["KILLS"]):
        os.kill(os.getpid(), 9)
"""
    root = project(tmp_path / "p", "return 8", head)
    done = noria(root, "run", "--executor", "pool", KILLS="1")
    assert done.returncode == 0, done.stderr
    assert notes(root) == ["reading", "reading", "after 8"]


def test_without_a_process_that_starts_workers_the_machine_has_failed(tmp_path: Path) -> None:
    """That is nothing that the project did, and the run can be resumed."""
    head = "import sys\nif sys.argv[1].isdigit():  # its socket\n    os.kill(os.getpid(), 9)\n"
    done = noria(project(tmp_path / "p", "return 8", head), "run", "--executor", "pool")
    assert done.returncode == 3, (done.stdout, done.stderr)
    assert "the process that starts workers was killed by SIGKILL" in done.stderr
    assert "noria run --resume" in done.stderr


def test_a_step_that_has_not_run_yet_is_told_apart_from_a_run_that_is_not_there(tmp_path: Path) -> None:
    """By its name, before any run and after one that did not come to it; and by its name its log is found."""
    root = project(tmp_path / "p", "print('shown')\nraise ValueError('no')")
    for words in (("why",), ("pipeline", "logs")):
        told = noria(root, *words, "after")
        assert told.returncode == 2
        assert "step after has not run yet" in told.stderr
        assert "next:  noria run" in told.stderr
        assert "there is no run" in (said := noria(root, *words, "never").stderr)
        assert "'never'" in said
    assert noria(root, "run").returncode == 4
    assert "shown" in noria(root, "pipeline", "logs", "work").stdout
    assert "step work" in noria(root, "why", "work").stdout


def test_how_often_a_step_was_begun_is_told(tmp_path: Path) -> None:
    """Of one that came through, in the run's output and afterwards; of one that did not, in its error."""
    head = "\ndef shaky(*given):\n    note('x')\n    assert len(open(HERE / 'marks.txt').read()) > 4, 'no'\n"
    root = project(tmp_path / "p", "shaky()\nreturn 1", "from marks import HERE" + head)
    text = (root / "pipeline.py").read_text()
    (root / "pipeline.py").write_text(text.replace("@nr.step\n", "@nr.step(retries=2, retry_wait='0s')\n", 1))
    done = noria(root, "run")
    assert done.returncode == 0, done.stderr
    assert "(3 attempts)" in done.stdout
    assert "(3 attempts)" in noria(root, "why", "work").stdout
    (root / "pipeline.py").write_text((root / "pipeline.py").read_text().replace("> 4", "> 400"))
    failed = noria(root, "run")
    assert failed.returncode == 4
    assert "raised AssertionError: no (attempt 3 of 3)" in failed.stderr


def test_a_thread_that_a_step_left_is_named_while_the_command_waits_for_it(tmp_path: Path) -> None:
    body = """
import threading
def serve():
    while not (Path(os.environ["MARKS"]) / "go").exists():
        time.sleep(0.01)
threading.Thread(target=serve, name="the-server").start()
return 1
"""
    root = project(tmp_path / "p", body)
    words = [sys.executable, "-m", "noria", "run", "--executor", "inline"]  # a whole process: its end counts
    told = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, cwd=root, env=environment(MARKS=str(seen(root))), text=True, **told) as process:
        assert process.stderr is not None
        line = ""
        while "waits for" not in line:
            line = process.stderr.readline()
            assert line, "it ends only after its threads"
        assert line == "the command waits for the-server of step work: a thread that a step left running\n"
        (seen(root) / "go").touch()
        process.communicate(timeout=60)
    assert process.returncode == 0


WORKERS = """
import multiprocessing

def told(place):
    note(f"seed {nr.seed()}")

def passes(which):
    found = []
    for number in nr.checkpointed(range(3), found, every="0s"):
        found.append(which * 10 + number)
    note(f"of {which}: {found}")
"""


@pytest.mark.parametrize("way", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("options", ["", "(isolated=True)"])
def test_a_worker_process_of_a_step_has_its_seed(tmp_path: Path, way: str, options: str) -> None:
    body = f"""
note(f"seed {{nr.seed()}}")
with multiprocessing.get_context("{way}").Pool(1) as pool:
    pool.map(told, [1])
return nr.seed()
"""
    root = project(tmp_path / "p", body, WORKERS)
    (root / "pipeline.py").write_text((root / "pipeline.py").read_text().replace("@nr.step\n", f"@nr.step{options}\n"))
    done = noria(root, "run")
    assert done.returncode == 0, done.stderr
    own, workers, _ = notes(root)
    assert own == workers != "seed 0"


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_worker_processes_do_not_take_up_each_others_passes(tmp_path: Path, way: str) -> None:
    """A second process went on from the passes of the first, or none was kept without a word."""
    body = f"""
for which in (1, 2):
    process = multiprocessing.get_context("{way}").Process(target=passes, args=(which,))
    process.start()
    process.join()
return 1
"""
    root = project(tmp_path / "p", body, WORKERS)
    done = noria(root, "run", "--executor", "pool")
    assert done.returncode == 0, done.stderr
    assert notes(root)[:2] == ["of 1: [10, 11, 12]", "of 2: [20, 21, 22]"]
    said = noria(root, "pipeline", "logs", "work").stdout
    assert said.count("nr.checkpointed keeps nothing here") == 2


STRAYS = """
import logging
import sys
import threading

from concurrent.futures import ThreadPoolExecutor

asked, answered = threading.Event(), threading.Event()
serving = ThreadPoolExecutor(1)

def later(out, err):
    asked.wait(60)
    print("said during the next")
    print("by what it held", file=out)
    answered.set()
    threading.main_thread().join()
    print("said after all", file=err)
    print("by the stream of then")
    raise ValueError("of the thread")

@nr.step(cache=False)
def first() -> int:
    logging.basicConfig(level="INFO", format="%(message)s")
    logging.info("log of first")
    serving.submit(print, "served first").result()
    threading.Thread(target=later, args=(sys.stdout, sys.stderr)).start()
    return 1

@nr.step(cache=False)
def second(found: int) -> int:
    asked.set()
    print("waited", answered.wait(60))
    logging.info("log of second")
    serving.submit(print, "served second").result()
    return found

@nr.pipeline
def chain():
    second(first())
"""


def test_what_a_thread_prints_after_its_step_is_in_the_log_of_that_step(tmp_path: Path) -> None:
    root = make(tmp_path / "p", STRAYS)
    words = [sys.executable, "-m", "noria", "run", "--executor", "inline", "--json"]  # a whole process: its end counts
    done = subprocess.run(
        words,
        cwd=root,
        env=environment(MARKS=str(seen(root))),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"]
    assert [line for line in done.stderr.splitlines() if "waits for" not in line and "next:" not in line] == []
    first, second = (noria(root, "pipeline", "logs", name).stdout for name in ("first", "second"))
    lines = first.splitlines()
    assert lines[:6] == [
        "log of first",
        "served first",
        "said during the next",
        "by what it held",
        "said after all",
        "by the stream of then",
    ]
    assert lines[-1] == "ValueError: of the thread"
    assert second.splitlines() == ["waited True", "log of second", "served second"]
