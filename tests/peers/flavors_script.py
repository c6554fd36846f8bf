"""Builds and loads bundles of several kinds of models, in an environment that has their libraries.

Standard input is JSON. `build` makes each kind, keeps it in a folder of its own and prints its answers; `load` answers
for what was built in a fresh process; `damage` alters each stored file in turn and prints what loading says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from noria.bootstrap import open_workspace
from noria.config import Project
from noria.core.errors import NoriaError
from noria.packaging import bundle
from noria.store.workspace import Workspace

ROWS = 400


def rows() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({name: rng.normal(size=ROWS) for name in ("a", "b", "c")})
    frame["plan"] = rng.choice(["basic", "pro", "team"], ROWS)
    odds = frame["a"] - 2 * frame["b"] + 0.5 * frame["c"] ** 2 + (frame["plan"] == "pro")
    frame["label"] = (odds + rng.logistic(size=ROWS) > 0).astype(int)
    frame["value"] = odds + rng.normal(size=ROWS)
    return frame


NUMBERS = ["a", "b", "c"]


def boosted(kind: str, frame: pd.DataFrame) -> tuple[Any, Any]:
    """(the model, its own answers for the numbers) of XGBoost or LightGBM."""
    x, y, value = frame[NUMBERS].copy(), frame["label"], frame["value"]
    if kind.endswith("missing"):
        x.loc[::7, "a"] = np.nan
        frame.loc[::7, "a"] = np.nan
    if kind.startswith("xgboost"):
        import xgboost

        if "booster" in kind:
            model = xgboost.train({"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(x, y), 8)
            return model, model.predict(xgboost.DMatrix(x))
        if "regressor" in kind:
            model = xgboost.XGBRegressor(n_estimators=8, n_jobs=1).fit(x, value)
            return model, model.predict(x)
        if "stopped" in kind:
            model = xgboost.XGBClassifier(n_estimators=400, n_jobs=1, early_stopping_rounds=3, missing=0.5)
            model.fit(x[::2], y[::2], eval_set=[(x[1::2], y[1::2])], verbose=False)
            assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
            return model, model.predict_proba(x)[:, 1]
        model = xgboost.XGBClassifier(n_estimators=8, n_jobs=1).fit(x, y)
        return model, model.predict_proba(x)[:, 1]
    import lightgbm

    if "booster" in kind:
        settings = {"objective": "binary", "num_threads": 1, "verbose": -1}
        model = lightgbm.train(settings, lightgbm.Dataset(x, y), 8)
        return model, model.predict(x)
    if "regressor" in kind:
        model = lightgbm.LGBMRegressor(n_estimators=8, n_jobs=1, verbose=-1).fit(x, value)
        return model, model.predict(x)
    model = lightgbm.LGBMClassifier(n_estimators=8, n_jobs=1, verbose=-1).fit(x, np.where(y == 1, "yes", "no"))
    return model, model.predict_proba(x)[:, 1]


def piped(kind: str, frame: pd.DataFrame) -> tuple[Any, Any]:
    """(the model, its own answers) of pipelines: as they are, and as ONNX."""
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    if kind == "sklearn with xgboost":
        import xgboost

        last = xgboost.XGBClassifier(n_estimators=8, n_jobs=1)
        model = make_pipeline(StandardScaler(), last).fit(frame[NUMBERS], frame["label"])
        return model, model.predict_proba(frame[NUMBERS])[:, 1]
    import onnxruntime
    from skl2onnx import to_onnx

    if kind == "onnx matrix":
        model = LinearRegression().fit(frame[NUMBERS].to_numpy(), frame["value"])
        graph = to_onnx(model, frame[NUMBERS].to_numpy()[:1])
        session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        fed = {session.get_inputs()[0].name: frame[NUMBERS].to_numpy()}
        return graph, session.run(None, fed)[0][:, 0]
    frame[NUMBERS] = frame[NUMBERS].astype("float32")  # as ONNX's operators of scikit-learn compute
    encode = make_column_transformer((OneHotEncoder(), ["plan"]), (StandardScaler(), NUMBERS))
    columns = [*NUMBERS, "plan"]
    model = make_pipeline(encode, LogisticRegression()).fit(frame[columns], frame["label"])
    graph = to_onnx(model, frame[columns].head(1), options={"zipmap": False})
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    fed = {name: frame[[name]].to_numpy() for name in columns}
    answers = session.run(["probabilities"], fed)[0][:, 1]
    assert np.allclose(answers, model.predict_proba(frame[columns])[:, 1], atol=1e-5)
    if kind == "onnx file":
        path = Path("pipeline.onnx")
        path.write_bytes(graph.SerializeToString())
        return path, answers
    return graph, answers


def network(kind: str, frame: pd.DataFrame) -> tuple[Any, Any]:
    """(the model, its own answers) of a network of PyTorch."""
    import torch

    from noria.engines.flavors.networks import torch as adapted

    torch.manual_seed(3)
    nn = torch.nn
    net = nn.Sequential(
        nn.Linear(3, 8), nn.BatchNorm1d(8), nn.GELU(approximate="tanh"), nn.Dropout(0.2), nn.LayerNorm(8),
        nn.Sequential(nn.Linear(8, 4, bias=False), nn.LeakyReLU(0.2)), nn.Linear(4, 1),
    )  # fmt: skip
    if kind == "torch double":
        net = net.double()
    if kind == "torch own":

        class Own(nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.inner = net

            def forward(self, x: Any) -> Any:
                return self.inner(x) + x.sum(dim=1, keepdim=True)

        net = Own()
    loss = "mse_loss" if kind == "torch regression" else "binary_cross_entropy_with_logits"
    x = torch.as_tensor(frame[NUMBERS].to_numpy()).to(next(net.parameters()).dtype)
    steps = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(20):
        steps.zero_grad()
        y = torch.as_tensor(frame["label"].to_numpy()).to(x.dtype)[:, None]
        getattr(nn.functional, loss)(net(x), y).backward()
        steps.step()
    net.eval()
    with torch.no_grad():
        answers = net(x) if loss == "mse_loss" else torch.sigmoid(net(x))
    return adapted(net, {"loss": loss}), answers.double().numpy()[:, 0]


def opened(folder: Path) -> Workspace:
    return open_workspace(project=Project(name="kept", root=folder))


def build(kind: str, told: dict[str, Any]) -> dict[str, Any]:
    folder, frame = Path(kind.replace(" ", "-")), rows()
    folder.mkdir()
    maker = network if kind.startswith("torch") else piped if kind.startswith(("onnx", "sklearn")) else boosted
    model, answers = maker(kind, frame)
    columns = [*NUMBERS, "plan"] if kind in ("onnx columns", "onnx file") else NUMBERS
    ws = opened(folder)
    made = bundle.build(ws, model, holdout=frame[[*columns, "label"]], run="run_1", label="label", name="kept")
    again = bundle.build(ws, model, holdout=frame[[*columns, "label"]], run="run_2", label="label", name="kept")
    assert again.digest == made.digest, "the same model is the same bundle"
    return {
        "digest": made.digest,
        "flavor": made.flavor,
        "task": made.task,
        "labels": list(made.labels),
        "files": sorted(entry.path for entry in made.files.entries),
        "types": list(made.types),
        "requires": dict(made.requires),
        "answers": [float(each).hex() for each in np.asarray(answers, dtype=np.float64)],
        "frame": {name: frame[name].tolist() for name in columns},
        "dtypes": {name: str(frame[name].dtype) for name in columns},
    }


def load(kind: str, told: dict[str, Any]) -> dict[str, Any]:
    predictor = bundle.load(opened(Path(kind.replace(" ", "-"))), told["digest"], threads=1)
    frame = pd.DataFrame(
        {name: pd.Series(values, dtype=told["dtypes"][name]) for name, values in told["frame"].items()}
    )
    as_rows = predictor.rows.plain(frame)
    return {
        "frame": [each.hex() for each in predictor.predict(frame).tolist()],
        "rows": [each.hex() for each in predictor.predict(as_rows).tolist()],
        "differences": [each.text() for each in predictor.differences],
    }


def damage(kind: str, told: dict[str, Any]) -> dict[str, str]:
    """What loading says when a byte of each file in turn is another in the store."""
    folder, digest = Path(kind.replace(" ", "-")), told["digest"]
    ws = opened(folder)
    entries = bundle.read(ws, digest).files.entries
    names = {entry.path: entry.digest for entry in entries} | {"(manifest)": digest}
    found = {}
    for path, name in names.items():
        content = ws.objects.get_bytes(name)
        places = [
            (each, at)
            for each in (folder / ".noria").rglob("*")
            if each.is_file() and (at := each.read_bytes().find(content)) >= 0
        ]
        assert places, f"{path} is stored as it is"
        for each, at in places:
            each.chmod(0o644)
            altered = bytearray(each.read_bytes())
            altered[at + len(content) // 2] ^= 1
            each.write_bytes(bytes(altered))
        try:
            bundle.load(opened(folder), digest)
            found[path] = "loaded"
        except NoriaError as error:
            found[path] = error.code
        for each, at in places:
            mended = bytearray(each.read_bytes())
            mended[at + len(content) // 2] ^= 1
            each.write_bytes(bytes(mended))
    bundle.load(opened(folder), digest)
    return found


def attempt(act: Any, kind: str, told: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(act(kind, told))
    except NoriaError as error:
        return {"error": error.code, "message": error.message, "hint": error.hint}


if __name__ == "__main__":
    chosen = {"build": build, "load": load, "damage": damage}[sys.argv[1]]
    print(json.dumps({kind: attempt(chosen, kind, told) for kind, told in json.load(sys.stdin).items()}))
