"""What a step is seen to read while it runs, and that nothing of the watch is left behind."""

from __future__ import annotations

import ctypes.util
import importlib
import importlib.util
import io
import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import polars as pl
import pyarrow.csv as arrow_csv
import pytest

from noria.pipeline.watching.trace import trace_from
from noria.pipeline.watching.watch import watch
from noria.store.disk import devices


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "c.txt").write_text("1")
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.fixture
def module(root: Path) -> Iterator[ModuleType]:
    text = "import os\ndef look():\n    return os.environ.get('NORIA_TEST_A'), os.getenv('NORIA_TEST_B')\n"
    (root / "own_module.py").write_text(text)
    sys.path.insert(0, str(root))
    yield importlib.import_module("own_module")
    sys.path.remove(str(root))
    del sys.modules["own_module"]


def test_files_folders_and_absent_files_are_seen(root: Path) -> None:
    with watch(root, root / ".noria") as seen:
        (root / "c.txt").read_text()
        list((root / "data").iterdir())
        with pytest.raises(FileNotFoundError):
            (root / "gone").read_text()
        (root / "out.txt").write_text("2")
        (root / "out.txt").read_text()
    trace = seen.trace()
    assert {name: stamp is not None for name, stamp in trace.files} == {
        str(root / "c.txt"): True,
        str(root / "gone"): False,
    }
    assert [name for name, _ in trace.folders] == [str(root / "data")]
    assert trace_from(json.loads(json.dumps(trace.document()))) == trace


def test_noria_and_python_itself_are_not_seen(root: Path) -> None:
    with watch(root, root / ".noria") as seen:
        (root / ".noria").mkdir()
        (root / ".noria" / "x").write_text("1")
        (root / ".noria" / "x").read_text()
        Path(os.__file__).read_text(encoding="utf-8")
        Path("/proc/self/stat").read_text(encoding="utf-8")
    assert seen.trace().files == ()


def test_code_of_the_project_is_seen_in_every_thread(root: Path, module: ModuleType) -> None:
    with watch(root, root / ".noria") as seen:
        thread = threading.Thread(target=module.look)
        thread.start()
        thread.join()
    trace = seen.trace()
    assert [name for _, name, _ in trace.code] == ["look"]
    assert [name for name, _ in trace.variables] == ["NORIA_TEST_A", "NORIA_TEST_B"]


def test_an_import_by_name_is_seen_also_when_it_is_loaded(root: Path) -> None:
    with watch(root, root / ".noria") as seen:
        importlib.import_module("json")
    assert "json" in seen.trace().modules


def test_whether_a_file_is_there_is_seen(root: Path, module: ModuleType) -> None:
    namespace = {"Path": Path, "os": os, "root": root}
    code = compile("(root / 'flag').exists(), os.path.getsize(root / 'c.txt')", str(root / "own_module.py"), "eval")
    with watch(root, root / ".noria") as seen:
        eval(code, namespace)  # noqa: S307  # as if the module said it
    assert dict(seen.trace().stats) == {str(root / "flag"): "there", str(root / "c.txt"): "size"}


def test_a_temporary_file_is_no_listing_of_its_folder(root: Path) -> None:
    """`tempfile` opens the folder itself, to write, and gives another opener."""
    with watch(root, root / ".noria") as seen:  # noqa: SIM117  # what is opened in there is watched
        with tempfile.NamedTemporaryFile(dir=root), tempfile.TemporaryFile(dir=root):
            pass
    assert [name for name, _ in seen.trace().folders] == []


def test_a_process_that_is_started_is_noted(root: Path) -> None:
    with watch(root, root / ".noria") as seen:
        subprocess.run(["/bin/true"], check=True)
    assert seen.trace().notes == ("starts true",)


def test_a_program_that_the_project_starts_is_out_of_sight(root: Path) -> None:
    with watch(root, root / ".noria") as seen:
        subprocess.run("cat /dev/null", shell=True, check=True)  # noqa: S602
        os.system("true x/y")
    said = [reason.partition(",")[0] for reason in seen.trace().unseen]
    assert said == ["it starts cat", "it starts true"]


def test_programs_that_only_tell_of_the_machine_are_harmless_where_a_package_starts_them(root: Path) -> None:
    with watch(root, root / ".noria") as seen:
        ctypes.util.find_library("c")
    assert seen.trace().unseen == ()
    code = "import subprocess\nsubprocess.run(['uname'], check=True, capture_output=True)\n"
    for file, count in ((os.__file__.replace("os.py", "site-packages/x/context.py"), 0), (str(root / "own.py"), 1)):
        with watch(root, root / ".noria") as seen:
            exec(compile(code, file, "exec"), {})
        assert len(seen.trace().unseen) == count


def test_a_forked_process_tells_what_it_reads(root: Path) -> None:
    with watch(root, root / ".noria") as seen:
        if os.fork() == 0:
            (root / "c.txt").read_text()
            os._exit(0)
        os.wait()
    here = [name for name, _ in seen.trace().files if name.startswith(str(root))]  # other threads read elsewhere
    assert here == [str(root / "c.txt")]


