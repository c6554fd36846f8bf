"""`noria up`: one process that holds the socket and keeps the server, controller and trainer alive.

The server is started first, and held: it loads what answers need while this process opens the workspace, and is let
go when nothing was found wrong with that. The others are started when it answers, and then it is said to be up. The
listening socket belongs to this process and stays open while a server is restarted, so that new connections wait
instead of failing. Beside the server a stand-by has everything loaded and waits; when the server dies the stand-by
takes the socket within a tenth of a second, and a new one is made. Other children that die are started again at once;
one that dies again and again is started later each time. `.noria/up.json` says who runs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from noria import plugins
from noria.config import Project
from noria.core.clock import utc_text
from noria.core.errors import ConfigError, Conflict, Denied, UsageError, WorldError
from noria.core.frozen import slotted
from noria.core.lazy import lazy
from noria.faces.logs import start_log
from noria.identities import is_loopback_host
from noria.store.direct import HasDirect
from noria.store.disk import disk_faults, make_state

if TYPE_CHECKING:
    from noria import bootstrap
    from noria.governance import sessions, tokens
    from noria.store.workspace import Workspace
else:  # the server is started before any of it is loaded
    bootstrap = lazy("noria.bootstrap")
    sessions, tokens = lazy("noria.governance.sessions"), lazy("noria.governance.tokens")

__all__ = ["CHILDREN", "up"]

log = logging.getLogger("noria.up")
CHILDREN = ("server", "controller", "trainer")
NOTE = "up.json"
STANDBY = "standby"
_Handler = Callable[[int, FrameType | None], object] | int | None
OTHERS_AFTER_S = 1.5
"""What answers is loaded first: with two cores, three processes that import at once delay each other. The others are
started when it answers, or that long after it was: a model may take long to load."""
TRAINER_AFTER_S = 0.4
"""How long after the controller the trainer is started, for the same reason."""
STANDBY_AFTER_S = 5.0
"""The stand-by is made when the others have started; loading costs it a second or two of a core."""
LOOK_S = 3.0
"""How often it is asked what servers cannot load."""
BACKLOG = 2048
STEADY_S = 5.0
BACKOFF_S = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
ROOM_BYTES = 64 * 1024
STOP_S = 10.0
ORPHANS_S = 20.0
"""How long the processes of a supervisor that was killed may take: they see it at once, and finish what they answer."""
LOG_LIMIT_BYTES = 10 * 1024 * 1024
SERVER_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}
"""What a server that answers from a pool of threads asked for once, it would keep: the C library holds memory apart
for each thread, raises the size from which it gives memory back, and Arrow has a pool of its own that keeps more. Who
starts `noria up` may say otherwise."""


@slotted
class _Child:
    name: str
    process: subprocess.Popen[bytes]
    started: float
    deaths: int = 0


def _require_guarded(ws: Workspace, host: str) -> None:
    """Raises: Denied for an open door; ConfigError for a door that nobody could come in by."""
    project = ws.project
    if project.access.has_providers:
        sessions.require_usable(project)
        plugins.load("issuer", "oidc").require_installed()
    elif not is_loopback_host(host) and not project.server.token and not tokens.has_live(ws):
        raise Denied(
            f"{host} can be reached from other machines, and there is no token",
            hint="noria token create --name YOU --role admin, or listen on 127.0.0.1",
        )


def _require_addresses(ws: Workspace) -> None:
    """Raises: ConfigError if artifacts are to go past the server, and the store gives out no addresses."""
    if ws.project.server.artifacts == "direct" and not isinstance(ws.objects.store, HasDirect):
        raise ConfigError(
            'server.artifacts is "direct", and the object store has no addresses to give to clients',
            where="noria.toml",
            hint='[store] objects = "s3://bucket/prefix", or artifacts = "server"',
        )


def up(
    project: Project,
    *,
    host: str = "",
    port: int | None = None,
    clock: str = "",
    actor: str = "",
    quiet: bool = False,
    trains: bool = True,
) -> int:
    """Run the project's processes until SIGTERM or SIGINT; gives the exit code.

    Args:
        host, port: where to listen, else as noria.toml says; port 0 takes a free one.
        clock: "events" or "wall", else as noria.toml says.
        trains: whether the jobs of the queue are done here; else they wait for another that does them.
    Raises: Denied for an address beyond this machine without a token; Conflict if the port is in
        use, or the project is up already. Nothing was started then.
    """
    host, port = host or project.server.host, project.server.port if port is None else port
    host_name = host.strip("[]").lower()

    @functools.cache
    def opened() -> Workspace:
        ws = bootstrap.open_workspace(project=project, actor=actor)
        _require_guarded(ws, host_name)
        _require_addresses(ws)
        return ws

    if not is_loopback_host(host_name):
        opened()  # before anybody can connect
    make_state(project.state.resolve())
    lock = _lock(project)
    try:
        listening = _listen_after(project, host, port)
    except BaseException:
        os.close(lock)
        raise
    start_log("up")
    environment = {
        "OMP_WAIT_POLICY": "PASSIVE",
        **os.environ,
        "NORIA_HOST": host,
        "NORIA_PORT": str(listening.getsockname()[1]),
    }
    if clock:
        environment["NORIA_CLOCK"] = clock
    children = CHILDREN if trains else tuple(name for name in CHILDREN if name != "trainer")
    supervisor = _Supervisor(project, opened, listening, environment, children)
    try:
        return supervisor.run("" if quiet else f"noria is up: {supervisor.url}    stop: Ctrl-C")
    finally:
        listening.close()
        os.close(lock)


class _Supervisor:
    def __init__(
        self,
        project: Project,
        opened: Callable[[], Workspace],
        listening: socket.socket,
        environment: dict[str, str],
        roles: Sequence[str],
    ) -> None:
        self._roles = roles
        self._opened = opened
        self._warned: set[tuple[str, str]] = set()
        self._root = Path(project.root).resolve()
        self._state = project.state.resolve()
        self._socket = listening
        self._environment = environment
        self._started_at = ""
        self._events: queue.SimpleQueue[tuple[str, object]] = queue.SimpleQueue()
        self._children: dict[str, _Child] = {}
        self._has_others = False
        self._greeting = ""
        host, port = listening.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self, greeting: str) -> int:
        """Start everything, restart what dies, until a signal; then stop everything.

        Raises: what opening the workspace does; nothing has answered or worked then.
        """
        before: dict[int, _Handler] = {}
        try:
            self._require_room()
            self._start("server", 0, is_held=True)
            self._greeting = greeting
            self._started_at = utc_text(self._opened().clock.now())
            before = {number: signal.signal(number, self._signalled) for number in (signal.SIGTERM, signal.SIGINT)}
            self._let_go()
            self._tell()
            self._after(OTHERS_AFTER_S, "others", None)
            self._later(STANDBY_AFTER_S, STANDBY, 0)
            self._after(LOOK_S, "look", None)
            while True:
                what, value = self._events.get()
                if what == "signal":
                    log.info("stopping after signal %s", value)
                    return 0
                self._met(what, value)
        finally:
            self._stop()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _met(self, what: str, value: object) -> None:
        """Do what an event asks for."""
        if what == "look":
            self._look()
            self._after(LOOK_S, "look", None)
        elif what == "others":
            self._start_others()
            if self._greeting and value != "died":
                text = f"noria is starting: the server loads what is deployed, then {self.url} answers"
                print(text, file=sys.stderr, flush=True)
        elif what == "answers":
            self._greet()
            self._start_others()
        elif what == "died":
            self._died(value)
        elif what == "restart":
            assert isinstance(value, tuple)
            name, deaths = value
            if name not in self._children or self._children[name].process.poll() is not None:
                self._start(name, deaths)
                self._tell()

    def _greet(self) -> None:
        """Say that it is up, once: when the first request would be answered."""
        if self._greeting:
            print(self._greeting, flush=True)
            self._greeting = ""

    def _start_others(self) -> None:
        """Start what works beside the server, once."""
        if self._has_others:
            return
        self._has_others = True
        self._start("controller", 0)
        if "trainer" in self._roles:
            self._later(TRAINER_AFTER_S, "trainer", 0)
        self._tell()

    def _let_go(self) -> None:
        """Let the held server open the workspace; one that has died meanwhile is started again as any."""
        held = self._children["server"].process
        assert held.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            held.stdin.write(b"g")
            held.stdin.flush()

    def _signalled(self, number: int, frame: object) -> None:
        self._events.put(("signal", number))

    def _start(self, name: str, deaths: int, *, is_held: bool = False) -> None:
        role = "server" if name == STANDBY else name
        command = [sys.executable, "-m", f"noria.faces.{role}", "--root", str(self._root)]
        descriptors: tuple[int, ...] = ()
        environment = self._environment
        ready = os.pipe() if is_held or (role == "server" and self._greeting) else ()
        if role == "server":
            environment = {**SERVER_ENVIRONMENT, **environment}
            command += ["--fd", str(self._socket.fileno()), *(["--standby"] if name == STANDBY else [])]
            command += ["--held"] if is_held else []
            command += ["--ready", str(ready[1])] if ready else []
            descriptors = (self._socket.fileno(), *ready[1:])
        logs = self._state / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        path = logs / f"{role}.log"
        if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".old"))
        with path.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=descriptors,
                env=environment,
                cwd=self._root,
                start_new_session=True,
            )
        self._children[name] = child = _Child(name, process, time.monotonic(), deaths)
        threading.Thread(target=self._wait, args=(child,), name=f"noria-wait-{name}", daemon=True).start()
        if ready:
            os.close(ready[1])
            threading.Thread(target=self._hear, args=(ready[0],), name="noria-ready", daemon=True).start()

    def _hear(self, ready: int) -> None:
        """Wait until the server answers, or has died."""
        answers = os.read(ready, 1)
        os.close(ready)
        self._events.put(("answers", None) if answers else ("others", "died"))

    def _wait(self, child: _Child) -> None:
        child.process.wait()
        self._events.put(("died", child))

    def _died(self, value: object) -> None:
        assert isinstance(value, _Child)
        deaths = 0 if time.monotonic() - value.started > STEADY_S else value.deaths + 1
        pause = BACKOFF_S[min(deaths, len(BACKOFF_S) - 1)]
        code = value.process.returncode
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        log.warning(
            "%s (pid %d) %s; starting it again%s", value.name, value.process.pid, how, f" in {pause} s" * bool(pause)
        )
        if value.name == "server" and self._take_over(deaths):
            return
        if pause:
            self._later(pause, value.name, deaths)
        else:
            self._start(value.name, deaths)
            self._tell()

    def _take_over(self, deaths: int) -> bool:
        """Let the stand-by be the server; False if there is none."""
        child = self._children.pop(STANDBY, None)
        if child is None or child.process.poll() is not None:
            return False
        assert child.process.stdin is not None
        try:
            child.process.stdin.write(b"g")
            child.process.stdin.flush()
        except BrokenPipeError:
            return False
        child.name, child.deaths, child.started = "server", deaths, time.monotonic()
        self._children["server"] = child
        self._tell()
        self._later(STANDBY_AFTER_S, STANDBY, 0)
        return True

    def _later(self, pause: float, name: str, deaths: int) -> None:
        self._after(pause, "restart", (name, deaths))

    def _after(self, pause: float, what: str, value: object) -> None:
        timer = threading.Timer(pause, self._events.put, [(what, value)])
        timer.daemon = True
        timer.start()

    def _look(self) -> None:
        """Say which models are deployed and cannot be loaded by our server, each once."""
        try:
            leases = self._opened().jobs.leases("server/")
        except WorldError as error:
            log.error("the ledger cannot be read: %s", error)
            return
        pids = {child.process.pid for child in self._children.values()}
        failed = set()
        for lease in leases:
            told = lease.data.get("failed")
            if lease.is_live and lease.data.get("pid") in pids and isinstance(told, dict):
                failed |= {(model, str(why["error"])) for model, why in told.items() if isinstance(why, dict)}
        for model, why in sorted(failed - self._warned):
            log.error("%s is deployed and cannot be loaded: %s; next: noria rollback %s", model, why, model)
        self._warned = failed

    def _tell(self) -> None:
        """Write up.json: the supervisor's pid, the address, and the children's pids. Replaced as a whole."""
        document = {
            "pid": os.getpid(),
            "url": self.url,
            "children": {name: self._children[name].process.pid for name in CHILDREN if name in self._children},
            "started_at": self._started_at,
        }
        path = self._state / NOTE
        temporary = path.with_suffix(".tmp")
        try:
            with disk_faults(path):
                temporary.write_text(json.dumps(document), encoding="utf-8")
                temporary.replace(path)
        except WorldError as error:
            # What answers goes on answering; only the note about it is old.
            temporary.unlink(missing_ok=True)
            log.error("%s could not be written: %s", path, error)

    def _require_room(self) -> None:
        """A full or read-only disk ends it before anything is started or announced. Raises: StoreFull."""
        place = self._state / "up.tmp"
        try:
            with disk_faults(place):
                place.write_bytes(bytes(ROOM_BYTES))
        finally:
            place.unlink(missing_ok=True)

    def _stop(self) -> None:
        (self._state / NOTE).unlink(missing_ok=True)
        living = [child.process for child in self._children.values() if child.process.poll() is None]
        for process in living:
            process.terminate()
        deadline = time.monotonic() + STOP_S
        for process in living:
            try:
                process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("pid %d did not stop; killing it", process.pid)
                process.kill()
                process.wait()
        for child in self._children.values():
            assert child.process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                child.process.stdin.close()


def _lock(project: Project) -> int:
    """Hold the project's lock of `noria up`; the system lets it go when this process ends in any way."""
    path = project.state / "up.lock"
    with disk_faults(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise Conflict(f"{project.name} is up already", hint="noria status; stop the other `noria up` first") from error
    return descriptor


def _listen_after(project: Project, host: str, port: int) -> socket.socket:
    """A listening socket; waits while processes of an earlier `noria up` that was killed let go of it."""
    limit = time.monotonic() + ORPHANS_S
    is_told = False
    while True:
        try:
            return _listen(host, port)
        except Conflict:
            if not _was_killed(project, port) or time.monotonic() > limit:
                raise
        if not is_told:
            print("noria up was killed before; waiting for its processes to end", file=sys.stderr, flush=True)
            is_told = True
        time.sleep(0.1)


def _was_killed(project: Project, port: int) -> bool:
    """Whether an earlier `noria up` of this project, which cannot be alive, left its note and had this port."""
    try:
        found = json.loads((project.state / NOTE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(found, dict) and str(found.get("url", "")).endswith(f":{port}")


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises: Conflict if the port is in use; UsageError if the address is not this machine's."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"{host} is no address of this machine: {error.strerror or error}") from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            raise Conflict(f"port {port} on {host} is in use", hint="noria up --port ANOTHER, or port 0") from error
        raise UsageError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return made
