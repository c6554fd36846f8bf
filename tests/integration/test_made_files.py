"""Files that steps write: a cached step's files are what they were when it ended, or it makes them again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.config import Project
from noria.pipeline.define import load_pipeline
from noria.pipeline.driving.drive import Manner
from noria.pipeline.driving.execute import execute
from noria.pipeline.outputs import values
from noria.store.workspace import Workspace
from noria.testing import open_memory

WRITES = """
from pathlib import Path

import noria as nr

HERE = Path(__file__).parent


@nr.step
def make(k: int = 1) -> str:
    (HERE / "mid.txt").write_text(str(k))
    return "mid.txt"


@nr.step
def use(name: str) -> int:
    return 10 * int((HERE / name).read_text())


@nr.pipeline
def flow():
    use(make())
"""
PARTS = """
from pathlib import Path

import noria as nr

HERE = Path(__file__).parent


@nr.step
def names() -> list[int]:
    return [0, 1, 2]


@nr.step
def part(number: int) -> str:
    (HERE / f"part{number}.txt").write_text(str(number))
    return f"part{number}.txt"


@nr.step
def total(parts: list[str]) -> int:
    return sum(int((HERE / name).read_text()) for name in parts)


@nr.pipeline
def flow():
    total(part.map(names()))
"""


@pytest.fixture(params=["inline", "pool"])
def manner(request: pytest.FixtureRequest) -> Manner:
    return Manner(executor=request.param, workers=2)


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    made = open_memory(root=tmp_path / "project")
    yield made
    made.ledger.database.close()


class Plays:
    """Runs of one project, one after the other."""

    def __init__(self, ws: Workspace, text: str, manner: Manner) -> None:
        self.ws, self.manner, self.count = ws, manner, 0
        self.root = ws.project.root
        (self.root / "noria.toml").write_text('[project]\nname = "t"\n')
        (self.root / "pipeline.py").write_text(text)

    def __call__(self, **params: int) -> tuple[object, dict[str, str]]:
        """What the last step gave, and why each step ran, or its status."""
        self.count += 1
        definition = load_pipeline(Project(name="t", root=self.root))
        given = {f"make.{name}": value for name, value in params.items()}
        made = execute(self.ws, definition, run=f"r{self.count}", pins={}, params=given, manner=self.manner)
        value = made.outputs[made.steps[-1].step][0]
        told = {each.step: each.status if each.status == "cached" else each.because for each in made.steps}
        return values.load(self.ws, value), told


def test_going_back_to_an_older_parameter_makes_its_file_again(ws: Workspace, manner: Manner) -> None:
    play = Plays(ws, WRITES, manner)
    assert [play(k=k)[0] for k in (1, 2, 1, 2, 2)] == [10, 20, 10, 20, 20]
    assert play(k=2)[1] == {"make": "cached", "use": "cached"}
    value, told = play(k=1)
    assert (value, told["use"]) == (10, "cached")
    assert told["make"] == "parameter k 2 -> 1"
    assert (play.root / "mid.txt").read_text() == "1"


WRITERS = {
    "pandas": ("import pandas as pd", "pd.DataFrame({'k': [k]}).to_parquet(OUT)"),
    "polars": ("import polars as pl", "pl.DataFrame({'k': [k]}).write_parquet(OUT)"),
    "duckdb": ("import duckdb", "duckdb.sql(f\"copy (select {k} as k) to '{OUT}' (format parquet)\")"),
    "pyarrow": (
        "import pyarrow as pa\nimport pyarrow.dataset as ds",
        "ds.write_dataset(pa.table({'k': [k]}), OUT, format='parquet', existing_data_behavior='delete_matching')",
    ),
    "arrays": ("import numpy as np", "np.save(OUT, np.array([k]))"),
}


def writes(first: str, write: str, *, out: str) -> str:
    """A pipeline whose first step writes a file or folder that the second reads, by a name that both have."""
    return (
        f"from pathlib import Path\n{first}\nimport noria as nr\n\nOUT = Path(__file__).parent / '{out}'\n\n\n"
        f"@nr.step\ndef make(k: int = 1) -> int:\n    {write}\n    return 0\n\n\n"
        "@nr.step\ndef use(made: int) -> str:\n"
        "    files = [OUT] if OUT.is_file() else sorted(OUT.rglob('*.parquet'))\n"
        "    return str([each.read_bytes() for each in files])\n\n\n"
        "@nr.pipeline\ndef flow():\n    use(make())\n"
    )


@pytest.mark.parametrize("library", WRITERS)
def test_what_a_compiled_library_wrote_is_made_again(library: str, ws: Workspace) -> None:
    """The writer's result says nothing of the file, and its path is a constant of the module."""
    first, write = WRITERS[library]
    text = writes(first, write, out="out.npy")
    play = Plays(ws, text, Manner(executor="inline"))
    one, two, again, same = (play(k=k)[0] for k in (1, 2, 1, 1))
    assert one != two
    assert again == same == one
    assert play(k=1)[1] == {"make": "cached", "use": "cached"}


