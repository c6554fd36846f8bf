"""The whole loop of a tabular project by its commands and its server, the same on SQLite and on Postgres."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from damage import unnoticed
from postgres_server import thrown_away
from serving_client import wait_for

import warm
from noria.bootstrap import open_workspace
from noria.config import load_project
from noria.loop import records as loop
from noria.store.replay import difference, rebuild
from noria.store.workspace import Workspace

FIRST = datetime(2026, 1, 5, tzinfo=UTC)
"""A Monday, so that windows of a week begin with it."""
DAYS_KNOWN = 56
ROWS_A_DAY = 60
MODEL = "shop"
Row = dict[str, Any]


def rows_of(day: int, *, turned: bool = False) -> list[Row]:
    """The customers of a day. In a turned world a high fee keeps them."""
    chance = random.Random(day)
    found = []
    for number in range(ROWS_A_DAY):
        at = FIRST + timedelta(days=day, minutes=number * 24 * 60 / ROWS_A_DAY)
        plan, fee = chance.choice(["basic", "plus", "é pro"]), round(chance.uniform(0, 10), 2)
        score = (5 - fee if turned else fee - 5) / 2 + (plan == "basic")
        left = chance.random() < 1 / (1 + math.exp(-score))
        own = {"customer": f"{day:03d}-{number:03d}", "at": at.isoformat(), "plan": plan, "fee": fee}
        found.append({**own, "zip": f"{chance.randint(0, 99):05d}", "left": "yes" if left else "no"})
    return found


def write(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@dataclass
class Shop:
    """A project in a folder with its database, as a user works on it."""

    folder: Path
    database: str
    url: str = ""

    @property
    def root(self) -> Path:
        return self.folder / MODEL

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("NORIA_")}
        return {**kept, **({"NORIA_DATABASE": self.database} if self.database else {})}

    def noria(self, *words: str, at: Path | None = None) -> Any:
        """What a command says as JSON; it must succeed."""
        done = warm.noria(*words, "--json", cwd=at or self.root, env=self.environment)
        assert done.returncode == 0, f"noria {' '.join(words)}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    @contextmanager
    def up(self) -> Iterator[subprocess.Popen[bytes]]:
        """`noria up` for the length of a block."""
        command = [sys.executable, "-m", "noria", "up", "--port", "0"]
        with (self.folder / "up.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=self.root, env=self.environment, stdout=log, stderr=log)
        try:
            self.url = wait_for(self._address, limit_s=60, what="the server")
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(30)

    def _address(self) -> str:
        told = self.root / ".noria" / "up.json"
        if not told.exists():
            return ""
        url = str(json.loads(told.read_text(encoding="utf-8"))["url"])
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=2):
                return url
        except OSError:
            return ""

    def post(self, path: str, body: object) -> Row:
        """The answer of a path; 200 is asked for."""
        request = urllib.request.Request(self.url + path, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: Row = json.loads(answer.read())
        return found

    def ask(self, row: Row, name: str = "") -> Row:
        """One prediction, at its row's time."""
        given = {key: row[key] for key in ("plan", "fee", "zip")}
        name = name or row["customer"]
        return self.post(f"/predict/{MODEL}", {"id": name, "key": name, "at": row["at"], "row": given})

    def tell(self, rows: list[Row]) -> None:
        """The outcomes of rows, an hour later."""
        labels = [
            {
                "id": row["customer"],
                "label": int(row["left"] == "yes"),
                "at": (datetime.fromisoformat(row["at"]) + timedelta(hours=1)).isoformat(),
            }
            for row in rows
        ]
        assert self.post(f"/v2/models/{MODEL}/feedback", {"labels": labels}) == {"accepted": len(rows)}

    def model(self) -> Row:
        """What `noria status` says of the model."""
        (found,) = self.noria("status")["models"]
        return dict(found)

    def workspace(self) -> Workspace:
        return open_workspace(project=load_project(self.root, environment=self.environment))


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    if request.param == "sqlite":
        yield Shop(tmp_path, "")
        return
    with thrown_away("loop") as server:
        yield Shop(tmp_path, server.database("shop"))


@pytest.mark.slow
def test_a_table_becomes_a_model_that_is_served_reviewed_moved_back_and_audited(shop: Shop) -> None:
    known = [row for day in range(DAYS_KNOWN) for row in rows_of(day)]
    _first_release(shop, known)
    with shop.up() as up:
        answered = _answers_and_labels(shop)
        _second_release_and_back(shop)
        judged = _review(shop, known)
        up.send_signal(signal.SIGINT)
        up.wait(30)
    ws = shop.workspace()
    assert bool(list(ws.project.state.glob("*.db"))) is not bool(shop.database)
    audit = shop.noria("audit", "verify")
    assert (audit["ok"], audit["size"]) == (True, ws.ledger.head()), audit
    assert difference(ws.ledger) == []
    _explain(shop, answered, judged)
    assert rebuild(ws.ledger) == ws.ledger.head()
    assert difference(ws.ledger) == []
    if not shop.database:
        assert unnoticed(shop.root, shop.folder) == []
    assert shop.noria("status")["runs"][0]["status"] == "finished"
    ws.ledger.database.close()


