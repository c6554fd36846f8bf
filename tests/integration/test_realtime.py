"""The threads that answer come before everything else, where the system permits it, and nothing else does."""

from __future__ import annotations

import http.client
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from realtime_flavor import HOLD, RUN_AWAY, TELL, Model
from serving_client import wait_for
from serving_project import MODEL, make_project, make_release, rows

from noria import plugins
from noria.bootstrap import open_workspace
from noria.faces.cli.show_project import status as shown
from noria.faces.realtime import HOLD_US, REALTIME
from noria.faces.verbs import builtins
from noria.project.status import status
from noria.serving.deployment import deploy

FLAVOR = "realtime"
RAISED = os.SCHED_RR | os.SCHED_RESET_ON_FORK
PROBE = """
import os
from pathlib import Path
share = int(Path("/proc/sys/kernel/sched_rt_runtime_us").read_text())
assert share > 0 and len(os.sched_getaffinity(0)) > 1 and os.getpriority(os.PRIO_PROCESS, 0) == 0
os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
"""
WITHOUT = ("setpriv", "--inh-caps=-sys_nice", "--bounding-set=-sys_nice")


def as_usual() -> list[str]:
    """What starts a process at the usual nice value, where this may be done."""
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    return ["nice", "-n", str(-nice)] if nice > 0 and os.geteuid() == 0 else []


def is_permitted() -> bool:
    """Whether a process may run at a realtime priority here."""
    return subprocess.run([*as_usual(), sys.executable, "-c", PROBE], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("realtime")
    installed = place.parent / "installed" / f"{FLAVOR}_flavor-1.dist-info"
    installed.mkdir(parents=True, exist_ok=True)
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {FLAVOR}_flavor\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(f"[noria.flavor]\n{FLAVOR} = {FLAVOR}_flavor:RealtimeFlavor\n")
    ws = make_project(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(plugins.BUILTIN["flavor"], FLAVOR, f"{FLAVOR}_flavor:RealtimeFlavor")
        patch.setenv("PYTHONPATH", where_it_is(place))
        make_release(ws, model=Model())
        deploy(ws, MODEL)
    return place


def where_it_is(root: Path) -> str:
    """Where a process finds the model's flavor, as an installed distribution and as a module."""
    return f"{root.parent / 'installed'}:{Path(__file__).parent}"


@contextmanager
def up(root: Path, place: Path, *, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, int]]:
    """`noria up`; gives the server's URL and pid."""
    command = [*as_usual(), *prefix, sys.executable, "-m", "noria", "up", "--port", "0"]
    environment = os.environ | {"PLACE": str(place), "PYTHONPATH": where_it_is(root)}
    process = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert b"noria is up" in process.stdout.readline()
        note = json.loads((root / ".noria" / "up.json").read_text())
        assert ask(note["url"], 0.5)[1]["score"] == 0.5
        yield note["url"], note["children"]["server"]
    finally:
        process.terminate()
        process.wait(timeout=60)
        process.stdout.close()


def ask(url: str, n0: float, *, timeout_s: float = 60) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=timeout_s)
    try:
        connection.request("POST", "/predict", json.dumps({"row": rows(1)[0] | {"n0": n0}}))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def in_force(url: str) -> str:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    try:
        connection.request("GET", "/healthz")
        return str(json.loads(connection.getresponse().read())["scheduling"])
    finally:
        connection.close()


def by_thread(pid: int) -> dict[int, int]:
    """The policy of each thread of a process, by the thread's id."""
    found = {}
    for each in Path(f"/proc/{pid}/task").iterdir():
        try:
            found[int(each.name)] = os.sched_getscheduler(int(each.name))
        except ProcessLookupError:
            continue
    return found


def is_normal(policy: int) -> bool:
    return policy & ~os.SCHED_RESET_ON_FORK == os.SCHED_OTHER


