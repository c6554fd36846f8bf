"""Every test of `noria test` passes on a sound model, and says no to one that is planted to break it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from noria.config import BehaviourConfig
from noria.loop.holdout import Roles
from noria.packaging.bundle import build, load
from noria.packaging.predictor import UNSEEN, Predictor
from noria.project.behaviour import Subject, cases
from noria.registry.behaviour import Case
from noria.store.workspace import Workspace
from noria.testing import open_memory
from noria.tracking import run as tracking

INPUTS = ["amount", "visits", "plan", "tag"]
DECLARED = BehaviourConfig(invariant=("tag",), direction={"amount": "up"})


def rows(seed: int, count: int = 1500) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    amount, plan = rng.normal(size=count), rng.choice(["basic", "plus", "pro"], size=count)
    logit = 1.5 * amount + (plan == "basic") + rng.normal(size=count)
    return pd.DataFrame(
        {
            "id": [f"{seed}-{i}" for i in range(count)],
            "amount": np.where(rng.uniform(size=count) < 0.05, np.nan, amount),
            "visits": rng.integers(0, 9, size=count),
            "plan": plan,
            "tag": rng.choice(["a", "b"], size=count),
            "bad": (logit > 0).astype("int64"),
            "value": 3.0 * amount + rng.normal(size=count),
        }
    )


def subject_of(ws: Workspace, label: str, *, kind: Any) -> Subject:
    """A sound model, trained, saved and loaded."""
    learn, holdout = rows(1), rows(2, 600)
    texts = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((texts, ["plan"]), ("passthrough", ["amount", "visits"]))  # and drops `tag`
    model = make_pipeline(columns, kind(max_iter=30, random_state=0, monotonic_cst=[0, 1, 0]))
    model.fit(learn[INPUTS], learn[label])
    with tracking.start(ws, "flow") as run:
        bundle = build(ws, model, holdout=holdout, run=run.run, label=label, drop=("id", "bad", "value"))
    return Subject(
        predictor=load(ws, bundle.digest),
        holdout=holdout.drop(columns=[name for name in ("bad", "value") if name != label]),
        training=[learn],
        roles=Roles(key="id", label=label),
        declared=DECLARED,
    )


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject_of(open_memory(root=tmp_path_factory.mktemp("ws")), "bad", kind=HistGradientBoostingClassifier)


def told(subject: Subject) -> dict[str, Case]:
    return {case.name: case for case in cases(subject)}


def test_a_sound_classifier_passes_every_test(sound: Subject) -> None:
    found = told(sound)
    assert {name: case.text for name, case in found.items() if not case.ok} == {}
    assert set(found) == {*PLANTS, *(name for name, _ in CHANGED)}, "every test is seen to fail below"
    assert all(case.text for case in found.values())


def test_a_sound_regression_passes_every_test(tmp_path: Path) -> None:
    found = told(subject_of(open_memory(root=tmp_path), "value", kind=HistGradientBoostingRegressor))
    assert {name: case.text for name, case in found.items() if not case.ok} == {}


class Planted:
    """A flavor whose model is the sound one, and something more."""

    name = "planted"

    def __init__(self, change: Callable[[np.ndarray, pd.DataFrame], Any]) -> None:
        self.change = change

    def predict(self, model: Any, frame: pd.DataFrame) -> Any:
        """The changed scores."""
        return np.asarray(self.change(model.predict_proba(frame)[:, 1], frame), dtype="float64")

    def direct(self, model: Any, fields: Sequence[Any]) -> None:
        """No faster way."""

    def levels(self, model: Any) -> Mapping[str, Sequence[Any]]:
        """Nothing is known."""
        return {}


_noise = itertools.count(1)


def raising(scores: np.ndarray, frame: pd.DataFrame) -> np.ndarray:
    """A value missing in one row of several is too much for it."""
    if 0 < frame["amount"].isna().sum() < len(frame) <= 5:
        raise ValueError("NaN")
    return scores


PLANTS: Mapping[str, Callable[[np.ndarray, pd.DataFrame], Any]] = {
    "finite loss": lambda s, f: np.where(f["amount"].to_numpy() > 2.4, np.nan, s),
    "beats the dummy": lambda s, f: 1 - s,
    "saved, loaded, the same": lambda s, f: s + 1e-7,
    "one row": lambda s, f: s - (s.mean() - 0.5 if len(s) > 1 else 0.0) * 0.1,
    "missing values": raising,
    "values never seen": lambda s, f: np.where(f["plan"] == UNSEEN, np.inf, s),
    "order of rows": lambda s, f: s + np.arange(len(s)) * 1e-7,
    "the same twice": lambda s, f: s + next(_noise) * 1e-8,
    "tag does not matter": lambda s, f: s + 1e-6 * (f["tag"] == "a").to_numpy(),
    "more amount, up": lambda s, f: np.where(f["amount"].isna(), s, 0.5 - 0.01 * f["amount"].fillna(0).to_numpy()),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_model_that_is_planted_to_break_a_test_breaks_it(sound: Subject, name: str) -> None:
    predictor = Predictor(sound.predictor.bundle, Planted(PLANTS[name]), sound.predictor.model)  # type: ignore[arg-type]
    found = told(replace(sound, predictor=predictor))
    assert not found[name].ok, found[name]
    assert found[name].text
    untouched = {"neither key nor label", "no input tells the label", "holdout apart from training"}
    assert all(found[other].ok for other in untouched)


CHANGED: Sequence[tuple[str, Callable[[Subject], Subject]]] = (
    ("neither key nor label", lambda s: replace(s, roles=Roles(key="visits", label="bad"))),
    ("no input tells the label", lambda s: replace(s, holdout=s.holdout.assign(visits=s.holdout["bad"] * 3))),
    (
        "no input tells the label",
        lambda s: replace(s, holdout=s.holdout.assign(plan=s.holdout["bad"].map({0: "basic", 1: "pro"}))),
    ),
    ("holdout apart from training", lambda s: replace(s, training=[pd.concat([s.training[0], s.holdout[:1]])])),
    (
        "holdout apart from training",
        lambda s: replace(s, training=[s.holdout.drop(columns="id")], roles=Roles(label="bad")),
    ),
    ("holdout apart from training", lambda s: replace(s, training=[])),
)


@pytest.mark.parametrize("place", range(len(CHANGED)))
def test_what_leaks_is_found(sound: Subject, place: int) -> None:
    name, change = CHANGED[place]
    found = told(change(sound))
    assert not found[name].ok, found[name]


def test_what_is_declared_of_no_input_is_a_no(sound: Subject) -> None:
    found = told(
        replace(sound, declared=BehaviourConfig(invariant=("colour",), direction={"plan": "up", "visits": "down"}))
    )
    assert "no input 'colour'" in found["colour does not matter"].text
    assert not found["more plan, up"].ok
    assert not found["more visits, down"].ok, "it pushes no way at all"
