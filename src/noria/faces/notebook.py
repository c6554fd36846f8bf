"""The process that runs a notebook from top to bottom in a clean kernel: started by `noria run NOTEBOOK`.

The kernel is a child of this process, of the same Python, in the notebook's folder, and is captured like a
script. What cells print comes out as it is printed. The notebook that was given is only read; a copy with
the outputs is written. When a cell fails, the place of the failure is left for who asked, and the exit code is 1.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat.validator import normalize
from nbformat.warnings import MissingIDFieldWarning

from noria.faces.kernel import Kernel
from noria.loop.scripts import FAILURE
from noria.scripts.launch import KERNEL_FOLDER, watched_environment

__all__ = ["main"]

OUTPUTS_S = 60
"""How long the outputs of a cell that is done may take to come in. The library's four seconds lose some where the
machine is busy."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LINE = re.compile(r"(?:Cell In\[\d+\]|<ipython-input-[^>]*>)(?:, line |:)(\d+)")


class _Live(NotebookClient):
    """Prints what cells print when they print it."""

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
        elif msg["msg_type"] == "error":
            text = "\n".join(content["traceback"])
            print(text if sys.stderr.isatty() else _COLOUR.sub("", text), file=sys.stderr, flush=True)
        return found


def main() -> int:
    """Run `notebook copy capture`: three paths. 0, or 1 if a cell failed. Who asks has looked that it is one."""
    source, copy, capture = (Path(word) for word in sys.argv[1:4])
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
        client.execute(env=watched_environment(capture, os.environ))
    except CellExecutionError as error:
        _note(capture, notebook, error)
        failed = 1
    except DeadKernelError:
        print("the kernel died", file=sys.stderr)
        _note_death(capture, notebook)
        failed = 1
    finally:
        shutil.rmtree(sockets, ignore_errors=True)
        copy.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
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


def _note_death(capture: Path, notebook: Any) -> None:
    """Write in which cell the kernel died: the last one that it began."""
    begun = [place for place, cell in enumerate(notebook.cells, 1) if cell.metadata.get("execution")]
    if begun:
        told = {"cell": begun[-1], "count": None, "line": 0, "error": "the kernel died (os._exit, or killed)"}
        (capture / FAILURE).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
