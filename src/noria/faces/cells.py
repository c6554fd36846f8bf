"""Runs a notebook from top to bottom in a clean kernel, in the process of `faces/notebook.py`.

The kernel is a child of this process, of the same Python, in the notebook's folder, and is captured like a
script. What cells print comes out as it is printed. The notebook that was given is only read; a copy with
the outputs is written. When a cell fails, the place of the failure is left for who asked, and the exit code is 1.

Ctrl-C interrupts the cell that runs, as a notebook's own button does, and no other is begun; the kernel ends in its
own time, and a second Ctrl-C kills it. SIGTERM reaches the kernel as it would reach a script.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat.validator import normalize
from nbformat.warnings import MissingIDFieldWarning

from noria.faces.kernel import LEAVE_S, Kernel
from noria.loop.scripts import FAILURE
from noria.scripts.launch import KERNEL_FOLDER, watched_environment

__all__ = ["main"]

OUTPUTS_S = 60
"""How long the outputs of a cell that is done may take to come in. The library's four seconds lose some where the
machine is busy."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LINE = re.compile(r"(?:Cell In\[\d+\]|<ipython-input-[^>]*>)(?:, line |:)(\d+)")


class _Ended(Exception):
    """No further cell is begun."""


class _Live(NotebookClient):
    """Prints what cells print when they print it, and is ended by signals.

    `told` are the signals that came, `begun` is the place of the cell that began last, from 1. The library's own
    answer to a signal takes the kernel and its sockets away from under the cell that is waited for.
    """

    def __init__(self, notebook: Any, **options: Any) -> None:
        super().__init__(notebook, **options)
        self.told: list[signal.Signals] = []
        self.begun = 0
        self._is_in_cell = False
        self._at_work: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def async_setup_kernel(self, **options: Any) -> AsyncIterator[None]:
        """A kernel for the block, which is gone after it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._heed, number)
        try:
            await self.async_start_new_kernel(**options)
            await self.async_start_new_kernel_client()
            yield
        finally:
            if self.km is not None:
                await self._async_cleanup_kernel()

    async def async_execute_cell(self, cell: Any, cell_index: int, *place: Any, **options: Any) -> Any:
        """Run a cell, unless the end was asked for while none ran. Raises: _Ended; what the library raises."""
        if self.told:
            raise _Ended
        self._is_in_cell = True
        if cell.cell_type == "code" and cell.source.strip():  # the kernel is asked for nothing else
            self.begun = cell_index + 1
        try:
            return await super().async_execute_cell(cell, cell_index, *place, **options)
        finally:
            self._is_in_cell = False

    def _heed(self, number: signal.Signals) -> None:
        """Pass a signal on to the kernel, and see to it that it ends."""
        self.told.append(number)
        work = asyncio.ensure_future(self._passed_on(number))
        self._at_work.add(work)
        work.add_done_callback(self._at_work.discard)

    async def _passed_on(self, number: signal.Signals) -> None:
        kernel: Any = self.km
        if kernel is None or not kernel.has_kernel:
            return  # it has not begun, and no cell will; or it is gone
        if len(self.told) > 1:
            await kernel.signal_kernel(signal.SIGKILL)
        elif number == signal.SIGTERM:
            await kernel.signal_kernel(number)
            await asyncio.sleep(LEAVE_S)
            if kernel.has_kernel:
                await kernel.signal_kernel(signal.SIGKILL)
        elif self._is_in_cell:
            await kernel.interrupt_kernel()

    def output(self, outs: Any, msg: Any, display_id: Any, cell_index: int) -> Any:
        """Called for each output of a cell."""
        found = super().output(outs, msg, display_id, cell_index)
        content = msg["content"]
        if msg["msg_type"] == "stream":
            stream = sys.stderr if content["name"] == "stderr" else sys.stdout
            stream.write(content["text"])
            stream.flush()
        elif msg["msg_type"] == "execute_result" and "text/plain" in content["data"]:
            print(content["data"]["text/plain"], flush=True)
        elif msg["msg_type"] == "error" and not (self.told and content["ename"] == "KeyboardInterrupt"):
            text = "\n".join(content["traceback"])
            print(text if sys.stderr.isatty() else _COLOUR.sub("", text), file=sys.stderr, flush=True)
        return found


def main(words: Sequence[str]) -> int:
    """Run `notebook copy capture`: three paths. 0, or 1 if a cell failed. Who asks has looked that it is one.

    If it was ended by a signal, so is this process, as a script would be.
    """
    source, copy, capture = (Path(word) for word in words)
    read: Any = nbformat.reads  # it has no types
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingIDFieldWarning)  # other editors write none; the copy gets them
        notebook = read(source.read_text(encoding="utf-8"), as_version=4)
    notebook = normalize(notebook)[1]
    client = _Live(
        notebook,
        timeout=None,
        iopub_timeout=OUTPUTS_S,
        kernel_manager_class=Kernel,
        kernel_name="python3",
        resources={"metadata": {"path": str(source.resolve().parent)}},
        shutdown_kernel="graceful",
        store_widget_state=False,
    )
    kernel: Any = client.create_kernel_manager()
    kernel.capture = capture
    failed = 0
    # In a folder of its own, whose name is short: the path of a socket may have 107 letters (unix(7)).
    sockets = Path(tempfile.mkdtemp(prefix=KERNEL_FOLDER))
    kernel.transport, kernel.connection_file = "ipc", str(sockets / "kernel.json")
    try:
        asyncio.run(client.async_execute(env=watched_environment(capture, os.environ)))
    except CellExecutionError as error:
        _note(capture, notebook, error)
        failed = 1
    except (DeadKernelError, _Ended, RuntimeError) as error:
        if not client.told:
            if not isinstance(error, DeadKernelError):
                raise
            print("the kernel died", file=sys.stderr)
        _note_death(capture, client.begun, "ended" if client.told else "the kernel died (os._exit, or killed)")
        failed = 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left to do is short, and is to be whole
        shutil.rmtree(sockets, ignore_errors=True)
        copy.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if failed and client.told:
        signal.signal(client.told[0], signal.SIG_DFL)
        os.kill(os.getpid(), client.told[0])
    return failed


def _note(capture: Path, notebook: Any, error: CellExecutionError) -> None:
    """Write where a cell failed: its place among all cells, its execution count, the line, and what was raised."""
    for place, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                text = _COLOUR.sub("", "\n".join(output.traceback))
                mine = re.findall(rf"Cell In\[{cell.execution_count}\], line (\d+)", text) or _LINE.findall(text)
                told = {"cell": place, "count": cell.execution_count, "line": int(mine[-1]) if mine else 0}
                told |= {"error": f"{output.ename}: {output.evalue}".splitlines()[0][:300]}
                (capture / FAILURE).write_text(json.dumps(told), encoding="utf-8")
                return


def _note_death(capture: Path, begun: int, why: str) -> None:
    """Write in which cell the kernel died, or was made to end: the last one that it began."""
    if begun:
        told = {"cell": begun, "count": None, "line": 0, "error": why}
        (capture / FAILURE).write_text(json.dumps(told), encoding="utf-8")
