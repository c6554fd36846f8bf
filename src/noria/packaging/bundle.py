"""A model as one immutable object: its files, what it takes and gives, and how to check it.

A bundle is a JSON manifest in the object store that names a tree of plain files: the model as its
flavor saved it, `signature.json`, `example.json` and `golden.json` (rows with their exact scores).
The same model bytes with the same signature and environment are the same bundle: there is no
time, id or path in it. A pickle is only loaded if a fact of this workspace names its bundle and
its flavor allows every name in it.
"""

from __future__ import annotations

import functools
import json
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria import plugins
from noria.core.errors import Corrupt, Denied, GateClosed, ModelFailed, NoriaError, StepFailed, UsageError
from noria.core.identity import Digest
from noria.core.lazy import lazy
from noria.core.schema import Column
from noria.packaging.flavor import Bundle, Direct, Flavor
from noria.packaging.predictor import UNSEEN, Predictor
from noria.packaging.rows import Field, Rows, fields_of
from noria.store.failpoint import failpoint
from noria.store.objects import Objects
from noria.store.tree import Entry, Tree, read_tree, write_tree
from noria.store.workspace import Workspace
from noria.tracking.facts import ArtifactLogged

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np, pd = lazy("numpy"), lazy("pandas")

__all__ = ["Bundle", "Direct", "Flavor", "Written", "build", "load", "opened", "pack", "read", "store", "write"]

FORMAT = "noria/bundle/1"
GOLDEN_ROWS = 64
EXAMPLE_ROWS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a bundle's folder does not say of itself: the flavor, and (negative, positive) or ()."""

    flavor: str
    labels: tuple[Any, ...]


def build(
    ws: Workspace,
    model: object,
    *,
    holdout: pd.DataFrame,
    run: str,
    label: str = "",
    drop: Sequence[str] = (),
    environment: str = "",
    threshold: float = 0.5,
) -> Bundle:
    """Store a fitted model as a bundle, and log it as the artifact `bundle` of its run.

    Args:
        holdout: rows of the model's inputs (and more), with the dtypes that it was trained on.
        run: the run that trained it; its fact names the bundle, so that it may be loaded.
        label: the label column, which is no input; `drop` are further columns that are none.
        environment: the digest of the environment lock.
        threshold: the score at which a binary model says the positive label.
    Raises: StepFailed, ModelFailed for what is no usable model; UsageError if its inputs cannot come
        as rows; GateClosed for an empty holdout.
    """
    name = pack(
        ws.objects, model, holdout=holdout, label=label, drop=drop, environment=environment, threshold=threshold
    )
    made = read(ws, name)
    failpoint("model.bundled")
    with ws.ledger.transaction() as tx:
        tx.append(
            ArtifactLogged(run=run, name="bundle", digest=name, size_bytes=made.size_bytes, type="bundle"),
            inputs=[("run", f"run/{run}")],
            outputs=[("bundle", name), ("tree", made.tree)],
        )
    return made


def pack(
    objects: Objects,
    model: object,
    *,
    holdout: pd.DataFrame,
    label: str = "",
    drop: Sequence[str] = (),
    environment: str = "",
    threshold: float = 0.5,
) -> Digest:
    """Store a fitted model as a bundle that no fact names yet; gives its digest. As `build`, without a ledger."""
    with tempfile.TemporaryDirectory(prefix="noria-bundle-") as place:
        folder = Path(place)
        written = write(folder, model, holdout=holdout, label=label, drop=drop)
        return store(objects, folder, written, environment=environment, threshold=threshold)


def write(folder: Path, model: object, *, holdout: pd.DataFrame, label: str = "", drop: Sequence[str] = ()) -> Written:
    """Write the files of a fitted model's bundle into an empty folder; nothing else is touched. As `build`."""
    if not hasattr(model, "predict"):
        raise StepFailed(
            f"a model needs a predict method, and {type(model).__name__} has none",
            hint="return a fitted estimator from the training step",
        )
    if not len(holdout):
        raise GateClosed("the holdout has no rows, so nothing can be said of the model", hint="give it labelled rows")
    labels = _labels(model)
    fields = fields_of(holdout, names=_inputs(model, holdout, {label, *drop}))
    flavor = _packed(folder, model, fields, holdout)
    return Written(flavor=flavor.name, labels=labels)