def test_a_profiler_makes_the_watch_blind_where_the_watch_needs_one(root: Path) -> None:
    def quiet(*_: object) -> None:
        return None

    needs_one = sys.version_info < (3, 12)
    sys.setprofile(quiet)
    try:
        with watch(root, root / ".noria") as seen:
            pass
    finally:
        sys.setprofile(None)
    assert seen.trace().blind == ("a profiler is on" if needs_one else "")
    with watch(root, root / ".noria") as seen:
        sys.setprofile(quiet)
    sys.setprofile(None)
    assert seen.trace().blind == ("the step has a profiler of its own" if needs_one else "")


def test_nothing_is_left_behind(root: Path) -> None:
    before = (os.stat, type(os.environ), sys.getprofile(), importlib._bootstrap._gcd_import)  # type: ignore[attr-defined]  # private
    with pytest.raises(ZeroDivisionError), watch(root, root / ".noria"), watch(root, root / ".noria"):
        raise ZeroDivisionError
    assert before == (os.stat, type(os.environ), sys.getprofile(), importlib._bootstrap._gcd_import)  # type: ignore[attr-defined]  # private


def test_the_folder_of_shared_memory_is_no_device() -> None:
    assert "/dev/null" in devices()
    assert not any("/dev/shm/project/rows.csv".startswith(each) for each in devices())


def test_readers_of_compiled_libraries_say_what_they_read_and_are_left_as_they_were(root: Path) -> None:
    before = (pl.read_csv, pl.scan_csv, arrow_csv.read_csv, importlib.util._find_spec, os.lstat)  # type: ignore[attr-defined]  # private
    for name in ("one.csv", "two.csv"):
        (root / "data" / name).write_text("x\n1\n")
    with watch(root, root / ".noria") as seen:
        assert pickle.loads(pickle.dumps(pl.read_csv)) is before[0]
        assert pl.read_csv(root / "data" / "*.csv")["x"].to_list() == [1, 1]
        arrow_csv.read_csv(os.fsencode(root / "data" / "one.csv").decode())
        pl.read_csv(io.BytesIO(b"x\n1\n"))
    after = (pl.read_csv, pl.scan_csv, arrow_csv.read_csv, importlib.util._find_spec, os.lstat)  # type: ignore[attr-defined]  # private
    assert all(one is other for one, other in zip(before, after, strict=True))
    trace = seen.trace()
    assert {Path(name).name for name, stamp in trace.files if stamp} == {"one.csv", "two.csv"}
    assert str(root / "data") in dict(trace.searched)
    assert ("files+recursive", "*.csv", str(root / "data")) in trace.patterns
    assert trace.blind == ""


QUERIES = """
import duckdb
import pandas as pd
WIDE = pd.DataFrame({"a": [5]})
def ask(rows, place):
    own = pd.DataFrame({"a": [1, 2]})
    con = duckdb.connect()
    doors = [duckdb.sql, duckdb.query, duckdb.execute, con.sql, con.query, con.execute]
    doors += [duckdb.from_query, con.from_query] if hasattr(duckdb, "from_query") else []
    found = []
    for door in doors:
        for name in ("own", "rows", "WIDE"):
            found.append(door(f"select sum(a) from {name}").fetchall())
    relation = duckdb.sql("from own")
    found.append(relation.filter("a > 1").query("v", "select sum(v.a + rows.a) from v, rows").fetchall())
    found.append(duckdb.sql(f"select count(*) from own, '{place}'").fetchall())
    return found
"""


def test_tables_of_duckdb_are_those_of_plain_python_and_files_are_seen(root: Path) -> None:
    (root / "d.csv").write_text("x\n1\n")
    (root / "queries_of_test.py").write_text(QUERIES)
    sys.path.insert(0, str(root))
    try:
        queries = importlib.import_module("queries_of_test")
        rows = queries.WIDE * 2
        plain = queries.ask(rows, root / "d.csv")
        with watch(root, root / ".noria") as seen:
            watched = queries.ask(rows, root / "d.csv")
            with pytest.raises(Exception, match="does not exist"):
                queries.duckdb.sql("from given")  # a name of the stand-in itself
    finally:
        sys.path.remove(str(root))
        sys.modules.pop("queries_of_test", None)
    assert watched == plain
    assert [(3,)] in plain
    assert str(root / "d.csv") in dict(seen.trace().files)
    assert seen.trace().names == ("queries_of_test:WIDE",)


def test_a_compiled_reader_that_was_taken_out_of_its_library_is_out_of_sight(root: Path) -> None:
    (root / "t.csv").write_text("x\n1\n")
    taken = pl.read_csv
    with watch(root, root / ".noria") as seen:
        taken(root / "t.csv")
    assert seen.trace().blind.startswith("native:polars.")


def test_a_thread_that_asks_for_a_variable_as_its_step_ends_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASKED", "1")
    with watch(tmp_path, tmp_path / ".noria"):
        inside = type(os.environ)
    asked, walked, given = inside.__getitem__, inside.__iter__, inside.__setitem__
    assert not isinstance(os.environ, inside)  # the step is over while its thread is in there
    assert asked(os.environ, "ASKED") == "1"
    assert "ASKED" in walked(os.environ)
    given(os.environ, "ASKED", "2")
    assert os.environ["ASKED"] == "2"
