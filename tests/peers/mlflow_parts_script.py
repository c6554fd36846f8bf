"""A large, mostly empty file kept in parts and read back in stretches with MLflow's own client."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"] = "true"
os.environ["MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE"] = str(64 << 20)
os.environ["MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE"] = str(48 << 20)

import mlflow  # after what it reads when it is imported

folder, size = Path(sys.argv[1]), int(sys.argv[2])
large = folder / "large.bin"
with large.open("wb") as stream:
    stream.truncate(size)
    for place in range(0, size, 97 << 20):
        stream.seek(place)
        stream.write(place.to_bytes(8, "big"))


def sha256(path: Path) -> str:
    """The digest of a file's bytes."""
    with path.open("rb") as found:
        return hashlib.file_digest(found, "sha256").hexdigest()


mlflow.set_experiment("parts")
with mlflow.start_run() as run:
    mlflow.log_artifact(str(large), artifact_path="in")
whole = sha256(large)
large.unlink()
again = mlflow.artifacts.download_artifacts(
    run_id=run.info.run_id, artifact_path="in/large.bin", dst_path=str(folder / "back")
)
assert sha256(Path(again)) == whole
print(json.dumps({"run": run.info.run_id, "sha256": whole}))