def store(objects: Objects, folder: Path, written: Written, *, environment: str = "", threshold: float = 0.5) -> Digest:
    """Store a folder that `write` filled as a bundle that no fact names yet; gives its digest."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    files = tuple(
        Entry(path.relative_to(folder).as_posix(), objects.put_file(path), path.stat().st_size) for path in paths
    )
    tree = write_tree(objects, Tree(files))
    manifest = {
        "format": FORMAT,
        "flavor": written.flavor,
        "task": "binary" if written.labels else "regression",
        "labels": list(written.labels),
        "threshold": threshold,
        "environment": environment,
        "tree": tree,
    }
    return objects.put_json(manifest)


def _packed(folder: Path, model: object, fields: tuple[Field, ...], holdout: pd.DataFrame) -> Flavor:
    """Write all files of a bundle: the model, and what it takes and gave, asked of the model that was saved."""
    flavor = _saved(model, folder)
    saved = _boundary(lambda: flavor.load(folder), "the model that was saved could not be loaded again")
    learned = flavor.levels(saved)
    fields = _probed(flavor, saved, tuple(_widened(field, learned) for field in fields), holdout)
    rows = Rows(fields)
    golden = rows.plain(_spread(holdout, GOLDEN_ROWS))
    frame = rows.frame(rows.columns(golden))
    scores = [float(v) for v in _boundary(lambda: flavor.predict(saved, frame), "the model could not predict")]
    if len(scores) != len(golden) or not all(np.isfinite(scores)):
        raise ModelFailed("the model's scores of the holdout are not one finite number a row")
    _write(folder / "signature.json", {"inputs": [_field_json(f) for f in fields], "outputs": ["score"]})
    _write(folder / "example.json", golden[:EXAMPLE_ROWS])
    _write(folder / "golden.json", {"rows": golden, "scores": scores})
    return flavor


def read(ws: Workspace, digest: str) -> Bundle:
    """The bundle of a digest; nothing of the model is loaded. Raises: NotFound, Corrupt."""
    manifest = ws.objects.get_json(digest)
    if not isinstance(manifest, Mapping) or manifest.get("format") != FORMAT:
        raise Corrupt(f"object {digest} is not a bundle of format {FORMAT}")
    files = read_tree(ws.objects, manifest["tree"])
    by_path = {entry.path: entry.digest for entry in files.entries}

    def part(path: str) -> Any:
        return json.loads(ws.objects.get_bytes(by_path[path]))

    golden = part("golden.json")
    return Bundle(
        digest=digest,
        flavor=manifest["flavor"],
        task=manifest["task"],
        labels=tuple(manifest["labels"]),
        threshold=float(manifest["threshold"]),
        environment=manifest["environment"],
        tree=manifest["tree"],
        files=files,
        fields=tuple(_field(item) for item in part("signature.json")["inputs"]),
        example=tuple(part("example.json")),
        golden_rows=tuple(golden["rows"]),
        golden_scores=tuple(golden["scores"]),
    )


def load(ws: Workspace, digest: str, *, threads: int = 0) -> Predictor:
    """A bundle's model, ready to predict.

    Args:
        threads: the most threads that numeric libraries may use per predict; 0 leaves them alone.
    Raises: Denied if no fact of this workspace names the bundle, or its files name what the
        flavor does not allow; Corrupt for altered bytes; ModelFailed if the model cannot be loaded.
    """
    if not ws.ledger.facts(ref=digest, limit=1):
        raise Denied(f"no fact of this workspace names the bundle {digest}; it was not loaded")
    return opened(ws, digest, threads=threads)


def opened(ws: Workspace, digest: str, *, threads: int = 0) -> Predictor:
    """As `load`, of a bundle that the caller has just made and that no fact names yet; never of any other."""
    bundle = read(ws, digest)
    flavor: Flavor = plugins.load("flavor", bundle.flavor)()
    with tempfile.TemporaryDirectory(prefix="noria-model-") as place:
        folder = Path(place)
        for entry in bundle.files.entries:
            target = folder / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            ws.objects.copy_to(entry.digest, target)
        model = _boundary(lambda: flavor.load(folder), f"the model of bundle {digest[:19]} could not be loaded")
    return Predictor(bundle, flavor, model, threads=threads)


def _saved(model: object, folder: Path) -> Flavor:
    """Save the model with the first flavor that can hold it; plain Python, which holds anything, comes last."""
    names = [*(name for name in plugins.names("flavor") if name != "python"), "python"]
    for name in names:
        try:
            flavor: Flavor = plugins.load("flavor", name)()
        except ModuleNotFoundError:
            continue  # the model cannot be of a library that is not installed
        try:
            _boundary(functools.partial(flavor.save, model, folder), f"the model could not be saved as {name}")
        except Denied:
            if name == "python":
                raise
            continue  # another flavor's model
        return flavor
    raise UsageError(f"no flavor takes a model of type {type(model).__name__}", hint="pip install 'noria[sklearn]'")


def _labels(model: object) -> tuple[Any, ...]:
    """(negative, positive) of a classifier, () of a regression."""
    classes = getattr(model, "classes_", None)
    if classes is None:
        return (0, 1) if hasattr(model, "predict_proba") else ()
    found = tuple(value.item() if isinstance(value, np.generic) else value for value in classes)
    if len(found) != 2:
        raise ModelFailed(f"the classifier knows {len(found)} classes; two are supported", hint="make the label binary")
    if not hasattr(model, "predict_proba"):
        raise ModelFailed(f"the classifier {type(model).__name__} gives no probabilities (predict_proba)")
    return found


def _inputs(model: object, holdout: pd.DataFrame, others: set[str]) -> list[str]:
    """The model's own names of its inputs if it kept them, else every column that is not one of `others`."""
    kept = getattr(model, "feature_names_in_", None)
    names = [str(name) for name in (holdout.columns if kept is None else kept)]
    if kept is None:
        names = [name for name in names if name not in others]
    missing = [name for name in names if name not in holdout.columns]
    if missing:
        raise ModelFailed(f"the model was trained on column {missing[0]}, which the holdout does not have")
    return names


