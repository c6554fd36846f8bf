"""The controlling process: judges rollouts, seals logs, looks at the schedules, tells webhooks, and lets the
loop look around.

Started by the supervisor as `python -m noria.faces.controller`. It holds nothing that cannot be
computed again from facts and logs, so it may be killed at any moment.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from noria.bootstrap import open_workspace
from noria.core.errors import NoriaError, WorldError
from noria.experiments.incoming import send_all_left
from noria.faces.logs import start_log
from noria.faces.orphan import on_parent_end
from noria.faces.telling import tell
from noria.loop import react
from noria.schedule.tick import Watcher
from noria.serving import capture, records
from noria.serving.advance import Watch, advance
from noria.store.workspace import Workspace

__all__ = ["Controller", "main"]

log = logging.getLogger("noria.controller")
JUDGE_S = 0.1
TICK_S = 0.5
SEAL_S = 2.0


def main() -> int:
    """The entry point of the process."""
    parser = argparse.ArgumentParser(prog="noria.faces.controller")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--environment", default="local")
    given = parser.parse_args()
    start_log("controller")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    on_parent_end(stop.set)
    Controller(open_workspace(given.root, actor="service:controller"), environment=given.environment).run(stop)
    return 0


class Controller:
    """Five kinds of work, each at its own pace; a failure of one is logged and does not stop the others."""

    def __init__(self, ws: Workspace, *, environment: str = "local") -> None:
        self._ws = ws
        self._environment = environment
        self._watches: dict[str, Watch] = {}
        self._schedules = Watcher(ws)

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set."""
        judging = threading.Thread(target=self._judging, args=(stop,), name="noria-judge", daemon=True)
        judging.start()
        telling = threading.Thread(target=tell, args=(self._ws, stop), name="noria-webhooks", daemon=True)
        telling.start()
        sealed_at = 0.0
        while not stop.wait(TICK_S):
            if time.monotonic() - sealed_at > SEAL_S:
                sealed_at = time.monotonic()
                self._guarded("sealing", self.seal)
                self._guarded("sending", lambda: send_all_left(self._ws))
            self._guarded("the schedules", self._schedules.look)
            self._guarded("the loop's tick", lambda: react.tick(self._ws))
        judging.join(timeout=5)
        telling.join(timeout=5)

    def judge(self) -> None:
        """Advance every open rollout as its log says."""
        with self._ws.ledger.read() as tx:
            models = [record.model for record in records.deployments(tx, self._environment)]
        for model in models:
            watch = self._watches.setdefault(model, Watch())
            progress = advance(self._ws, model, watch, environment=self._environment)
            if progress is not None and progress.outcome != records.OPEN:
                log.info("rollout %s: %s, %s", progress.rollout, progress.outcome, progress.reason)

    def seal(self) -> None:
        """Seal closed files of the prediction log."""
        capture.seal(self._ws, environment=self._environment)

    def _judging(self, stop: threading.Event) -> None:
        while not stop.wait(JUDGE_S):
            self._guarded("judging", self.judge)

    def _guarded(self, what: str, work: object) -> None:
        assert callable(work)
        try:
            work()
        except WorldError as error:
            log.warning("%s: %s", what, error)
        except NoriaError as error:
            log.error("%s: %s", what, error)
        except Exception:
            log.exception("%s failed", what)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
