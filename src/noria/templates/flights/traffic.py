"""The traffic: sends every flight as one request, in the order of departure, and its outcome once it has landed.

A client like any other: its own process, standard library only, HTTP with keep-alive over at most
64 connections, one request at a time on each. A request is sent again only if its connection broke
before the answer came, with the same id, so it counts once. Any answer but 200 is a failure.

It never stops for anybody; under a rate it goes slower while a month that is long over is still being
worked on (pace.py). Event time is the departure of the newest request; an outcome is posted as soon as
event time has passed the landing. `traffic/progress.json` is replaced a few times a
second; `traffic/answers.jsonl` keeps one line for each request (id, status, ms, prediction_id, release,
tries), so that anyone can count again; the last line on standard output is a JSON summary.

    python feed.py --traffic 2013-02..2013-04
    python traffic.py --months 2013-02..2013-04 --url http://127.0.0.1:4400
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import math
import os
import signal
import sys
import time
from array import array
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from pace import ASK_EVERY_S, Pace, share, status_of
from story import months

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "traffic"
MOST_IN_FLIGHT = 64
LABELS_AT_ONCE = 1000
TICK_S = 0.2
RETRY_S = 0.05
GIVE_UP_S = 120.0
"""How long no connection at all may be possible."""


class Request:
    """One flight on its way: what is sent, and what is known of it."""

    __slots__ = ("at_us", "body", "flight_id", "label", "landed_us", "month", "started", "tries")

    def __init__(self, month: str, line: bytes) -> None:
        name, at_us, landed_us, label, self.body = line.rstrip(b"\n").split(b"\t", 4)
        self.month = month
        self.flight_id = name.decode()
        self.at_us, self.landed_us, self.label = int(at_us), int(landed_us), int(label)
        self.started = 0
        self.tries = 1


def requests(wanted: Sequence[str]) -> Iterator[Request]:
    """Every request of the months, in time order."""
    for month in wanted:
        with (FOLDER / f"{month}.tsv").open("rb") as lines:
            for line in lines:
                yield Request(month, line)


def text_of(at_us: int) -> str:
    """An event time as ISO text."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Link(asyncio.Protocol):
    """One keep-alive connection with at most one request on it; connects again when it breaks."""

    def __init__(self, client: Client, path: str) -> None:
        self.client = client
        split = urlsplit(client.url)
        self.host, self.port = split.hostname or "127.0.0.1", split.port or 80
        token = f"Authorization: Bearer {client.token}\r\n" if client.token else ""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {split.netloc}\r\nContent-Type: application/json\r\n{token}Content-Length: "
        )
        self.head = head.encode()
        self.transport: asyncio.Transport | None = None
        self.wire = b""
        self.buffer = b""
        self.closing = False

    async def connect(self) -> None:
        """Connect, trying again until the client gives up; then send what is outstanding."""
        while not self.closing:
            try:
                await self.client.loop.create_connection(lambda: self, self.host, self.port)
                return
            except OSError as error:
                self.client.unreachable(error)
                await asyncio.sleep(RETRY_S)

    def send(self, body: bytes) -> None:
        """Send one request body, now or as soon as there is a connection."""
        self.wire = b"%s%d\r\n\r\n%s" % (self.head, len(body), body)
        if self.transport is not None:
            self.transport.write(self.wire)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""
        self.client.reachable()
        if self.wire:
            transport.write(self.wire)
        else:
            self.idle()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.closing:
            return
        if self.wire:
            self.broken()
        self.client.spawn(self.connect())

    def data_received(self, data: bytes) -> None:
        self.buffer = data = self.buffer + data if self.buffer else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        place = data.lower().find(b"content-length:", 0, end)
        if place < 0:
            self.client.fail(f"an answer without Content-Length: {data[:200]!r}")
            return
        stop = data.find(b"\r\n", place)
        whole = end + 4 + int(data[place + 15 : stop])
        if len(data) < whole:
            return
        self.buffer = b""
        self.wire = b""
        self.answered(int(data[9:12]), data[end + 4 : whole])

    def close(self) -> None:
        """Close for good."""
        self.closing = True
        if self.transport is not None:
            self.transport.close()

    def idle(self) -> None:
        """Connected, with nothing to send."""

    def broken(self) -> None:
        """The connection broke with a request on it; it is sent again."""

    def answered(self, status: int, body: bytes) -> None:
        """The answer of the request that was sent."""


class Asking(Link):
    """A connection for predictions."""

    request: Request | None = None

    def idle(self) -> None:
        self.client.ready(self)

    def ask(self, request: Request) -> None:
        """Send a flight."""
        self.request = request
        request.started = time.perf_counter_ns()
        self.send(request.body)

    def broken(self) -> None:
        self.client.retried += 1
        if self.request is not None:
            self.request.tries += 1

    def answered(self, status: int, body: bytes) -> None:
        request, self.request = self.request, None
        assert request is not None
        self.client.note(request, status, body)
        self.client.ready(self)


