"""The README's way from one's own table to a served model, by its own text, in the installed package."""

from __future__ import annotations

import csv
import json
import random
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from live import Environment, ask, noria, serving

README = Path(__file__).resolve().parents[2] / "README.md"
ROWS = 3000


def block(heading: str, number: int) -> str:
    """The n-th shell block below a heading of the README."""
    section = README.read_text(encoding="utf-8").split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    blocks: list[str] = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return blocks[number]


def write_customers(path: Path) -> None:
    """A table with texts, nulls, booleans, codes with leading zeros, and a label that follows from some of it."""
    chance = random.Random(7)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["customer_id", "signed_up_at", "plan", "country", "monthly_fee", "is_business", "calls", "churned"]
        )
        for number in range(ROWS):
            moment += timedelta(minutes=chance.randint(10, 120))
            plan, fee = chance.choice(["basic", "plus", "é pro"]), round(chance.uniform(5, 60), 2)
            score = (plan == "basic") + fee / 60 + chance.gauss(0, 0.6)
            calls = "" if chance.random() < 0.2 else chance.randint(0, 9)
            country = chance.choice(["PT", "DE", "FR", ""])
            row = [f"{number:06d}", moment.isoformat(timespec="seconds"), plan, country, fee]
            writer.writerow([*row, chance.choice(["true", "false"]), calls, "yes" if score > 1 else "no"])


def test_the_readme_leads_from_a_csv_to_a_served_model_and_back(noria_env: Environment, tmp_path: Path) -> None:
    write_customers(tmp_path / "customers.csv")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block("Your own table", 0)],
        cwd=tmp_path, env=dict(noria_env), check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    project = tmp_path / "churn"
    assert "PASS" in done.stdout
    with serving(noria_env, project) as (url, _):
        said = _run_curls(noria_env, project, url)
        assert 0 <= said["score"] <= 1
        assert said["release"] == 1
        missing = _answer(url, {"id": "second", "row": {"plan": "basic"}})
        assert "country" in missing["error"]["message"]
        unseen = _answer(url, _row(plan="never seen", country=None))
        assert 0 <= unseen["score"] <= 1
        told = json.loads(noria(noria_env, project, "status", "--json").stdout)
        assert told["models"][0]["release"] == 1
        chain = json.loads(noria(noria_env, project, "explain", "first", "--json").stdout)
        assert {"release", "run", "data"} <= {link["what"] for link in chain["links"]}
        _second_release(noria_env, project, url)
    audit = json.loads(noria(noria_env, project, "audit", "verify", "--json").stdout)
    assert audit["ok"]


def _run_curls(environment: Environment, project: Path, url: str) -> dict[str, Any]:
    """What the README's own requests are answered; each must succeed."""
    script = block("Your own table", 2).replace("localhost:4400", url.removeprefix("http://"))
    script = script.replace("curl ", "curl --silent --show-error --fail-with-body ")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("'\n", "'; echo\n")],
        cwd=project, env=dict(environment), check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if '"score"' in line and '"prediction_id"' in line]
    found: dict[str, Any] = json.loads(lines[0][lines[0].index('{"id"') :])
    return found


def _second_release(environment: Environment, project: Path, url: str) -> None:
    """A changed parameter makes a new release; it goes live by its rollout, and back by a rollback."""
    done = noria(environment, project, "run", "-p", "train.iterations=60", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0, report
    steps = {each["step"]: each["status"] for each in report["steps"]}
    assert steps["labelled"] == "cached"
    assert steps["train"] == "done"
    assert noria(environment, project, "promote", "churn").returncode == 0
    for number in range(4000):
        _answer(url, _row(f"r{number}"))
        if number % 100 == 99:
            model = json.loads(noria(environment, project, "status", "--json").stdout)["models"][0]
            if model["release"] == 2 and model["rollout"] is None:
                break
    assert model["release"] == 2, model
    back = json.loads(noria(environment, project, "rollback", "churn", "--json").stdout)
    assert (back["before"], back["release"]) == (2, 1)
    assert _answer(url, _row("after"))["release"] == 1


def _row(name: str = "x", **changed: Any) -> dict[str, Any]:
    plain = {"plan": "plus", "country": "DE", "monthly_fee": 30, "is_business": True, "calls": 2}
    return {"id": name, "row": {**plain, **changed}}


def _answer(url: str, body: dict[str, Any]) -> dict[str, Any]:
    return ask(url, "/predict/churn", body)


def test_a_number_is_predicted_too(noria_env: Environment, tmp_path: Path) -> None:
    chance = random.Random(3)
    with (tmp_path / "houses.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["sold on", "area", "place", "price"])
        for number in range(1500):
            area, place = chance.randint(30, 200), chance.choice(["north", "south", ""])
            when = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number)
            writer.writerow([f"{when:%Y-%m-%d %H:%M}", area, place, round(area * 3.2 + chance.gauss(0, 9), 1)])
    words = ["init", "houses", "--csv", "houses.csv", "--label", "price", "--time", "sold on"]
    assert noria(noria_env, tmp_path, *words).returncode == 0
    project = tmp_path / "houses"
    done = noria(noria_env, project, "run", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert noria(noria_env, project, "deploy", "houses").returncode == 0
    with serving(noria_env, project) as (url, _):
        answer = ask(url, "/predict/houses", {"id": "a", "row": {"area": 100, "place": None}})
        assert 250 < float(str(answer["score"])) < 400


def test_the_projects_own_tests_pass_as_they_are_written(tmp_path: Path) -> None:
    """`noria test` on a binary label and on a number."""
    write_customers(tmp_path / "customers.csv")
    for name, label in (("churn", "churned"), ("fees", "monthly_fee")):
        words = ["init", name, "--csv", "customers.csv", "--label", label, "--time", "signed_up_at"]
        _here(tmp_path, *words)
        report = json.loads(_here(tmp_path / name, "test", "--json"))
        assert report["ok"], report


def _here(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "noria", *words], cwd=folder, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
