"""A model as one immutable object: its files, what it takes and gives, and how to check it.

A bundle is a JSON manifest in the object store that names a tree of plain files: the model as its
flavor saved it, `signature.json`, `example.json`, `golden.json` (rows with their exact scores) and its card.
The same model bytes with the same signature and environment are the same bundle: there is no
time, id or path in it. Formats that name no code come first. A model that can only be kept as a
pickle or a program needs permission, is signed (`permits.py`) and answers in a process of its own
(`isolated.py`). A bundle is loaded only if a fact of this workspace names it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from noria import plugins
from noria.core.errors import Corrupt, Denied, GateClosed, ModelFailed, NoriaError, StepFailed, UsageError
from noria.core.identity import JSON, Digest
from noria.core.lazy import lazy
from noria.core.printable import error_line
from noria.core.schema import Column
from noria.governance import policy
from noria.packaging import card, permits, requires, unchanged
from noria.packaging.flavor import Bundle, Direct, Flavor, NotMine, Written
from noria.packaging.inputs import inputs_of, require_same
from noria.packaging.isolated import ANSWER_S, Isolated, IsolatedFlavor
from noria.packaging.predictor import UNSEEN, Predictor
from noria.packaging.requires import Difference
from noria.packaging.rows import Field, Rows, fields_of
from noria.policies import CardConfig
from noria.store.failpoint import failpoint
from noria.store.objects import Objects
from noria.store.scratch import Scratch
from noria.store.tree import Entry, Tree, read_tree, write_tree
from noria.store.workspace import Workspace
from noria.tracking.facts import ArtifactLogged

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np, pd = lazy("numpy"), lazy("pandas")

__all__ = [
    "Bundle",
    "Direct",
    "Flavor",
    "Opened",
    "Written",
    "build",
    "fields_in",
    "flavor_of",
    "load",
    "loader",
    "opened",
    "pack",
    "permit",
    "read",
    "require_permitted",
    "runs_code",
    "store",
    "write",
]

log = logging.getLogger("noria.models")
FORMAT = "noria/bundle/1"
GOLDEN_ROWS = 64
EXAMPLE_ROWS = 3
Opened: TypeAlias = Callable[[str], Predictor]
"""What gives the predictor of a bundle by its digest."""
GOLDEN_TOLERANCE = 1e-9
"""How far a score of a golden row may be from the one on record, where libraries are of other versions."""
_NEEDS: Mapping[str, tuple[str, str]] = {
    "keras": ("Keras and PyTorch", "keras"),
    "lightgbm": ("LightGBM", "lightgbm"),
    "onnx": ("ONNX Runtime", "onnx"),
    "pyfunc": ("MLflow", "mlflow"),
    "python": ("cloudpickle", "pickle"),
    "sklearn": ("scikit-learn", "sklearn"),
    "torch": ("PyTorch and safetensors", "torch"),
    "xgboost": ("XGBoost", "xgboost"),
}
"""What a flavor needs, and the extra that installs it."""


def build(
    ws: Workspace,
    model: object,
    *,
    returned: object = None,
    holdout: pd.DataFrame,
    run: str,
    label: str = "",
    drop: Sequence[str] = (),
    environment: str = "",
    threshold: float = 0.5,
    name: str = "",
) -> Bundle:
    """Store a fitted model as a bundle, and log it as the artifact `bundle` of its run.

    Args:
        returned: the model as its step returned it, if it is at hand, where `model` was read back from the store:
            the bundle must answer as that does.
        holdout: rows of the model's inputs (and more), with the dtypes that it was trained on.
        run: the run that trained it; its fact names the bundle, so that it may be loaded.
        label: the label column, which is no input; `drop` are further columns that are none.
        environment: the digest of the environment lock.
        threshold: the score at which a binary model says the positive label.
        name: what the model is called: its rules say whether a format that runs code may be used, and what its card
            says of owners and use.
    Raises: StepFailed, ModelFailed for what is no usable model; UsageError if its inputs cannot come
        as rows; GateClosed for an empty holdout; Denied if no safe format takes it and nothing allows another;
        ConfigError for a unit of a column that is no input.
    """
    digest = pack(
        ws.objects,
        model,
        returned=returned,
        holdout=holdout,
        label=label,
        drop=drop,
        environment=environment,
        threshold=threshold,
        name=name,
        allow_pickle=permits.is_allowed(ws, name),
        declared=policy.of(ws, name).config.card,
    )
    made = read(ws, digest)
    outputs = [("bundle", digest), ("tree", made.tree), *permit(ws, digest, name)]
    failpoint("model.bundled")
    with ws.ledger.transaction() as tx:
        tx.append(
            ArtifactLogged(run=run, name="bundle", digest=digest, size_bytes=made.size_bytes, type="bundle"),
            inputs=[("run", f"run/{run}")],
            outputs=outputs,
        )
    return made


def pack(
    objects: Objects,
    model: object,
    *,
    returned: object = None,
    holdout: pd.DataFrame,
    label: str = "",
    drop: Sequence[str] = (),
    environment: str = "",
    threshold: float = 0.5,
    name: str = "",
    allow_pickle: bool = False,
    declared: CardConfig | None = None,
) -> Digest:
    """Store a fitted model as a bundle that no fact names yet; gives its digest. As `build`, without a ledger."""
    with Scratch("bundle") as folder:
        written = write(
            folder,
            model,
            returned=returned,
            holdout=holdout,
            label=label,
            drop=drop,
            name=name,
            allow_pickle=allow_pickle,
        )
        return store(
            objects, folder, written, environment=environment, threshold=threshold, name=name, declared=declared
        )


def write(
    folder: Path,
    model: object,
    *,
    returned: object = None,
    holdout: pd.DataFrame,
    label: str = "",
    drop: Sequence[str] = (),
    name: str = "",
    allow_pickle: bool = False,
) -> Written:
    """Write the files of a fitted model's bundle into an empty folder; nothing else is touched. As `build`."""
    model = _answering(model)
    if not hasattr(model, "predict"):
        raise StepFailed(
            f"a model needs a predict method, and {type(model).__name__} has none",
            hint="return a fitted estimator from the training step",
        )
    if not len(holdout):
        raise GateClosed("the holdout has no rows, so nothing can be said of the model", hint="give it labelled rows")
    labels = _labels(model)
    fields = fields_of(holdout, names=_inputs(model, holdout, {label, *drop}))
    flavor, types = _saved(model, folder, name, allow_pickle=allow_pickle)
    _packed(folder, flavor, fields, holdout, model if returned is None else _answering(returned))
    packages = flavor.packages or requires.owners(types)
    return Written(
        flavor=flavor.name,
        labels=labels,
        requires=requires.versions_of(packages),
        types=tuple(types),
        rows=len(holdout),
        ranges=card.ranges_of(holdout, fields),
    )


