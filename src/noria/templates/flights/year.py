"""Plays 2013 against a running Noria: an ordinary script of this project, each step a command you can repeat.

January is the first training set. Then the flights of February to December arrive as requests, sent by
traffic.py, which never stops. When a month has passed, its file is added as a new version of the
data; whether to train, and whether the challenger goes live, is Noria's decision under noria.toml.
story.toml says which month arrives broken first, and whether the server is killed in a canary.

    noria up --clock events        # in one terminal
    python year.py                 # in another
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from story import Story, months, story

HERE = Path(__file__).resolve().parent
PROGRESS = HERE / "traffic" / "progress.json"
MODEL = "flights"
SETTLED = timedelta(hours=36)
"""How long after its end a month's file is made: the last flight has landed."""
POLL_S = 0.1
PATIENCE_S = 120.0
REVIEWS_S = 30.0
"""How long the last reviews may take that come by themselves."""
MONTH_FIELDS = (
    *("month", "auc_static", "auc_live", "drifted_columns", "decision", "reason"),
    *("rows", "labelled", "challenger", "champion", "gain", "low", "high", "n"),
)


class Stopped(Exception):
    """The play cannot go on; the text says why."""


def say(text: str = "") -> None:
    """A line for people, at once."""
    print(text, flush=True)


def noria(*words: str, expect: Sequence[int] = (0,)) -> int:
    """Run a noria command as a user would, showing the line and what it prints. Raises: Stopped."""
    say(f"$ noria {' '.join(words)}")
    done = subprocess.run([sys.executable, "-m", "noria", *words], cwd=HERE, check=False)
    if done.returncode not in expect:
        raise Stopped(f"noria {' '.join(words)} ended with {done.returncode}, not {' or '.join(map(str, expect))}")
    return done.returncode