def test_only_the_threads_that_answer_are_raised_and_nothing_inherits_it(root: Path, tmp_path: Path) -> None:
    with up(root, tmp_path) as (url, pid):
        assert ask(url, TELL)[0] == 200
        told = json.loads((tmp_path / "told").read_text())
        policies = by_thread(pid)
        answering = {pid, told["thread id"]}
        assert told["thread"] == told["child"] == os.SCHED_OTHER
        assert all(is_normal(policy) for thread, policy in policies.items() if thread not in answering)
        note = root / ".noria" / "up.json"
        wait_for(lambda: "trainer" in json.loads(note.read_text())["children"], what="the trainer")
        children = json.loads(note.read_text())["children"]
        for name in ("controller", "trainer"):
            assert set(map(is_normal, by_thread(children[name]).values())) == {True}
        wait_for(lambda: status(open_workspace(root)).scheduling, what="the server's word")
        line = shown(builtins(status(open_workspace(root)))).splitlines()[0]
        if is_permitted():
            assert in_force(url) == REALTIME
            assert {policies[thread] for thread in answering} == {told["predicting"]} == {RAISED}
            assert {os.sched_getparam(thread).sched_priority for thread in answering} == {1}
            assert resource.prlimit(pid, resource.RLIMIT_RTTIME) == (HOLD_US, HOLD_US)
            assert "1 server at realtime priority" in line
        else:
            assert in_force(url).startswith("normal: ")
            assert set(map(is_normal, policies.values())) == {True}
            assert "1 server at normal priority" in line


def test_a_system_that_does_not_permit_it_serves_as_before(root: Path, tmp_path: Path) -> None:
    prefix = WITHOUT if os.geteuid() == 0 else ()
    with up(root, tmp_path, prefix=prefix) as (url, pid):
        if prefix or not is_permitted():
            why = in_force(url)
            assert why.startswith("normal: ")
            assert set(map(is_normal, by_thread(pid).values())) == {True}
            if as_usual() or os.getpriority(os.PRIO_PROCESS, 0) == 0:
                assert "CAP_SYS_NICE" in why
            wait_for(lambda: status(open_workspace(root)).scheduling == (why,), what="the server's word")
            log = (root / ".noria" / "logs" / "server.log").read_text()
            assert log.count(f"answers at {why.replace(': ', ' priority: ')}") == 1


def test_the_setting_turns_it_off(root: Path, tmp_path: Path) -> None:
    text = (root / "noria.toml").read_text()
    (root / "noria.toml").write_text(text.replace("port = 0", 'port = 0\nrealtime = "off"'))
    try:
        with up(root, tmp_path) as (url, pid):
            assert in_force(url) == 'normal: [server] realtime is "off"'
            assert set(map(is_normal, by_thread(pid).values())) == {True}
    finally:
        (root / "noria.toml").write_text(text)


def test_who_starts_it_nicer_means_it(root: Path, tmp_path: Path) -> None:
    with up(root, tmp_path, prefix=("nice", "-n", "5")) as (url, pid):
        assert in_force(url) == "normal: it was started with a nice value or a policy of its own"
        assert set(map(is_normal, by_thread(pid).values())) == {True}


def test_a_model_that_runs_away_is_lowered_until_it_is_done(root: Path, tmp_path: Path) -> None:
    with up(root, tmp_path) as (url, pid):
        ask(url, TELL)
        predicting = json.loads((tmp_path / "told").read_text())["thread id"]
        before = os.sched_getscheduler(predicting)
        answers: list[int] = []
        client = threading.Thread(target=lambda: answers.append(ask(url, RUN_AWAY)[0]))
        client.start()
        try:
            wait_for(
                lambda: is_normal(os.sched_getscheduler(predicting)) and in_force(url), what="the thread to be lowered"
            )
            assert os.sched_getscheduler(pid) == before, "what only reads and writes stays as it was"
            (tmp_path / "stop").touch()
            client.join(60)
            assert answers == [200]
            wait_for(lambda: os.sched_getscheduler(predicting) == before, what="the thread to be raised again")
        finally:
            (tmp_path / "stop").touch()
            client.join(60)


def test_a_thread_that_nothing_can_lower_is_ended_and_the_next_server_answers(root: Path, tmp_path: Path) -> None:
    with up(root, tmp_path) as (url, pid):
        if in_force(url) == REALTIME:
            resource.prlimit(pid, resource.RLIMIT_RTTIME, (1_000_000, 1_000_000))  # as a minute would be long here
            with pytest.raises((ConnectionError, http.client.HTTPException)):
                ask(url, HOLD)
            wait_for(lambda: not Path(f"/proc/{pid}").exists(), what="the end of the server")
            assert ask(url, 0.25)[1]["score"] == 0.25
