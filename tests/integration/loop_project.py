"""A small project for the loop's tests: a year of events in a world that changes, and a client that needs no server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from noria.bootstrap import open_workspace
from noria.data import versions
from noria.loop import react
from noria.packaging.bundle import load
from noria.registry import release as releases
from noria.serving import deployment, segment
from noria.serving import records as serving
from noria.store.workspace import Workspace

CONFIG = """
[project]
name = "loop"
clock = "events"
[data.events]
source = "data"
checks = "checks/events.toml"
[model.m.gate]
auc = { min = 0.5 }
[model.m.deploy]
path = ["100%"]
[model.m.monitor]
window = "month"
labels = { delay = "36h" }
[model.m.retrain]
when = ["quality", "drift", "new labels 2000"]
limits = { cooldown = "0d", per_week = 9 }
value_per_log_loss = 1.0
cost = 10
risk = 20
"""
PIPELINE = '''"""Events: which go wrong?"""
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

import noria as nr

events = nr.dataset("events", key="id", time="at", label="bad")


@nr.step
def split(rows: pd.DataFrame, holdout: str = "7d") -> tuple[pd.DataFrame, pd.DataFrame]:
    return nr.split_by_time(rows, holdout)


@nr.step
def train(rows: pd.DataFrame, iterations: int = 30):
    x, y = nr.xy(rows)
    return HistGradientBoostingClassifier(max_iter=iterations, random_state=nr.seed()).fit(x[["a", "b", "c"]], y)


@nr.pipeline
def wrong():
    fit, holdout = split(events)
    return nr.model("m", train(fit), holdout=holdout, metrics=["auc", "log_loss"])
'''
ROWS = 3_000
FEATURES = ("a", "b", "c")


def month_rows(number: int, *, turned: bool = False, rows: int = ROWS) -> pd.DataFrame:
    """The events of a month of 2013. In a turned world the sign of `a` has changed."""
    rng = np.random.default_rng(number)
    start = pd.Timestamp(2013, number, 1, tz="UTC")
    length = (start + pd.offsets.MonthBegin(1) - start).total_seconds()
    at = start + pd.to_timedelta(np.sort(rng.uniform(0, length, rows)), unit="s")
    a, b, c = rng.normal(size=rows), rng.normal(size=rows), rng.uniform(size=rows)
    logit = (-2.0 if turned else 2.0) * a + b
    bad = (rng.uniform(size=rows) < 1 / (1 + np.exp(-logit))).astype("int64")
    ids = [f"e{number:02d}-{i:05d}" for i in range(rows)]
    return pd.DataFrame({"id": ids, "at": at.floor("us"), "a": a, "b": b, "c": c, "bad": bad})


@dataclass
class World:
    """The project with its workspace; plays the client, the server and the sender of data."""

    root: Path
    ws: Workspace = field(init=False)

    def __post_init__(self) -> None:
        (self.root / "data").mkdir(parents=True)
        (self.root / "noria.toml").write_text(CONFIG)
        (self.root / "pipeline.py").write_text(PIPELINE)
        self.open()

    def open(self) -> None:
        """A workspace as another process would have it."""
        self.ws = open_workspace(self.root, actor="service:trainer")

    def send_data(self, number: int, frame: pd.DataFrame) -> int:
        """Put a month's file into the data folder and add it; gives the version."""
        frame.to_parquet(self.root / "data" / f"2013-{number:02d}.parquet")
        return versions.add(self.ws, str(self.root / "data"), "events", key="id", time="at", label="bad").version

    def serve(self, frame: pd.DataFrame, *, labels: float = 1.0) -> None:
        """Answer every row as a server would log it, and send labels a few hours after."""
        with self.ws.ledger.read() as tx:
            live = serving.deployment(tx, "m")
        assert live is not None
        release = releases.find(self.ws, "m", live.production)
        rows = frame[list(FEATURES)].to_dict("records")
        scores = load(self.ws, release.bundle).predict(rows)
        us = int(frame["at"].iloc[0].timestamp() * 1e6)
        answers, outcomes = [], []
        for i, (row, score) in enumerate(zip(rows, scores, strict=True)):
            name, at = frame["id"].iloc[i], frame["at"].iloc[i]
            answers.append(
                {
                    "id": f"pred_{name}", "rid": name, "t": us + i, "at": at.isoformat(), "key": name,
                    "dep": live.seq, "rel": live.production, "arm": "stable", "pi": 1.0, "st": 200, "us": 900,
                    "b": 1, "x": row, "y": float(score), "c": int(score >= 0.5),
                }
            )  # fmt: skip
            if i < labels * len(frame):
                late = at + timedelta(hours=6)
                outcomes.append({"id": name, "label": int(frame["bad"].iloc[i]), "at": late.isoformat(), "t": us + i})
        self._write("predictions", us, answers)
        self._write("labels", us, outcomes)

    def pass_time(self, moment: str) -> None:
        """One more request and nothing else, so that event time comes to `moment`."""
        at = pd.Timestamp(moment, tz="UTC")
        self._write(
            "labels", int(at.timestamp() * 1e6), [{"id": f"x{moment}", "label": 0, "at": at.isoformat(), "t": 1}]
        )

    def drain(self, limit: int = 20) -> list[Mapping[str, Any]]:
        """Tick and work until nothing is left to do; gives the results of the jobs."""
        results: list[Mapping[str, Any]] = []
        for _ in range(limit):
            react.tick(self.ws)
            job = self.ws.jobs.claim(react.KINDS, owner="test", lease_s=600)
            if job is None:
                return results
            results.append(react.work(self.ws, job))
            self.ws.jobs.finish(job.id, "test", results[-1])
        raise AssertionError(f"after {limit} jobs there is still work")

    def first(self, **options: Any) -> None:
        """January: data, run, deploy."""
        from noria.loop.run import run

        self.send_data(1, month_rows(1))
        report = run(self.ws)
        assert report.ok, report.gates
        deployment.deploy(self.ws, "m")

    def copy(self, to: Path) -> World:
        """The project and its state as a copy."""
        shutil.copytree(self.root, to)
        made = object.__new__(World)
        made.root = to
        made.open()
        return made

    def _write(self, kind: str, us: int, payloads: list[dict[str, Any]]) -> None:
        writer = segment.SegmentWriter(segment.folder(self.ws.project.state, "m", kind), lambda: us)
        for start in range(0, len(payloads), 1_000):
            writer.append([json.dumps(item).encode() for item in payloads[start : start + 1_000]])
        writer.close()
