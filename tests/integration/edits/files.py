# ruff: noqa: E501  # each program is one text
"""Files that a step reads: data, configuration, folders, at import and at run time."""

from __future__ import annotations

import os

from edits.case import Case, Change, Scene, program, step

HERE = "from pathlib import Path\nHERE = Path(__file__).parent\n"


def write(name: str, text: str) -> Change:
    """A change that writes a file of the project."""

    def change(scene: Scene) -> None:
        (scene.root / name).write_text(text, encoding="utf-8")

    return change


def remove(name: str) -> Change:
    """A change that takes a file of the project away."""

    def change(scene: Scene) -> None:
        (scene.root / name).unlink()

    return change


def parquet(scene: Scene, values: list[int]) -> None:
    """Write a table beside the pipeline."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": values}), scene.root / "t.parquet")


def outside(text: str) -> Change:
    """A change that writes a file that lies outside of the project, and the place that names it."""

    def change(scene: Scene) -> None:
        (scene.outside / "far.txt").write_text(text, encoding="utf-8")
        (scene.root / "place.txt").write_text(str(scene.outside / "far.txt"), encoding="utf-8")

    return change


LOOP = """
@nr.step
def work() -> object:
    total = 0
    for name in sorted(os.listdir(HERE / "data")):
        total += int((HERE / "data" / name).read_text())
    return total
"""
OPTIONAL = """
@nr.step
def work() -> object:
    try:
        return int((HERE / "override.txt").read_text())
    except FileNotFoundError:
        return 1
"""
SCRATCH = """
import tempfile

@nr.step
def work() -> object:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "x.txt"
        place.write_text("5")
        return int(place.read_text()) + int((HERE / "c.txt").read_text())
