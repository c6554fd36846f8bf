"""A release, or what its gates saw, as plain files that need no Noria: the way out is as short as the way in."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noria.core.errors import Conflict, NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.identity import Digest
from noria.core.verb import verb
from noria.packaging.bundle import read
from noria.registry import records
from noria.registry.release import find
from noria.registry.versions import resolve
from noria.store.objects import disk_faults
from noria.store.workspace import Workspace

__all__ = ["Exported", "ReportExported", "document_of", "export_release", "export_report", "inside", "written"]


@frozen(kw_only=True)
class Exported:
    """A folder that was written, and its files."""

    model: str
    release: int
    to: str
    files: tuple[str, ...]
    next: str


@frozen(kw_only=True)
class ReportExported:
    """A version's evaluation report that was written, and its digest, which its verdict names.

    `evaluation` is the same as values, as it is kept beside the page; `json_digest` names it.
    """

    model: str
    version: int
    path: str
    size_bytes: int
    digest: str
    json_digest: str
    evaluation: Mapping[str, Any]


@verb(permission="registry.export", changes=False, name="report")
def export_report(ws: Workspace, ref: str, to: str = "") -> ReportExported:
    """Write the evaluation report that the gates of a version left, as it was when they judged: one HTML file, or JSON.

    Metrics with their intervals beside the champion's, calls at the threshold, curves, calibration, slices, groups,
    rows that flipped, importance, partial dependence, the data that it was computed on, and every verdict.

    Args:
        ref: `churn:14`, `churn@champion`, or `churn` for the newest.
        to: a new file inside the project; MODEL-VERSION.html if left out. With a name that ends in .json the same as
            values is written. The same report may be there already.
    Raises: NotFound if no gate scored it; UsageError for another place; Conflict for a file that is something else.

    Example: noria registry report churn:14
    """
    with ws.ledger.read() as tx:
        found = resolve(tx, ref)
        judged = records.judgement(tx, found.model, found.version)
    if judged is None or not judged.report:
        why = "its model could not be scored" if judged else "no gate has judged it"
        raise NotFound(f"{found.ref} has no evaluation report: {why}", hint=f"noria registry show {found.ref}")
    document = document_of(ws, found, judged.seq)
    is_json = to.lower().endswith(".json")
    content = ws.objects.get_bytes(Digest(document if is_json else judged.report))
    name = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', found.model).lstrip('.') or 'model'}-{found.version}.html"
    target = written(ws, to or name, content)
    return ReportExported(
        model=found.model,
        version=found.version,
        path=str(target),
        size_bytes=len(content),
        digest=document if is_json else judged.report,
        json_digest=document,
        evaluation=ws.objects.get_json(document),
    )


def document_of(ws: Workspace, version: records.VersionRecord, seq: int) -> str:
    """The digest of the JSON that a verdict names beside its page."""
    (stored,) = ws.ledger.facts(after=seq - 1, limit=1)
    found = dict(stored.fact.outputs).get("evaluation", "")
    if not found:
        raise NotFound(f"the verdict on {version.ref} names no evaluation", hint=f"noria explain fact/{seq}")
    return found


def written(ws: Workspace, to: str, content: bytes) -> Path:
    """Write a new file within the project; the same content may be there already.

    Raises: UsageError for another place; Conflict for a file that is something else.
    """
    target = inside(ws, to)
    with disk_faults(target):
        if target.exists() and (not target.is_file() or target.read_bytes() != content):
            raise Conflict(f"{target} exists and is something else", hint="name a new file")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        part.write_bytes(content)
        part.replace(target)
    return target


def inside(ws: Workspace, to: str) -> Path:
    """A place within the project that a file may be written to. Raises: UsageError."""
    root = ws.project.root.resolve()
    target = (root / to).resolve()
    if not target.is_relative_to(root) or target == root or target.is_relative_to(ws.project.state.resolve()):
        raise UsageError(f"{to} is not inside the project", hint="export into it, then move it")
    return target


@verb(permission="registry.export", changes=False, name="export")
def export_release(ws: Workspace, model: str, release: int, to: str) -> Exported:
    """Write a release into a new folder: the model as its library saved it, signature, example, golden rows.

    A scikit-learn model is `model.skops`, which skops opens with the types that `types.json` lists; the others are
    files that their own library loads. The folder appears whole or not at all. `to` is inside the project, for a
    client may name it too.

    Raises: UsageError for another place; Conflict if it exists and is not empty.

    Example: noria registry export churn 3 exported/
    """
    found = find(ws, model, release)
    bundle = read(ws, found.bundle)
    root = ws.project.root.resolve()
    target = (root / to).resolve()
    if not target.is_relative_to(root) or target == root:
        raise UsageError(f"{to} is not a folder inside the project", hint="export into one, then move it")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Conflict(f"{target} exists and is not an empty folder", hint="name a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".noria-export-", dir=target.parent) as place:
        folder = Path(place) / "release"
        folder.mkdir()
        for entry in bundle.files.entries:
            path = folder / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            ws.objects.copy_to(entry.digest, path)
            path.chmod(0o644)
        document = ws.objects.get_json(found.content)
        (folder / "release.json").write_text(
            json.dumps({**document, "release": found.release}, indent=1, sort_keys=True) + "\n", "utf-8"
        )
        files = tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))
        folder.replace(target)
    return Exported(
        model=model,
        release=found.release,
        to=str(target),
        files=files,
        next=_opening(bundle.flavor, target),
    )


def _opening(flavor: str, target: Path) -> str:
    """The line that opens the model with its own library; "" where it takes more than one."""
    lines = {
        "lightgbm": f"import lightgbm; model = lightgbm.Booster(model_file='{target}/model.txt')",
        "onnx": f"import onnxruntime; model = onnxruntime.InferenceSession('{target}/model.onnx')",
        "sklearn": f"import json, skops.io; types = json.load(open('{target}/types.json')); "
        f"model = skops.io.load('{target}/model.skops', trusted=types)",
        "xgboost": f"import xgboost; model = xgboost.Booster(model_file='{target}/model.ubj')",
    }
    return f'python -c "{lines[flavor]}"' if flavor in lines else ""
