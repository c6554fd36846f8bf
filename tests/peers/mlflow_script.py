"""What a team's script does with MLflow's own client; run in MLflow's environment, against MLFLOW_TRACKING_URI."""

from __future__ import annotations

import json
import math

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus, RunTag, ViewType
from mlflow.exceptions import MlflowException

client = MlflowClient()
mlflow.set_experiment("fraud")
with mlflow.start_run(run_name="outer", tags={"team": "red"}) as outer:
    mlflow.log_params({"lr": 0.1, "depth": 3})
    for step in range(20):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.log_metrics({"auc": 0.9, "f1": math.nan})
    frame = pd.DataFrame({"x": [1, 2, 3], "y": [0, 1, 0]})
    mlflow.log_input(mlflow.data.from_pandas(frame, name="rows", targets="y"), context="training")
    with mlflow.start_run(run_name="inner", nested=True) as inner:
        mlflow.log_metric("auc", 0.95)
    mlflow.set_tag("note", "kept")

experiment = client.get_experiment_by_name("fraud")
found = client.get_run(outer.info.run_id)
assert found.info.status == "FINISHED", found.info
assert found.data.params == {"lr": "0.1", "depth": "3"}
assert found.data.metrics["loss"] == 1 / 20
assert math.isnan(found.data.metrics["f1"])
assert found.data.tags["note"] == "kept"
assert found.data.tags["mlflow.source.name"]
assert [each.dataset.name for each in found.inputs.dataset_inputs] == ["rows"]
history = client.get_metric_history(outer.info.run_id, "loss")
assert [point.step for point in history] == list(range(20))
assert client.get_run(inner.info.run_id).data.tags["mlflow.parentRunId"] == outer.info.run_id

runs = mlflow.search_runs(experiment_names=["fraud"], filter_string="metrics.auc > 0.8", order_by=["metrics.auc DESC"])
assert list(runs["run_id"]) == [inner.info.run_id, outer.info.run_id], runs
datasets = client.search_runs([experiment.experiment_id], "datasets.name = 'rows'")
assert [each.info.run_id for each in datasets] == [outer.info.run_id]

many = client.create_run(experiment.experiment_id, run_name="many")
points = [Metric("m", i / 7, 1_700_000_000_000 + i, i) for i in range(2500)]
for start in range(0, len(points), 1000):
    client.log_batch(many.info.run_id, metrics=points[start : start + 1000])
client.log_batch(many.info.run_id, params=[Param("a", "1")], tags=[RunTag("b", "2")])
assert len(client.get_metric_history(many.info.run_id, "m")) == 2500
try:
    client.log_param(many.info.run_id, "a", "2")
    refusal = ""
except MlflowException as error:
    refusal = error.error_code
assert refusal == "INVALID_PARAMETER_VALUE", refusal
client.set_terminated(many.info.run_id, RunStatus.to_string(RunStatus.FAILED))
client.rename_experiment(experiment.experiment_id, "fraud 2")
client.delete_run(many.info.run_id)
assert client.get_run(many.info.run_id).info.lifecycle_stage == "deleted"
shown = client.search_runs([experiment.experiment_id], run_view_type=ViewType.DELETED_ONLY)
assert [each.info.run_id for each in shown] == [many.info.run_id]
client.restore_run(many.info.run_id)
assert client.get_run(many.info.run_id).info.status == "FAILED"
with mlflow.start_run(run_id=inner.info.run_id):
    mlflow.log_metric("auc", 0.97, step=1)
pages, token = [], None
while True:
    page = client.search_runs([experiment.experiment_id], max_results=1, page_token=token)
    pages += [each.info.run_name for each in page]
    token = page.token
    if not token:
        break
assert sorted(pages) == ["inner", "many", "outer"], pages
assert client.get_experiment(experiment.experiment_id).name == "fraud 2"
assert mlflow.search_experiments(filter_string="name LIKE 'fraud%'")[0].name == "fraud 2"
print(json.dumps({"outer": outer.info.run_id, "inner": inner.info.run_id, "many": many.info.run_id}))
