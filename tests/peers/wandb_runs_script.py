"""Run in wandb's environment: keeps runs on disk as a training would, and reads files that were cut."""

from __future__ import annotations

import importlib
import json
import os
import signal
import struct
import sys
import tempfile
import time
from pathlib import Path

import wandb

STEPS = 40


def whole() -> None:
    """A run with everything, in the folder `wandb` of this one."""
    Path("note.txt").write_text("saved", encoding="utf-8")
    run = wandb.init(
        project="churn",
        name="first",
        id="abc",
        config={"lr": 0.1, "net": {"depth": 3}, "sizes": [1, 2]},
        tags=["base", "try"],
        notes="a note",
        group="g",
        job_type="train",
        settings=wandb.Settings(x_stats_sampling_interval=0.2),
    )
    for step in range(STEPS):
        row = {"loss": 1 / (step + 1), "deep": {"er": step}, "said": f"s{step}", "is_good": step % 2 == 0}
        run.log({**row, "nan": float("nan"), "inf": float("inf")})
    histogram = wandb.Histogram(np_histogram=([1, 2], [0.0, 0.5, 1.0]))
    run.log({"shape": histogram, "rows": wandb.Table(columns=["a"], data=[[1], [2]]), "page": wandb.Html("<b>x</b>")})
    run.save("note.txt", policy="now")
    artifact = wandb.Artifact("weights", "model", metadata={"kind": "tree"})
    artifact.add_file("note.txt", name="deep/note.txt")
    run.log_artifact(artifact)
    run.summary["best"] = 0.9
    run.summary["word"] = "w"
    print("a printed line")
    time.sleep(0.6)
    run.finish()


def short(project: str, value: str) -> None:
    """A run of one point, whose id another project has too."""
    run = wandb.init(project=project, id="same", settings=wandb.Settings(x_disable_stats=True))
    run.log({"loss": float(value)})
    run.finish(exit_code=int(float(value) > 5))


def killed() -> None:
    """A run that ends while it is being written."""
    run = wandb.init(project="churn", id="dead", settings=wandb.Settings(x_disable_stats=True))
    for step in range(20_000):
        run.log({"loss": float(step), "other": float(-step), "text": f"some words of step {step}"})
    deadline = time.monotonic() + 60
    while (
        time.monotonic() < deadline
        and sum(path.stat().st_size for path in Path().glob("wandb/offline-run-*/run-dead.wandb")) < 1e6
    ):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)


def cuts(file: str, trackers: str) -> None:
    """Read a file cut after every so many bytes, and damaged in one place; tells the points of each, as JSON."""
    sys.path.append(trackers)
    reader = importlib.import_module("noria_readers.wandb_files")
    content = Path(file).read_bytes()
    told = []
    for size in [*range(0, len(content), max(1, len(content) // 60)), len(content)]:
        told.append(_read(reader, content[:size]))
    middle = len(content) // 2
    damaged = bytearray(content)
    damaged[middle : middle + 4] = b"\xff" * 4
    headless = content[:20] + b"\xff" * 4 + content[24:]
    read = {"damaged": bytes(damaged), "headless": headless[:2000], "foreign": b"PK and more"}
    print(json.dumps({"cuts": told, **{name: _read(reader, each) for name, each in read.items()}}))


def _read(reader: object, content: bytes) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        store, out = Path(folder) / "offline-run-x", Path(folder) / "out"
        store.mkdir()
        out.mkdir()
        (store / "run-x.wandb").write_bytes(content)
        reader.main([str(store), str(out)])
        *docs, last = [json.loads(line) for line in (out / "runs.jsonl").read_text("ascii").splitlines()]
        points = {}
        for doc in docs:
            for key, blocks in doc["points"].items():
                raw = (out / "points.bin").read_bytes()
                points[key] = [
                    [row[0], row[2]]
                    for offset, count in blocks
                    for row in struct.iter_unpack("<qqd", raw[offset : offset + 24 * count])
                ]
        return {
            "losses": points.get("loss", []),
            "runs": len(docs),
            "status": [doc["status"] for doc in docs],
            "notes": last["end"]["notes"],
            "lost": last["end"]["left_out"],
            "left_out": [each for doc in docs for each in doc["left_out"] if "damaged" in each],
        }


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
