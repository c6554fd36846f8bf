"""Files that another tool's client logged as a model, made a bundle: what is judged, released and served from then on.

They are loaded in a process of its own (`faces/take.py`) that has no network where the system can take it away,
no variables of ours, and nothing but a folder: it gives back a bundle's files. How far that may go is what
`[model.NAME.clients] trust` says.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noria.catalog import held
from noria.catalog.held import HeldFile
from noria.core.errors import Denied, GateClosed, ModelFailed, NoriaError, NotFound, StepFailed, UsageError
from noria.core.frozen import frozen
from noria.governance import policy
from noria.loop.judging import JudgedOn, toml_key
from noria.packaging import bundle as bundles
from noria.packaging.bundle import Written
from noria.packaging.isolated import PASSED_ON
from noria.pipeline.outputs.frames import write_frame
from noria.registry.kept import VersionRecord
from noria.store.scratch import Scratch
from noria.store.workspace import Workspace

__all__ = ["BUNDLE", "MODEL", "PROCESS", "ROWS", "Taken", "take"]

PROCESS = "noria.faces.take"
MODEL, ROWS, BUNDLE = "model", "rows", "bundle"
LIMIT_S = 900.0
"""How long loading a model and asking it for its golden rows may take."""
_ERRORS: Mapping[str, type[NoriaError]] = {
    kind.code: kind for kind in (Denied, GateClosed, ModelFailed, NotFound, StepFailed, UsageError)
}


@frozen(kw_only=True)
class Taken:
    """A bundle that was made of a client's files and that no fact names yet, and how they were loaded."""

    bundle: str
    how: str
    files: tuple[HeldFile, ...]


def take(ws: Workspace, version: VersionRecord, rows: JudgedOn) -> Taken:
    """Make a bundle of the files of a client's version. The objects are stored; no fact is written.

    Raises: UsageError, Denied, ModelFailed: why not, with what is missing here or which rule lets it.
    """
    with ws.ledger.read() as tx:
        files = tuple(held.files_of(tx, version))
    rules = ws.project.model(version.model)
    asked = rules.clients
    with Scratch("take") as folder:
        for each in files:
            target = _target(folder / MODEL, each.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            ws.objects.copy_to(each.digest, target)
        (folder / ROWS).write_bytes(write_frame(rows.frame))
        (folder / BUNDLE).mkdir()
        question = {
            "form": "mlflow",
            "label": rows.roles.label,
            "drop": list(rows.roles.others()),
            "trust": asked.trust,
            "task": asked.task,
            "model": version.model,
            "allow_pickle": rules.allow_pickle or asked.trust == "any",
        }
        told = _answer(_asked(folder, question), version)
        written = Written(
            flavor=str(told["flavor"]),
            labels=tuple(told["labels"]),
            requires={str(name): str(version) for name, version in told["requires"].items()},
            types=tuple(map(str, told["types"])),
            rows=int(told["rows"]),
            ranges=told["ranges"],
        )
        declared = policy.of(ws, version.model).config.card
        digest = bundles.store(ws.objects, folder / BUNDLE, written, name=version.model, declared=declared)
    return Taken(bundle=digest, how=str(told["how"]), files=files)


def _target(folder: Path, name: str) -> Path:
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise UsageError(f"{name[:100]!r} cannot be the name of a file")
    return folder.joinpath(*parts)


def _asked(folder: Path, question: Mapping[str, Any]) -> subprocess.CompletedProcess[bytes]:
    """Let the process of its own answer."""
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    own = {"HOME": str(folder), "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return subprocess.run(
            [sys.executable, "-P", "-m", PROCESS, str(folder)],
            input=json.dumps(question).encode(),
            capture_output=True,
            check=False,
            cwd=folder,
            env={**environment, **own},
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelFailed(f"loading it took more than {LIMIT_S:.0f} s") from error


def _answer(done: subprocess.CompletedProcess[bytes], version: VersionRecord) -> Mapping[str, Any]:
    """What the process said. Raises: the error that it met, about this version."""
    name = f"{version.ref} cannot be loaded here"
    try:
        told = json.loads(done.stdout)
    except ValueError:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        died = f"its process was killed by {signal.Signals(-done.returncode).name}" if done.returncode < 0 else ""
        why = died or (said[-1][:300] if said else f"its process ended with {done.returncode}")
        raise ModelFailed(f"{name}: {why}") from None
    error = told.get("error")
    if error is None:
        return dict(told)
    hint = str(error["hint"]).replace("[model.NAME", f"[model.{toml_key(version.model)}")
    raise _ERRORS.get(error["code"], ModelFailed)(f"{name}: {error['message']}", where=error["where"], hint=hint)
