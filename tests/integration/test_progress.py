"""`noria status` and the status page while a run is under way in another process: how far it is, and for how long."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import pytest
from steps_project import begin, make, noria, report, runs, seen, until

from noria.bootstrap import open_workspace
from noria.faces import verbs
from noria.faces.ui import pages
from noria.project.status import status

GATED = """
def wait_for(name):
    note(f"at {name}")
    gate = Path(os.environ["MARKS"], f"go {name}")
    while not gate.exists():
        time.sleep(0.01)

@nr.step(cache=False)
def numbers(n: int = 4) -> list[int]:
    wait_for("numbers")
    return list(range(n))

@nr.step(cache=False)
def score(number: int) -> int:
    wait_for(f"score {number}")
    return number

@nr.step(cache=False)
def total(scores: list[int]) -> int:
    wait_for("total")
    return sum(scores)

@nr.pipeline
def flow():
    total(score.map(numbers()))
"""


def let(folder: Path, *names: str) -> None:
    """Open gates."""
    for name in names:
        (seen(folder) / f"go {name}").touch()


def close_all(folder: Path) -> None:
    for gate in seen(folder).glob("go *"):
        gate.unlink()
    (seen(folder) / "marks.txt").unlink(missing_ok=True)


def is_at(folder: Path, *names: str) -> bool:
    place = seen(folder) / "marks.txt"
    return place.is_file() and {f"at {name}" for name in names} <= set(place.read_text().splitlines())


def told(folder: Path) -> dict[str, Any]:
    """What `noria status` says of the newest run."""
    line: dict[str, Any] = report(noria(folder, "status", "--json"))["runs"][0]
    return line


def page(folder: Path) -> str:
    return pages.page(verbs.builtins(status(open_workspace(folder))))


@pytest.mark.parametrize("executor", ["pool", "inline"])
def test_a_run_under_way_is_seen_from_another_process(tmp_path: Path, executor: str) -> None:
    folder = make(tmp_path / "p", GATED)
    beside = 2 if executor == "pool" else 1
    words = ("run", "--executor", executor, *(("--workers", "2") if beside == 2 else ()))
    machine = {"NORIA_CPUS": "2"}
    with begin(folder, *words, **machine) as going:
        until(lambda: is_at(folder, "numbers"))
        line = told(folder)
        found = line["progress"]
        assert line["status"] == "running"
        assert line["seconds"] > 0
        assert (found["done"], found["of"], found["left_s"]) == (0, 3, None)
        assert [each["step"] for each in found["running"]] == ["numbers"]
        assert "never ran to the end before" in found["unknown"]
        let(folder, "numbers")
        until(lambda: is_at(folder, *[f"score {number}" for number in range(beside)]))
        let(folder, "score 0")
        until(lambda: is_at(folder, f"score {beside}"))
        found = told(folder)["progress"]
        assert found["done"] == 1
        assert found["items"] == [{"step": "score", "done": 1, "of": 4}]
        assert [each["step"] for each in found["running"]] == [f"score.{number}" for number in range(1, beside + 1)]
        assert all(each["usual_s"] is not None for each in found["running"]), "one item is done: it tells of the others"
        assert found["unknown"] == "total never ran to the end before"
        text = noria(folder, "status").stdout
        assert "1 of 3 steps   score 1 of 4   time left not known: total never ran" in text
        assert "now score.1  since " in text
        assert "score: 1 of 4 items" in page(folder)
        let(folder, *[f"score {number}" for number in range(4)])
        until(lambda: is_at(folder, "total"))
        assert told(folder)["progress"]["items"] == []
        let(folder, "total")
        said, _ = going.communicate(timeout=60)
        assert going.returncode == 0, said
    ended = told(folder)
    assert (ended["status"], ended["progress"]) == ("finished", None)
    close_all(folder)
    with begin(folder, *words, **machine) as going:
        until(lambda: is_at(folder, "numbers"))
        found = told(folder)["progress"]
        assert found["unknown"] in ("", f"numbers runs for longer than it ever did of late ({_longest(found)} s)")
        assert found["running"][0]["usual_s"] > 0, "it ran to its end before"
        let(folder, "numbers", *[f"score {number}" for number in range(4)])
        until(lambda: is_at(folder, "total"))
        found = told(folder)["progress"]
        assert (found["done"], found["of"], found["items"]) == (2, 3, [])
        assert (found["left_s"] is None) == bool(found["unknown"])
        assert "2 of 3 steps" in page(folder)
        going.kill()
        going.wait()
    gone = told(folder)
    assert (gone["status"], gone["progress"]) == ("lost", None), "a dead run has no time left"
    let(folder, "total")
    with begin(folder, "run", "--resume", *words[1:], **machine) as going:
        said, _ = going.communicate(timeout=60)
        assert going.returncode == 0, said
    assert [run["status"] for run in runs(folder)] == ["finished", "finished"]


def _longest(found: dict[str, Any]) -> str:
    """The figure in the reason, so that a slow machine is told of, not failed on."""
    return str(found["unknown"]).rpartition("(")[2].removesuffix(" s)")


def test_the_page_of_a_run_by_an_older_journal_is_shown_without_progress(tmp_path: Path) -> None:
    folder = make(tmp_path / "p", GATED)
    with begin(folder, "run", "--executor", "inline") as going:
        until(lambda: is_at(folder, "numbers"))
        (place,) = (folder / ".noria" / "runs").glob("*/journal.jsonl")
        place.write_text(json.dumps({"plan": [{"step": "numbers", "seconds": None}], "at": 0.0}) + "\n")
        assert told(folder)["progress"] is None
        assert "running" in page(folder)
        let(folder, "numbers", "total", *[f"score {number}" for number in range(4)])
        said, _ = going.communicate(timeout=60)
        assert going.returncode == 0, said


AGAIN = """
@nr.step(retries=2, retry_wait="600s", cache=False)
def shaky() -> int:
    note("at shaky")
    raise ValueError("the feed is away")

@nr.pipeline
def flow():
    shaky()
"""


@pytest.mark.parametrize("executor", ["pool", "inline"])
def test_a_step_that_waits_for_its_next_attempt_is_seen(tmp_path: Path, executor: str) -> None:
    """Which attempt comes, when, and after which error; also by whoever runs the pipeline."""
    folder = make(tmp_path / "p", AGAIN)
    with begin(folder, "run", "--executor", executor) as going:
        until(lambda: is_at(folder, "shaky"))
        until(lambda: bool((told(folder)["progress"] or {}).get("waiting")))
        (waits,) = told(folder)["progress"]["waiting"]
        assert (waits["step"], waits["attempt"], waits["of"]) == ("shaky", 2, 3)
        assert "ValueError: the feed is away" in waits["error"]
        line = f"again shaky  attempt 2 of 3 at {waits['until'][11:19]}, the last raised ValueError: the feed is away"
        shown = noria(folder, "status").stdout
        assert line in shown
        assert "shaky failed, and waits for its next attempt" in shown
        assert line in html.unescape(page(folder))
        assert noria(folder, "pipeline", "cancel").returncode == 0
        said, _ = going.communicate(timeout=60)
    assert f"the feed is away: attempt 2 of 3 at {waits['until'][11:19]} UTC" in said
    assert going.returncode == 130