def asked(*words: str, is_shown: bool = False) -> Any:
    """What a noria command says as JSON. Raises: Stopped."""
    if is_shown:
        say(f"$ noria {' '.join(words)} --json")
    line = [sys.executable, "-m", "noria", *words, "--json"]
    done = subprocess.run(line, cwd=HERE, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise Stopped(
            f"noria {' '.join(words)} --json ended with {done.returncode}: {done.stdout}{done.stderr}".strip()
        )
    return json.loads(done.stdout)


def script(*words: str) -> None:
    """Run a script of this project, showing the line. Raises: Stopped."""
    say(f"$ python {' '.join(words)}")
    done = subprocess.run([sys.executable, *words], cwd=HERE, check=False)
    if done.returncode != 0:
        raise Stopped(f"python {' '.join(words)} ended with {done.returncode}")


def running() -> Mapping[str, Any]:
    """What `noria up` wrote about itself: url and process ids. Raises: Stopped if it is not up."""
    try:
        found: Mapping[str, Any] = json.loads((HERE / ".noria" / "up.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Stopped("no server is running here; start `noria up --clock events` in another terminal") from None
    return found


def progress() -> Mapping[str, Any]:
    """How far the traffic is; empty before its first note."""
    try:
        found: Mapping[str, Any] = json.loads(PROGRESS.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def require_unplayed() -> None:
    """Each flight is sent once in the life of a project. Raises: Stopped if some were sent already."""
    at = str(progress().get("at", ""))
    if at:
        raise Stopped(
            f"the flights up to {at[:10]} were already played in {HERE}, and each is sent once\n"
            f"  to look at what is there: cd {HERE.name} && noria up, or open report.html\n"
            f"  to play anew: mv {HERE.name} {HERE.name}.1, then the same command again"
        )


def end_of(month: str) -> datetime:
    """The first moment after a month, in UTC."""
    first = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    return (first + timedelta(days=32)).replace(day=1)


class Traffic:
    """The client process."""

    def __init__(self, wanted: Sequence[str], url: str, rate: float) -> None:
        PROGRESS.unlink(missing_ok=True)
        line = ["traffic.py", "--months", f"{wanted[0]}..{wanted[-1]}", "--url", url, "--rate", f"{rate:g}"]
        say(f"$ python {' '.join(line)} &")
        self.process = subprocess.Popen([sys.executable, *line], cwd=HERE, stdout=subprocess.PIPE, text=True)

    @property
    def is_over(self) -> bool:
        """Whether the client has ended."""
        return self.process.poll() is not None

    def has_passed(self, moment: datetime) -> bool:
        """Whether the traffic has passed an event time, or is over."""
        at = progress().get("at", "")
        return self.is_over or bool(at and datetime.fromisoformat(at) >= moment)

    def wait_for(self, moment: datetime) -> None:
        """Wait until the traffic has passed an event time, or is over."""
        while not self.has_passed(moment):
            time.sleep(POLL_S)

    def summary(self) -> Mapping[str, Any]:
        """The client's account, once it is over. Raises: Stopped if it gave none."""
        output, _ = self.process.communicate()
        lines = output.strip().splitlines()
        if not lines:
            raise Stopped(f"traffic.py ended with {self.process.returncode} and no summary")
        found: Mapping[str, Any] = json.loads(lines[-1])
        return found

    def stop(self) -> None:
        """End the client, if it still runs."""
        if not self.is_over:
            self.process.terminate()
            self.process.wait(timeout=30)


class Killer(threading.Thread):
    """Kills the serving process once, as soon as a second release answers: in the middle of the first canary."""

    def __init__(self, traffic: Traffic) -> None:
        super().__init__(name="killer", daemon=True)
        self.traffic = traffic
        self.killed = self.restarted = self.release = 0
        self.error = ""

    def run(self) -> None:
        try:
            self._wait_and_kill()
        except (OSError, Stopped, KeyError) as error:
            self.error = f"{type(error).__name__}: {error}"

    def _wait_and_kill(self) -> None:
        while len(progress().get("releases", {})) < 2:
            if self.traffic.is_over:
                return
            time.sleep(POLL_S / 2)
        self.release = max(int(number) for number in progress()["releases"])
        self.killed = int(running()["children"]["server"])
        os.kill(self.killed, signal.SIGKILL)
        say(f"$ kill -9 {self.killed}                      # the serving process, in the middle of the canary")
        limit = time.monotonic() + PATIENCE_S
        while time.monotonic() < limit:
            now = int(running()["children"].get("server") or 0)
            if now not in (0, self.killed):
                self.restarted = now
                say(f"  the server is back as process {now}; the client sends again what broke")
                return
            time.sleep(POLL_S)
        self.error = f"the server was not restarted within {PATIENCE_S:.0f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of the play: the client's account, the killer's, and how long a rollback took."""

    summary: Mapping[str, Any]
    killer: Killer
    rollback_ms: float | None


def wait_until(is_true: Callable[[], bool], what: str) -> None:
    """Wait for a condition. Raises: Stopped when it does not come."""
    limit = time.monotonic() + PATIENCE_S
    while not is_true():
        if time.monotonic() > limit:
            raise Stopped(f"after {PATIENCE_S:.0f} s still waiting for: {what}")
        time.sleep(POLL_S * 3)


def model_of(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `noria status` says of the model. Raises: Stopped if it does not know it."""
    for found in status["models"]:
        if found["model"] == MODEL:
            return dict(found)
    raise Stopped(f"noria status knows no model {MODEL}")


def january() -> None:
    """From the first file to a model that answers."""
    script("feed.py", "--month", "2013-01")
    noria("data", "add", "data/flights", "--name", "flights")
    noria("data", "check", "flights", "--infer")
    noria("run")
    noria("deploy", MODEL)


def add_month(month: str, told: Story) -> None:
    """The file of a month that has passed, broken first if the story says so."""
    if month == told.break_month:
        breaks = [word for item in told.breaks for word in ("--break", item)]
        script("feed.py", "--month", month, *breaks)
        noria("data", "add", "data/flights", "--name", "flights")
        noria("run", expect=(1,))
        say(f"  the file of {month} is mended at its source")
    script("feed.py", "--month", month)
    noria("data", "add", "data/flights", "--name", "flights")


def back_and_forward(traffic: Traffic, end: datetime) -> float | None:
    """Rollback to the release before and forward again, while requests flow; gives the slower one's milliseconds.

    First what is under way has its turn: a rollout until it ends, a review while there is time.
    """
    traffic.wait_for(end - timedelta(days=20))
    while True:
        is_late = traffic.has_passed(end - timedelta(days=7))
        found = asked("status")
        model = model_of(found)
        if traffic.is_over or not (model["rollout"] or (found["jobs"] and not is_late)):
            break
        time.sleep(POLL_S)
    if int(model["release"]) < 2:
        say("  nothing was promoted, so there is no release to go back to")
        return None
    back = moved("rollback", MODEL)
    if back["release"] == back["before"]:  # a rollout that had just begun was ended by it
        back = moved("rollback", MODEL)
    forward = moved("rollback", MODEL, "--to", str(back["before"]))
    return max(float(back["ms"]), float(forward["ms"]))


def moved(*words: str) -> Mapping[str, Any]:
    """Move the live release by a command, and tell how long it took."""
    found: Mapping[str, Any] = asked(*words, is_shown=True)
    say(f"  release {found['before']} -> {found['release']} in {found['ms']:.0f} ms")
    return found


def beside(*words: str) -> subprocess.Popen[bytes]:
    """Start a script of this project beside the rest, showing the line."""
    say(f"$ python {' '.join(words)} &")
    return subprocess.Popen([sys.executable, *words], cwd=HERE, stdout=subprocess.DEVNULL)


def catch_up(wanted: Sequence[str]) -> None:
    """Wait until the months that are due have been reviewed; ask for those that no later request makes due."""
    limit = time.monotonic() + REVIEWS_S
    while time.monotonic() < limit:
        found = model_of(asked("status"))
        reviewed = {month["month"] for month in asked("project", "months", MODEL) if month["decision"]}
        if found.get("rollout") or reviewed >= set(wanted[:-1]):
            break
        time.sleep(1.0)
    for month in wanted:
        if month not in reviewed:
            noria("loop", "review", MODEL, month)


def play(wanted: Sequence[str], told: Story) -> Played:
    """January, then the traffic and its months."""
    requests = beside("feed.py", "--traffic", f"{wanted[0]}..{wanted[-1]}")
    january()
    if requests.wait():
        raise Stopped(f"feed.py --traffic ended with {requests.returncode}")
    traffic = Traffic(wanted, str(running()["url"]), told.rate)
    killer = Killer(traffic)
    try:
        if told.kill:
            killer.start()
        for month in wanted[:-1]:
            traffic.wait_for(end_of(month) + SETTLED)
            add_month(month, told)
        rollback_ms = back_and_forward(traffic, end_of(wanted[-1]))
        summary = traffic.summary()
    finally:
        traffic.stop()
    add_month(wanted[-1], told)
    catch_up(wanted)
    return Played(summary=summary, killer=killer, rollback_ms=rollback_ms)


def closing(played: Played, wanted: Sequence[str], started: float) -> dict[str, Any]:
    """Look back at the year; gives the figures of the JSON line."""
    wait_until(lambda: not asked("status")["jobs"], "the last review")
    newest = str(progress()["newest"])
    with ThreadPoolExecutor() as beside_it:  # what is shown is asked for as JSON at the same time
        chain = beside_it.submit(asked, "explain", newest)
        known = beside_it.submit(asked, "project", "months", MODEL)
        noria("explain", newest)
        noria("report", "report.html")
        verified = beside_it.submit(asked, "audit", "verify")
        noria("audit", "verify")
        audit = verified.result()
    found = [month for month in known.result() if month["month"] in wanted]
    summary, killer = played.summary, played.killer
    return {
        "seconds": round(time.monotonic() - started, 1),
        "requests": summary["requests"],
        "failed_requests": summary["failed_requests"] + summary["unanswered"],
        "p50_ms": summary["p50_ms"],
        "p99_ms": summary["p99_ms"],
        "months": [{name: month[name] for name in MONTH_FIELDS} for month in found],
        "promotions": sum(month["decision"] == "promoted" for month in found),
        "refusals": sum(month["decision"] == "refused" for month in found),
        "stopped_batches": sum(len(month["stopped"]) for month in found),
        "resumed_after_kill": bool(killer.restarted)
        and any(month["challenger"] == killer.release and month["decision"] == "promoted" for month in found),
        "rollback_ms": played.rollback_ms,
        "audit": {name: audit[name] for name in ("size", "root", "ok")},
        "explain": chain.result(),
    }


def table(figures: Mapping[str, Any]) -> str:
    """The months as a table for the terminal."""
    lines = [f"  {'month':8} {'frozen':>7} {'living':>7}  {'decision':10} why"]
    for month in figures["months"]:
        static, live = (number(month[name]) for name in ("auc_static", "auc_live"))
        lines.append(f"  {month['month']:8} {static:>7} {live:>7}  {month['decision']:10} {month['reason']}")
    return "\n".join(lines)


def number(value: float | None) -> str:
    """A metric with three places, or a dash."""
    return "-" if value is None else f"{value:.3f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the year; the exit code is 0 only if every step did what it should."""
    told = story()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", default=told.months, help="2013-02..2013-04, or a number of months from February")
    parser.add_argument("--exit", action="store_true", help="for `noria up --demo`: it then stops the server")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    parser.add_argument("--since", type=float, default=time.time(), help="count the seconds from this moment (epoch)")
    options = parser.parse_args(arguments)
    text = f"2013-02..2013-{1 + int(options.months):02d}" if options.months.isdigit() else options.months
    started = time.monotonic() - (time.time() - options.since)
    try:
        running()
        wanted = months(text)
        require_unplayed()
        played = play(wanted, told)
        figures = closing(played, wanted, started)
    except (Stopped, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    say()
    say(table(figures))
    say(f"  report.html shows it; {figures['requests']:,} requests, {figures['failed_requests']} failed")
    killer = played.killer
    if killer.error:
        print(f"error: {killer.error}", file=sys.stderr)
    if options.json:
        say(json.dumps(figures, separators=(",", ":")))
    return 1 if killer.error or figures["failed_requests"] else 0


if __name__ == "__main__":
    sys.exit(main())
