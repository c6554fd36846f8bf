"""What any team's script does with MLflow, in the words that clients of several versions share; whole and skinny."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

client = MlflowClient()
rng = np.random.default_rng(0)
frame = pd.DataFrame({"a": rng.normal(size=120), "b": rng.normal(size=120)})
label = (frame["a"] > frame["b"]).astype(int)

experiment = mlflow.set_experiment("versions")
with mlflow.start_run(run_name="by hand", tags={"team": "red"}) as run:
    mlflow.log_params({"lr": 0.1, "depth": 3})
    for step in range(25):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    client.log_batch(run.info.run_id, [Metric("auc", 0.75, 1, 0)], [Param("more", "x")], [RunTag("k", "v")])
    mlflow.log_text("hello", "notes/hello.txt")
    Path("local.txt").write_text("from a file", encoding="utf-8")
    mlflow.log_artifact("local.txt", "notes")
    mlflow.log_dict({"a": [1, 2]}, "config.json")
    with mlflow.start_run(run_name="nested", nested=True) as nested:
        mlflow.log_metric("inner", 1.0)
found = client.get_run(run.info.run_id)
assert found.info.status == "FINISHED", found.info
assert found.data.params == {"lr": "0.1", "depth": "3", "more": "x"}, found.data.params
assert found.data.metrics["auc"] == 0.75
assert [point.step for point in client.get_metric_history(run.info.run_id, "loss")] == list(range(25))
files = sorted(each.path for each in client.list_artifacts(run.info.run_id, "notes"))
assert files == ["notes/hello.txt", "notes/local.txt"], files
assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/notes/hello.txt") == "hello"
assert mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/config.json") == {"a": [1, 2]}
table = mlflow.search_runs(experiment_names=["versions"], filter_string="params.lr = '0.1' and metrics.auc > 0.5")
assert list(table["run_id"]) == [run.info.run_id], table
assert table["tags.team"][0] == "red"
children = mlflow.search_runs([experiment.experiment_id], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
assert list(children["run_id"]) == [nested.info.run_id]

mlflow.sklearn.autolog(log_models=False)
with mlflow.start_run(run_name="auto") as auto:
    model = LogisticRegression(C=0.5).fit(frame, label)
mlflow.sklearn.autolog(disable=True)
assert client.get_run(auto.info.run_id).data.params["C"] == "0.5"
assert "training_score" in client.get_run(auto.info.run_id).data.metrics

with mlflow.start_run(run_name="explicit") as explicit:
    info = mlflow.sklearn.log_model(
        model,
        name="classifier",
        signature=infer_signature(frame, model.predict(frame)),
        registered_model_name="churn",
        pip_requirements=["scikit-learn"],  # else it loads the model once more to see what it imports
    )
mlflow.register_model(f"runs:/{explicit.info.run_id}/classifier", "churn")
client.set_registered_model_alias("churn", "champion", "1")
client.set_registered_model_tag("churn", "team", "red")
client.set_model_version_tag("churn", "1", "checked", "yes")
client.update_registered_model("churn", "who leaves")
client.update_model_version("churn", "1", "the first")
expected = model.predict(frame)
for uri in ("models:/churn@champion", "models:/churn/2", info.model_uri):
    assert (mlflow.pyfunc.load_model(uri).predict(frame) == expected).all(), uri
    assert (mlflow.sklearn.load_model(uri).predict(frame) == expected).all(), uri
registered = client.get_registered_model("churn")
assert (registered.description, registered.tags) == ("who leaves", {"team": "red"}), registered
assert {alias: int(version) for alias, version in registered.aliases.items()} == {"champion": 1}
assert client.get_model_version_by_alias("churn", "champion").description == "the first"
versions = client.search_model_versions("name = 'churn'", order_by=["version_number ASC"])
assert [int(each.version) for each in versions] == [1, 2], versions
client.delete_registered_model_alias("churn", "champion")
client.delete_model_version("churn", "2")
try:
    client.get_model_version("churn", "2")
    refusal = ""
except MlflowException as error:
    refusal = error.error_code
assert refusal == "RESOURCE_DOES_NOT_EXIST", refusal
client.rename_registered_model("churn", "kept")
assert [each.name for each in client.search_registered_models("name LIKE '%ep%'")] == ["kept"]


@mlflow.trace(span_type="CHAIN", attributes={"k": 1})
def answer(question: str) -> str:
    """A traced call with one inside."""
    with mlflow.start_span("inner") as span:
        span.set_inputs({"q": question})
        span.set_outputs(["a", 1])
    mlflow.update_current_trace(tags={"kind": "asked"})
    return question.upper()


assert answer("why?") == "WHY?"
mlflow.flush_trace_async_logging()
traces = mlflow.search_traces(filter_string="tags.kind = 'asked'", return_type="list")
assert len(traces) == 1, traces
spans = {span.name: span for span in traces[0].data.spans}
assert set(spans) == {"answer", "inner"}, spans
assert spans["inner"].parent_id == spans["answer"].span_id
assert spans["inner"].outputs == ["a", 1]
assert spans["answer"].inputs == {"question": "why?"}
assert traces[0].info.response_preview == '"WHY?"', traces[0].info
name = traces[0].info.trace_id
mlflow.log_feedback(trace_id=name, name="good", value=True, rationale="it was")
judged = mlflow.get_trace(name).info.assessments
assert [(each.name, each.value) for each in judged] == [("good", True)], judged
client.set_trace_tag(name, "more", "1")
client.delete_trace_tag(name, "more")
assert client.delete_traces(experiment.experiment_id, trace_ids=[name]) == 1

print(json.dumps({"version": mlflow.__version__, "run": run.info.run_id, "auto": auto.info.run_id}))
