"""Bundles: stable, proved, refused when nobody vouches for them; and the fast way gives the same numbers."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from noria.config import ModelConfig, Project
from noria.core.errors import Corrupt, Denied, GateClosed, ModelFailed, StepFailed
from noria.engines.flavors import skopsfile
from noria.packaging import bundle
from noria.packaging.predictor import PARITY, UNSEEN, Predictor
from noria.packaging.rows import RowRefused
from noria.store.workspace import Workspace
from noria.testing.samples import flights, lateness
from noria.testing.workspace import open_memory

TEXTS = ["carrier", "maker"]
NUMBERS = ["hour", "distance", "wind", "seats", "gust", "weekend"]
X = flights(1500, seed=3)
Y = lateness(X)
HOLDOUT = flights(300, seed=4).assign(late=lateness)


@pytest.fixture
def ws() -> Iterator[Workspace]:
    made = open_memory(Project(name="test", root=Path(), models={"own": ModelConfig(allow_pickle=True)}))
    yield made
    shutil.rmtree(made.project.root)


def boost(**options: Any) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_iter=15, random_state=0, **options)


def ordinal() -> OrdinalEncoder:
    return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)


def made(ws: Workspace, model: Any, columns: list[str], **options: Any) -> Predictor:
    holdout = HOLDOUT[[*columns, "late"]]
    built = bundle.build(ws, model, holdout=holdout, run="run_1", label="late", name="own", **options)
    return bundle.load(ws, built.digest, threads=1)


MIXED = [*TEXTS, *NUMBERS]
PIPELINES: dict[str, tuple[Any, list[str], str]] = {
    "ordinal": (
        make_pipeline(make_column_transformer((ordinal(), TEXTS), remainder="passthrough"), boost()),
        MIXED,
        "direct",
    ),
    "ordinal by position": (
        make_pipeline(ColumnTransformer([("o", ordinal(), [0, 1]), ("n", "passthrough", slice(2, 8))]), boost()),
        MIXED,
        "direct",
    ),
    "dropped columns": (
        make_pipeline(make_column_transformer((ordinal(), TEXTS), ("passthrough", ["wind"])), boost()),
        MIXED,
        "direct",
    ),
    "encoded missing": (
        make_pipeline(
            make_column_transformer(
                (ordinal().set_params(unknown_value=-1, encoded_missing_value=-2), TEXTS), remainder="passthrough"
            ),
            boost(),
        ),
        MIXED,
        "direct",
    ),
    "scaled and one hot": (
        make_pipeline(
            make_column_transformer(
                (OneHotEncoder(handle_unknown="ignore"), TEXTS),
                (make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
            ),
            LogisticRegression(max_iter=500),
        ),
        MIXED,
        "direct",
    ),
    "two steps after": (
        make_pipeline(
            make_column_transformer((ordinal(), TEXTS), remainder="passthrough"),
            SimpleImputer(),
            StandardScaler(),
            LogisticRegression(max_iter=500),
        ),
        MIXED,
        "direct",
    ),
    "a frame with categories": (boost(categorical_features="from_dtype"), ["dest", *NUMBERS], "direct"),
    "numbers alone": (boost(), NUMBERS, "direct"),
    "numbers through steps": (
        make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=500)),
        NUMBERS,
        "direct",
    ),
    "a function": (
        make_pipeline(make_column_transformer((ordinal(), TEXTS), (FunctionTransformer(np.log1p), ["wind"])), boost()),
        MIXED,
        "plain",
    ),
    "frames inside": (
        make_pipeline(
            make_column_transformer((ordinal(), TEXTS), remainder="passthrough").set_output(transform="pandas"),
            boost(),
        ),
        MIXED,
        "plain",
    ),
}


@pytest.fixture(scope="module")
def loaded() -> Iterator[Callable[[str], tuple[Any, Predictor]]]:
    """A fitted pipeline by name, and its predictor; each made once."""
    ws = open_memory()

    @functools.cache
    def act(name: str) -> tuple[Any, Predictor]:
        model, columns, _ = PIPELINES[name]
        model.fit(X[columns], Y)
        return model, made(ws, model, columns)

    yield act
    shutil.rmtree(ws.project.root)


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("count", [1, 64, 256])
def test_rows_give_the_scores_of_the_plain_model_on_the_plain_frame(loaded: Any, name: str, count: int) -> None:
    _, columns, engine = PIPELINES[name]
    model, predictor = loaded(name)
    frame = HOLDOUT[columns].head(count)
    rows = json.loads(json.dumps(predictor.rows.plain(frame)))
    expected = model.predict_proba(frame)[:, 1]
    assert predictor.engine == engine
    for found in (predictor.predict(rows), predictor.predict(predictor.frame(rows)), predictor.predict(frame)):
        assert found.dtype == np.float64
        assert np.abs(found - expected).max() <= PARITY


@pytest.mark.parametrize("name", PIPELINES)
def test_nulls_and_unseen_levels_score_as_in_the_plain_model(loaded: Any, name: str) -> None:
    model, predictor = loaded(name)
    base = predictor.rows.plain(HOLDOUT[PIPELINES[name][1]].head(1))[0]
    rows = [base]
    for field in predictor.rows.fields:
        rows += [{**base, field.name: None}] if field.column.nullable else []
        rows += [{**base, field.name: UNSEEN}] if field.column.type in ("text", "category") else []
    expected = model.predict_proba(predictor.frame(rows))[:, 1]
    assert len(rows) > 2
    assert np.abs(predictor.predict(rows) - expected).max() <= PARITY


def test_a_level_that_the_holdout_lacks_is_still_known(ws: Workspace) -> None:
    columns = ["dest", "wind"]
    model = boost(categorical_features="from_dtype").fit(X[columns], Y)
    few = HOLDOUT[HOLDOUT["dest"].isin(["ORD", "LAX"])]
    few = few.assign(dest=few["dest"].cat.remove_unused_categories())
    built = bundle.build(ws, model, holdout=few[[*columns, "late"]], run="r", label="late")
    predictor = bundle.load(ws, built.digest)
    rows = predictor.rows.plain(HOLDOUT[columns])
    assert {row["dest"] for row in rows} == {"ORD", "LAX", "BOS", "ATL"}
    assert np.array_equal(predictor.predict(rows), model.predict_proba(HOLDOUT[columns])[:, 1])


def test_a_model_that_was_fitted_without_names_is_asked_without(ws: Workspace) -> None:
    model = LogisticRegression(max_iter=500).fit(X[["hour", "wind"]].to_numpy(), Y)
    predictor = made(ws, model, ["hour", "wind"])
    expected = model.predict_proba(HOLDOUT[["hour", "wind"]].to_numpy())[:, 1]
    assert np.array_equal(predictor.predict(HOLDOUT), expected)
    assert np.array_equal(predictor.predict(predictor.rows.plain(HOLDOUT)), expected)


def test_the_order_of_a_batch_is_kept_and_rows_do_not_touch_each_other(loaded: Any) -> None:
    _, predictor = loaded("ordinal")
    rows = predictor.rows.plain(HOLDOUT[MIXED].head(100))
    alone = np.concatenate([predictor.predict([row]) for row in rows])
    assert np.array_equal(predictor.predict(rows), alone)
    assert predictor.predict([]).shape == (0,)


def test_columns_by_name_do_as_well_as_rows(ws: Workspace) -> None:
    predictor = made(ws, boost().fit(X[NUMBERS], Y), NUMBERS)
    rows = predictor.rows.plain(HOLDOUT[NUMBERS].head(5))
    columns = {name: [row[name] for row in rows] for name in NUMBERS}
    assert np.array_equal(predictor.predict(columns), predictor.predict(rows))
    with pytest.raises(RowRefused, match="different lengths"):
        predictor.predict({**columns, "wind": [1.0]})


def test_the_same_model_is_the_same_bundle_in_another_process() -> None:
    script = textwrap.dedent(
        """
        import shutil
        from sklearn.compose import make_column_transformer
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OrdinalEncoder
        from noria.packaging import bundle
        from noria.testing.samples import flights, lateness
        from noria.testing.workspace import open_memory
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        encode = make_column_transformer((encoder, ["carrier", "maker"]), ("passthrough", ["wind", "gust"]))
        rows = flights(800, seed=1)
        model = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=15, random_state=0))
        model.fit(rows[["carrier", "maker", "wind", "gust"]], lateness(rows))
        ws = open_memory()
        once = bundle.build(ws, model, holdout=rows, run="run_1")
        twice = bundle.build(ws, bundle.load(ws, once.digest).model, holdout=rows, run="run_2")
        print(once.digest, twice.digest)
        shutil.rmtree(ws.project.root)
        """
    )
    found = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
        )
        found += done.stdout.split()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_what_was_in_memory_between_the_fields_of_a_tree_is_not_in_the_file() -> None:
    """Blocks of the sizes that are asked for next are left full of ones: a new array may get one of them."""
    forest = RandomForestClassifier(20, max_depth=6, random_state=0).fit(X[NUMBERS], Y)
    once = skopsfile.dumped(forest)
    for _ in range(3):
        full = [np.full(size, 255, np.uint8) for size in range(64, 16_384, 64) for _ in range(4)]
        del full
        assert skopsfile.dumped(forest) == once
    trees = 0
    with zipfile.ZipFile(io.BytesIO(once)) as file:
        for content in [file.read(name) for name in file.namelist() if name.endswith(".npy")]:
            nodes = np.load(io.BytesIO(content))
            if nodes.dtype.names and nodes.dtype.itemsize == 64:
                trees += 1
                stored = np.frombuffer(content[-nodes.nbytes :], np.uint8).reshape(-1, 64)
                assert not stored[
                    :, 57:
                ].any()  # of the bytes themselves: numpy's reader leaves such bytes as they were
    assert trees == 20


def test_golden_rows_are_scored_exactly_and_survive_the_store(ws: Workspace) -> None:
    predictor = made(ws, boost().fit(X[NUMBERS], Y), NUMBERS)
    golden = predictor.bundle
    assert len(golden.golden_rows) == 64
    assert predictor.predict(list(golden.golden_rows)).tolist() == list(golden.golden_scores)


def test_a_bundle_that_no_fact_names_is_not_loaded(ws: Workspace) -> None:
    built = bundle.build(ws, boost().fit(X[NUMBERS], Y), holdout=HOLDOUT, run="r", label="late")
    manifest = {**ws.objects.get_json(built.digest), "threshold": 0.25}
    forged = ws.objects.put_json(manifest)
    with pytest.raises(Denied, match="no fact"):
        bundle.load(ws, forged)


def test_what_is_no_bundle_is_corrupt(ws: Workspace) -> None:
    with pytest.raises(Corrupt, match="not a bundle"):
        bundle.read(ws, ws.objects.put_json({"format": "other"}))


def test_a_column_whose_null_the_model_fails_on_is_not_nullable(ws: Workspace) -> None:
    model = LogisticRegression().fit(X[["hour", "wind"]], Y)
    predictor = made(ws, model, ["hour", "wind"])
    with pytest.raises(RowRefused, match="column wind must be a number, not null"):
        predictor.check({"hour": 1, "wind": None})


def test_a_level_that_the_model_fails_on_is_refused_by_name(ws: Workspace) -> None:
    model = make_pipeline(make_column_transformer((OrdinalEncoder(), ["carrier"])), boost()).fit(X[["carrier"]], Y)
    predictor = made(ws, model, ["carrier"])
    with pytest.raises(RowRefused, match="was not in training") as caught:
        predictor.check({"carrier": "ZZ"})
    assert caught.value.column == "carrier"
    assert predictor.predict([{"carrier": "UA"}]).shape == (1,)


def test_key_time_and_label_are_no_inputs(ws: Workspace) -> None:
    class Bare(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
        def predict(self, frame: pd.DataFrame) -> Any:
            return frame["wind"].to_numpy() * 2.0

    frame = HOLDOUT[["wind", "late"]].assign(key="k", at=pd.Timestamp("2013-01-01"))
    built = bundle.build(ws, Bare(), holdout=frame, run="r", label="late", drop=["key", "at"], name="own")
    assert built.signature.input_names() == ("wind",)
    assert built.task == "regression"
    assert built.flavor == "python"
    assert bundle.load(ws, built.digest).predict([{"wind": 2.5}]).tolist() == [5.0]


def test_a_regression_gives_its_values(ws: Workspace) -> None:
    model = HistGradientBoostingRegressor(max_iter=5).fit(X[NUMBERS], X["distance"])
    predictor = made(ws, model, NUMBERS)
    assert predictor.task == "regression"
    assert predictor.label(3.5) == 3.5
    assert np.array_equal(predictor.predict(HOLDOUT), model.predict(HOLDOUT[NUMBERS]))


def test_text_labels_are_kept(ws: Workspace) -> None:
    model = boost().fit(X[NUMBERS], np.where(Y == 1, "late", "fine"))
    predictor = made(ws, model, NUMBERS, threshold=0.4)
    assert predictor.labels == ("fine", "late")
    assert (predictor.label(0.4), predictor.label(0.39)) == ("late", "fine")


class Own(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A project's own estimator: not scikit-learn's, so it goes by value."""

    def __init__(self, lock: Any = None) -> None:
        self.lock = lock

    def fit(self, frame: pd.DataFrame, y: Any) -> Own:
        self.classes_, self.rate_ = np.array([0, 1]), float(np.mean(y))
        return self

    def predict_proba(self, frame: pd.DataFrame) -> Any:
        return np.column_stack([np.full(len(frame), 1 - self.rate_), np.full(len(frame), self.rate_)])

    def predict(self, frame: pd.DataFrame) -> Any:
        return self.predict_proba(frame)[:, 1] > 0.5


