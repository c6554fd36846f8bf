"""Runs in MLflow's own environment: fills a tracking store with everything, or says all that one holds.

mlflow_store_script.py make URI ARTIFACTS       a small store of every kind of thing
mlflow_store_script.py many URI ARTIFACTS N     N runs with ten params and ten metrics of five points each
mlflow_store_script.py tell URI                 everything that MLflow's own reader finds, as JSON
mlflow_store_script.py schemas FOLDER           a database of each version of the tables, with the same rows
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sqlite3
import sys
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, ViewType

OLDEST = "97727af70f4d"


def make(uri: str, artifacts: str) -> None:
    """Every kind of thing that a store holds, deleted ones and values that are no numbers too."""
    import numpy as np
    import pandas as pd
    from sklearn.linear_model import LinearRegression

    mlflow.set_tracking_uri(uri)
    client = MlflowClient()
    place = artifacts if artifacts != "-" else None
    alpha = client.create_experiment("alpha", artifact_location=place, tags={"team": "x", "leer": ""})
    with mlflow.start_run(
        experiment_id=alpha, run_name="one", tags={"k": "ü 'quoted' \n line"}, description="words"
    ) as run:
        mlflow.log_params({"a": 1, "b/c": "two", "empty": ""})
        for step in range(5):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_metric("deep/name", 3.5, step=-2)
        for key, value in (("nan", float("nan")), ("inf", float("inf")), ("minus", float("-inf"))):
            mlflow.log_metric(key, value)
        mlflow.log_text("hello", "notes/a b.txt")
        mlflow.log_text("", "empty.txt")
        data = mlflow.data.from_pandas(pd.DataFrame({"x": [1.0, 2]}), name="frame")
        mlflow.log_input(data, context="training")
        model = LinearRegression().fit(np.array([[1.0], [2]]), [1, 2])
        info = mlflow.sklearn.log_model(model, name="model", registered_model_name="reg", params={"p": "1"})
        mlflow.log_metric("acc", 0.5, step=0, model_id=info.model_id, dataset=data)
        with mlflow.start_run(nested=True, run_name="kid", experiment_id=alpha):
            mlflow.log_metric("m", 1)
    client.log_batch(run.info.run_id, metrics=[Metric("long", i * 0.5, 1_700_000_000_000 + i, i) for i in range(1000)])
    open_run = client.create_run(alpha, run_name="going on", start_time=1_700_000_000_001)
    client.log_param(open_run.info.run_id, "p", "1")
    failed = client.create_run(alpha, run_name="failed", start_time=1_700_000_000_002)
    client.set_terminated(failed.info.run_id, "FAILED", end_time=1_700_000_009_002)
    gone = client.create_run(alpha, run_name="gone", start_time=1_700_000_000_003)
    client.set_terminated(gone.info.run_id, "KILLED")
    client.delete_run(gone.info.run_id)
    client.set_registered_model_tag("reg", "t", "1")
    client.update_registered_model("reg", "words")
    client.create_model_version("reg", f"runs:/{run.info.run_id}/notes", run.info.run_id, description="second")
    client.create_model_version("reg", f"runs:/{run.info.run_id}/notes", run.info.run_id)
    client.delete_model_version("reg", "2")
    client.set_registered_model_alias("reg", "champion", 1)
    client.set_model_version_tag("reg", "3", "vt", "x")
    client.transition_model_version_stage("reg", "1", "Staging")
    client.create_registered_model("empty")
    mlflow.genai.register_prompt(name="ask", template="Say {{word}}")
    client.delete_experiment(client.create_experiment("gone"))
    if uri.startswith("sqlite"):  # a folder holds none
        _evaluation(client, alpha)


def _evaluation(client: MlflowClient, alpha: str) -> None:
    """Evaluation data sets: with records of several times and kinds, without any, of one experiment and of two."""
    beta = client.create_experiment("beta")
    made = client.create_dataset("questions", experiment_id=[alpha, beta], tags={"mlflow.user": "ann", "über": "x"})
    made.merge_records(
        [
            {"inputs": {"q": f"what is {i}?", "n": i}, "expectations": {"ok": i % 2 == 0}, "tags": {"i": str(i)}}
            for i in range(1200)
        ]
    )
    made.merge_records(
        [
            {"inputs": {"q": "what is 3?", "n": 3}, "outputs": ["a", {"b": None}], "tags": {"mlflow.user": "bob"}},
            {"inputs": {"q": "new"}, "outputs": "text", "source": {"source_type": "HUMAN", "source_data": {"by": "x"}}},
        ]
    )
    client.set_dataset_tags(made.dataset_id, {"mlflow.user": "eve", "late": "1"})
    client.create_dataset("empty", tags={"only": "tags"})


def many(uri: str, artifacts: str, count: int) -> None:
    """Many runs in five experiments, a tenth of them with a file, and twenty models of five versions."""
    client = MlflowClient(uri, uri)
    chance = random.Random(1)
    experiments = [client.create_experiment(f"exp-{i}", artifact_location=f"{artifacts}/{i}") for i in range(5)]
    runs = []
    for i in range(count):
        at = 1_795_000_000_000 + i
        run = client.create_run(
            experiments[i % 5], start_time=at, run_name=f"r{i}", tags={"kind": f"k{i % 7}"}
        ).info.run_id
        metrics = [Metric(f"m{k}", chance.random(), at + step, step) for k in range(10) for step in range(5)]
        client.log_batch(run, metrics=metrics, params=[Param(f"p{k}", str(chance.random())) for k in range(10)])
        if i % 10 == 0:
            client.log_text(run, f"text {i}" * 50, "notes/a.txt")
        client.set_terminated(run, "FINISHED" if i % 9 else "FAILED", end_time=at + 5000)
        runs.append(run)
    for number in range(min(20, count // 10)):
        client.create_registered_model(f"model-{number}", tags={"a": "b"})
        for version in range(5):
            run = runs[number * 10 + version]
            client.create_model_version(f"model-{number}", f"runs:/{run}/model", run)
        client.set_registered_model_alias(f"model-{number}", "champion", 3)
    for run in runs[::50]:
        client.delete_run(run)


def tell(uri: str) -> None:
    """Runs with all that they have, histories, digests of artifacts, logged models and the registry, by name."""
    mlflow.set_tracking_uri(uri)
    client = MlflowClient()
    told: dict[str, object] = {}
    for experiment in client.search_experiments(view_type=ViewType.ALL):
        told[f"experiment {experiment.name}"] = [
            experiment.lifecycle_stage, experiment.tags, experiment.creation_time, experiment.last_update_time
        ]  # fmt: skip
        for run in client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL, max_results=50_000):
            told[f"run {run.info.run_id}"] = _run(client, client.get_run(run.info.run_id), experiment.name)
        if experiment.lifecycle_stage == "active":
            for model in client.search_logged_models([experiment.experiment_id]):
                told[f"model {model.model_id}"] = _model(model)
    for where in ("", "tags.`mlflow.prompt.is_prompt` = 'true'"):
        for model in client.search_registered_models(where or None):
            told[f"registered {model.name}"] = [
                model.description, model.tags, model.aliases, model.creation_timestamp, model.last_updated_timestamp
            ]  # fmt: skip
            query = f"name='{model.name}'" + (f" AND {where}" if where else "")
            for each in client.search_model_versions(query):
                told[f"version {each.name}:{each.version}"] = [
                    each.source, each.run_id, each.status, each.current_stage, each.description, each.tags,
                    sorted(each.aliases), each.creation_timestamp, each.last_updated_timestamp, each.user_id,
                ]  # fmt: skip
    for each in client.search_datasets() if uri.startswith("sqlite") else ():
        told[f"dataset {each.dataset_id}"] = [
            each.name, each.tags, each.schema, each.profile, each.digest, each.created_time, each.last_update_time,
            each.created_by, each.last_updated_by,
            sorted(client.get_experiment(one).name for one in each.experiment_ids),
            [one.to_dict() for one in each.records],
        ]  # fmt: skip
    loaded = mlflow.sklearn.load_model("models:/reg@champion").predict([[3.0]]) if "registered reg" in told else []
    told["loaded"] = [round(float(value), 9) for value in loaded]
    print(json.dumps(told, sort_keys=True, default=dict))


def _run(client: MlflowClient, run: object, experiment: str) -> list[object]:
    info, data = run.info, run.data  # type: ignore[attr-defined]
    histories = {
        key: sorted(
            (each.step, each.timestamp, repr(each.value)) for each in client.get_metric_history(info.run_id, key)
        )
        for key in data.metrics
    }
    latest = {key: repr(value) for key, value in data.metrics.items()}
    inputs = [
        [dict(each.dataset), sorted((tag.key, tag.value) for tag in each.tags)]
        for each in run.inputs.dataset_inputs  # type: ignore[attr-defined]
    ]
    outputs = [[each.model_id, each.step] for each in run.outputs.model_outputs]  # type: ignore[attr-defined]
    files = _files(Path(info.artifact_uri.removeprefix("file://")))
    return [
        experiment, info.run_name, info.user_id, info.status, info.start_time, info.end_time, info.lifecycle_stage,
        data.params, data.tags, latest, histories, inputs, outputs, files,
    ]  # fmt: skip


def _model(model: object) -> list[object]:
    measures = sorted(
        (each.key, each.timestamp, each.step, repr(each.value), each.run_id, each.dataset_name, each.dataset_digest)
        for each in model.metrics or []  # type: ignore[attr-defined]
    )
    return [
        model.name, model.model_type, model.source_run_id, str(model.status), model.creation_timestamp,  # type: ignore[attr-defined]
        model.last_updated_timestamp, model.params, model.tags, measures,  # type: ignore[attr-defined]
        _files(Path(model.artifact_location.removeprefix("file://"))),  # type: ignore[attr-defined]
    ]  # fmt: skip


def _files(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def schemas(folder: Path) -> None:
    """One database after the other, each a version of the tables newer, the same rows in all."""
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    place = folder / "growing.db"
    uri = f"sqlite:///{place}"
    Base.metadata.create_all(create_engine(uri))
    config = _get_alembic_config(uri)
    steps = [each.revision for each in ScriptDirectory.from_config(config).walk_revisions()][::-1]
    command.upgrade(config, OLDEST)
    with sqlite3.connect(place) as rows:
        rows.executescript(
            """
            INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time,
              last_update_time) VALUES (0, 'Default', '/nowhere/0', 'active', 1, 2),
              (7, 'old', '/nowhere/7', 'active', 3, 4);
            INSERT INTO runs (run_uuid, name, source_type, user_id, status, start_time, end_time, lifecycle_stage,
              artifact_uri, experiment_id) VALUES ('a1', 'first', 'LOCAL', 'ann', 'FINISHED', 1000, 2000, 'active',
              '', 7), ('a2', '', 'LOCAL', 'ann', 'FAILED', 1001, NULL, 'deleted', '', 7);
            INSERT INTO params (key, value, run_uuid) VALUES ('p', '1', 'a1');
            INSERT INTO tags (key, value, run_uuid) VALUES ('mlflow.runName', 'second', 'a2'), ('t', 'x', 'a1');
            INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES ('m', 0.5, 5, 'a1', 0, 0),
              ('m', 0.25, 6, 'a1', 1, 0), ('n', 0, 6, 'a1', 0, 1);
            INSERT INTO registered_models (name, creation_time, last_updated_time) VALUES ('reg', 8, 9);
            INSERT INTO model_versions (name, version, creation_time, last_updated_time, current_stage, source, run_id,
              status) VALUES ('reg', 1, 8, 9, 'Production', 'runs:/a1/model', 'a1', 'READY');
            """
        )
    for step in steps[steps.index(OLDEST) :]:
        command.upgrade(config, step)
        shutil.copy(place, folder / f"{step}.db")


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    {
        "make": lambda: make(*words),
        "many": lambda: many(words[0], words[1], int(words[2])),
        "tell": lambda: tell(words[0]),
        "schemas": lambda: schemas(Path(words[0])),
    }[what]()