class Telling(Link):
    """The connection for outcomes."""

    count = 0

    def idle(self) -> None:
        self.client.tell()

    def answered(self, status: int, body: bytes) -> None:
        if status != 200:
            self.client.refused_labels += self.count
            print(f"outcomes refused with {status}: {body[:200]!r}", file=sys.stderr)
        else:
            self.client.told += self.count
        self.count = 0
        self.client.tell()


class Client:
    """Everything on its way, and the account of it."""

    def __init__(self, options: argparse.Namespace, log: TextIO) -> None:
        self.url: str = options.url
        self.token = os.environ.get("NORIA_TOKEN", "")
        self.model: str = options.model
        self.pace = Pace(options.rate, time.monotonic())
        self.log = log
        self.source = requests(options.months)
        self.asking = [Asking(self, f"/predict/{options.model}") for _ in range(options.in_flight)]
        self.telling = Telling(self, f"/v2/models/{options.model}/feedback")
        self.parked: dict[Asking, None] = {}
        self.landing: list[tuple[int, str, int]] = []
        self.latencies_us = array("I")
        self.by_month: Counter[str] = Counter()
        self.by_status: Counter[int] = Counter()
        self.by_release: Counter[str] = Counter()
        self.sent = self.failed = self.retried = self.told = self.refused_labels = 0
        self.at_us = 0
        self.newest = self.month = ""
        self.is_over = self.is_stopped = False
        self.failed_since = 0.0
        self.error = ""
        self.tasks: set[asyncio.Task[None]] = set()
        self.done = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run a coroutine beside the others; what it raises ends the client."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.ended)

    def ended(self, task: asyncio.Task[None]) -> None:
        """A coroutine is over; a failed one must not leave the client waiting for ever."""
        self.tasks.discard(task)
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            self.fail(f"{type(failure).__name__}: {failure}")

    def fail(self, why: str) -> None:
        """Give up; the summary says why."""
        self.error = self.error or why
        self.done.set()

    def unreachable(self, error: OSError) -> None:
        """A connection could not be made; too long, and the client gives up."""
        now = time.monotonic()
        self.failed_since = self.failed_since or now
        if now - self.failed_since > GIVE_UP_S:
            self.fail(f"no connection to {self.url} for {GIVE_UP_S:.0f} s: {error}")

    def reachable(self) -> None:
        """A connection was made."""
        self.failed_since = 0.0

    def ready(self, link: Asking) -> None:
        """A connection is free: it takes the next flight, or waits for its turn under a rate.

        One that waited, broke and came back is told so twice; it must not take two flights.
        """
        if link.request is not None:
            return
        if not self.pace.allows(self.sent, time.monotonic()):
            self.parked[link] = None
            return
        request = None if self.is_stopped else next(self.source, None)
        if request is None:
            self.is_over = True
            if all(other.request is None for other in self.asking):
                self.tell()
            return
        self.sent += 1
        self.at_us, self.month = request.at_us, request.month
        link.ask(request)

    def note(self, request: Request, status: int, body: bytes) -> None:
        """Account for an answer."""
        us = min((time.perf_counter_ns() - request.started) // 1000, 2**32 - 1)
        self.latencies_us.append(us)
        self.by_month[request.month] += 1
        self.by_status[status] += 1
        prediction, release = field(body, b'"prediction_id":'), field(body, b'"release":')
        self.log.write(
            f'{{"id":"{request.flight_id}","status":{status},"ms":{us / 1000},"prediction_id":"{prediction}",'
            f'"release":{release or "null"},"tries":{request.tries}}}\n'
        )
        if status != 200:
            self.failed += 1
            print(f"{request.flight_id} answered {status}: {body[:200]!r}", file=sys.stderr)
            return
        self.by_release[release] += 1
        self.newest = prediction
        if request.label >= 0:
            heapq.heappush(self.landing, (request.landed_us, request.flight_id, request.label))

    def tell(self) -> None:
        """Post the outcomes of flights that have landed by event time; at the very end, all of them."""
        if self.telling.count or self.telling.transport is None:
            return
        landing, last = self.landing, self.is_over and all(link.request is None for link in self.asking)
        labels: list[dict[str, object]] = []
        while landing and len(labels) < LABELS_AT_ONCE and (last or landing[0][0] <= self.at_us):
            landed_us, flight_id, label = heapq.heappop(landing)
            labels.append({"id": flight_id, "label": label, "at": text_of(landed_us)})
        if labels:
            self.telling.count = len(labels)
            self.telling.send(json.dumps({"labels": labels}, separators=(",", ":")).encode())
        elif last:
            self.done.set()

    async def run(self) -> dict[str, object]:
        """Send everything; gives the summary."""
        self.started = time.monotonic()
        for link in (self.telling, *self.asking):
            self.spawn(link.connect())
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self.stop)
        self.spawn(self.ticking())
        if self.pace.rate:
            self.spawn(self.pacing())
            self.spawn(self.asking_about())
        await self.done.wait()
        for link in (self.telling, *self.asking):
            link.close()
        self.write_progress(is_done=True)
        return self.summary()

    def stop(self) -> None:
        """Send no new flight; end when what is on its way has been answered."""
        self.is_stopped = True

    async def ticking(self) -> None:
        """Post due outcomes and write the progress, a few times a second."""
        while not self.done.is_set():
            await asyncio.sleep(TICK_S)
            self.tell()
            self.write_progress(is_done=False)

    async def pacing(self) -> None:
        """Give waiting connections their turn under a rate."""
        while not self.done.is_set():
            await asyncio.sleep(0.002)
            waiting, self.parked = list(self.parked), {}
            for link in waiting:
                self.ready(link)

    async def asking_about(self) -> None:
        """Look now and then whether the months that are over have been worked on."""
        while not self.done.is_set():
            await asyncio.sleep(ASK_EVERY_S)
            found = await status_of(self.url, self.token)
            if found is not None:
                self.pace.share = share(found, self.model, datetime.fromtimestamp(self.at_us / 1e6, UTC))

    def write_progress(self, *, is_done: bool) -> None:
        """Replace the progress file."""
        self.log.flush()
        state = {
            "is_done": is_done,
            "sent": self.sent,
            "answered": len(self.latencies_us),
            "failed_requests": self.failed,
            "retried": self.retried,
            "labels": self.told,
            "month": self.month,
            "at": text_of(self.at_us) if self.at_us else "",
            "releases": dict(self.by_release),
            "newest": self.newest,
        }
        part = FOLDER / f".progress.{os.getpid()}"
        part.write_text(json.dumps(state) + "\n")
        part.replace(FOLDER / "progress.json")

    def summary(self) -> dict[str, object]:
        """The account at the end."""
        seconds = time.monotonic() - self.started
        ordered = sorted(self.latencies_us)
        return {
            "requests": len(ordered),
            "failed_requests": self.failed,
            "unanswered": self.sent - len(ordered),
            "retried": self.retried,
            "labels": self.told,
            "failed_labels": self.refused_labels + len(self.landing),
            "p50_ms": quantile_ms(ordered, 0.50),
            "p99_ms": quantile_ms(ordered, 0.99),
            "seconds": round(seconds, 2),
            "slowed_seconds": round(self.pace.slowed_s, 2),
            "per_second": round(len(ordered) / seconds, 1),
            "cpu_us_per_request": round(time.process_time() * 1e6 / max(len(ordered), 1), 1),
            "months": dict(self.by_month),
            "statuses": {str(status): count for status, count in self.by_status.items()},
            "releases": dict(self.by_release),
            "is_complete": not self.is_stopped and not self.error,
            "error": self.error,
        }


