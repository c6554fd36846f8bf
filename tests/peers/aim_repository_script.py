"""Run in Aim's environment: makes a repository with Aim's own library."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import aim
import numpy as np
from PIL import Image

STEPS = 30


def whole(repo: str) -> None:
    """Two runs, one with everything that can be tracked; tells their ids."""
    run = aim.Run(repo=repo, experiment="churn", system_tracking_interval=None, capture_terminal_logs=False)
    run.name, run.description = "first", "a note"
    run.add_tag("base")
    run["hparams"] = {"lr": 0.1, "layers": [1, 2], "deep": {"er": "x"}}
    run["seed"] = 3
    run["text"] = aim.Text("a param")
    for step in range(STEPS):
        run.track(1 / (step + 1), name="loss", step=step, epoch=step // 10, context={"subset": "train"})
        run.track(2 / (step + 1), name="loss", step=step, context={"subset": "val"})
    run.track(float("nan"), name="odd", step=0)
    run.track(float("inf"), name="odd", step=1)
    run.track(aim.Distribution(hist=[1, 2], bin_range=(0.0, 1.0)), name="shape", step=1)
    run.track(aim.Text("hello"), name="words", step=2)
    pixels = Image.fromarray(np.zeros((4, 4, 3), np.uint8))
    run.track([aim.Image(pixels, caption="c"), aim.Image(pixels)], name="pictures", step=3, context={"fold": 1})
    (Path(repo) / "kept").mkdir()
    run.set_artifacts_uri((Path(repo) / "kept").as_uri())
    Path(repo, "model.bin").write_bytes(b"weights")
    run.log_artifact(str(Path(repo, "model.bin")), block=True)
    run.log_info("a record")
    run.close()
    other = aim.Run(repo=repo, experiment="price", system_tracking_interval=None, capture_terminal_logs=False)
    other.archived = True
    other.track(5, name="count", step=0)
    other.close()
    print(run.hash, other.hash)


def going(repo: str) -> None:
    """A run that is not closed; tells its id."""
    run = aim.Run(repo=repo, experiment="churn", system_tracking_interval=None, capture_terminal_logs=False)
    run.track(1.0, name="loss", step=0)
    print(run.hash, flush=True)
    os._exit(0)


if __name__ == "__main__":
    logging.disable()
    globals()[sys.argv[1]](*sys.argv[2:])
