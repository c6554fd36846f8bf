"""A raw asyncio HTTP client for load: many connections, one request at a time on each, retry on a broken one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Answers:
    """What came back: (request, status, body, seconds) and how many connections broke."""

    found: list[tuple[dict[str, Any], int, dict[str, Any], float]] = field(default_factory=list)
    broken: int = 0

    @property
    def failed(self) -> int:
        """Answers other than 200."""
        return sum(1 for _, status, _, _ in self.found if status != 200)


async def send(
    port: int,
    requests: Iterable[dict[str, Any]],
    *,
    at_once: int,
    path: str = "/predict",
    until: Callable[[], bool],
    into: Answers | None = None,
) -> Answers:
    """Send requests in order over `at_once` connections until they are out or `until` says so."""
    answers, source = into if into is not None else Answers(), iter(requests)

    async def one() -> None:
        streams = None
        try:
            for request in source:
                if until():
                    return
                streams = await asked(request, streams)
        finally:
            if streams is not None:
                streams[1].close()
                with contextlib.suppress(ConnectionError):
                    await streams[1].wait_closed()

    async def asked(request: dict[str, Any], streams: Streams | None) -> Streams:
        payload = json.dumps(request).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(payload)}\r\n\r\n"
        for _ in range(500):
            started = time.perf_counter()
            try:
                if streams is None:
                    streams = await asyncio.open_connection("127.0.0.1", port)
                streams[1].write(head.encode() + payload)
                status, body = await _answer(streams[0])
            except (ConnectionError, asyncio.IncompleteReadError):
                answers.broken += 1
                if streams is not None:
                    streams[1].close()
                streams = None
                await asyncio.sleep(0.02)
                continue
            answers.found.append((request, status, body, time.perf_counter() - started))
            return streams
        raise AssertionError("a request found no server in 500 tries")

    await asyncio.gather(*(one() for _ in range(at_once)))
    return answers


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return status, json.loads(await reader.readexactly(length))


def load(
    port: int,
    requests: Iterable[dict[str, Any]],
    *,
    at_once: int = 16,
    path: str = "/predict",
    until: Callable[[], bool] = lambda: False,
    into: Answers | None = None,
) -> Answers:
    """`send` from ordinary code."""
    return asyncio.run(send(port, requests, at_once=at_once, path=path, until=until, into=into))


@contextmanager
def under_load(port: int, requests: Iterable[dict[str, Any]], *, at_once: int = 16) -> Iterator[Answers]:
    """Requests go on in a thread for the length of the block; begins when the first answers are in."""
    answers, ended = Answers(), threading.Event()
    client = threading.Thread(
        target=load, args=(port, requests), kwargs={"at_once": at_once, "until": ended.is_set, "into": answers}
    )
    client.start()
    try:
        wait_for(lambda: len(answers.found) > at_once, what="the first answers")
        yield answers
    finally:
        ended.set()
        client.join()


def wait_for(condition: Callable[[], Any], *, limit_s: float = 30.0, what: str = "the condition") -> Any:
    """The first true value of a condition that is looked at often; fails after the limit.

    Who waits for long looks less often: a look at a ledger takes from the processes that it waits for.
    """
    began, pause_s = time.monotonic(), 0.01
    while time.monotonic() < began + limit_s:
        found = condition()
        if found:
            return found
        time.sleep(pause_s)
        pause_s = min(0.1, pause_s * 1.1)
    raise AssertionError(f"{what} did not come true within {limit_s:.0f} s")


class ServerProcess:
    """A real server process on a socket that the test holds, as the supervisor would."""

    def __init__(self, root: Path, **environment: str) -> None:
        self._root = root
        self._environment = environment
        self.listening = socket.socket()
        self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listening.bind(("127.0.0.1", 0))
        self.listening.listen(1024)
        self.port: int = self.listening.getsockname()[1]
        self.start()

    def start(self) -> None:
        """Start (again) on the same socket."""
        descriptor = self.listening.fileno()
        command = [sys.executable, "-m", "noria.faces.server", "--root", str(self._root), "--fd", str(descriptor)]
        environment = {**os.environ, "NORIA_PORT": str(self.port), **self._environment}
        with (self._root / "server.log").open("ab") as output:
            self.process = subprocess.Popen(
                command, pass_fds=(descriptor,), stdin=subprocess.PIPE, stderr=output, stdout=output, env=environment
            )

    def kill(self) -> None:
        """SIGKILL, as a power cut for the process."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()

    def get(self, path: str) -> tuple[int, bytes]:
        """One GET."""
        return self.raw(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())

    def post(self, path: str, body: bytes, *headers: str) -> tuple[int, Any]:
        """One POST; the body of the answer is JSON."""
        lines = [f"POST {path} HTTP/1.1", "host: localhost", "connection: close", *headers]
        head = "\r\n".join([*lines, f"content-length: {len(body)}"]) + "\r\n\r\n"
        status, content = self.raw(head.encode() + body)
        return status, json.loads(content)

    def raw(self, request: bytes) -> tuple[int, bytes]:
        """Send bytes, read to the end: status and body."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as stream:
            stream.sendall(request)
            parts = []
            while part := stream.recv(65536):
                parts.append(part)
        head, _, body = b"".join(parts).partition(b"\r\n\r\n")
        return int(head[9:12]), body

    def stop(self) -> None:
        """Stop it in good order and close the socket."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.listening.close()


@contextmanager
def serving(root: Path, **environment: str) -> Iterator[ServerProcess]:
    """A server for the length of a test."""
    server = ServerProcess(root, **environment)
    try:
        yield server
    finally:
        server.stop()
