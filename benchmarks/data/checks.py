"""30 rules on 1,000,000 rows of 30 columns: Noria beside Great Expectations and Pandera, in one run.

    python benchmarks/data/checks.py [--rows 1000000] [--rounds 3]

Everybody gets the same Parquet file and the same rules (16 columns without nulls, 9 ranges, 3 sets, a
pattern, a unique id), each in a process and an environment of its own (`make peers`). Good data must
pass and a broken copy must fail in the same five rules, or the figures mean nothing. Time is from the
file to the verdict, in seconds of wall and of CPU, the least of some rounds; memory is the process's
peak. "check" is without reading the file, where a tool reads it whole first. "the whole command" is
`noria data check` from its start to its exit, with the same rules.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
LEVELS = [f"level{index:02d}" for index in range(40)]
NOT_NULL = [*(f"f{i}" for i in range(12)), "id", "t", "b", "s0"]
RANGES = {f"f{i}": (-200.0, 200.0) for i in range(5)} | {f"i{i}": (0.0, 6000.0) for i in range(4)}
SETS = ["s1", "s2", "s3"]

COMMON = """
import json, sys, time
def measured(run, rounds):
    best, verdict = None, None
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        verdict, read = run()
        took = (time.perf_counter() - wall, time.process_time() - cpu, read)
        best = min(best or took, took)
    return best, verdict
def tell(name, best, verdict, imported):
    status = open("/proc/self/status").read()  # ru_maxrss would begin at the parent's peak
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    print("RESULT" + json.dumps({"name": name, "wall": best[0], "cpu": best[1], "check": best[0] - best[2],
        "peak": peak, "failed": sorted(verdict), "import": imported}))
path, rounds, spec = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
begin = time.perf_counter()
"""

NORIA = (
    COMMON
    + """
import subprocess
from pathlib import Path
from noria.bootstrap import open_workspace
from noria.config import Project
from noria.checks import suite
from noria.checks.examine import examine
from noria.checks.prepare import prepare
from noria.checks.suites.suitefile import load
from noria.data import versions
imported = time.perf_counter() - begin
root = Path(path).with_suffix(".project")
if not root.exists():
    (root / "checks").mkdir(parents=True)
    add = "import sys; from pathlib import Path; from noria.bootstrap import open_workspace"
    add += "; from noria.config import Project; from noria.data import versions; root = Path(sys.argv[1])"
    add += "; versions.add(open_workspace(project=Project(name='b', root=root), actor='user:b'), sys.argv[2], 't')"
    subprocess.run([sys.executable, "-c", add, str(root), path], check=True)
ws = open_workspace(project=Project(name="b", root=root), actor="user:b")
version = versions.resolve(ws, "t")
lines = ['dataset = "t"']
for name in spec["columns"]:
    lines.append(f"[columns.{name}]")
    lines += ["nulls = 0.0"] if name in spec["not_null"] else []
    if name in spec["ranges"]:
        lines += [f"min = {spec['ranges'][name][0]}", f"max = {spec['ranges'][name][1]}"]
    lines += [f"allowed = {json.dumps(spec['levels'])}"] if name in spec["sets"] else []
    lines += ['pattern = "^id[0-9]{9}$"', "unique = true"] if name == "id" else []
(root / "checks" / "t.toml").write_text("\\n".join(lines))
def run():
    found = suite_run()
    return [f"{f.rule} {f.column}" for f in found.findings if not f.passed], 0.0
def suite_run():
    loaded = load(root / "checks" / "t.toml")
    return examine(ws, version, prepare(ws, loaded), suite="", last=None, base="").report
best, verdict = measured(run, rounds)
tell("noria", best, verdict, imported)
"""
)

GX = (
    COMMON
    + """
import warnings; warnings.simplefilter("ignore")
import pandas as pd
import great_expectations as gx
import great_expectations.expectations as e
imported = time.perf_counter() - begin
context = gx.get_context(mode="ephemeral")
context.variables.progress_bars = {"globally": False}
asset = context.data_sources.add_pandas("p").add_dataframe_asset("a").add_batch_definition_whole_dataframe("x")
suite = gx.ExpectationSuite(name="s")
for name in spec["not_null"]:
    suite.add_expectation(e.ExpectColumnValuesToNotBeNull(column=name))
