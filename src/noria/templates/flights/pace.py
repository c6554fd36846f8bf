"""The pace of the replay: how fast a year may go by that is played in two minutes.

In truth a month lasts a month, and a review of the month before has all of it. Played at a month in
ten seconds, a busy machine may still be training on April when July goes by, and what comes of it
says more about the machine than about the models. So the traffic asks what is being worked on, and
goes on at a third of its rate while the oldest such month ended more than 25 days ago by the clock
of the traffic, and at a twelfth beyond 40 (`SLOWER`). It never stops, and no request waits for anything.

Standard library only.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

ASK_EVERY_S = 1.0
SLOWER = ((40, 1 / 12), (25, 1 / 3))
"""From so many days behind on, this share of the rate. The second is for a machine that has other work to do."""
_MONTH = re.compile(r"/(\d{4}-\d\d)/")


class Pace:
    """How many requests may have been sent by now. Rate 0: as many as the server takes."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.share = 1.0
        self.slowed_s = 0.0
        self._allowed = 0.0
        self._at = now

    def allows(self, sent: int, now: float) -> bool:
        """Whether one more may go. Time that the server could not use does not pile up beyond a second."""
        if not self.rate:
            return True
        passed, self._at = now - self._at, now
        self.slowed_s += passed if self.share < 1 else 0.0
        self._allowed = min(self._allowed + self.rate * self.share * passed, sent + self.rate)
        return sent < self._allowed


def share(status: Mapping[str, Any], model: str, at: datetime) -> float:
    """The part of the rate to go at: less, the longer ago the oldest month ended that is still open."""
    behind = max((at - end_of(month) for month in unfinished(status, model)), default=timedelta())
    return next((part for days, part in SLOWER if behind > timedelta(days=days)), 1.0)


def unfinished(status: Mapping[str, Any], model: str) -> Iterator[str]:
    """The months of jobs that wait or run, and the month after the last one that was decided on."""
    for job in status["jobs"]:
        found = _MONTH.search(str(job["about"]))
        if found:
            yield found[1]
    for known in status["models"]:
        decided = [window["window"] for window in known["windows"] if window["decision"]]
        if known["model"] == model and decided:
            yield end_of(max(decided)).strftime("%Y-%m")


def end_of(month: str) -> datetime:
    """The first moment after a month, in UTC."""
    first = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    return (first + timedelta(days=32)).replace(day=1)


async def status_of(url: str, token: str) -> Mapping[str, Any] | None:
    """What `noria status` says, asked over HTTP; None while the server is away or starts again."""
    split = urlsplit(url)
    head = f"POST /api/v1/project/status HTTP/1.1\r\nHost: {split.netloc}\r\nConnection: close\r\n"
    head += f"Authorization: Bearer {token}\r\n" if token else ""
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(split.hostname, split.port or 80)
            try:
                writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}".encode())
                answer = await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    top, _, body = answer.partition(b"\r\n\r\n")
    if not top.startswith(b"HTTP/1.1 200"):
        return None
    found: Mapping[str, Any] = json.loads(body)["result"]
    return found
