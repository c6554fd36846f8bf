"""What neptune-exporter writes is taken over: every value, every point and every file, or it is named."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.catalog.takeover.compare import Report
from noria.catalog.takeover.import_foreign import import_foreign
from noria.catalog.takeover.ours import Ours
from noria.catalog.takeover.taking import scratch
from noria.core.errors import UsageError
from noria.governance.audit import verify
from noria.store.replay import difference
from noria.store.workspace import Workspace
from noria.testing import open_memory

KILLS_OF_A_NEPTUNE_IMPORT = ("import.stored", "import.added", "import.filed")
BEGAN = datetime(2026, 1, 5, 10, tzinfo=UTC)
SCHEMA = pa.schema(
    [
        ("project_id", pa.string()),
        ("run_id", pa.string()),
        ("attribute_path", pa.string()),
        ("attribute_type", pa.string()),
        ("step", pa.decimal128(18, 6)),
        ("timestamp", pa.timestamp("ms", tz="UTC")),
        ("int_value", pa.int64()),
        ("float_value", pa.float64()),
        ("string_value", pa.string()),
        ("bool_value", pa.bool_()),
        ("datetime_value", pa.timestamp("ms", tz="UTC")),
        ("string_set_value", pa.list_(pa.string())),
        ("file_value", pa.struct([("path", pa.string())])),
        (
            "histogram_value",
            pa.struct([("type", pa.string()), ("edges", pa.list_(pa.float64())), ("values", pa.list_(pa.float64()))]),
        ),
    ]
)
Row = dict[str, Any]


def row(path: str, kind: str, column: str = "", value: Any = None, *, step: str = "", second: int = 0) -> Row:
    made: Row = {"attribute_path": path, "attribute_type": kind}
    if column:
        made[f"{column}_value"] = value
    if step:
        made.update(step=Decimal(step), timestamp=BEGAN + timedelta(seconds=second))
    return made


def write(folder: Path, name: str, rows: list[Row], *, project: str = "team/churn", run: str = "RUN-1") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    whole = [{"project_id": project, "run_id": run, **each} for each in rows]
    pq.write_table(pa.Table.from_pylist(whole, schema=SCHEMA), folder / name, compression="snappy")


def sys_rows(name: str) -> list[Row]:
    return [
        row("sys/name", "string", "string", name),
        row("sys/creation_time", "datetime", "datetime", BEGAN),
        row("sys/running_time", "float", "float", 12.5),
        row("sys/owner", "string", "string", "ada"),
        row("sys/tags", "string_set", "string_set", ["base", "try"]),
        row("sys/description", "string", "string", "a note"),
        row("sys/failed", "bool", "bool", False),
    ]


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """An export of two projects whose runs have the same id."""
    root = tmp_path / "exports"
    one, files = root / "data/team_churn-11", root / "files/team_churn-11"
    write(
        one,
        "RUN-1-aa_part_0.parquet",
        [
            *sys_rows("first"),
            row("config/lr", "float", "float", 0.1),
            row("config/layers", "int", "int", 3),
            row("config/kinds", "string_set", "string_set", ["b", "a"]),
            row("config/at", "datetime", "datetime", BEGAN),
            row("data/desc.json", "file", "file", {"path": "RUN-1/data/desc.json"}),
            row("plots", "file_series", "file", {"path": "RUN-1/plots/0.txt"}, step="0", second=1),
            *[row("loss", "float_series", "float", 1 / (n + 1), step=str(n), second=n) for n in range(5)],
        ],
    )
    write(
        one,
        "RUN-1-aa_part_1.parquet",
        [
            row("loss", "float_series", "float", math.nan, step="5", second=5),
            row("fine", "float_series", "float", 2.0, step="0.25", second=6),
            row("fine", "float_series", "float", 3.0, step="1", second=7),
            row("said", "string_series", "string", "hello", step="1", second=7),
            row(
                "dist", "histogram_series", "histogram", {"type": "COUNTING", "edges": [0, 1], "values": [2]}, step="1"
            ),
        ],
    )
    for name, content in (("data/desc.json", "{}"), ("plots/0.txt", "plot")):
        (files / "RUN-1" / name).parent.mkdir(parents=True, exist_ok=True)
        (files / "RUN-1" / name).write_text(content, encoding="utf-8")
    write(
        root / "data/team_price-22",
        "RUN-1-bb_part_0.parquet",
        [*sys_rows("other"), row("loss", "float_series", "float", 9.0, step="0")],
        project="team/price",
    )
    return root


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    made = open_memory(root=tmp_path / "project")
    yield made
    assert difference(made.ledger) == []
    assert verify(made).ok
    made.ledger.database.close()


def points(ws: Workspace, run: str) -> dict[str, list[tuple[int, int, float]]]:
    return {
        key: list(zip(found.steps.tolist(), found.at_us.tolist(), found.values.tolist(), strict=True))
        for key, found in Ours(ws).points(run)
    }


def facts(ws: Workspace) -> int:
    return len(ws.ledger.facts(limit=1_000_000))


def content(ws: Workspace, run: str, name: str) -> bytes:
    doc = Ours(ws).found([run]).get(run)
    assert doc is not None
    with Ours(ws).open(doc, name) as stream:
        return stream.read()


def named(report: Report) -> dict[str, str]:
    return {each.name: each.what for each in report.differences}


def test_an_export_is_taken_over_and_twice_adds_nothing(export: Path, ws: Workspace) -> None:
    done = import_foreign(ws, "neptune", str(export))
    assert done.ok, done
    assert done.seen["run"] == done.new["run"] == 2
    doc = Ours(ws).found(["RUN-1"]).get("RUN-1")
    assert doc is not None
    assert (doc.experiment, doc.name, doc.user, doc.status) == ("team/churn", "first", "ada", "FINISHED")
    began_ms = int(BEGAN.timestamp() * 1000)
    assert (doc.started_ms, doc.ended_ms) == (began_ms, began_ms + 12_500)
    assert dict(doc.params) == {
        "config/lr": "0.1",
        "config/layers": "3",
        "config/kinds": '["a", "b"]',
        "config/at": BEGAN.isoformat(),
    }
    assert doc.tags["base"] == doc.tags["try"] == "true"
    assert doc.tags["mlflow.note.content"] == "a note"
    assert doc.tags["neptune.steps_in_millionths"] == '["fine"]'
    second = 1_000_000
    told = points(ws, "RUN-1")
    assert told["fine"] == [
        (250_000, began_ms * 1000 + 6 * second, 2.0),
        (1_000_000, began_ms * 1000 + 7 * second, 3.0),
    ]
    assert [each[2] for each in told["loss"][:5]] == [1 / (n + 1) for n in range(5)]
    assert [each[:2] for each in told["loss"]] == [(n, began_ms * 1000 + n * second) for n in range(6)]
    assert math.isnan(told["loss"][5][2])
    assert content(ws, "RUN-1", "data/desc.json") == b"{}"
    assert content(ws, "RUN-1", "plots/step-0.txt") == b"plot"
    assert json.loads(content(ws, "RUN-1", "neptune/series/said.jsonl"))["value"] == "hello"
    assert json.loads(content(ws, "RUN-1", "neptune/series/dist.jsonl"))["value"]["values"] == [2.0]
    before = facts(ws)
    for again in (export, export / "data"):
        more = import_foreign(ws, "neptune", str(again))
        assert more.ok, more
        assert (more.new, more.seen) == ({}, done.seen)
    assert facts(ws) == before


def test_runs_of_two_projects_with_one_id_stay_apart(export: Path, ws: Workspace) -> None:
    import_foreign(ws, "neptune", str(export))
    ours = Ours(ws)
    by_name = {each.name: list(ours.runs(each)) for each in ours.experiments()}
    (one,), (other,) = by_name["team/churn"], by_name["team/price"]
    assert one.id == "RUN-1"
    assert other.id.startswith("RUN-1-")
    assert other.tags["neptune.run"] == "RUN-1"
    assert [each[2] for each in points(ws, other.id)["loss"]] == [9.0]
    assert len(points(ws, one.id)["loss"]) == 6


def test_who_comes_first_keeps_its_id_and_is_found_by_it_again(export: Path, ws: Workspace, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (export / "data/team_price-22").rename(alone / "team_price-22")
    assert import_foreign(ws, "neptune", str(alone)).ok
    assert import_foreign(ws, "neptune", str(export)).ok
    ours = Ours(ws)
    names = {each.name: [run.id for run in ours.runs(each)] for each in ours.experiments()}
    assert names["team/price"] == ["RUN-1"]
    assert names["team/churn"] != ["RUN-1"]
    assert import_foreign(ws, "neptune", str(alone)).new == {}
    assert import_foreign(ws, "neptune", str(export)).new == {}


def test_what_cannot_be_kept_is_named(export: Path, ws: Workspace, tmp_path: Path) -> None:
    folder = export / "data/team_churn-11"
    (tmp_path / "secret").write_text("s", encoding="utf-8")
    (export / "files/team_churn-11/RUN-2").mkdir()
    (export / "files/team_churn-11/RUN-2/link").symlink_to(tmp_path / "secret")
    write(
        folder,
        "RUN-2-cc_part_0.parquet",
        [
            row("config/odd", "quaternion", "string", "1"),
            row("gone.bin", "file", "file", {"path": "RUN-2/gone.bin"}),
            row("link", "file", "file", {"path": "RUN-2/link"}),
            row("up", "file", "file", {"path": "../../../secret"}),
            row("config/none", "string"),
        ],
        run="RUN-2",
    )
    (folder / "RUN-2-cc_part_1.parquet").write_bytes(b"PAR1 and no more")
    write(folder, "RUN-3-dd_part_1.parquet", sys_rows("late"), run="RUN-3")
    write(folder / "models", "CH-MOD_part_0.parquet", sys_rows("model"), run="CH-MOD")
    done = import_foreign(ws, "neptune", str(export))
    assert not done.ok
    whats = [each.what for each in done.differences if each.name == "RUN-2"]
    for word in ("quaternion", "RUN-2/gone.bin is not there", "file link", "file up", "config/none", "part_1.parquet"):
        assert len([what for what in whats if word in what]) == 1, (word, whats)
    assert sum("outside the folders" in what for what in whats) == 2
    assert "broken off" in named(done)["team_churn-11/RUN-3-dd_part_1.parquet"]
    assert "registry" in named(done)["team_churn-11/models/CH-MOD_part_0.parquet"]
    assert done.seen["run"] == 3
    again = import_foreign(ws, "neptune", str(export))
    assert again.new == {}
    assert named(again) == named(done)


def test_columns_that_are_absent_are_empty_and_those_that_are_needed_are_named(ws: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "exports" / "p"
    folder.mkdir(parents=True)
    few = {"run_id": ["R 1"], "attribute_path": ["a"], "attribute_type": ["int"], "int_value": [4]}
    pq.write_table(pa.table(few), folder / "R1_part_0.parquet")
    pq.write_table(pa.table({"run_id": ["R2"]}), folder / "R2_part_0.parquet")
    done = import_foreign(ws, "neptune", str(folder))
    assert done.seen["run"] == 1
    (experiment,) = (each for each in Ours(ws).experiments() if each.name == "neptune")
    (run,) = Ours(ws).runs(experiment)
    assert run.id.startswith("R-1-"), "an id with a space is no id here"
    assert run.params == {"a": "4"}
    assert "lacks the columns attribute_path, attribute_type" in named(done)["R2_part_0.parquet"]


def test_a_folder_without_an_export_is_refused(ws: Workspace, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no Parquet file of neptune-exporter"):
        import_foreign(ws, "neptune", str(tmp_path))
    assert facts(ws) == 0


def noria(folder: Path, *words: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "noria", *map(str, words)],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **(env or {})},
    )


@pytest.mark.parametrize("point", KILLS_OF_A_NEPTUNE_IMPORT)
def test_an_import_that_was_killed_is_gone_on_with(export: Path, tmp_path: Path, point: str) -> None:
    project = tmp_path / "killed"
    project.mkdir()
    (project / "noria.toml").write_text('[project]\nname = "killed"\n', encoding="utf-8")
    killed = noria(project, "import", "neptune", export, env={"NORIA_FAILPOINT": point})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list((project / ".noria/cache").glob("takeover-*")), "it had no time to clean up"
    done = noria(project, "import", "neptune", export, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["seen"]["run"] == 2
    again = noria(project, "import", "neptune", export, "--json")
    assert json.loads(again.stdout)["new"] == {}
    assert not list((project / ".noria/cache").glob("takeover-*"))


def test_two_takeovers_at_once_leave_each_others_folders(ws: Workspace) -> None:
    with scratch(ws) as one:
        (one / "kept").touch()
        with scratch(ws) as two:
            assert one != two
            assert (one / "kept").exists()
    assert not list((ws.project.state / "cache").glob("takeover-*"))


KEYS = st.text("abc/.é ", min_size=1, max_size=6).filter(lambda each: not each.startswith("sys/"))
SINGLE = st.one_of(
    st.tuples(st.just("float"), st.just("float"), st.floats()),
    st.tuples(st.just("int"), st.just("int"), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just("string"), st.just("string"), st.text(max_size=20)),
    st.tuples(st.just("bool"), st.just("bool"), st.booleans()),
    st.tuples(st.just("string_set"), st.just("string_set"), st.lists(st.text(max_size=3), max_size=3)),
)
STEPS = st.decimals(0, 10**6, places=3, allow_nan=False, allow_infinity=False)
SERIES = st.lists(st.tuples(STEPS, st.floats()), min_size=1, max_size=8, unique_by=lambda each: each[0])


@settings(max_examples=12, deadline=None)
@given(
    singles=st.dictionaries(KEYS, SINGLE, max_size=5),
    series=st.dictionaries(KEYS, SERIES, max_size=3),
    cut=st.integers(0, 30),
)
def test_any_export_is_there_whole_after_one_import_and_two_are_one(
    singles: dict[str, tuple[str, str, Any]], series: dict[str, list[tuple[Decimal, float]]], cut: int
) -> None:
    rows = [row(key, kind, column, value) for key, (kind, column, value) in singles.items()]
    rows += [
        row(key, "float_series", "float", value, step=str(step))
        for key, found in series.items()
        for step, value in found
    ]
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "exports", "R_part_0.parquet", rows[:cut], run="R")
        write(Path(folder) / "exports", "R_part_1.parquet", rows[cut:], run="R")
        if not rows:
            return
        ws = open_memory(root=Path(folder) / "p")
        done = import_foreign(ws, "neptune", str(Path(folder) / "exports"))
        assert done.ok, done
        doc = Ours(ws).found(["R"]).get("R")
        assert doc is not None
        assert doc.params.keys() == singles.keys()
        for key, found in series.items():
            scale = 1 if all(step == int(step) for step, _ in found) else 1_000_000
            expected = sorted((int(step * scale), repr(value)) for step, value in found)
            assert sorted((each[0], repr(each[2])) for each in points(ws, "R")[key]) == expected
        before = facts(ws)
        again = import_foreign(ws, "neptune", str(Path(folder) / "exports"))
        assert again.ok
        assert not again.new
        assert facts(ws) == before
        ws.ledger.database.close()
