"""What `noria pipeline logs` shows is all that was printed, under whichever name a step is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from steps_project import begin, make, noria, report, seen, until

LINES = 900_000
CHATTY = f"""
@nr.step
def chat() -> int:
    for number in range({LINES}):
        print("line", number)
    print("Ω" * 3_000_000)
    print()
    print("the end", end="")
    return 1

@nr.step
def after(found: int) -> int:
    print("after all")
    return found

@nr.pipeline
def flow():
    after(chat())
"""
MAPPED = """
@nr.step(cache=False)
def score(number: int) -> int:
    print("scored", number, flush=True)
    note(f"scored {number}")
    while number == 2 and not Path(os.environ["MARKS"], "go").exists():
        time.sleep(0.01)
    return number

@nr.step
def total(scores: list[int]) -> int:
    print("of", len(scores))
    return sum(scores)

@nr.pipeline
def flow():
    total(score.map(list(range(12))))
"""


def test_a_long_log_is_shown_whole_and_to_the_byte(tmp_path: Path) -> None:
    """Its end is what one wants of a crash."""
    folder = make(tmp_path / "p", CHATTY)
    assert noria(folder, "run").returncode == 0
    printed = "".join(f"line {number}\n" for number in range(LINES)) + "Ω" * 3_000_000 + "\n\nthe end\n"
    assert noria(folder, "pipeline", "logs", "chat").stdout == printed
    assert noria(folder, "pipeline", "logs", "chat", "--follow").stdout == printed
    assert noria(folder, "pipeline", "logs").stdout == f"chat\n{printed}after\nafter all\n"
    first = report(noria(folder, "pipeline", "logs", "chat", "--json"))
    assert (first["has_more"], first["is_over"]) == (True, False), "a part says that it is one"
    rest = noria(folder, "pipeline", "logs", first["run"], "chat", "--cursor", first["cursor"]).stdout
    assert first["pieces"][0]["text"] + rest == printed


@pytest.mark.parametrize("executor", ["inline", "pool"])
def test_the_log_of_a_mapped_step_is_that_of_its_items(tmp_path: Path, executor: str) -> None:
    folder = make(tmp_path / "p", MAPPED)
    every = "".join(f"score.{number}\nscored {number}\n" for number in range(12))
    with begin(folder, "run", "--executor", executor, "--workers", "2") as driver:
        marks = seen(folder) / "marks.txt"
        until(lambda: marks.is_file() and "scored 2\n" in marks.read_text())
        going = noria(folder, "pipeline", "logs", "score")
        assert "score.0\nscored 0\n" in going.stdout
        assert "goes on: noria pipeline logs run_" in going.stderr, "what comes later is not shown"
        assert noria(folder, "pipeline", "logs", "score.2").stdout == "scored 2\n"
        (seen(folder) / "go").touch()
        assert noria(folder, "pipeline", "logs", "score", "--follow").stdout.count("scored") == 12
        driver.communicate(timeout=60)
    assert noria(folder, "pipeline", "logs", "score").stdout == every
    assert noria(folder, "pipeline", "logs", "score.7").stdout == "scored 7\n"
    assert noria(folder, "tracking", "log", "--step", "score").stdout.count("\nscored") == 12
    pieces = report(noria(folder, "pipeline", "logs", "score", "--json"))["pieces"]
    assert [each["step"] for each in pieces] == [f"score.{number}" for number in range(12)]
    for path in (folder / ".noria" / "runs").glob("*/score.*.log"):  # as where the run was another machine's
        path.unlink()
    assert noria(folder, "pipeline", "logs", "score").stdout == every
    assert "scored 11" in noria(folder, "pipeline", "logs").stdout


@pytest.mark.parametrize("words", [("pipeline", "logs"), ("why",)])
def test_a_name_that_is_neither_a_run_nor_a_step_is_told_with_the_nearest_step(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    folder = make(tmp_path / "p", MAPPED)
    (seen(folder) / "go").touch()
    assert noria(folder, "run").returncode == 0
    told = noria(folder, *words, "scoer")
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.splitlines() == [
        "error: there is no run and no step 'scoer'",
        "next:  did you mean the step score?",
    ]
    assert "did you mean the step score.1" not in noria(folder, *words, "score.99").stderr
    assert noria(folder, *words, "score.99").returncode == 2
    said = json.loads(noria(folder, *words, "zzz", "--json").stdout)["error"]
    assert (said["code"], said["hint"][:10]) == ("not-found", "noria why ")