def test_the_projects_own_class_is_loaded_where_its_module_is_not(ws: Workspace) -> None:
    built = bundle.build(ws, Own().fit(X, Y), holdout=HOLDOUT[["wind", "late"]], run="r", label="late", name="own")
    assert built.flavor == "python"
    script = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from noria.config import ModelConfig, Project
        from noria.packaging import bundle
        from noria.bootstrap import open_workspace
        models = {{"own": ModelConfig(allow_pickle=True)}}
        ws = open_workspace(project=Project(name="test", root=Path({str(ws.project.root)!r}), models=models))
        print(float(bundle.load(ws, {built.digest!r}).predict([{{"wind": 1.0}}])[0]))
        assert not any("test_bundle" in name for name in sys.modules)
        """
    )
    found = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True, cwd=ws.project.root
    )
    assert float(found.stdout) == float(Y.mean())


def test_what_is_no_usable_model_is_said(ws: Workspace) -> None:
    def attempt(model: Any, holdout: pd.DataFrame = HOLDOUT) -> None:
        bundle.build(ws, model, holdout=holdout, run="r", label="late", name="own")

    fitted = boost().fit(X[NUMBERS], Y)
    with pytest.raises(ModelFailed, match="3 classes"):
        attempt(boost().fit(X[NUMBERS], np.arange(len(X)) % 3))
    with pytest.raises(StepFailed, match="needs a predict method"):
        attempt({"a": "dict"})
    with pytest.raises(ModelFailed, match="trained on column wind"):
        attempt(fitted, HOLDOUT.drop(columns="wind"))
    with pytest.raises(GateClosed, match="no rows"):
        attempt(fitted, HOLDOUT.head(0))
    with pytest.raises(Denied, match="cannot be stored"):
        attempt(Own(lock=threading.Lock()).fit(X, Y), HOLDOUT[["wind", "late"]])
    assert ws.ledger.facts(kind="artifact.logged") == []


def test_a_model_without_a_finite_score_is_not_blamed_on_nulls(ws: Workspace) -> None:
    class Lost(Own):
        def predict_proba(self, frame: pd.DataFrame) -> Any:
            return super().predict_proba(frame) * np.nan

    class Wary(Own):
        def predict_proba(self, frame: pd.DataFrame) -> Any:
            return super().predict_proba(frame) * np.where(frame["wind"].isna(), np.nan, 1.0)[:, None]

    holdout = HOLDOUT[["wind", "late"]].copy()
    holdout.loc[holdout.index[::2], "wind"] = np.nan
    for model, why in (
        (Lost(), "no finite score, not even for rows without nulls"),
        (Wary(), "has nulls in column wind"),
    ):
        with pytest.raises(ModelFailed, match=why):
            bundle.build(ws, model.fit(X, Y), holdout=holdout, run="r", label="late", name="own")


def test_a_model_that_raises_is_a_failed_model(ws: Workspace) -> None:
    class Moody(Own):
        def predict_proba(self, frame: pd.DataFrame) -> Any:
            if len(frame) == 7:
                raise RuntimeError("seven")
            return super().predict_proba(frame)

    predictor = made(ws, Moody().fit(X, Y), ["wind"])
    with pytest.raises(ModelFailed, match="RuntimeError"):
        predictor.predict([{"wind": 1.0}] * 7)
    assert predictor.predict([{"wind": 1.0}] * 8).shape == (8,)


def bundle_bytes(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_an_altered_model_file_is_never_loaded(ws: Workspace) -> None:
    built = bundle.build(ws, boost().fit(X[NUMBERS], Y), holdout=HOLDOUT, run="r", label="late")
    digest = next(entry.digest for entry in built.files.entries if entry.path == "model.skops")
    path = next(
        p for p in ws.project.state.rglob("*") if p.is_file() and p.stat().st_size > 9000 and bundle_bytes(p) == digest
    )
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(Corrupt):
        bundle.load(ws, built.digest)
