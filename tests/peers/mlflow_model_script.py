"""What a team's script does with models and MLflow's own client; run in MLflow's environment."""

from __future__ import annotations

import json

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

client = MlflowClient()
rng = np.random.default_rng(0)
frame = pd.DataFrame({"a": rng.normal(size=200), "b": rng.normal(size=200)})
label = (frame["a"] + frame["b"] > 0).astype(int)

mlflow.set_experiment("models")
mlflow.sklearn.autolog()
with mlflow.start_run(run_name="auto") as auto:
    model = LogisticRegression(C=0.5).fit(frame, label)
mlflow.sklearn.autolog(disable=True)
logged = mlflow.search_logged_models(
    experiment_ids=[auto.info.experiment_id],
    filter_string=f"source_run_id = '{auto.info.run_id}'",
    output_format="list",
)
assert len(logged) == 1, logged
assert logged[0].status == "READY", logged[0]
assert logged[0].params["C"] == "0.5", logged[0].params
assert np.allclose(mlflow.sklearn.load_model(logged[0].model_uri).predict_proba(frame), model.predict_proba(frame))

with mlflow.start_run(run_name="explicit") as run:
    info = mlflow.sklearn.log_model(
        model,
        name="classifier",
        signature=infer_signature(frame, model.predict(frame)),
        input_example=frame.head(3),
        registered_model_name="fraud",
        tags={"made": "here"},
    )
    mlflow.log_metric("auc", 0.9, model_id=info.model_id)
assert int(info.registered_model_version) == 1, info.registered_model_version
registered = client.get_model_version("fraud", "1")
assert registered.status == "READY", registered
assert registered.run_id == run.info.run_id, registered
second = mlflow.register_model(logged[0].model_uri, "fraud", tags={"from": "autolog"})
assert int(second.version) == 2, second
again = mlflow.register_model(f"runs:/{run.info.run_id}/classifier", "fraud")
assert int(again.version) == 3, again

client.set_registered_model_alias("fraud", "champion", "1")
client.set_registered_model_alias("fraud", "challenger", "2")
client.set_registered_model_tag("fraud", "team", "red")
client.set_model_version_tag("fraud", "1", "checked", "yes")
client.update_registered_model("fraud", "finds fraud")
client.update_model_version("fraud", "1", "the first")
expected = model.predict(frame)
for uri in ("models:/fraud@champion", "models:/fraud/2", "models:/fraud/latest", f"models:/{info.model_id}"):
    assert (mlflow.pyfunc.load_model(uri).predict(frame) == expected).all(), uri
    assert (mlflow.sklearn.load_model(uri).predict(frame) == expected).all(), uri
assert client.get_model_version_by_alias("fraud", "champion").version == "1"
assert [each.name for each in client.search_registered_models("name LIKE 'fr%'")] == ["fraud"]
found = client.search_model_versions("name = 'fraud'", order_by=["version_number ASC"])
assert [each.version for each in found] == ["1", "2", "3"], found
client.transition_model_version_stage("fraud", "2", "Staging")
assert [each.version for each in client.get_latest_versions("fraud", ["Staging"])] == ["2"]
assert (mlflow.pyfunc.load_model("models:/fraud/Staging").predict(frame) == expected).all()

copied = client.copy_model_version("models:/fraud@champion", "fraud copy")
assert copied.version == "1", copied
assert (mlflow.pyfunc.load_model("models:/fraud copy/1").predict(frame) == expected).all()
client.rename_registered_model("fraud copy", "fraud kept")
client.delete_model_version("fraud", "3")
client.delete_registered_model_alias("fraud", "challenger")
try:
    client.get_model_version("fraud", "3")
    refusal = ""
except MlflowException as error:
    refusal = error.error_code
assert refusal == "RESOURCE_DOES_NOT_EXIST", refusal
measured = client.get_logged_model(info.model_id)
assert [(each.key, each.value) for each in measured.metrics] == [("auc", 0.9)], measured.metrics
assert measured.tags["made"] == "here"
client.set_logged_model_tags(info.model_id, {"more": "1"})
client.delete_logged_model_tag(info.model_id, "more")
files = [each.path for each in client.list_logged_model_artifacts(info.model_id)]
assert "MLmodel" in files, files
outputs = client.get_run(run.info.run_id).outputs.model_outputs
assert [each.model_id for each in outputs] == [info.model_id], outputs
with mlflow.start_run(run_name="by steps") as steps:
    external = mlflow.initialize_logged_model(name="external", params={"k": "v"})
    mlflow.finalize_logged_model(external.model_id, "READY")
mlflow.register_prompt(name="greeting", template="Hello {{name}}!")
assert mlflow.load_prompt("prompts:/greeting/1").format(name="you") == "Hello you!"
assert [each.name for each in client.search_registered_models()] == ["fraud", "fraud kept"]
print(
    json.dumps(
        {
            "auto": auto.info.run_id,
            "run": run.info.run_id,
            "model": info.model_id,
            "autologged": logged[0].model_id,
            "external": external.model_id,
        }
    )
)