for name, (low, high) in spec["ranges"].items():
    suite.add_expectation(e.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high))
for name in spec["sets"]:
    suite.add_expectation(e.ExpectColumnValuesToBeInSet(column=name, value_set=spec["levels"]))
suite.add_expectation(e.ExpectColumnValuesToMatchRegex(column="id", regex="^id[0-9]{9}$"))
suite.add_expectation(e.ExpectColumnValuesToBeUnique(column="id"))
def run():
    start = time.perf_counter()
    frame = pd.read_parquet(path)
    read = time.perf_counter() - start
    result = asset.get_batch({"dataframe": frame}).validate(suite)
    words = {"not_be_null": "nulls", "be_between": "range", "be_in_set": "allowed", "regex": "pattern"}
    failed = [r.expectation_config for r in result.results if not r.success]
    return [
        next((w for k, w in words.items() if k in c.type), "unique") + " " + c.kwargs["column"] for c in failed
    ], read
best, verdict = measured(run, rounds)
tell("great-expectations", best, verdict, imported)
"""
)

PANDERA = (
    COMMON
    + """
backend = sys.argv[4]
if backend == "pandas":
    import pandas as pd, pandera.pandas as pa
    read_file = pd.read_parquet
else:
    import polars as pl, pandera.polars as pa
    read_file = pl.read_parquet
import pandera
from pandera.config import ValidationDepth, config_context
imported = time.perf_counter() - begin
def column(name):
    checks = []
    if name in spec["ranges"]:
        checks.append(pa.Check.in_range(*spec["ranges"][name]))
    if name in spec["sets"]:
        checks.append(pa.Check.isin(spec["levels"]))
    if name == "id":
        checks.append(pa.Check.str_matches("^id[0-9]{9}$"))
    return pa.Column(checks=checks, nullable=name not in spec["not_null"], unique=name == "id")
schema = pa.DataFrameSchema({name: column(name) for name in spec["columns"]})
words = {"not_nullable": "nulls", "in_range": "range", "isin": "allowed", "str_matches": "pattern", "unique": "unique"}
def run():
    start = time.perf_counter()
    frame = read_file(path)
    read = time.perf_counter() - start
    with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
        try:
            schema.validate(frame, lazy=True)
        except pandera.errors.SchemaErrors as errors:
            cases = errors.failure_cases
            pairs = set(zip(list(cases["column"]), list(cases["check"])))
            return [next(w for k, w in words.items() if k in c) + " " + n for n, c in pairs], read
    return [], read
best, verdict = measured(run, rounds)
tell(f"pandera on {backend}", best, verdict, imported)
"""
)


LAUNCH = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run([sys.executable, "-m", "noria", "data", "check", "t"], check=True, stdout=subprocess.DEVNULL)
wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
"""A small process of its own, because a child's greatest memory begins at its parent's."""


def table(rows: int) -> pa.Table:
    """30 columns: normal, whole, texts of 40 levels, an id, a time, a truth."""
    dice = np.random.default_rng(1)
    made: dict[str, Any] = {f"f{i}": dice.normal(i, 1 + i, rows) for i in range(12)}
    made |= {f"i{i}": dice.integers(0, 1000 * (i + 1), rows) for i in range(6)}
    made |= {f"r{i}": np.round(dice.gamma(3, 10, rows), 1) for i in range(4)}
    made |= {f"s{i}": np.array(LEVELS)[dice.integers(0, 40, rows)] for i in range(5)}
    made["id"] = [f"id{k:09d}" for k in range(rows)]
    made["t"] = np.datetime64("2024-01-01", "us") + np.arange(rows).astype("timedelta64[s]")
    made["b"] = dice.random(rows) < 0.3
    return pa.table(made)


def broken(good: pa.Table) -> pa.Table:
    """The same with a fault in five columns."""
    made = {name: good[name].to_pylist() if name in ("f7", "s2", "id") else good[name] for name in good.column_names}
    made["f7"][500] = None
    made["s2"][3] = "level99"
    made["id"][11] = made["id"][10]
    made["id"][99] = "no id"
    values = good["i1"].to_numpy().copy()
    values[7] = 9_999
    made["i1"] = values
    return pa.table(made)


def python(peer: str) -> Path:
    """The interpreter of a peer's environment."""
    found = ROOT / ".venv-peers" / peer / "bin" / "python"
    if not found.is_file():
        sys.exit(f"{found.relative_to(ROOT)} is not there: make peers")
    return found