def _first_release(shop: Shop, known: list[Row]) -> None:
    write(shop.folder / "shop.csv", known)
    words = ["init", MODEL, "--csv", "shop.csv", "--label", "left", "--time", "at", "--key", "customer"]
    assert shop.noria(*words, at=shop.folder)["task"] == "binary"
    config = shop.root / "noria.toml"
    text = config.read_text(encoding="utf-8")
    assert 'window = "week"' in text
    text = text.replace(f'name = "{MODEL}"\n', f'name = "{MODEL}"\nclock = "events"\n', 1)
    config.write_text(text.replace('cooldown = "1d"', 'cooldown = "0d"'), encoding="utf-8")
    assert shop.noria("data", "add", "../shop.csv", "--name", MODEL)["rows"] == len(known)
    shop.noria("data", "check", MODEL, "--infer")
    report = shop.noria("run")
    assert (report["ok"], report["version"], report["release"]) == (True, 1, 1)
    again = shop.noria("run")
    assert {step["status"] for step in again["steps"]} == {"cached"}
    assert (again["version"], again["release"]) == (1, 1)
    assert shop.noria("deploy", MODEL)["action"] == "deployed"


def _answers_and_labels(shop: Shop) -> list[Row]:
    """The first day of the new week: each answer is in force, logged and explained by its own id."""
    day = rows_of(DAYS_KNOWN, turned=True)
    for row in day:
        answer = shop.ask(row)
        assert answer["release"] == 1
        assert 0 <= answer["score"] <= 1
    shop.tell(day)
    with pytest.raises(urllib.error.HTTPError) as refused:
        shop.post(f"/predict/{MODEL}", {"row": {"plan": "basic"}})
    assert refused.value.code == 400
    refused.value.close()
    chain = shop.noria("explain", day[0]["customer"])
    assert {"prediction", "label", "release", "run", "data"} <= {link["what"] for link in chain["links"]}
    return day


def _second_release_and_back(shop: Shop) -> None:
    """A promotion carried by traffic; back and forward and back again, each in less than a second."""
    report = shop.noria("run", "-p", "train.iterations=60")
    assert (report["ok"], report["release"]) == (True, 2)
    assert shop.noria("promote", MODEL)["action"] == "rollout started"
    row = rows_of(DAYS_KNOWN, turned=True)[-1]
    _carry(shop, row, "carry")
    assert shop.model()["release"] == 2
    for before, to in ((2, 1), (1, 2), (2, 1)):
        moved = shop.noria("rollback", MODEL, "--to", str(to))
        assert (moved["before"], moved["release"], moved["servers"]) == (before, to, moved["acknowledged"])
        assert moved["servers"] == 1
        assert moved["ms"] < 1000
        assert shop.ask(row, f"moved-{before}-{to}-{moved['deployment']}")["release"] == to


def _carry(shop: Shop, row: Row, prefix: str) -> None:
    """Requests until no rollout is open."""
    for number in range(6_000):
        shop.ask(row, f"{prefix}-{number}")
        if number % 100 == 99 and shop.model()["rollout"] is None:
            return
    raise AssertionError(f"the rollout did not end: {shop.model()}")


def _review(shop: Shop, known: list[Row]) -> Row:
    """A week in a world that turned: its quality, the decision to train, and the judgement with its numbers."""
    week = [row for day in range(DAYS_KNOWN + 1, DAYS_KNOWN + 7) for row in rows_of(day, turned=True)]
    for row in week:
        shop.ask(row)
    shop.tell(week)
    new = rows_of(DAYS_KNOWN, turned=True) + week
    write(shop.folder / "shop.csv", known + new)
    assert shop.noria("data", "add", "../shop.csv", "--name", MODEL)["version"] == 2
    later = rows_of(DAYS_KNOWN + 7, turned=True)
    for row in later:
        shop.ask(row)
    shop.tell(later)

    ws = shop.workspace()

    def is_judged() -> bool:
        with ws.ledger.read() as tx:
            return bool(loop.judgements(tx, MODEL))

    wait_for(is_judged, limit_s=400, what="the challenger's judgement")
    ws.ledger.database.close()
    if shop.model()["rollout"] is not None:
        _carry(shop, later[-1], "won")
    (month,) = shop.noria("project", "months", MODEL)
    assert month["decision"] in ("refused", "promoted"), month
    assert "quality" in month["triggers"]
    assert month["labelled"] == len(new)
    assert month["auc_live"] < 0.5, "the world turned"
    assert month["low"] <= month["gain"] <= month["high"]
    assert month["n"] > 100
    assert (month["champion"], month["challenger"]) == (1, 3)
    assert shop.model()["release"] == (3 if month["decision"] == "promoted" else 1)
    return dict(month)


def _explain(shop: Shop, answered: list[Row], judged: Mapping[str, Any]) -> None:
    """With no server: a prediction down to its source row, a release up to its judgement."""
    chain = {link["what"]: link for link in shop.noria("explain", answered[7]["customer"])["links"]}
    row = chain["source row"]["details"]["values"]
    assert (row["zip"], row["plan"]) == (answered[7]["zip"], answered[7]["plan"])
    assert chain["label"]["details"] is not None
    parts = chain["attribution"]["details"]
    assert parts["base"] + sum(part["adds"] for part in parts["columns"]) == pytest.approx(parts["score"])
    assert "the log says" not in chain["attribution"]["text"]
    challenger = shop.noria("explain", f"{MODEL}@r{judged['challenger']}")
    assert {"decision", "judgement"} <= {link["what"] for link in challenger["links"]}
