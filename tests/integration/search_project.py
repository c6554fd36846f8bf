"""A small project whose training step is searched; it leaves a line for each time that it really runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

TOML = """
[project]
name = "searched"
[data.rows]
source = "rows.csv"
[model.m.gate]
auc = { min = 0.5 }
"""
PIPELINE = '''"""Which go wrong?"""
import os
import signal
import time
from pathlib import Path
from typing import Annotated

import pandas as pd
from sklearn.linear_model import LogisticRegression

import noria as nr

rows = nr.dataset("rows", key="id", time="at", label="bad")


@nr.step
def wash(table: pd.DataFrame) -> pd.DataFrame:
    note("wash")
    return table


@nr.step
def split(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return nr.split_by_time(table, "7d")


@nr.step
def train(
    table: pd.DataFrame,
    c: Annotated[float, nr.Range(0.001, 100.0, log=True)] = 1.0,
    mode: Annotated[str, nr.Choice({modes})] = "plain",
):
    note(f"train {{mode}} {{c}}")
    if mode == "raise":
        raise ValueError("this mode fails")
    if mode == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    while mode == "slow":
        time.sleep(0.1)
    if mode == "report":
        for step in range(1, 28):
            nr.report(step, -abs(c - 1) * step)
    x, y = nr.xy(table)
    return LogisticRegression(C=c, max_iter=50).fit(x[["a", "b"]], y)


def note(text: str) -> None:
    with Path({effects!r}).open("a") as lines:
        lines.write(text + "\\n")


@nr.pipeline
def wrong():
    fit, holdout = split(wash(rows))
    return nr.model("m", train(fit), holdout=holdout, metrics=["auc", "log_loss"])
'''


def make_project(root: Path, *modes: str) -> Path:
    """A project whose parameter `mode` has these values."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(5)
    count = 600
    at = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.sort(rng.uniform(0, 40, count)), unit="D")
    a, b = rng.normal(size=count), rng.normal(size=count)
    bad = (rng.uniform(size=count) < 1 / (1 + np.exp(-2 * a - b))).astype(int)
    frame = pd.DataFrame({"id": range(count), "at": at.floor("s"), "a": a.round(3), "b": b.round(3), "bad": bad})
    frame.to_csv(root / "rows.csv", index=False)
    (root / "noria.toml").write_text(TOML)
    names = ", ".join(repr(mode) for mode in modes or ("plain",))
    (root / "pipeline.py").write_text(PIPELINE.format(modes=names, effects=str(root.parent / "effects")))
    return root
