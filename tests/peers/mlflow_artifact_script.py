"""Files that a script keeps, lists, reads back and deletes with MLflow's own client."""

from __future__ import annotations

import hashlib
import json
import random
import sys
from pathlib import Path

import mlflow
from mlflow import MlflowClient

client = MlflowClient()
folder = Path(sys.argv[1])
(folder / "deep" / "er").mkdir(parents=True)
(folder / "one.txt").write_text("one")
(folder / "deep" / "two ünï.bin").write_bytes(bytes(range(256)) * 3000)
(folder / "deep" / "er" / "empty").write_bytes(b"")
mlflow.set_experiment("files")
with mlflow.start_run() as run:
    mlflow.log_artifact(str(folder / "one.txt"))
    mlflow.log_artifact(str(folder / "one.txt"), artifact_path="in/side")
    mlflow.log_artifacts(str(folder), artifact_path="all")
    mlflow.log_text("a text", "texts/a.txt")
    mlflow.log_dict({"a": [1, 2]}, "a.json")
    mlflow.log_artifact(str(folder / "one.txt"), artifact_path="all")
run_id = run.info.run_id
assert [each.path for each in client.list_artifacts(run_id)] == ["a.json", "all", "in", "one.txt", "texts"]
deep = client.list_artifacts(run_id, "all/deep")
assert [(each.path, each.is_dir, each.file_size) for each in deep] == [
    ("all/deep/er", True, None),
    ("all/deep/two ünï.bin", False, 768_000),
], deep
assert client.list_artifacts(run_id, "all/deep/er/empty") == []
back = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="all", dst_path=str(folder / "back")))
assert (back / "deep" / "two ünï.bin").read_bytes() == bytes(range(256)) * 3000
assert (back / "deep" / "er" / "empty").read_bytes() == b""
assert mlflow.artifacts.load_text(f"runs:/{run_id}/texts/a.txt") == "a text"
assert mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/a.json") == {"a": [1, 2]}

large = folder / "large.bin"
block = random.Random(0).randbytes(1 << 20)
with large.open("wb") as stream:
    for number in range(150):
        stream.write(number.to_bytes(8, "big") + block)
with mlflow.start_run(run_id=run_id):
    mlflow.log_artifact(str(large))
again = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="large.bin", dst_path=str(folder / "back"))
one, other = (hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in (large, again))
assert one == other
print(json.dumps({"run": run_id, "sha256": one}))
