"""The process that speaks with Ray, so that the one that drives a run needs not: started by the Ray executor.

It starts a cluster of its own on this machine, or connects to one, and hands orders to actors
(`rayhost`). When the process that asked is gone its socket closes, and everything is given back; when
Ray's head is lost, this process goes, and the executor starts another. It keeps no state that
anybody needs: results are in the object store and in the journal before they are told here.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path
from typing import Any

from noria.core.frozen import slotted
from noria.core.lazy import lazy
from noria.engines.executors.rayhost import Host

__all__ = ["main"]

ray = lazy("ray")
OBJECT_STORE_BYTES = 200 << 20
"""Of a cluster of its own: results go to the project's object store, not through Ray's."""
PREFIX = "noria-ray-"
SOCKET_ROOM = 36
"""So long may the folder of temporary files be: Ray's sockets lie in it, and their paths end at 107 bytes."""
CONNECT_S = 10.0
IDLE_S = 20.0
"""A place that has had nothing to do for so long is given back to the cluster."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # limits are the pool's: a step is never ended without being named
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",  # a cluster of its own without its head is of no use
    "RAY_DEDUP_LOGS": "0",
}
Shape = tuple[float, int, float]


@slotted(eq=False)
class _Place:
    """An actor: `number` is the order it has now, -1 none; `is_ready` once it has met the terms."""

    actor: Any
    shape: Shape
    is_ready: bool = False
    number: int = -1
    host: str = ""
    since: float = field(default_factory=time.monotonic)


class _Gone(Exception):
    """This machine is no longer a node of the cluster."""


class _Broker:
    """The one loop that owns the state; other threads only put events into its queue."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._terms: dict[str, Any] = {}
        self._waiting: dict[Shape, deque[int]] = {}
        self._orders: dict[int, dict[str, Any]] = {}
        self._places: list[_Place] = []

    def run(self) -> None:
        """Until the other side is gone."""
        threading.Thread(target=self._listen, name="noria-orders", daemon=True).start()
        while True:
            try:
                what, thing = self._events.get(timeout=IDLE_S / 4)
            except queue.Empty:
                self._drop_idle()
                continue
            if what == "end":
                return
            if what == "line":
                self._take(thing)
            elif what == "met":
                self._met(*thing)
            else:
                self._over(*thing)
            self._pump()

    def say(self, told: dict[str, Any]) -> None:
        """Tell the executor."""
        with contextlib.suppress(OSError):  # it is gone: the listener tells
            self._channel.sendall(json.dumps(told, separators=(",", ":")).encode() + b"\n")

    def _listen(self) -> None:
        with contextlib.suppress(OSError), self._channel.makefile("rb") as lines:
            for line in lines:
                self._events.put(("line", json.loads(line)))
        self._events.put(("end", None))

    def _take(self, told: dict[str, Any]) -> None:
        if told["do"] == "terms":
            self._terms = told["terms"]
            known = {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH_")}
            self._terms["environ"] |= {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, **known}
        elif told["do"] == "submit":
            order, number = told["order"], told["number"]
            self._orders[number] = order
            cpu = min(float(order["cpu"]), _most("CPU"))  # more cores than a node has is all of them
            shape = (cpu, int(order["memory_bytes"]), float(order["gpu"]))
            self._waiting.setdefault(shape, deque()).append(number)
        else:
            self._cancel(told["number"], told["grace_s"])

    def _cancel(self, number: int, grace_s: float) -> None:
        for place in self._places:
            if place.number == number:
                place.actor.cancel.remote(number, grace_s)
                return
        for waiting in self._waiting.values():
            if number in waiting:
                waiting.remove(number)
                del self._orders[number]
                self.say({"over": number, "cancelled": True})

    # places

    def _pump(self) -> None:
        """Give orders to free places, and ask for as many more as orders wait."""
        for shape, waiting in self._waiting.items():
            mine = [place for place in self._places if place.shape == shape]
            for place in mine:
                if waiting and place.is_ready and place.number < 0:
                    self._give(place, waiting.popleft())
            for idle in [each for each in self._places if waiting and each.is_ready and each.number < 0]:
                self._drop(idle)  # of another shape: it may hold what is needed now
            for _ in range(len(waiting) - sum(not place.is_ready for place in mine)):
                self._open(shape)

    def _open(self, shape: Shape) -> None:
        if not _is_node():
            raise _Gone
        if not _fits(shape):
            self._refuse(shape, ["UsageError", f"no node of the Ray cluster has {_words(shape)} at once", "", ""])
            return
        cpu, memory_bytes, gpu = shape
        options: dict[str, Any] = {"num_cpus": cpu, "num_gpus": gpu, "max_concurrency": 4, "max_restarts": 0}
        if memory_bytes:
            options["memory"] = memory_bytes
        place = _Place(ray.remote(Host).options(**options).remote(), shape)
        self._places.append(place)
        self._hear("met", place, place.actor.meet.remote(self._terms))

    def _give(self, place: _Place, number: int) -> None:
        place.number = number
        self._hear("over", place, place.actor.run.remote(number, self._orders[number]))

    def _hear(self, what: str, place: _Place, reference: Any) -> None:
        reference.future().add_done_callback(lambda future: self._events.put((what, (place, future))))

    def _met(self, place: _Place, future: Any) -> None:
        if place not in self._places:
            return
        error = future.exception()
        if error is not None:
            self._drop(place)
            self._refuse(place.shape, _lost(error))
            return
        found = future.result()
        if found["refused"]:
            self._drop(place)
            self._refuse(place.shape, ["UsageError", found["refused"], "", found["hint"]])
            return
        place.is_ready, place.host, place.since = True, found["host"], time.monotonic()

    def _over(self, place: _Place, future: Any) -> None:
        number, place.number, place.since = place.number, -1, time.monotonic()
        self._orders.pop(number, None)
        error = future.exception()
        if error is None:
            self.say({"over": number, "done": future.result(), "host": place.host})
            return
        self._drop(place)
        self.say({"over": number, "lost": _lost(error)})

    def _refuse(self, shape: Shape, error: list[str]) -> None:
        """One order that waits for such a place has an end: the next place may be better, or not."""
        if self._waiting[shape]:
            number = self._waiting[shape].popleft()
            del self._orders[number]
            self.say({"over": number, "lost": error})

    def _drop(self, place: _Place) -> None:
        if place in self._places:
            self._places.remove(place)
            ray.kill(place.actor, no_restart=True)

    def _drop_idle(self) -> None:
        now = time.monotonic()
        for place in [each for each in self._places if each.is_ready and each.number < 0]:
            if now - place.since > IDLE_S:
                self._drop(place)


def _lost(error: BaseException) -> list[str]:
    """Kind, message, where and hint for a place that Ray lost, or could not make."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any("No module named 'noria" in line for line in lines):
        hint = "pip install 'noria[ray]' on every node"
        return ["UsageError", "a node of the Ray cluster has no Noria", "", hint]
    reason = next((line for line in lines if "died" in line or "killed" in line or "unavailable" in line), "")
    return ["StepKilled", f"Ray lost the process it ran in: {(reason or type(error).__name__)[:200]}", "", ""]


def _fits(shape: Shape) -> bool:
    """Whether one node that is there has all of it."""
    cpu, memory_bytes, gpu = shape
    return any(
        has.get("CPU", 0.0) >= cpu and has.get("memory", 0.0) >= memory_bytes and has.get("GPU", 0.0) >= gpu
        for has in _nodes()
    )


def _is_node() -> bool:
    here = ray.get_runtime_context().get_node_id()
    return any(node["NodeID"] == here and node["Alive"] for node in ray.nodes())


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _most(name: str) -> float:
    """What the node has that has most of it."""
    return max((has.get(name, 0.0) for has in _nodes()), default=0.0)


def _words(shape: Shape) -> str:
    cpu, memory_bytes, gpu = shape
    parts = [f"cpu={cpu:g}", f"memory={memory_bytes}" if memory_bytes else "", f"gpu={gpu:g}" if gpu else ""]
    return ", ".join(part for part in parts if part)


def _capacity() -> dict[str, Any]:
    """What the cluster has, all in all and on its largest nodes."""
    nodes = _nodes()

    def all_of(name: str) -> float:
        return math.fsum(has.get(name, 0.0) for has in nodes)

    return {
        "cpu": all_of("CPU"),
        "memory_bytes": int(all_of("memory")),
        "gpu": all_of("GPU"),
        "each": {"cpu": _most("CPU"), "memory_bytes": int(_most("memory")), "gpu": _most("GPU")},
    }


@contextlib.contextmanager
def _connected(told: dict[str, Any]) -> Iterator[None]:
    """A cluster for the block: the one at an address, or an own one with all that it needs.

    One that is gone is not said good-bye to: that would wait for it. What is left of an own one ends with
    this process (Ray's processes ask the kernel for that).
    """
    quiet = {"configure_logging": False, "log_to_driver": False, "namespace": "noria"}
    if told["address"]:
        if ":" in told["address"]:
            host, _, port = told["address"].rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_S).close()  # Ray itself would try for a minute
        ray.init(address=told["address"], **quiet)
        yield
        ray.shutdown()
        return
    # Nobody else on this machine may use it: whoever may, can have any code run. Steps can (`ray.init()`).
    os.environ.update(QUIET, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    if told["devices"]:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(told["devices"])
    parent = tempfile.gettempdir()
    parent = parent if len(parent) <= SOCKET_ROOM else "/tmp"
    _clear(Path(parent))
    folder = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent)
    try:
        ray.init(
            address="local",
            num_cpus=math.ceil(told["cpu"]),
            num_gpus=len(told["devices"]),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            _memory=told["memory_bytes"] or None,
            _temp_dir=folder,
            **quiet,
        )
        yield
        ray.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _clear(parent: Path) -> None:
    """Remove what clusters left whose broker was killed."""
    for folder in parent.glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        with contextlib.suppress(OSError):  # another user's, or another broker clears it now
            if pid.isdigit() and folder.stat().st_uid == os.getuid() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(folder)


def main(arguments: list[str] | None = None) -> int:
    """Speak with Ray for whoever is at the other end of the socket, until that closes."""
    (descriptor,) = arguments if arguments is not None else sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(descriptor)) as channel:
        os.set_inheritable(channel.fileno(), False)
        told = json.loads(_first_line(channel))
        broker = _Broker(channel)
        try:
            with _connected(told):
                broker.say({"capacity": _capacity()})
                broker.run()
        except (OSError, RuntimeError, ValueError) as error:
            broker.say({"refused": _why_not(error)})
            return 1
        except _Gone:
            return 1  # the socket closes: the executor takes another cluster, or tells that there is none
    return 0


def _why_not(error: BaseException) -> str:
    if isinstance(error.__cause__, ray.exceptions.AuthenticationError):
        return "it wants a token (RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or ~/.ray/auth_token)"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


def _first_line(channel: socket.socket) -> bytes:
    content = b""
    while not content.endswith(b"\n"):
        more = channel.recv(1)
        if not more:
            raise SystemExit(0)
        content += more
    return content


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