"""


def compiled(reader: str, named: str, other: str = "") -> Case:
    """A file that a compiled library opens by itself under a computed name; `other` is made beside it instead."""

    def write(scene: Scene, value: int, name: str = named) -> None:
        path = scene.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            path.write_text(f"x\n{value}\n")
        elif path.suffix == ".json":
            path.write_text(f'{{"x": {value}}}\n')
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.table({"x": [value]}), path)

    return Case(
        program(HERE + f"\n@nr.step\ndef work() -> object:\n    at = str(HERE) + '/'\n    {reader}\n"),
        prepare=lambda scene: write(scene, 1),
        change=lambda scene: write(scene, 2, other or named),
    )


COMPILED = {
    "polars, whole": compiled("import polars as pl\n    return pl.read_csv(at + 't.csv')['x'].to_list()", "t.csv"),
    "polars, lazy": compiled(
        "import polars as pl\n    return pl.scan_parquet(at + 't.parquet').collect()['x'].to_list()", "t.parquet"
    ),
    "polars, a pattern": compiled(
        "import polars as pl\n    return pl.read_csv(at + 'p*.csv')['x'].to_list()", "p1.csv", "p2.csv"
    ),
    "polars, a folder": compiled(
        "import polars as pl\n    return pl.scan_parquet(at + 'd').collect()['x'].to_list()",
        "d/k=1/0.parquet",
        "d/k=2/0.parquet",
    ),
    "Arrow, CSV": compiled("import pyarrow.csv as c\n    return c.read_csv(at + 't.csv')['x'].to_pylist()", "t.csv"),
    "Arrow, JSON": compiled(
        "from pyarrow import json\n    return json.read_json(at + 't.json')['x'].to_pylist()", "t.json"
    ),
    "Arrow, a folder": compiled(
        "import pyarrow.dataset as d\n    return d.dataset(at + 'd').to_table()['x'].to_pylist()",
        "d/0.parquet",
        "d/1.parquet",
    ),
    "Arrow, Parquet beside pandas": compiled(
        "import pandas.io.parquet\n    import pyarrow.parquet as q\n    return q.read_table(at + 't.parquet')['x'].to_pylist()",
        "t.parquet",
    ),
    "Arrow, mapped": compiled("import pyarrow as pa\n    return pa.memory_map(at + 't.csv').read()", "t.csv"),
    "DuckDB, a query": compiled(
        "import duckdb\n    return duckdb.sql(f\"select * from '{at}t.csv'\").fetchall()", "t.csv"
    ),
    "Arrow, opened": compiled(
        "import pyarrow as pa\n    with pa.OSFile(at + 't.csv') as f:\n        return [isinstance(f, pa.OSFile), f.read()]",
        "t.csv",
    ),
    "DuckDB, a connection's query": compiled(
        "import duckdb\n    with duckdb.connect().cursor() as c:\n        return c.sql(f\"from '{at}t.csv'\").fetchall()",
        "t.csv",
    ),
    "DuckDB, a connection's parameter": compiled(
        "import duckdb\n    with duckdb.connect() as c:\n"
        "        return c.execute('select * from read_csv(?)', [at + 't.csv']).fetchall()",
        "t.csv",
    ),
    "DuckDB, a connection's reader": compiled(
        "import duckdb\n    with duckdb.connect() as c:\n        return c.read_csv(at + 't.csv').fetchall()", "t.csv"
    ),
    "DuckDB, a relation's query": compiled(
        "import duckdb\n    with duckdb.connect() as c:\n"
        "        return c.sql('select 1').query('v', f\"from '{at}t.csv'\").fetchall()",
        "t.csv",
    ),
    "DuckDB, a reader": compiled(
        "import duckdb\n    return duckdb.read_csv(at + 'p*.csv').fetchall()", "p1.csv", "p2.csv"
    ),
}
CSV = {"d/a.csv": "", "d/s/b.csv": "", "c.txt": "1"}


def place(value: str, change: Change) -> Case:
    """A step that asks for names or parts of files, not for their content."""
    head = "import glob\nimport os\nfrom pathlib import Path\nHERE = Path(__file__).parent\n"
    return Case(program(head + step(value)) | CSV, change=change)


def made(*names: str) -> Change:
    """New files."""

    def change(scene: Scene) -> None:
        for name in names:
            (scene.root / name).parent.mkdir(exist_ok=True)
            (scene.root / name).write_text("")

    return change


def touched(scene: Scene) -> None:
    """Another time, the same bytes."""
    os.utime(scene.root / "c.txt", (1, 1))


def grown(scene: Scene) -> None:
    """Another size, the same time."""
    before = (scene.root / "c.txt").stat()
    (scene.root / "c.txt").write_text("12")
    os.utime(scene.root / "c.txt", ns=(before.st_atime_ns, before.st_mtime_ns))


SEARCHES = {
    "Path.rglob": "sorted(str(p.relative_to(HERE)) for p in (HERE / 'd').rglob('*.csv'))",
    "Path.glob": "sorted(str(p.relative_to(HERE)) for p in HERE.glob('d/**/*.csv'))",
    "glob.glob": "sorted(os.path.relpath(p, HERE) for p in glob.glob(str(HERE / 'd/**/*.csv'), recursive=True))",
    "glob.iglob": "sorted(glob.iglob('d/**/*.csv', root_dir=HERE, recursive=True))",
}
LOOKS: dict[str, Case] = {
    **{f"{name}, a file that fits": place(value, made("d/new/c.csv")) for name, value in SEARCHES.items()},
    **{f"{name}, a file beside": place(value, made("d/b.txt", "d/s/c.txt")) for name, value in SEARCHES.items()},
    "names of a pattern and of a folder": place(
        "sorted(p.name for p in HERE.glob('d/*.csv')) + sorted(os.listdir(HERE / 'd'))", made("d/b.txt")
    ),
    "size alone, a touched file": place("os.path.getsize(HERE / 'c.txt')", touched),
    "size alone, a grown file": place("os.path.getsize(HERE / 'c.txt')", grown),
    "time alone, a touched file": place("os.path.getmtime(HERE / 'c.txt')", touched),
    "time alone, a grown file": place("os.path.getmtime(HERE / 'c.txt')", grown),
}
CASES: dict[str, Case] = {
    **{f"compiled: {name}": case for name, case in COMPILED.items()},
    **LOOKS,
    "file by a constant path": Case(
        program(HERE + "C = HERE / 'c.txt'\n" + step("C.read_text()")) | {"c.txt": "1\n"}, {"c.txt": ("1", "2")}
    ),
    "file read at import": Case(
        program(HERE + "C = int((HERE / 'c.txt').read_text())\n" + step("C")) | {"c.txt": "1\n"}, {"c.txt": ("1", "2")}
    ),
    "configuration by a computed path": Case(
        program("import json\n" + HERE + step("json.loads((HERE / '.'.join(['conf', 'json'])).read_text())['rate']"))
        | {"conf.json": '{"rate": 1}'},
        {"conf.json": ("1", "2")},
    ),
    "configuration read by a helper": Case(
        program(
            "from conf import load\n" + step("load()['rate']"),
            conf="import tomllib\nfrom pathlib import Path\ndef load():\n    with Path(__file__).with_name('conf.toml').open('rb') as f:\n"
            "        return tomllib.load(f)\n",
        )
        | {"conf.toml": "rate = 1\n"},
        {"conf.toml": ("rate = 1", "rate = 2")},
    ),
    "file named in another file": Case(
        program(HERE + step("(HERE / (HERE / 'which.txt').read_text().strip()).read_text()"))
        | {"which.txt": "a.txt\n", "a.txt": "1", "b.txt": "2"},
        {"a.txt": ("1", "3")},
    ),
    "file that names the file": Case(
        program(HERE + step("(HERE / (HERE / 'which.txt').read_text().strip()).read_text()"))
        | {"which.txt": "a.txt\n", "a.txt": "1", "b.txt": "2"},
        {"which.txt": ("a.txt", "b.txt")},
    ),
    "file that is not named": Case(
        program(HERE + step("(HERE / (HERE / 'which.txt').read_text().strip()).read_text()"))
        | {"which.txt": "a.txt\n", "a.txt": "1", "b.txt": "2"},
        {"b.txt": ("2", "4")},
    ),
    "data read by pandas": Case(
        program("import pandas as pd\n" + HERE + step("int(pd.read_csv(HERE / ('t' + '.csv'))['x'].sum())"))
        | {"t.csv": "x\n1\n2\n"},
        {"t.csv": ("2", "5")},
    ),
    "data read by numpy": Case(
        program("import numpy as np\n" + HERE + step("float(np.loadtxt(str(HERE) + '/t.txt').sum())"))
        | {"t.txt": "1\n2\n"},
        {"t.txt": ("2", "5")},
    ),
    "Parquet read by a library out of sight": Case(
        program(
            "import pyarrow.parquet as pq\n"
            + HERE
            + "\n@nr.step\ndef work() -> object:\n    place = HERE / 't.parquet'\n"
            "    return pq.read_table(place)['x'].to_pylist()\n"
        ),
        prepare=lambda scene: parquet(scene, [1, 2]),
        change=lambda scene: parquet(scene, [1, 3]),
    ),
    "Parquet read by pandas": Case(
        program("import pandas as pd\n" + HERE + step("pd.read_parquet(HERE / 't.parquet')['x'].tolist()")),
        prepare=lambda scene: parquet(scene, [1, 2]),
        change=lambda scene: parquet(scene, [1, 3]),
    ),
    "database": Case(
        program(
            "import sqlite3\n" + HERE + "\n@nr.step\ndef work() -> object:\n    db = sqlite3.connect(HERE / 'd.db')\n"
            "    try:\n        return db.execute('select x from t').fetchall()\n    finally:\n        db.close()\n"
        ),
        prepare=lambda scene: database(scene, 1),
        change=lambda scene: database(scene, 2),
    ),
    "files of a folder": Case(
        program("import os\n" + HERE + LOOP) | {"data/a.txt": "1", "data/b.txt": "2"}, {"data/b.txt": ("2", "3")}
    ),
    "one more file in a folder": Case(
        program("import os\n" + HERE + LOOP) | {"data/a.txt": "1", "data/b.txt": "2"}, change=write("data/c.txt", "4")
    ),
    "one file less in a folder": Case(
        program("import os\n" + HERE + LOOP) | {"data/a.txt": "1", "data/b.txt": "2"}, change=remove("data/b.txt")
    ),
    "files found by a pattern": Case(
        program(HERE + step("sorted(p.read_text() for p in HERE.glob('data/*.txt'))")) | {"data/a.txt": "1"},
        change=write("data/c.txt", "4"),
    ),
    "file that was not there": Case(program(HERE + OPTIONAL), change=write("override.txt", "7")),
    "file that goes away": Case(program(HERE + OPTIONAL) | {"override.txt": "7"}, change=remove("override.txt")),
    "whether a file is there": Case(program(HERE + step("(HERE / 'flag').exists()")), change=write("flag", "")),
    "whether a file is there, by a computed name": Case(
        program("import os\n" + HERE + step("[os.path.isfile(HERE / n) for n in ['flag', 'pipeline.py']]")),
        change=write("flag", ""),
    ),
    "size of a file": Case(
        program("import os\n" + HERE + step("os.path.getsize(HERE / ''.join(['c', '.txt']))")) | {"c.txt": "1"},
        {"c.txt": ("1", "12")},
    ),
    "data of a package of the project": Case(
        program(
            "import pkgutil\nimport pack\n" + step("pkgutil.get_data('pack', ''.join(['c', '.txt'])).decode()"),
            pack____init__="",
        )
        | {"pack/c.txt": "1"},
        {"pack/c.txt": ("1", "2")},
    ),
    "pickled object": Case(
        program("import pickle\n" + HERE + step("pickle.loads((HERE / 'o.pkl').read_bytes())")),
        prepare=lambda scene: pickled(scene, [1]),
        change=lambda scene: pickled(scene, [2]),
    ),
    "file outside of the project": Case(
        program(HERE + step("Path((HERE / 'place.txt').read_text()).read_text()")),
        prepare=outside("1"),
        change=outside("2"),
    ),
    "file beside a temporary one": Case(program(HERE + SCRATCH) | {"c.txt": "1\n"}, {"c.txt": ("1", "2")}),
    "extra file declared": Case(
        program(
            "import subprocess\n"
            + HERE
            + step(
                "subprocess.run(['cat', str(HERE / 'c.txt')], capture_output=True, text=True, check=True).stdout",
                '(extra_files=["c.txt"])',
            )
        )
        | {"c.txt": "1\n"},
        {"c.txt": ("1", "2")},
    ),
    "file that nobody reads": Case(program(HERE + step("1")) | {"notes.txt": "1\n"}, {"notes.txt": ("1", "2")}),
    "same content written again": Case(
        program(HERE + step("(HERE / 'c.txt').read_text()")) | {"c.txt": "1\n"}, change=write("c.txt", "1\n")
    ),
}


def pickled(scene: Scene, value: object) -> None:
    """Write a pickle."""
    import pickle

    (scene.root / "o.pkl").write_bytes(pickle.dumps(value))


def database(scene: Scene, value: int) -> None:
    """Write a database of one value."""
    import sqlite3

    place = scene.root / "d.db"
    place.unlink(missing_ok=True)
    made = sqlite3.connect(place)
    made.execute("create table t (x)")
    made.execute("insert into t values (?)", (value,))
    made.commit()
    made.close()
