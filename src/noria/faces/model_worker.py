"""The process that holds a model whose files run code: started by `packaging/isolated.py`, never by a person.

It gives up network and programs before it loads anything, opens no workspace, and ends when who started it does.
Messages have their length before them; what the model's code prints goes to standard error.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from noria import plugins
from noria.core.errors import ModelFailed, NoriaError
from noria.core.lazy import lazy
from noria.core.printable import error_line
from noria.packaging.bundle import fields_in, flavor_of
from noria.packaging.confine import confine
from noria.packaging.inputs import inputs_of
from noria.packaging.isolated import HEAD
from noria.packaging.rows import Rows

threadpoolctl = lazy("threadpoolctl")

__all__ = ["main"]

LOOK_S = 5
"""How often it looks whether the process that started it is still there."""


def main() -> int:
    """Answer until standard input ends."""
    parent, answer, asked = os.getppid(), os.dup(1), os.dup(0)
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the model's code does not read the questions
    folder = Path(sys.argv[1])
    question = msgspec.msgpack.decode(_message(asked, parent) or sys.exit(0))
    confinement = confine()
    try:
        flavor = flavor_of(question["flavor"])
        if question["threads"] and importlib.util.find_spec("threadpoolctl") is not None:
            threadpoolctl.threadpool_limits(limits=question["threads"])
        model = _guarded(lambda: flavor.load(folder), "the model could not be loaded")
        rows = Rows(fields_in(json.loads((folder / "signature.json").read_text("utf-8"))))
    except NoriaError as error:
        _tell(answer, msgspec.msgpack.encode(_told(error)))
        return 0
    plugins.keep_zones()
    _tell(answer, msgspec.msgpack.encode({"confinement": confinement.text(), "inputs": inputs_of(model)}))
    while (body := _message(asked, parent)) is not None:
        try:
            frame = rows.frame(rows.columns(_rows(msgspec.msgpack.decode(body))))
            found = _guarded(lambda frame=frame: flavor.predict(model, frame), "the model raised")
            _tell(answer, b"\1" + np.asarray(found, dtype="<f8").tobytes())
        except NoriaError as error:
            _tell(answer, b"\0" + msgspec.msgpack.encode(_told(error)))
    return 0


def _rows(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _guarded(act: Any, sentence: str) -> Any:
    try:
        return act()
    except NoriaError:
        raise
    except Exception as error:
        raise ModelFailed(f"{sentence}: {error_line(error)}") from error


def _told(error: NoriaError) -> dict[str, Any]:
    return {"error": {"code": error.code, "message": error.message, "hint": error.hint}}


def _message(handle: int, parent: int) -> bytes | None:
    """The next message; None at the end, or when who started this is gone."""
    head = _exactly(handle, HEAD.size, parent)
    return None if head is None else _exactly(handle, HEAD.unpack(head)[0], parent)


def _exactly(handle: int, length: int, parent: int) -> bytes | None:
    parts, missing = [], length
    while missing:
        if not select.select([handle], [], [], LOOK_S)[0]:
            if os.getppid() != parent:
                return None
            continue
        part = os.read(handle, min(missing, 1 << 20))
        if not part:
            return None
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _tell(handle: int, body: bytes) -> None:
    view = memoryview(HEAD.pack(len(body)) + body)
    while view:
        view = view[os.write(handle, view) :]


if __name__ == "__main__":
    sys.exit(main())