CLEANS = """
from pathlib import Path

import noria as nr

FILE = Path(__file__).parent / "mid.txt"


@nr.step
def make() -> int:
    FILE.write_text("1")
    return 1


@nr.step
def use(made: int) -> str:
    return FILE.read_text()


@nr.step
def clean(used: str) -> int:
    FILE.unlink()
    return 0


@nr.pipeline
def flow():
    clean(use(make()))
"""


def test_a_file_that_a_later_step_takes_away_is_taken_away_by_each_run(ws: Workspace, manner: Manner) -> None:
    play = Plays(ws, CLEANS, manner)
    for _ in range(3):
        told = play()[1]
        assert not (play.root / "mid.txt").exists()
    assert told["make"] == "file mid.txt, which it made, is gone"
    assert told["clean"].endswith("not shared, since it takes mid.txt away, which step make made")


REFILLS = {
    "folder": (
        "import shutil",
        "shutil.rmtree(OUT, ignore_errors=True)\n    OUT.mkdir()\n    (OUT / f'{k}.parquet').write_bytes(bytes([k]))",
    ),
    "database": (
        "import sqlite3",
        "OUT.unlink(missing_ok=True)\n    made = sqlite3.connect(OUT)\n    made.execute(f'create table t{k} (a int)')\n"
        "    made.commit()\n    made.close()",
    ),
}


@pytest.mark.parametrize("kind", REFILLS)
def test_what_a_step_clears_and_fills_anew_is_cached(kind: str, ws: Workspace) -> None:
    first, write = REFILLS[kind]
    text = writes(first, write, out="out")
    play = Plays(ws, text, Manner(executor="inline"))
    one, two, again = (play(k=k)[0] for k in (1, 2, 1))
    assert one == again != two
    for k in (1, 2):
        play(k=k)
        assert play(k=k)[1] == {"make": "cached", "use": "cached"}


def test_a_file_that_is_gone_is_made_again(ws: Workspace, manner: Manner) -> None:
    play = Plays(ws, WRITES, manner)
    play()
    (play.root / "mid.txt").unlink()
    value, told = play()
    assert (value, told) == (10, {"make": "file mid.txt, which it made, is gone", "use": "cached"})


IN_PLACE = """
import sqlite3
from pathlib import Path

import noria as nr

HERE = Path(__file__).parent


def add(number: int) -> None:
    made = sqlite3.connect(HERE / "rows.db")
    made.execute("create table if not exists t (a int)")
    made.execute("insert into t values (?)", (number,))
    made.commit()
    made.close()


@nr.step
def text() -> int:
    (HERE / "out.txt").write_text("a")
    return 1


@nr.step
def again(number: int) -> int:
    (HERE / "out.txt").write_text("b")
    return number


@nr.step
def first(number: int) -> int:
    add(1)
    return number


@nr.step
def second(number: int) -> int:
    add(2)
    return number


@nr.pipeline
def flow():
    second(first(again(text())))
"""


def test_a_file_that_another_step_alters_is_told_with_that_step(ws: Workspace) -> None:
    play = Plays(ws, IN_PLACE, Manner(executor="inline"))
    told = play()[1]
    assert told["second"] == "first run; not shared, since rows.db, which step first made, changed while the step ran"
    for _ in range(2):
        told = play()[1]
        assert told["text"] == "file out.txt was altered by step again since"
        assert told["again"] == "file out.txt was altered by step text since"
        assert told["first"].startswith("file rows.db was altered by step second since; not shared")
        assert told["second"] == "its result is not shared, since rows.db changed while the step ran"


def test_a_file_that_something_else_altered_is_told(ws: Workspace, manner: Manner) -> None:
    play = Plays(ws, WRITES, manner)
    play()
    (play.root / "mid.txt").write_text("5")
    assert play() == (10, {"make": "file mid.txt is not as the step left it", "use": "cached"})


def test_of_a_mapped_step_only_the_item_whose_file_is_gone_runs(ws: Workspace, manner: Manner) -> None:
    play = Plays(ws, PARTS, manner)
    assert play()[0] == 3
    assert set(play()[1].values()) == {"cached"}
    kept = (play.root / "part0.txt").stat().st_mtime_ns
    (play.root / "part1.txt").unlink()
    value, told = play()
    assert (value, told["part"]) == (3, "file part1.txt, which it made, is gone")
    assert (play.root / "part1.txt").read_text() == "1"
    assert (play.root / "part0.txt").stat().st_mtime_ns == kept
