"""Models that run code when they are loaded: by permission, signed, in a process of their own."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from noria.config import ClientsConfig, ModelConfig, Project
from noria.core.errors import Denied, ModelFailed, ModelSilent, UsageError
from noria.faces import verbs
from noria.faces.cli import show_registry
from noria.packaging import bundle, permits
from noria.packaging.predictor import Predictor
from noria.packaging.requires import differences, versions_of
from noria.registry import versions
from noria.store.envelope import seal
from noria.store.tree import Entry, Tree, write_tree
from noria.store.workspace import Workspace
from noria.testing.workspace import open_memory
from noria.tracking.facts import ArtifactLogged

ALLOWED = {"own": ModelConfig(allow_pickle=True)}
FRAME = pd.DataFrame(
    {
        "x": [1.0, None, 3.5, -2.0],
        "n": pd.array([1, 2, None, 4], dtype="Int64"),
        "plan": pd.Categorical(["a", "b", "a", None]),
        "at": pd.to_datetime(["2026-01-01", "2026-02-01", None, "2026-03-01"]),
        "word": ["one", None, "three", "four"],
    }
)


@pytest.fixture
def ws() -> Iterator[Workspace]:
    made = open_memory(Project(name="test", root=Path(), models=ALLOWED))
    yield made
    shutil.rmtree(made.project.root)


class Told:
    """Answers what it sees of a frame, so that a value which changed on its way shows."""

    def predict(self, frame: pd.DataFrame) -> Any:
        seen = frame["x"].fillna(-9.0) + 10 * frame["n"].fillna(-9).astype(float) + frame["plan"].cat.codes * 100
        days = (frame["at"] - pd.Timestamp("2026-01-01")).dt.days.fillna(-5.0)
        return (seen + days * 1000 + frame["word"].map(lambda each: 0.5 if pd.isna(each) else len(each))).to_numpy(
            float
        )


class Asks:
    """Tries something as it predicts, and answers 1 if that worked."""

    def __init__(self, what: str, place: str = "") -> None:
        self.what, self.place = what, place

    def predict(self, frame: pd.DataFrame) -> Any:
        try:
            if self.what == "network":
                socket.create_connection(("127.0.0.1", int(self.place)), timeout=5).close()
            elif self.what == "program":
                subprocess.run(["true"], check=True)
            elif self.what == "environment":
                assert os.environ["NORIA_SECRET_FOR_TESTS"]
            elif self.what == "die" and len(frame) == 7:
                os.kill(os.getpid(), signal.SIGKILL)
            elif self.what == "raise" and len(frame) == 7:
                raise RuntimeError("seven")
            elif self.what == "hang" and len(frame) == 7:
                threading.Event().wait()
        except (OSError, KeyError):
            return np.zeros(len(frame))
        return np.ones(len(frame))


def kept(ws: Workspace, model: Any, frame: pd.DataFrame | None = None, name: str = "own") -> Predictor:
    rows = pd.DataFrame({"x": [1.0, 2.0]}) if frame is None else frame
    made = bundle.build(ws, model, holdout=rows, run="run_1", name=name)
    return bundle.load(ws, made.digest)


def test_every_kind_of_column_comes_through_as_it_is(ws: Workspace) -> None:
    predictor = kept(ws, Told(), FRAME)
    expected = Told().predict(FRAME)
    assert predictor.predict(FRAME).tolist() == expected.tolist()
    assert predictor.predict(predictor.rows.plain(FRAME)).tolist() == expected.tolist()
    assert predictor.bundle.flavor == "python"
    assert "without a network" in predictor.confinement


def test_its_code_runs_in_another_process_without_network_programs_and_variables(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORIA_SECRET_FOR_TESTS", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        for what in ("network", "program", "environment"):
            model = Asks(what, port)
            assert model.predict(pd.DataFrame({"x": [1.0]})).tolist() == [1.0], what
            predictor = kept(ws, model)
            assert predictor.predict([{"x": 1.0}]).tolist() == [0.0], what
            assert predictor.model.pid != os.getpid()  # type: ignore[attr-defined]


def test_a_process_that_dies_fails_one_request_and_the_next_is_answered(ws: Workspace) -> None:
    predictor = kept(ws, Asks("die"))
    first = predictor.model.pid  # type: ignore[attr-defined]
    with pytest.raises(ModelFailed, match="killed by SIGKILL"):
        predictor.predict([{"x": 1.0}] * 7)
    assert predictor.predict([{"x": 1.0}] * 2).tolist() == [1.0, 1.0]
    assert predictor.model.pid != first  # type: ignore[attr-defined]


def test_a_process_that_hangs_is_ended_and_the_next_request_is_answered_by_another(ws: Workspace) -> None:
    made = bundle.build(ws, Asks("hang"), holdout=pd.DataFrame({"x": [1.0, 2.0]}), run="run_1", name="own")
    predictor = bundle.load(ws, made.digest, answer_s=60.0)
    model: Any = predictor.model
    process, model._answer_s = model._running[0], 2.0  # now: loading it and asking it is not what is short here
    with pytest.raises(ModelSilent, match="did not answer within 2 s and was ended") as caught:
        predictor.predict([{"x": 1.0}] * 7)
    assert (caught.value.status, process.returncode) == (504, -signal.SIGKILL)
    assert "answer_timeout" in caught.value.hint
    model._answer_s = 60.0
    assert predictor.predict([{"x": 1.0}] * 2).tolist() == [1.0, 1.0]


def test_what_it_raises_is_told_and_its_process_goes_on(ws: Workspace) -> None:
    predictor = kept(ws, Asks("raise"))
    with pytest.raises(ModelFailed, match="RuntimeError: seven"):
        predictor.predict([{"x": 1.0}] * 7)
    assert predictor.predict([{"x": 1.0}]).tolist() == [1.0]


def test_its_process_and_folder_go_with_it(ws: Workspace) -> None:
    predictor = kept(ws, Told(), FRAME)
    model: Any = predictor.model
    process, place = model._running[0], model._place
    model.close()
    assert process.returncode == -signal.SIGKILL
    assert not place.exists()


def test_without_permission_nothing_is_kept(ws: Workspace) -> None:
    for name in ("other", ""):
        with pytest.raises(Denied, match="runs code when it is loaded, and nothing allows that") as caught:
            kept(ws, Told(), FRAME, name=name)
        assert "allow_pickle = true" in caught.value.hint
    assert ws.ledger.facts(kind="artifact.logged") == []


def test_a_permission_that_is_taken_back_holds_no_longer(ws: Workspace) -> None:
    digest = kept(ws, Told(), FRAME).bundle.digest
    without = replace(ws, project=replace(ws.project, models={}))
    with pytest.raises(Denied, match=r"\(python\).*nothing allows that"):
        bundle.load(without, digest)
    trusting = {"own": ModelConfig(clients=ClientsConfig(trust="any"))}
    assert bundle.load(replace(ws, project=replace(ws.project, models=trusting)), digest).predict(FRAME).shape == (4,)


def logged(ws: Workspace, digest: str, permit: str = "") -> None:
    with ws.ledger.transaction() as tx:
        tx.append(
            ArtifactLogged(run="run_2", name="bundle", digest=digest, size_bytes=1, type="bundle"),
            outputs=[("bundle", digest), *([(permits.ROLE, permit)] if permit else [])],
        )


def test_a_fact_alone_does_not_let_code_run(ws: Workspace) -> None:
    other = open_memory(Project(name="test", root=Path(), models=ALLOWED))
    predictor = kept(ws, Told(), FRAME)
    manifest = ws.objects.get_json(predictor.bundle.digest)
    forged = ws.objects.put_json({**manifest, "threshold": 0.25})
    logged(ws, forged)
    with pytest.raises(Denied, match="no signature of this workspace's key covers it"):
        bundle.load(ws, forged)
    (permit,) = [ref for role, ref in ws.ledger.facts(ref=predictor.bundle.digest)[0].fact.outputs if role == "permit"]
    logged(ws, forged, permit)  # the permit of another bundle
    found = bundle.read(ws, forged)
    statement = {"bundle": forged, "flavor": "python", "model": "own", "names": list(found.types)}
    foreign = ws.objects.put_json(seal(other.ledger.signer, permits.KIND, statement))  # the key of another workspace
    logged(ws, forged, foreign)
    with pytest.raises(Denied, match="no signature"):
        bundle.load(ws, forged)
    logged(ws, forged, permits.sign(ws, found, "own"))
    assert bundle.load(ws, forged).threshold == 0.25
    shutil.rmtree(other.project.root)


def test_what_a_model_may_not_name_is_not_kept(ws: Workspace) -> None:
    class Runs(Told):
        def __init__(self) -> None:
            self.act = os.system

    with pytest.raises(Denied, match=r"refers to posix\.system, which no model's file may name"):
        kept(ws, Runs(), FRAME)


class Weighs:
    """Answers by a weight, and is another after it was loaded, as `how` says."""

    def __init__(self, how: str) -> None:
        self.how, self.weight, self.asked = how, 2.0, 0

    def predict(self, frame: pd.DataFrame) -> Any:
        self.asked += 1
        drift = self.asked if self.how == "never the same" else 0
        return frame["x"].to_numpy() * self.weight + drift

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "weight": 1.0} if self.how == "forgets" else self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.how == "grows":
            self.weight *= 1.5


@pytest.mark.parametrize("how", ["grows", "forgets"])
def test_a_model_that_answers_otherwise_once_it_was_loaded_is_refused(ws: Workspace, how: str) -> None:
    with pytest.raises(ModelFailed, match=r"Weighs\) answers otherwise after it was saved and loaded: 2 of 2") as said:
        kept(ws, Weighs(how))
    assert "__setstate__" in said.value.hint


def test_what_is_kept_must_answer_as_what_the_step_returned(ws: Workspace) -> None:
    """Loading it a second time changes nothing more, so only the object itself tells."""
    trained = Weighs("forgets")
    read_back = pickle.loads(pickle.dumps(trained))
    rows = pd.DataFrame({"x": [1.0, 2.0]})
    bundle.pack(ws.objects, read_back, holdout=rows, allow_pickle=True)
    with pytest.raises(ModelFailed, match=r"have other scores, one 4 before and 2 after"):
        bundle.pack(ws.objects, read_back, returned=trained, holdout=rows, allow_pickle=True)


def test_a_model_that_never_answers_the_same_is_no_matter_of_its_file(ws: Workspace) -> None:
    assert kept(ws, Weighs("never the same")).bundle.flavor == "python"


def test_other_versions_are_told_and_the_golden_rows_decide(ws: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    rows = pd.DataFrame({"x": [1.0, 2.0, 4.0]})
    made = bundle.build(ws, LinearRegression().fit(rows, [1.0, 2.0, 3.0]), holdout=rows, run="run_1")
    manifest = ws.objects.get_json(made.digest)
    assert manifest["requires"] == versions_of(["scikit-learn", "skops", "numpy", "scipy"])
    assert differences(manifest["requires"]) == ()
    older = ws.objects.put_json(
        {**manifest, "requires": {**manifest["requires"], "scikit-learn": "1.0.1", "gone": "2"}}
    )
    logged(ws, older)
    predictor = bundle.load(ws, older)
    here = manifest["requires"]["scikit-learn"]
    assert [each.text() for each in predictor.differences] == [
        "gone 2 when it was made, missing here",
        f"scikit-learn 1.0.1 when it was made, {here} here",
    ]
    assert f"scikit-learn 1.0.1 when it was made, {here} here" in caplog.text
    altered = other_golden(ws, older)
    with pytest.raises(
        ModelFailed, match=r"differ by up to 1 from those on record: gone 2 .*scikit-learn 1\.0\.1"
    ) as caught:
        bundle.load(ws, altered)
    assert caught.value.hint == "pip install gone==2 scikit-learn==1.0.1"


def other_golden(ws: Workspace, digest: str) -> str:
    """The bundle with other scores on record, as a model would seem that answers differently here."""
    found = bundle.read(ws, digest)
    document = {"rows": list(found.golden_rows), "scores": [score + 1 for score in found.golden_scores]}
    content = json.dumps(document).encode()
    entries = [
        Entry(each.path, ws.objects.put_bytes(content), len(content)) if each.path == "golden.json" else each
        for each in found.files.entries
    ]
    made = ws.objects.put_json({**ws.objects.get_json(digest), "tree": write_tree(ws.objects, Tree(tuple(entries)))})
    logged(ws, made)
    return made


def test_a_version_shows_its_types_and_what_differs(ws: Workspace) -> None:
    rows = pd.DataFrame({"x": np.arange(40.0)})
    model = HistGradientBoostingRegressor(max_iter=2).fit(rows, rows["x"])
    made = bundle.build(ws, model, holdout=rows, run="run_1")
    tree = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
    assert made.types == (tree,)
    versions.register(ws, made, model="trees", run="run_1", metrics={}, pins=[])
    found = versions.show(ws, "trees:1")
    assert (found.types, found.differs, found.requires) == ((tree,), (), made.requires)
    text = show_registry.version(json.loads(verbs.encode(found)))
    assert f"scikit-learn {made.requires['scikit-learn']}" in text
    assert tree in text


def test_code_of_another_python_is_not_tried(ws: Workspace) -> None:
    made = kept(ws, Told(), FRAME).bundle
    other = ws.objects.put_json({**ws.objects.get_json(made.digest), "requires": {"python": "3.9"}})
    logged(ws, other, permits.sign(ws, bundle.read(ws, other), "own"))
    with pytest.raises(ModelFailed, match=r"code of Python 3\.9, and this is Python 3\."):
        bundle.load(ws, other)


def test_files_that_do_not_belong_together_are_told(ws: Workspace) -> None:
    y = [1.0, 2.0, 3.0]
    one = pd.DataFrame({"x": [1.0, 2.0, 4.0]})
    two = one.rename(columns={"x": "z"})
    first = bundle.build(ws, LinearRegression().fit(one, y), holdout=one, run="run_1")
    second = bundle.build(ws, LinearRegression().fit(two, y), holdout=two, run="run_1")
    theirs = {each.path: each for each in second.files.entries}
    mixed = [theirs[each.path] if each.path == "model.skops" else each for each in first.files.entries]
    tree = write_tree(ws.objects, Tree(tuple(mixed)))
    made = ws.objects.put_json({**ws.objects.get_json(first.digest), "tree": tree})
    logged(ws, made)
    with pytest.raises(ModelFailed, match="z stands where the signature says x"):
        bundle.load(ws, made)


def test_a_flavor_whose_library_is_not_here_names_its_extra(ws: Workspace) -> None:
    made = kept(ws, Told(), FRAME).bundle
    other = ws.objects.put_json({**ws.objects.get_json(made.digest), "flavor": "lightgbm"})
    logged(ws, other)
    with pytest.raises(UsageError, match="needs LightGBM, which is not installed here") as caught:
        bundle.load(ws, other)
    assert caught.value.hint == "pip install 'noria[lightgbm]'"
