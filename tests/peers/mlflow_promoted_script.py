"""A team's training script: it trains, logs and registers a model, and knows nothing of Noria.

Run in MLflow's environment with JSON, a list of [kind, model, strength, data]: the greater the strength, the better the
model; data is a file that it reads its rows from and tells MLflow of, or "".
"""

from __future__ import annotations

import json
import sys

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient


def made(count: int, seed: int) -> pd.DataFrame:
    """Rows whose label follows from two numbers and a text, with chance in it."""
    rng = np.random.default_rng(seed)
    age, fee = rng.normal(40, 12, count).round(1), rng.gamma(2.0, 20.0, count).round(2)
    plan = rng.choice(["basic", "pro"], count)
    odds = 0.08 * (age - 40) + 0.04 * (fee - 40) + np.where(plan == "pro", 0.8, -0.8)
    label = (rng.random(count) < 1 / (1 + np.exp(-odds))).astype(int)
    return pd.DataFrame({"id": np.arange(count), "age": age, "fee": fee, "plan": plan, "churned": label})


def logged(kind: str, name: str, strength: int, data: str) -> dict[str, object]:
    """Train, log, register; gives what was made."""
    rows = pd.read_csv(data) if data else made(400 * strength, 7)
    numbers = rows[["age", "fee"]]
    mlflow.set_experiment("churn")
    with mlflow.start_run() as run:
        if data:
            used = mlflow.data.from_pandas(rows, source=data, name="rows", targets="churned")
            mlflow.log_input(used, context="training")
        if kind in ("sklearn", "forest", "pickle"):
            from sklearn.compose import make_column_transformer
            from sklearn.ensemble import HistGradientBoostingClassifier
            from sklearn.linear_model import LogisticRegression
            from sklearn.pipeline import make_pipeline
            from sklearn.preprocessing import OneHotEncoder, StandardScaler

            encode = make_column_transformer(
                (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["plan"]),
                (StandardScaler(), ["age", "fee"]),
            )
            usual = LogisticRegression(C=1e-3 if strength == 1 else 1.0)
            last = HistGradientBoostingClassifier(max_iter=20) if kind == "forest" else usual
            model = make_pipeline(encode, last).fit(rows[["age", "fee", "plan"]], rows["churned"])
            form = {"serialization_format": "cloudpickle"} if kind == "pickle" else {}
            trusted = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]
            form |= {"skops_trusted_types": trusted} if kind == "forest" else {}
            info = mlflow.sklearn.log_model(model, name="model", registered_model_name=name, **form)
            first = model.predict_proba(rows[["age", "fee", "plan"]].head(5))[:, 1]
        elif kind.startswith("xgboost"):
            import xgboost

            if kind == "xgboost booster":
                train = xgboost.DMatrix(numbers, rows["churned"])
                model = xgboost.train({"objective": "binary:logistic", "max_depth": 3, "nthread": 1}, train, 10)
                first = model.predict(xgboost.DMatrix(numbers.head(5)))
            else:
                model = xgboost.XGBClassifier(n_estimators=10, max_depth=3, n_jobs=1).fit(numbers, rows["churned"])
                first = model.predict_proba(numbers.head(5))[:, 1]
            info = mlflow.xgboost.log_model(model, name="model", registered_model_name=name)
        elif kind.startswith("lightgbm"):
            import lightgbm

            if kind == "lightgbm booster":
                train = lightgbm.Dataset(numbers, rows["churned"])
                model = lightgbm.train({"objective": "binary", "num_threads": 1, "verbose": -1}, train, 10)
                first = model.predict(numbers.head(5))
            else:
                model = lightgbm.LGBMClassifier(n_estimators=10, n_jobs=1, verbose=-1).fit(numbers, rows["churned"])
                first = model.predict_proba(numbers.head(5))[:, 1]
            info = mlflow.lightgbm.log_model(model, name="model", registered_model_name=name)
        elif kind == "pyfunc":

            class Ruled(mlflow.pyfunc.PythonModel):
                """A rule of thumb in Python code."""

                def predict(self, context, model_input, params=None):
                    """The probability that somebody leaves."""
                    odds = 0.08 * (model_input["age"] - 40) + 0.04 * (model_input["fee"] - 40)
                    return 1 / (1 + np.exp(-odds))

            info = mlflow.pyfunc.log_model(name="model", python_model=Ruled(), registered_model_name=name)
            first = Ruled().predict(None, numbers.head(5))
        else:
            raise SystemExit(f"no kind {kind}")
    version = str(info.registered_model_version)
    MlflowClient().set_registered_model_alias(name, "challenger", version)
    asked = rows[["age", "fee", "plan"]].head(5).to_dict("records")
    told = {"run": run.info.run_id, "model": info.model_id, "version": version, "rows": asked}
    return {**told, "scores": [float(each) for each in first]}


if __name__ == "__main__":
    print(json.dumps([logged(*each) for each in json.loads(sys.argv[1])]))