def store(
    objects: Objects,
    folder: Path,
    written: Written,
    *,
    environment: str = "",
    threshold: float = 0.5,
    name: str = "",
    declared: CardConfig | None = None,
) -> Digest:
    """Store a folder that `write` filled as a bundle that no fact names yet; gives its digest.

    Its card, and the units that the project declares, are written into the folder first. Raises: ConfigError.
    """
    card.complete(folder, written, threshold=threshold, name=name, declared=declared or CardConfig())
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    files = tuple(
        Entry(path.relative_to(folder).as_posix(), objects.put_file(path), path.stat().st_size) for path in paths
    )
    tree = write_tree(objects, Tree(files))
    manifest: dict[str, JSON] = {
        "format": FORMAT,
        "flavor": written.flavor,
        "task": written.task,
        "labels": list(written.labels),
        "threshold": threshold,
        "environment": environment,
        "requires": dict(written.requires),
        "tree": tree,
        "types": list(written.types),
    }
    return objects.put_json(manifest)


def permit(ws: Workspace, digest: str, name: str) -> list[tuple[str, str]]:
    """The edge that a fact must have which names a bundle that runs code: this workspace's signed permit.

    None for a bundle that runs none, and where the rules of the model do not allow it: nobody can load it then.
    """
    if runs_code(read(ws, digest).flavor) and permits.is_allowed(ws, name):
        return [(permits.ROLE, permits.sign(ws, read(ws, digest), name))]
    return []


