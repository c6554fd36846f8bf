"""The process that works in a clean place: started, waited for, ended with us; its result is a file.

What it prints goes to a log in the place. A process that dies leaves no result, and that is how it is known.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from noria.core.errors import WorldError
from noria.project.again.place import Place

__all__ = ["MODULE", "Died", "asked"]

MODULE = "noria.faces.again"
_TAIL = 3


class Died(Exception):
    """The process ended without a result: by a signal, a limit of time, or a Python that lacks Noria."""


def asked(
    place: Place,
    python: str,
    mode: str,
    question: Mapping[str, Any],
    *,
    variables: Mapping[str, str | None] | None = None,
    timeout_s: float | None = None,
    module: str = MODULE,
) -> dict[str, Any]:
    """Ask a fresh process in the place; gives what it wrote.

    Args:
        python: the interpreter.
        mode: what it is to do, as the module has it; `question` is what it needs beside the place.
        variables: environment variables to set, or with None to take away, for this process only.
        timeout_s: after it the process is killed with all that it started.
        module: what is run, a face.
    Raises: Died without a result; WorldError if the interpreter cannot be started.
    """
    environ = {**place.environ, **(variables or {})}
    with tempfile.TemporaryDirectory(prefix="ask-", dir=place.folder) as folder:
        spec, result, log = (Path(folder, name) for name in ("spec.json", "result.json", "log.txt"))
        document = {"mode": mode, "root": str(place.root), "pins": list(place.pins), "result": str(result), **question}
        spec.write_text(json.dumps(document), encoding="utf-8")
        with log.open("wb") as stream, _started([python, "-m", module, str(spec)], place, environ, stream) as process:
            try:
                code = process.wait(timeout=timeout_s)
            except subprocess.TimeoutExpired as error:
                raise Died(f"it did not end within {timeout_s:.0f} s") from error
        if not result.is_file():
            raise Died(_end(code, log))
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return found


@contextlib.contextmanager
def _started(
    words: list[str], place: Place, environ: Mapping[str, str | None], log: Any
) -> Iterator[subprocess.Popen[bytes]]:
    try:
        process = subprocess.Popen(
            words,
            cwd=place.root,
            env={name: value for name, value in environ.items() if value is not None},
            stdin=subprocess.PIPE,  # never written to: it ends with this process, and the child with it
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    except OSError as error:
        raise WorldError(f"{words[0]} cannot be started: {error}") from error
    try:
        yield process
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert process.stdin is not None
        process.stdin.close()


def _end(code: int, log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"its process ended without a result ({how}){': ' if lines else ''}{' | '.join(lines[-_TAIL:])}"[:600]
