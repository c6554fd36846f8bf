"""The processes that run trials: each takes one after another, and its death ends one trial, not the study.

A worker is `python -m noria.faces.search_worker`, which reads what to do as lines of JSON and answers in
lines. It ends when its standard input does, so none outlives the study.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noria.core.identity import JSON
from noria.store.workspace import Workspace

__all__ = ["Answer", "Workers"]

Answer = tuple[int, dict[str, Any]]
"""A slot, and what its worker said; `died` says how it ended instead, `left` that it was asked to leave (SIGTERM)."""


class Workers:
    """As many workers as trials run at once, started when they are first needed."""

    def __init__(self, ws: Workspace, study: str, slots: int) -> None:
        self._root = Path(ws.project.root).resolve()
        self._log = ws.project.state / "logs" / "search.log"
        self._study = study
        self._answers: queue.SimpleQueue[tuple[subprocess.Popen[bytes], dict[str, Any]]] = queue.SimpleQueue()
        self._slots: list[subprocess.Popen[bytes] | None] = [None] * slots
        self._log.parent.mkdir(parents=True, exist_ok=True)

    def give(self, slot: int, task: Mapping[str, JSON]) -> None:
        """Let a slot's worker run a trial; a new one is made if there is none."""
        process = self._slots[slot]
        if process is None or process.poll() is not None:
            process = self._slots[slot] = self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it is dying; its end is told by the thread that reads its answers

    def answer(self, timeout_s: float) -> Answer | None:
        """The next thing that a worker said, or None after a time."""
        try:
            process, said = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if process not in self._slots:
            return None  # it was ended on purpose
        return self._slots.index(process), said

    def cpu_s(self, slot: int) -> float:
        """Processor seconds of a slot's worker since it was started, with those of processes that it waited for.

        0 where the system does not tell. Source: proc(5), /proc/[pid]/stat, fields 14 to 17.
        """
        process = self._slots[slot]
        if process is None:
            return 0.0
        try:
            text = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return 0.0
        ticks = [int(field) for field in text.rpartition(")")[2].split()[11:15]]
        return sum(ticks) / os.sysconf("SC_CLK_TCK")

    def end(self, slot: int) -> None:
        """Kill the worker of a slot with all that it started; nothing more is heard of it."""
        process, self._slots[slot] = self._slots[slot], None
        if process is not None:
            _kill(process)

    def close(self) -> None:
        """End every worker."""
        for slot in range(len(self._slots)):
            self.end(slot)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "noria.faces.search_worker", "--root", str(self._root), "--study", self._study]
        with self._log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=self._root,
                start_new_session=True,
            )
        threading.Thread(target=self._listen, args=(process,), name="noria-trials", daemon=True).start()
        return process

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._answers.put((process, json.loads(line)))
        process.stdout.close()
        code = process.wait()
        self._answers.put((process, {"left" if code == -signal.SIGTERM else "died": _how(code)}))


def _how(code: int) -> str:
    """How a process ended, for people."""
    if code < 0:
        hint = ", which is what the system sends when memory runs out" if -code == signal.SIGKILL else ""
        return f"its process was killed by signal {-code}{hint}"
    return f"its process ended with {code}: .noria/logs/search.log may say why"


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()