def _packed(folder: Path, flavor: Flavor, fields: tuple[Field, ...], holdout: pd.DataFrame, model: object) -> None:
    """Write what a saved model takes and gave, asked of what was saved, which must answer as the model itself does."""
    saved = _boundary(lambda: flavor.load(folder), "the model that was saved could not be loaded again")
    learned = flavor.levels(saved)
    fields = _probed(flavor, saved, tuple(_widened(field, learned) for field in fields), holdout)
    rows = Rows(fields)
    golden = rows.plain(_spread(holdout, GOLDEN_ROWS))
    frame = rows.frame(rows.columns(golden))
    scores = [float(v) for v in _boundary(lambda: flavor.predict(saved, frame), "the model could not predict")]
    if len(scores) != len(golden) or not all(np.isfinite(scores)):
        raise ModelFailed("the model's scores of the holdout are not one finite number a row")
    given = rows.frame(rows.columns(golden))  # its own: a model may change what it is asked with
    _boundary(lambda: unchanged.require(flavor, model, given, scores), "the model could not predict")
    _write(folder / "signature.json", {"inputs": [_field_json(f) for f in fields], "outputs": ["score"]})
    _write(folder / "example.json", golden[:EXAMPLE_ROWS])
    _write(folder / "golden.json", {"rows": golden, "scores": scores})


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
        fields=fields_in(part("signature.json")),
        example=tuple(part("example.json")),
        golden_rows=tuple(golden["rows"]),
        golden_scores=tuple(golden["scores"]),
        requires=dict(manifest.get("requires", {})),
        types=tuple(manifest.get("types", ())),
    )


def fields_in(document: Mapping[str, Any]) -> tuple[Field, ...]:
    """The inputs that a bundle's signature.json says."""
    return tuple(_field(item) for item in document["inputs"])


def load(ws: Workspace, digest: str, *, threads: int = 0, answer_s: float = ANSWER_S) -> Predictor:
    """A bundle's model, ready to predict. What of its environment differs here is logged and in `differences`.

    Args:
        threads: the most threads that numeric libraries may use per predict; 0 leaves them alone.
        answer_s: how long a model in a process of its own may take to answer once.
    Raises: Denied if no fact of this workspace names the bundle, its files name what the flavor does
        not allow, or it runs code and is not signed or not allowed to; Corrupt for altered bytes; UsageError
        naming a library that is not installed; ModelFailed if the model cannot be loaded; ConfigError if the
        rules that allow a model to run code cannot be read.
    """
    return _opened(ws, require_permitted(ws, digest), threads, answer_s)


def require_permitted(ws: Workspace, digest: str) -> Bundle:
    """The bundle, if its model may be loaded by the rules of this moment; nothing of the model is.

    Raises: Denied; ConfigError; NotFound; Corrupt: as `load` does.
    """
    facts = ws.ledger.facts(ref=digest)
    if not facts:
        raise Denied(f"no fact of this workspace names the bundle {digest}; it was not loaded")
    bundle = read(ws, digest)
    if runs_code(bundle.flavor):
        permits.require(ws, bundle, [ref for each in facts for role, ref in each.fact.outputs if role == permits.ROLE])
    return bundle


def loader(ws: Workspace) -> Opened:
    """`load` for one piece of work that asks for the same few models again and again: each is loaded once.

    What it gave is kept as long as it is: one for each review or training, in one thread.
    """
    return functools.cache(functools.partial(load, ws))


def opened(ws: Workspace, digest: str, *, threads: int = 0) -> Predictor:
    """As `load`, of a bundle that the caller has just made and that no fact names yet; never of any other."""
    return _opened(ws, read(ws, digest), threads)


def _opened(ws: Workspace, bundle: Bundle, threads: int, answer_s: float = ANSWER_S) -> Predictor:
    flavor = flavor_of(bundle.flavor)
    found = requires.differences(bundle.requires)
    if flavor.runs_code:
        requires.require_python(found)
    model: object
    with contextlib.ExitStack() as stack:
        place = Scratch("model")
        stack.callback(place.remove)
        folder = place.path / "bundle"
        for entry in bundle.files.entries:
            target = folder / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            ws.objects.copy_to(entry.digest, target)
        sentence = f"the model of bundle {bundle.digest[:19]} could not be loaded"
        try:
            if flavor.runs_code:
                stack.pop_all()  # its process has the folder as long as it lives
                model = isolated = Isolated(place, bundle.flavor, threads=threads, answer_s=answer_s)
                flavor, inputs = IsolatedFlavor(bundle.flavor, bundle.fields), isolated.inputs
            else:
                model = _boundary(lambda: flavor.load(folder), sentence)
                inputs = inputs_of(model)
            require_same(inputs, bundle.fields)
        except ModelFailed as error:
            raise _explained(error, found) from error
    predictor = Predictor(bundle, flavor, model, threads=threads, differences=found)
    if found:
        _require_golden(predictor)
        log.warning("bundle %s: %s", bundle.digest[:19], requires.told(found))
    return predictor


