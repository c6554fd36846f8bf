"""Files between the steps of one pipeline: one writes them, another reads them by a name of its own or a given one."""

from __future__ import annotations

import os

from edits.case import Case, Scene

HEAD = """
import os
from pathlib import Path

import noria as nr
import pandas as pd

HERE = Path(__file__).parent
TABLE = HERE / "out" / "table.parquet"
LOG = HERE / "log.txt"


@nr.step
def make() -> object:
    {write}


@nr.step
def work(made: object) -> object:
    return {read}


@nr.pipeline
def flow():
    work(make())
"""


def two(write: str, read: str) -> dict[str, str]:
    """A step that writes and one that reads after it."""
    return {"pipeline.py": HEAD.format(write=write.replace("\n", "\n    "), read=read), "out/here": ""}


def inside(scene: Scene) -> None:
    """Paths are relative to the project."""
    os.chdir(scene.root)


def removed(scene: Scene) -> None:
    """Somebody clears what the first step has written."""
    (scene.root / "mid.txt").unlink()


def altered(scene: Scene) -> None:
    """Somebody writes over what the first step has written."""
    (scene.root / "mid.txt").write_text("other")


V2 = {"pipeline.py": ("v1", "v2")}
TEXT = "Path('mid.txt').write_text('v1')\nreturn 0"
RENAMED = "Path('mid.part').write_text('v1')\nos.replace('mid.part', 'mid.txt')\nreturn 0"
FRAME = "pd.DataFrame({'a': ['v1']})"

CASES = {
    "writer edited, read by a constant name": Case(two(TEXT, "Path('mid.txt').read_text()"), V2, prepare=inside),
    "writer edited, put into place by a rename": Case(two(RENAMED, "Path('mid.txt').read_text()"), V2, prepare=inside),
    "writer edited, read by a given name": Case(
        two(f"{FRAME}.to_csv('mid.csv')\nreturn 'mid.csv'", "pd.read_csv(made).a[0]"), V2, prepare=inside
    ),
    "writer edited, Parquet of a constant path": Case(
        two(f"{FRAME}.to_parquet(TABLE)\nreturn 0", "pd.read_parquet(TABLE).a[0]"), V2
    ),
    "writer edited, Parquet of a given path": Case(
        two(f"{FRAME}.to_parquet(TABLE)\nreturn str(TABLE)", "pd.read_parquet(made).a[0]"), V2
    ),
    "writer edited, Parquet by polars": Case(
        two(
            f"import polars as pl\npl.from_pandas({FRAME}).write_parquet(TABLE)\nreturn 0",
            "pd.read_parquet(TABLE).a[0]",
        ),
        V2,
    ),
    "writer edited, Parquet by DuckDB": Case(
        two(
            "import duckdb\nduckdb.sql(f\"copy (select 'v1' as a) to '{TABLE}' (format parquet)\")\nreturn 0",
            "pd.read_parquet(TABLE).a[0]",
        ),
        V2,
    ),
    "Parquet file removed": Case(
        two(f"{FRAME}.to_parquet(TABLE)\nreturn 0", "pd.read_parquet(TABLE).a[0]"),
        change=lambda scene: (scene.root / "out" / "table.parquet").unlink(),
    ),
    "Parquet file by polars removed": Case(
        two(
            f"import polars as pl\npl.from_pandas({FRAME}).write_parquet(TABLE)\nreturn 0",
            "pd.read_parquet(TABLE).a[0]",
        ),
        change=lambda scene: (scene.root / "out" / "table.parquet").unlink(),
    ),
    "Parquet file by DuckDB removed": Case(
        two(
            "import duckdb\nduckdb.sql(f\"copy (select 'v1' as a) to '{TABLE}' (format parquet)\")\nreturn 0",
            "pd.read_parquet(TABLE).a[0]",
        ),
        change=lambda scene: (scene.root / "out" / "table.parquet").unlink(),
    ),
    "writer edited, folder read": Case(
        two("(HERE / 'out' / 'v1.txt').write_text('x')\nreturn 0", "sorted(os.listdir(HERE / 'out'))"), V2
    ),
    "written file removed": Case(two(TEXT, "Path('mid.txt').read_text()"), change=removed, prepare=inside),
    "written file altered": Case(two(TEXT, "Path('mid.txt').read_text()"), change=altered, prepare=inside),
    "written file altered, given name": Case(
        two(TEXT.replace("return 0", "return 'mid.txt'"), "Path(made).read_text()"), change=altered, prepare=inside
    ),
    "comment in the writer": Case(
        two(TEXT + "  # once", "Path('mid.txt').read_text()"), {"pipeline.py": ("# once", "# twice")}, prepare=inside
    ),
    "step reads what it wrote": Case(
        {
            "pipeline.py": "import noria as nr\nfrom pathlib import Path\n\n@nr.step\ndef work() -> object:\n"
            "    Path('own.txt').write_text('v1')\n    return Path('own.txt').read_text()\n\n"
            "@nr.pipeline\ndef flow():\n    work()\n"
        },
        V2,
        prepare=inside,
    ),
    "step appends to a log": Case(
        {
            "pipeline.py": "import noria as nr\n\n@nr.step\ndef work() -> object:\n"
            "    with open('runs.log', 'a') as log:\n        log.write('again')\n    return 1\n\n"
            "@nr.pipeline\ndef flow():\n    work()\n"
        },
        {"pipeline.py": ("return 1", "return  1")},
        prepare=inside,
    ),
}