def run(interpreter: Path, script: str, path: Path, rounds: int, *more: str) -> dict[str, Any]:
    """One contender on one file."""
    spec = {
        "columns": [*RANGES, *(f"f{i}" for i in range(5, 12)), *SETS, "s0", "id", "t", "b"],
        "not_null": NOT_NULL,
        "ranges": RANGES,
        "sets": SETS,
        "levels": LEVELS,
    }
    words = [str(interpreter), "-c", script, str(path), str(rounds), json.dumps(spec), *more]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PANDERA_")}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=kept, timeout=1200)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    found: dict[str, Any] = json.loads(line.removeprefix("RESULT"))
    return found


def command(path: Path, rounds: int) -> list[float]:
    """Wall and CPU seconds and peak MB of `noria data check` on the project that NORIA made; the least wall."""
    root = path.with_suffix(".project")
    (root / "noria.toml").write_text('[project]\nname = "b"\n')
    suite = root / "checks" / "t.toml"
    took = []
    for number in range(rounds):
        suite.write_text(suite.read_text() + f"\n# other rules, so that nothing is remembered: {number}\n")
        words = [sys.executable, "-c", LAUNCH]
        done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True, timeout=600)
        took.append(json.loads(done.stdout))
    return min(took)


def main() -> None:
    """Make the files, let everybody run, print figures and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        good, bad = Path(folder) / "good.parquet", Path(folder) / "bad.parquet"
        whole = table(given.rows)
        pq.write_table(whole, good, compression="zstd", use_dictionary=[f"s{i}" for i in range(5)])
        pq.write_table(broken(whole), bad, compression="zstd", use_dictionary=[f"s{i}" for i in range(5)])
        del whole
        contenders = [
            (Path(sys.executable), NORIA, ()),
            (python("gx"), GX, ()),
            (python("pandera"), PANDERA, ("pandas",)),
            (python("pandera"), PANDERA, ("polars",)),
        ]
        found = [run(interpreter, script, good, given.rounds, *more) for interpreter, script, more in contenders]
        whole_command = command(good, given.rounds)
        faults = [run(interpreter, script, bad, 1, *more)["failed"] for interpreter, script, more in contenders]
    expected = ["allowed s2", "nulls f7", "pattern id", "range i1", "unique id"]
    print(f"30 rules, {given.rows:,} rows x 30 columns, least of {given.rounds} rounds\n")
    print(f"{'':22} {'wall s':>8} {'check s':>8} {'cpu s':>8} {'peak MB':>8} {'import s':>9}   wall/noria  verdicts")
    for each, fault in zip(found, faults, strict=True):
        right = "as they should" if not each["failed"] and fault == expected else f"good {each['failed']}, bad {fault}"
        print(
            f"{each['name']:22} {each['wall']:8.2f} {each['check']:8.2f} {each['cpu']:8.2f} {each['peak']:8.0f} "
            f"{each['import']:9.2f}   {each['wall'] / found[0]['wall']:9.1f}x  {right}"
        )
    wall, cpu, peak = whole_command
    print(f"{'the whole command':22} {wall:8.2f} {'':8} {cpu:8.2f} {peak:8.0f}")
    print("\ntargets: noria at most 0.5 s and 300 MB at 1,000,000 rows")


if __name__ == "__main__":
    main()