def _require_golden(predictor: Predictor) -> None:
    """A model that was made with other versions answers as it did. Raises: ModelFailed with the versions."""
    bundle, found = predictor.bundle, predictor.differences
    try:
        scores = predictor.predict([dict(row) for row in bundle.golden_rows])
    except ModelFailed as error:
        raise _explained(error, found) from error
    worst = float(np.abs(scores - np.asarray(bundle.golden_scores)).max(initial=0.0))
    if not worst <= GOLDEN_TOLERANCE:
        raise ModelFailed(
            f"the model's scores of its golden rows differ by up to {worst:.3g} from those on record: "
            f"{requires.told(found)}",
            hint=requires.install(found),
        )


def _explained(error: ModelFailed, found: Sequence[Difference]) -> ModelFailed:
    """The failure with what of the environment differs, and how to take that away."""
    if not found:
        return error
    return ModelFailed(f"{error.message}; {requires.told(found)}", hint=requires.install(found))


def flavor_of(name: str) -> Flavor:
    """A flavor by name. Raises: NotFound; UsageError naming the extra whose library is not installed."""
    try:
        found: Flavor = plugins.load("flavor", name)()
    except ModuleNotFoundError as error:
        library, extra = _NEEDS.get(name, (str(error.name), ""))
        raise UsageError(
            f"the model needs {library}, which is not installed here ({error.name} is missing)",
            hint=f"pip install 'noria[{extra}]'" if extra else f"install what the flavor {name} needs",
        ) from error
    return found


def runs_code(name: str) -> bool:
    """Whether loading a bundle of a flavor runs code; one that cannot be looked at counts as one that does."""
    try:
        return flavor_of(name).runs_code
    except UsageError:
        return name not in _NEEDS or name in ("python", "pyfunc")


def _answering(model: object) -> object:
    """A library's own model as one that answers for rows, where an adapter knows it; else as it is."""
    library = type(model).__module__.partition(".")[0]
    if hasattr(model, "forward") and not hasattr(model, "predict"):
        library = "torch"  # a network of a class of the project's own
    if isinstance(model, Path):
        library = model.suffix.removeprefix(".")  # the file of a format that has an adapter
    if library not in plugins.names("adapter"):
        return model
    return plugins.load("adapter", library)(model, {})


def _saved(model: object, folder: Path, name: str, *, allow_pickle: bool) -> tuple[Flavor, Sequence[str]]:
    """Save the model with the first flavor that can hold it; those that run code come last, by permission."""
    missing: UsageError | None = None
    why = ""
    codes: list[Flavor] = []
    for each in sorted(plugins.names("flavor"), key=lambda each: (each == "python", each)):
        try:
            flavor = flavor_of(each)
        except UsageError:
            continue  # the model cannot be of a library that is not installed
        if flavor.runs_code:
            codes.append(flavor)
            continue
        try:
            return flavor, _saving(flavor, model, folder)
        except NotMine:
            continue
        except Denied as error:
            why = error.message
        except UsageError as error:
            missing = error  # its own, but what keeps it is not installed
    for flavor in codes if allow_pickle else []:
        with contextlib.suppress(NotMine):
            return flavor, _saving(flavor, model, folder)
    if missing is not None:
        raise missing
    if allow_pickle:
        raise UsageError(f"no flavor takes a model of type {type(model).__name__}", hint="pip install 'noria[pickle]'")
    raise permits.denied(type(model).__name__, name, why)


def _saving(flavor: Flavor, model: object, folder: Path) -> Sequence[str]:
    found = _boundary(lambda: flavor.save(model, folder), f"the model could not be saved as {flavor.name}")
    return tuple(found or ())


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
        raise ModelFailed(f"{sentence}: {error_line(error, 200)}") from error


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
