"""The demo, shortened to three months, killed and resumed, and its JSON line recomputed from what it leaves behind.

Nothing of `noria` is imported here: the prediction log, the label files, the client's own log, the
exported ledger and the exported models are read with plain libraries, as an auditor would.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import math
import os
import random
import re
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import skops.io
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from scipy.stats import rankdata
from stored import Stored

MONTHS = "2013-04..2013-06"
WANTED = ("2013-04", "2013-05", "2013-06")
BROKEN = "2013-04"
"""A short part of the year with all in it: broken data, a promotion with the kill, a refusal, a rollback."""
RATE = 1000
"""Requests a second, below the template's: the challenger of April must be through, on any machine, before June is."""
DEMO_TIMEOUT_S = 900
FIELDS = {
    "seconds", "requests", "failed_requests", "p50_ms", "p99_ms", "months", "promotions", "refusals",
    "stopped_batches", "resumed_after_kill", "rollback_ms", "audit", "explain",
}  # fmt: skip


def noria(folder: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NORIA_")}
    return subprocess.run(
        [sys.executable, "-m", "noria", *words], cwd=folder, env=kept, capture_output=True, text=True, check=check
    )


@dataclass
class Left:
    """What the demo left, read without Noria."""

    root: Path
    figures: dict[str, Any]
    output: str
    log: str
    """What `noria up` said beside it: its children's ends, and its own."""
    begun: datetime
    models: dict[int, Any] = field(default_factory=dict)

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        """The exported ledger: seq, leaf and exact text of every fact."""
        noria(self.root, "audit", "export", "ledger-export")
        text = (self.root / "ledger-export" / "facts.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    @cached_property
    def facts(self) -> list[dict[str, Any]]:
        return [json.loads(line["fact"]) | {"seq": line["seq"]} for line in self.lines]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [fact for fact in self.facts if fact["kind"] == kind]

    def object(self, digest: str) -> io.BytesIO:
        return io.BytesIO(Stored(self.root / ".noria" / "objects").read(digest))

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """Every answered prediction once per client id, the first answer, from sealed segments and open logs."""
        parts = [
            pq.read_table(self.object(fact["data"]["segment"])).to_pandas().assign(pid=pid_of(fact["data"]["source"]))
            for fact in self.of("predictions.sealed")
        ]
        rows = []
        for path in (self.root / ".noria" / "predictions" / "flights").glob("*.log"):
            for line in log_lines(path):
                made = {key: value for key, value in line.items() if key != "x"} | {"pid": pid_of(path.name)}
                made["t"] = pd.Timestamp(line["t"], unit="us", tz="UTC")
                rows.append(made | {f"x_{name}": value for name, value in (line.get("x") or {}).items()})
        if rows:
            parts.append(pd.DataFrame(rows))
        frame = pd.concat(parts, ignore_index=True)
        shadow = frame["sh"].fillna("") if "sh" in frame else pd.Series("", index=frame.index)
        frame = frame[(shadow == "") & (frame["st"] == 200)]
        return frame.drop_duplicates("id").sort_values("id").drop_duplicates("rid").reset_index(drop=True)

    @cached_property
    def labels(self) -> dict[str, int]:
        """The outcomes that arrived, newest revision first by time of arrival."""
        rows: list[tuple[int, str, int]] = []
        for fact in self.of("labels.sealed"):
            table = pq.read_table(self.object(fact["data"]["segment"])).to_pydict()
            rows += [
                (t, name, int(label)) for t, name, label in zip(table["t"], table["id"], table["label"], strict=True)
            ]
        rows.sort()
        found = {name: label for _, name, label in rows}
        for path in (self.root / ".noria" / "labels" / "flights").glob("*.log"):
            for line in log_lines(path):
                found.setdefault(str(line["id"]), int(line["label"]))
        return found

    @cached_property
    def answers(self) -> list[dict[str, Any]]:
        text = (self.root / "traffic" / "answers.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    @cached_property
    def sent(self) -> dict[str, int]:
        """Every flight that the client had to send, with its outcome; -1 if it never landed."""
        found = {}
        for month in WANTED:
            for line in (self.root / "traffic" / f"{month}.tsv").read_text(encoding="utf-8").splitlines():
                name, _, _, label, _ = line.split("\t", 4)
                found[name] = int(label)
        return found

    def scores(self, release: int, rows: pd.DataFrame) -> Any:
        """Scores of logged rows by the exported model of a release: scikit-learn and skops alone."""
        if release not in self.models:
            folder = f"exported-r{release}"
            noria(self.root, "registry", "export", "flights", str(release), folder)
            types = json.loads((self.root / folder / "types.json").read_text(encoding="utf-8"))
            model = skops.io.load(self.root / folder / "model.skops", trusted=types)
            signature = json.loads((self.root / folder / "signature.json").read_text(encoding="utf-8"))
            self.models[release] = (model, signature["inputs"])
        model, inputs = self.models[release]
        frame = pd.DataFrame({item["name"]: typed(rows[f"x_{item['name']}"], item) for item in inputs})
        return model.predict_proba(frame)[:, 1]


def log_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a framed log: eight hex digits of CRC-32, a space, JSON."""
    for raw in path.read_bytes().split(b"\n"):
        if raw and zlib.crc32(raw[9:]) == int(raw[:8], 16):
            yield json.loads(raw[9:])


def pid_of(source: str) -> int:
    """The process that wrote a file of the log: PID-BEGIN.log."""
    return int(source.partition("-")[0])


def typed(column: pd.Series[Any], item: Mapping[str, Any]) -> pd.Series[Any]:
    if item["type"] in ("text", "category"):
        return column.astype("str").where(column.notna(), None).astype(item["dtype"])
    return pd.to_numeric(column).astype(item["dtype"])


def auc(y: Any, score: Any) -> float:
    """Area under the ROC curve as the Mann-Whitney statistic, with midranks."""
    y, score = np.asarray(y), np.asarray(score)
    positive = y == 1
    n, m = int(positive.sum()), int((~positive).sum())
    return float((rankdata(score)[positive].sum() - n * (n + 1) / 2) / (n * m))


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    folder = tmp_path_factory.mktemp("demo")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    noria(folder, "init", "noria-demo", "--template", "flights")
    story = folder / "noria-demo" / "story.toml"
    text = story.read_text(encoding="utf-8")
    for key, value in (("rate", RATE), ("break_month", json.dumps(BROKEN))):
        text, changed = re.subn(rf"(?m)^{key} = \S+", f"{key} = {value}", text)
        assert changed == 1
    story.write_text(text, encoding="utf-8")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NORIA_")}
    begun = datetime.now(UTC)
    command = [
        sys.executable,
        "-m",
        "noria",
        "up",
        "--demo",
        "--exit",
        "--json",
        "--months",
        MONTHS,
        "--port",
        str(port),
    ]
    done = subprocess.run(
        command, cwd=folder, env=kept, capture_output=True, text=True, timeout=DEMO_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    return Left(folder / "noria-demo", figures, done.stdout, done.stderr, begun)


pytestmark = [pytest.mark.slow, pytest.mark.timeout(DEMO_TIMEOUT_S + 180)]


def test_the_line_has_every_field(left: Left) -> None:
    assert set(left.figures) == FIELDS
    assert [month["month"] for month in left.figures["months"]] == list(WANTED)


def test_the_seconds_are_those_from_the_start_to_the_end_of_the_server(left: Left) -> None:
    """From this test's own clock to the up log, less what printing the line takes; the ledger's span is within."""
    (stopped,) = re.findall(r"(?m)^(\S+Z) up INFO stopping after signal", left.log)
    whole = (moment(stopped) - left.begun).total_seconds()
    assert -1 < whole - left.figures["seconds"] < 15
    assert moment(left.facts[0]["at"]) > left.begun
    told = (moment(left.facts[-1]["at"]) - moment(left.facts[0]["at"])).total_seconds()
    assert told < left.figures["seconds"]
    assert left.figures["seconds"] < DEMO_TIMEOUT_S


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_every_flight_was_sent_once_and_none_failed(left: Left) -> None:
    assert {answer["id"] for answer in left.answers} == set(left.sent)
    assert len(left.answers) == len(left.sent) == left.figures["requests"]
    assert {answer["status"] for answer in left.answers} == {200}
    assert left.figures["failed_requests"] == 0


def test_every_answer_is_in_the_prediction_log_as_it_was_given(left: Left) -> None:
    logged = left.predictions
    assert set(logged["rid"]) == set(left.sent)
    by_id = dict(zip(logged["rid"], logged["rel"], strict=True))
    given = {answer["id"]: answer["release"] for answer in left.answers if answer["tries"] == 1}
    assert {name: by_id[name] for name in given} == given


def test_the_latencies_are_those_of_the_client(left: Left) -> None:
    ms = sorted(answer["ms"] for answer in left.answers)
    for share, name in ((0.5, "p50_ms"), (0.99, "p99_ms")):
        assert left.figures[name] == pytest.approx(ms[math.ceil(share * len(ms)) - 1], abs=1e-3)


def test_labels_arrived_as_they_were_in_truth(left: Left) -> None:
    truth = {name: label for name, label in left.sent.items() if label >= 0}
    assert left.labels == truth


def test_the_quality_of_each_month_is_that_of_the_served_and_the_frozen_scores(left: Left) -> None:
    measured = {fact["data"]["window"]: fact["data"] for fact in left.of("quality.measured")}
    logged = left.predictions.assign(label=left.predictions["rid"].map(left.labels))
    first = min(fact["data"]["release"] for fact in left.of("release.made"))
    for month in left.figures["months"]:
        rows = logged[logged["at"].str.startswith(month["month"]) & logged["label"].notna()]
        known = measured[month["month"]]
        assert known["live"]["auc"]["value"] == pytest.approx(month["auc_live"], abs=1e-12)
        assert known["frozen"]["auc"]["value"] == pytest.approx(month["auc_static"], abs=1e-12)
        # a label that came after the measurement may be missing from it, never one too many
        assert 0 <= len(rows) - known["labelled"] <= 0.01 * len(rows)
        slack = 1e-9 if len(rows) == known["labelled"] else 0.002
        assert auc(rows["label"], rows["y"]) == pytest.approx(month["auc_live"], abs=slack)
        assert auc(rows["label"], left.scores(first, rows)) == pytest.approx(month["auc_static"], abs=slack)


def test_no_answer_mixes_two_releases(left: Left) -> None:
    """A sample of logged rows of each release, scored again by the bundle that the answer names."""
    draw = random.Random(2013)
    for release in sorted(set(left.predictions["rel"])):
        rows = left.predictions[left.predictions["rel"] == release]
        sample = rows.iloc[draw.sample(range(len(rows)), min(1500, len(rows)))]
        np.testing.assert_allclose(left.scores(int(release), sample), sample["y"].to_numpy(), rtol=0, atol=1e-9)


def test_decisions_promotions_and_refusals_are_facts(left: Left) -> None:
    judged = {fact["data"]["window"]: fact["data"] for fact in left.of("challenger.judged")}
    outcomes = {fact["data"]["release"]: fact["data"]["outcome"] for fact in left.of("rollout.finished")}
    promoted = refused = 0
    for month in left.figures["months"]:
        found = judged.get(month["month"])
        if month["decision"] == "refused":
            refused += 1
            assert found is not None
            assert found["decision"] == "refuse"
            assert found["low"] <= found["gain"] <= found["high"]
            assert found["n"] > 1000
            assert math.isfinite(found["champion_score"])
            assert math.isfinite(found["challenger_score"])
            assert found["gain"] == pytest.approx(found["champion_score"] - found["challenger_score"], abs=1e-9)
        elif month["decision"] == "promoted":
            promoted += 1
            assert found is not None
            assert found["worth"] > found["cost"]
            assert outcomes[found["challenger"]] == "promoted"
    assert (promoted, refused) == (left.figures["promotions"], left.figures["refusals"])
    assert promoted >= 1
    assert refused >= 1


def test_drifted_columns_are_those_of_the_ledger(left: Left) -> None:
    measured = {fact["data"]["window"]: fact["data"]["drifted"] for fact in left.of("drift.measured")}
    for month in left.figures["months"]:
        assert month["drifted_columns"] == measured[month["month"]]


def test_the_broken_month_was_stopped_and_nothing_was_trained_on_it(left: Left) -> None:
    failed = [fact["data"] for fact in left.of("checks.finished") if not fact["data"]["ok"]]
    broken = {data["version"] for data in failed}
    stopped = {
        fact["data"]["dataset_version"] for fact in left.of("retrain.decided") if fact["data"]["decision"] == "stopped"
    }
    assert len(broken) == left.figures["stopped_batches"] == 1
    assert stopped == broken
    named = " ".join(text for data in failed for text in data["failures"])
    assert "distance" in named
    assert "temp" in named
    trained = {fact["subject"].removeprefix("run/") for fact in left.of("step.finished")}
    for fact in left.of("run.started"):
        if any(pin["version"] in broken for pin in fact["data"]["pins"]):
            assert fact["data"]["run"] not in trained
    mended = max(broken) + 1
    passed = [fact["data"] for fact in left.of("checks.finished") if fact["data"]["version"] == mended]
    assert passed
    assert all(data["ok"] for data in passed)


def test_the_killed_server_came_back_and_the_rollout_went_on(left: Left) -> None:
    """By the up log one server was killed; by the prediction log the canary that it answered went on in another."""
    killed = re.findall(r"(?m)^(\S+Z) up WARNING server \(pid (\d+)\) was killed by signal 9", left.log)
    assert len(killed) == 1
    pid = int(killed[0][1])
    assert f"kill -9 {pid} " in left.output
    assert resumed(left, pid) is left.figures["resumed_after_kill"] is True
    broken = [answer for answer in left.answers if answer["tries"] > 1]
    assert 0 < len(broken) <= 64, "those in flight were sent again, and no other"
    started = {fact["data"]["rollout"] for fact in left.of("rollout.started")}
    finished = {fact["data"]["rollout"] for fact in left.of("rollout.finished")}
    assert started == finished


def resumed(left: Left, pid: int) -> bool:
    """Whether one rollout had candidates answered by the killed process and later by another, and was promoted."""
    outcomes = {fact["data"]["rollout"]: fact["data"]["outcome"] for fact in left.of("rollout.finished")}
    rows = left.predictions[left.predictions["arm"] == "candidate"]
    for name, outcome in outcomes.items():
        steps = [fact["seq"] for fact in left.of("deployment.changed") if fact["data"]["seed"] == name]
        canary = rows[rows["dep"].isin(steps)]
        before, after = canary[canary["pid"] == pid], canary[canary["pid"] != pid]
        if len(before) and len(after):
            assert before["t"].max() < after["t"].min()
            return bool(outcome == "promoted")
    return False


def test_going_back_took_less_than_a_second(left: Left) -> None:
    """From the fact to the answers in the prediction log's own time: the last by what was, the first by what is."""
    logged, changes = left.predictions, left.of("deployment.changed")
    took = []
    for before, fact in itertools.pairwise(changes):
        if fact["data"]["cause"].startswith("rollback"):
            told = pd.Timestamp(fact["at"])
            last, first = (logged[logged["dep"] == at["seq"]]["t"] for at in (before, fact))
            assert len(first), "it was done under traffic"
            took.append(max((moved - told).total_seconds() * 1000 for moved in (last.max(), first.min())))
    assert len(took) == 2, "back, and forward again"
    assert 0 < max(took) < 1000
    # What the command says begins before the fact, and ends when it has heard of what the log shows.
    assert max(took) - 100 < left.figures["rollback_ms"] < max(took) + 500
    assert left.figures["rollback_ms"] < 1000
    moved = [fact["data"] for fact in left.of("release.moved") if fact["data"]["after"] == "rolled back"]
    assert len(moved) == 1


def test_the_root_is_that_of_the_exported_facts(left: Left) -> None:
    audit = left.figures["audit"]
    assert audit["ok"] is True
    leaves = [hashlib.sha256(b"\x00" + line["fact"].encode()).digest() for line in left.lines]
    assert [leaf.hex() for leaf in leaves] == [line["leaf"] for line in left.lines]
    assert [line["seq"] for line in left.lines] == list(range(1, len(leaves) + 1))
    assert merkle_root(leaves[: audit["size"]]).hex() == audit["root"]
    note = (left.root / "ledger-export" / "checkpoint.txt").read_text(encoding="utf-8")
    body, _, signatures = note.partition("\n\n")
    _, size, root = body.split("\n")[:3]
    assert int(size) == len(leaves)
    assert base64.b64decode(root) == merkle_root(leaves)
    key = base64.b64decode(
        (left.root / "ledger-export" / "key.pub").read_text(encoding="utf-8").strip().split("+", 2)[2]
    )
    signature = base64.b64decode(signatures.strip().split(" ")[-1])
    Ed25519PublicKey.from_public_bytes(key[-32:]).verify(signature[4:], (body + "\n").encode())


def merkle_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1, by its recursive definition."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + merkle_root(leaves[:k]) + merkle_root(leaves[k:])).digest()


def test_the_explained_prediction_leads_back_to_rows_code_and_approval(left: Left) -> None:
    chain = left.figures["explain"]
    links = {link["what"]: link for link in chain["links"]}
    row = left.predictions[left.predictions["id"] == chain["id"]].iloc[0]
    assert links["prediction"]["details"]["rid"] == row["rid"]
    assert links["prediction"]["details"]["rel"] == row["rel"]
    releases = {fact["data"]["release"]: fact["data"] for fact in left.of("release.made")}
    assert links["release"]["details"]["content"] == releases[int(row["rel"])]["content"]
    runs = {fact["data"]["run"]: fact["data"] for fact in left.of("run.started")}
    run = runs[links["run"]["ref"].removeprefix("run/")]
    assert links["code"]["ref"] == run["code"]["commit"]
    head = subprocess.run(
        ["git", "cat-file", "-t", run["code"]["commit"]], cwd=left.root, capture_output=True, text=True, check=True
    )
    assert head.stdout.strip() == "commit"
    assert {"parameters", "rollout", "gates"} <= set(links)
    text = json.dumps(chain)
    assert all(pin["tree"] in text for pin in run["pins"])


def test_the_report_is_one_readable_file(left: Left) -> None:
    text = (left.root / "report.html").read_text(encoding="utf-8")
    assert "<svg" in text
    assert len(text) <= 300_000
    for month in WANTED:
        assert month in text
    assert "<script src" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_a_second_play_of_the_same_year_is_refused_and_changes_nothing(left: Left) -> None:
    """Each flight is sent once; who asks again is told what to do, and the project is as it was."""
    before, models = len(left.lines), left.figures["promotions"]
    done = noria(left.root.parent, "up", "--demo", "--exit", "--json", "--months", "1", "--port", "0", check=False)
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert "were already played" in done.stderr
    assert "noria data add" not in done.stdout
    noria(left.root, "audit", "export", "ledger-after")
    after = (left.root / "ledger-after" / "facts.jsonl").read_text(encoding="utf-8").splitlines()
    kinds = {json.loads(json.loads(line)["fact"])["kind"] for line in after[before:]}
    assert models > 0
    assert not kinds & {"dataset.committed", "run.started", "release.made", "deployment.changed"}, kinds
