"""`noria up`: serve a project; with `--demo`, an ordinary project that plays a year of flights.

The demo is three commands that anyone can type, and this prints them: `noria init`, `noria up`, and
the project's own script. Nothing here knows what the script does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from noria.config import find_project, load_project
from noria.core.errors import Conflict, StoreUnavailable, UsageError
from noria.core.lazy import lazy
from noria.faces.http import supervisor
from noria.faces.orphan import on_parent_end

if TYPE_CHECKING:
    from urllib import error as url_error
    from urllib import request as url_request

    from noria.project import init as project
else:  # the demo's alone
    url_error, url_request, project = lazy("urllib.error"), lazy("urllib.request"), lazy("noria.project.init")

__all__ = ["up_command"]

DEMO_FOLDER = "noria-demo"
DEMO_SCRIPT = "year.py"
READY_S = 60.0
STOP_S = 20.0
POLL_S = 0.05
EPILOG = """\b
Examples:
  noria up
  noria up --clock events --port 8080
  noria up --server
  noria up --demo --exit --json"""


@click.command("up", epilog=EPILOG)
@click.option("--host", default="", help="Address to listen on; beyond this machine it needs a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=None, help="Port to listen on; 0 takes a free one.")
@click.option("--clock", type=click.Choice(["wall", "events"]), default=None, help="What windows and delays count in.")
@click.option("--server", "is_server", is_flag=True, help="Answer and track, and train nothing: jobs wait for another.")
@click.option("--demo", is_flag=True, help=f"Make ./{DEMO_FOLDER} if it is missing, serve it, and play its year.")
@click.option("--exit", "is_exit", is_flag=True, help="With --demo: stop when the year is over.")
@click.option("--json", "is_json", is_flag=True, help="With --demo: end with one JSON line.")
@click.option("--months", default="", help="With --demo: which months to play, such as 3 or 2013-02..2013-04.")
@click.option("--with-parent", is_flag=True, hidden=True, help="Stop when standard input ends.")
def up_command(
    host: str,
    port: int | None,
    clock: str | None,
    is_server: bool,
    demo: bool,
    is_exit: bool,
    is_json: bool,
    months: str,
    with_parent: bool,
) -> int:
    """Serve the project: predictions, feedback, the API, the status page, and the loop behind them."""
    if demo:
        if is_server:
            raise UsageError("the demo trains: --server does not go with --demo")
        passed = [*(["--exit"] if is_exit else []), *(["--json"] if is_json else [])]
        passed += ["--months", months] if months else []
        return _demo(_address(host, port), passed, is_exit=is_exit)
    if is_exit or is_json or months:
        raise UsageError("--exit, --json and --months go with --demo")
    if with_parent:
        on_parent_end(lambda: os.kill(os.getpid(), signal.SIGTERM))
    found = load_project(find_project(Path.cwd()))
    return supervisor.up(found, host=host, port=port, clock=clock or "", trains=not is_server)


def _address(host: str, port: int | None) -> list[str]:
    return [*(["--host", host] if host else []), *(["--port", str(port)] if port is not None else [])]


def _demo(address: Sequence[str], passed: Sequence[str], *, is_exit: bool) -> int:
    passed = [*passed, "--since", f"{time.time():.1f}"]
    folder = Path.cwd() / DEMO_FOLDER
    if not (folder / "noria.toml").is_file():
        click.echo(f"$ noria init {DEMO_FOLDER} --template flights")
        project.init(Path(DEMO_FOLDER), "flights")
    if not (folder / DEMO_SCRIPT).is_file():
        raise Conflict(f"{folder} is a project without {DEMO_SCRIPT}", hint="move it away; the demo makes its own")
    click.echo(f"$ cd {DEMO_FOLDER}")
    words = ["up", "--clock", "events", *address]
    click.echo(f"$ noria {' '.join(words)} &")
    server = subprocess.Popen(
        [sys.executable, "-m", "noria", *words, "--with-parent"], cwd=folder, stdin=subprocess.PIPE
    )
    asked: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        raise KeyboardInterrupt

    heeded = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, interrupt) for each in heeded}
    try:
        is_ready = _is_ready(server, folder)
        if asked:  # an interrupt that comes while a library lets its connection go is dropped there without a word
            raise KeyboardInterrupt
        if not is_ready:
            return server.wait()
        click.echo(f"$ python {' '.join([DEMO_SCRIPT, *passed])}")
        code = subprocess.run([sys.executable, DEMO_SCRIPT, *passed], cwd=folder, check=False).returncode
        if not is_exit and code == 0:
            click.echo(f"{_url(folder)} stays up    stop: Ctrl-C", err=True)
            return server.wait()
        return code
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        _stop(server)


def _is_ready(server: subprocess.Popen[bytes], folder: Path) -> bool:
    """Waits until this very server answers; False if it ended, having said why. Raises: StoreUnavailable."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            return False
        if _told(folder).get("pid") == server.pid and _is_answering(_url(folder)):
            return True
        time.sleep(POLL_S)
    logs = folder / ".noria" / "logs"
    raise StoreUnavailable(f"the server does not answer after {READY_S:.0f} s", where=str(folder), hint=f"see {logs}")


def _told(folder: Path) -> dict[str, object]:
    try:
        found: dict[str, object] = json.loads((folder / ".noria" / "up.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def _url(folder: Path) -> str:
    return str(_told(folder).get("url", ""))


def _is_answering(url: str) -> bool:
    try:
        with url_request.urlopen(f"{url}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (url_error.URLError, OSError):
        return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    assert server.stdin is not None
    with suppress(BrokenPipeError):
        server.stdin.close()