def field(body: bytes, name: bytes) -> str:
    """The value of a field of a flat JSON object, without parsing all of it; empty if it is not there."""
    place = body.find(name)
    if place < 0:
        return ""
    start = place + len(name)
    stop = body.find(b",", start)
    return body[start : stop if stop >= 0 else body.find(b"}", start)].strip(b' "').decode()


def quantile_ms(ordered: Sequence[int], share: float) -> float | None:
    """A quantile of sorted microseconds in milliseconds (nearest rank)."""
    if not ordered:
        return None
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)] / 1000, 3)


async def play(options: argparse.Namespace) -> dict[str, object]:
    """Send the months; gives the summary."""
    with (FOLDER / "answers.jsonl").open("w") as log:
        return await Client(options, log).run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the traffic; exit 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=months, default=months("2013-02..2013-12"))
    parser.add_argument("--url", default="http://127.0.0.1:4400")
    parser.add_argument("--model", default="flights")
    parser.add_argument("--in-flight", type=int, default=MOST_IN_FLIGHT, choices=range(1, MOST_IN_FLIGHT + 1))
    parser.add_argument("--rate", type=float, default=0.0, help="requests per second at most; 0: no limit")
    options = parser.parse_args(arguments)
    for month in options.months:
        if not (FOLDER / f"{month}.tsv").is_file():
            parser.error(f"there is no traffic/{month}.tsv; make it with: python feed.py --traffic {month}")
    summary = asyncio.run(play(options))
    (FOLDER / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary))
    is_fine = summary["is_complete"] and not (
        summary["failed_requests"] or summary["unanswered"] or summary["failed_labels"]
    )
    return 0 if is_fine else 1


if __name__ == "__main__":
    sys.exit(main())