def _spread(frame: pd.DataFrame, count: int) -> pd.DataFrame:
    """At most `count` rows, evenly spread over the frame."""
    places = np.unique(np.linspace(0, len(frame) - 1, num=min(count, len(frame))).astype(int))
    return frame.iloc[places]


def _probed(flavor: Flavor, model: object, fields: tuple[Field, ...], holdout: pd.DataFrame) -> tuple[Field, ...]:
    """Ask the model what it takes: null in each column whose dtype can hold it, and unseen levels.

    A column is nullable only if the model gives a finite score without it, so that a request that
    the model would fail on is refused by name instead.
    """
    base = Rows(fields).plain(_spread(holdout, 4))
    whole = holdout.dropna(subset=[f.name for f in fields])

    def takes(changed: Mapping[str, Any], candidates: tuple[Field, ...], base: Sequence[Any] = base) -> bool:
        rows = Rows(candidates)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                frame = rows.frame(rows.columns([{**row, **changed} for row in base]))
                return bool(np.isfinite(flavor.predict(model, frame)).all())
            except Exception:  # noqa: BLE001  # the question is whether the project's model raises
                return False

    nullable = {f.name: None for f in fields if f.column.nullable}
    refused = set() if takes(nullable, fields) else {n for n in nullable if not takes({n: None}, fields)}
    holds_null = {n for n in refused if holdout[n].isna().any()}
    if holds_null:
        if len(whole) and not takes({}, fields, Rows(fields).plain(_spread(whole, 4))):
            raise ModelFailed("the model gives no finite score, not even for rows without nulls")
        raise ModelFailed(f"the holdout has nulls in column {min(holds_null)}, and the model cannot take them")
    found = tuple(
        replace(f, column=replace(f.column, nullable=f.column.nullable and f.name not in refused)) for f in fields
    )
    open_ended = {f.name: UNSEEN for f in found if _is_open(f)}
    if takes(open_ended, found):
        return found
    strict = {name for name in open_ended if not takes({name: UNSEEN}, found)}
    learned = flavor.levels(model)
    return tuple(_closed(f, learned) if f.name in strict else f for f in found)


def _is_open(field: Field) -> bool:
    return field.column.type in ("text", "category") and all(isinstance(level, str) for level in field.levels)


def _widened(field: Field, learned: Mapping[str, Sequence[Any]]) -> Field:
    """A category with the levels that the model learned and the holdout happens not to have."""
    extra = tuple(level for level in learned.get(field.name, ()) if level not in field.levels)
    if field.column.type != "category" or not extra:
        return field
    levels = field.levels + extra
    return replace(field, column=field.column.with_levels(tuple(map(str, levels))), levels=levels)


def _closed(field: Field, learned: Mapping[str, Sequence[Any]]) -> Field:
    """A column whose unseen levels the model refuses: the levels it learned become part of the signature.

    Where nobody knows them the column stays open, and an unseen level is the model's own failure.
    """
    levels = field.levels or tuple(learned.get(field.name, ()))
    if not levels:
        return field
    return replace(field, column=field.column.with_levels(tuple(map(str, levels))), levels=levels, strict=True)


def _boundary(act: Callable[[], Any], sentence: str) -> Any:
    """Run code of the model's library or the project; whatever it raises is that code's failure."""
    try:
        return act()
    except NoriaError:
        raise
    except Exception as error:
        raise ModelFailed(f"{sentence}: {type(error).__name__}: {str(error)[:200]}") from error


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1) + "\n", "utf-8")


def _field_json(field: Field) -> dict[str, Any]:
    return {
        "name": field.name,
        "type": field.column.type,
        "nullable": field.column.nullable,
        "unit": field.column.unit,
        "dtype": field.dtype,
        "levels": list(field.levels),
        "ordered": field.ordered,
        "strict": field.strict,
        "nan": field.nan,
    }


def _field(item: Mapping[str, Any]) -> Field:
    levels = tuple(item["levels"])
    column = Column(item["name"], item["type"], item["nullable"], item["unit"], tuple(str(level) for level in levels))
    return Field(column, item["dtype"], levels, item["ordered"], item["strict"], item["nan"])
