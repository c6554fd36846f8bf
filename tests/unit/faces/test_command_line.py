"""The command line's edges: help, errors, exit codes, JSON."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from noria.bootstrap import open_workspace
from noria.faces.cli.main import run
from noria.tracking import run as tracking

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project that is the working folder."""
    (tmp_path / "noria.toml").write_text('[project]\nname = "shop"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("NORIA_SERVER", "NORIA_DEBUG", "NORIA_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_help_groups_the_commands(capsys: Captured) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert [out.index(f"\n{title}:") for title in ("start", "build", "ship", "live", "trust", "run it")] == sorted(
        out.index(f"\n{title}:") for title in ("start", "build", "ship", "live", "trust", "run it")
    )
    assert "noria" in out
    assert run([]) == 0


def test_help_imports_nothing_but_click() -> None:
    code = (
        "import sys; from noria.faces.cli.main import run; run(['--help']);"
        "print([name for name in ('sqlalchemy', 'pyarrow', 'numpy', 'rich', 'msgspec', 'noria.config')"
        " if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("words", [["data", "list"], ["admin", "errors"], ["run", "train.py"], ["status", "--json"]])
def test_a_command_looks_for_garbage_in_all_but_what_is_loaded(project: Path, words: list[str]) -> None:
    (project / "train.py").write_text("print('trained')")
    code = (
        "import gc, sys, noria.faces.cli.main as main; from noria.__main__ import main as start\n"
        "seen, own = [], main.click.Command.invoke\n"
        "def invoke(self, context):\n"
        "    isinstance(self, main.click.Group) or seen.append((gc.isenabled(), gc.get_freeze_count() > 10_000))\n"
        "    return own(self, context)\n"
        "main.click.Command.invoke = invoke\n"
        f"sys.argv = ['noria', *{words!r}]\n"
        "try: start()\n"
        "except SystemExit as ended: print(ended.code, seen, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    assert done.stderr.splitlines()[-1] == "0 [(True, True)]", done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inti"], "did you mean `noria init`?"),
        (["data", "chek"], "did you mean `noria data check`?"),
        (["data", "log"], "missing argument 'NAME'"),
        (["data", "log", "x", "--nmae"], "no such option"),
        (["run", "t.py", "--fast", "-c", "a b"], "next:  noria run t.py -- --fast -c 'a b'"),
        (["run", "--x=1", "t.py"], "next:  noria run t.py -- --x …"),
        (["up", "--exit"], "--exit, --json and --months go with --demo"),
        (["up", "--port", "99999"], "0<=x<=65535"),
        (["run", "-p", "rate"], "'rate' is not NAME=VALUE"),
        (["run", "-p", "fit.rate=1", "-p", "fit.rate=2"], "fit.rate is given twice"),
        (["status", "--env", "prod"], "there is no [env.prod]"),
        (["audit", "verify", "--from", "nowhere.txt"], "nowhere.txt cannot be read"),
    ],
)
def test_a_mistake_is_named_in_at_most_six_lines_and_exits_2(words: list[str], said: str, capsys: Captured) -> None:
    assert run(words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) <= 6


def test_a_group_alone_shows_its_commands_and_exits_2(capsys: Captured) -> None:
    assert run(["data"]) == 2
    assert "checkout" in capsys.readouterr().out


def test_an_error_is_json_where_json_is_asked_for(capsys: Captured) -> None:
    assert run(["data", "log", "nothing", "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == "not-found"
    assert err == ""
    assert run(["data", "log", "--nmae", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"


def test_outside_of_a_project_the_next_step_is_named(
    capsys: Captured, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    assert run(["status"]) == 2
    assert "noria init NAME" in capsys.readouterr().err


def test_a_broken_noria_toml_names_the_nearest_key(capsys: Captured, project: Path) -> None:
    (project / "noria.toml").write_text('[project]\nname = "shop"\nsede = 1\n', encoding="utf-8")
    assert run(["status"]) == 2
    assert "did you mean 'seed'?" in capsys.readouterr().err


def test_a_result_is_one_json_line(capsys: Captured, project: Path) -> None:
    (project / "rows.csv").write_text("id,x\n1,2\n2,3\n", encoding="utf-8")
    assert run(["data", "add", "rows.csv", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert json.loads(lines[0])["rows"] == 2


def test_a_command_ends_with_the_next_one(capsys: Captured, project: Path) -> None:
    (project / "rows.csv").write_text("id,x\n1,2\n", encoding="utf-8")
    assert run(["data", "add", "rows.csv"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("next: noria data check rows")


def test_an_unexpected_failure_is_one_line_and_its_traceback_is_kept(capsys: Captured, project: Path) -> None:
    (project / ".noria").mkdir()
    (project / "rows.csv").write_text("id,x\n1,2\n", encoding="utf-8")
    assert run(["data", "add", "rows.csv", "--note", "\ud800"]) == 3
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 6
    kept = list((project / ".noria" / "errors").glob("*.txt"))
    assert len(kept) == 1
    assert str(kept[0]) in err
    assert "Traceback" in kept[0].read_text(encoding="utf-8")


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORIA_DEBUG", "1")
    with pytest.raises(Exception, match="nothing"):
        run(["data", "log", "nothing"])


def test_a_closed_pipe_is_no_failure(project: Path) -> None:
    for number in range(200):
        (project / f"rows{number}.csv").write_text(f"id,x\n{number},2\n", encoding="utf-8")
    command = f"{sys.executable} -m noria registry list --help | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], check=True, capture_output=True, text=True, env=os.environ)
    assert "Traceback" not in done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("words", [["--help"], ["status"], ["status", "--json"], ["data", "add", "rows.csv"]])
def test_an_output_that_nobody_reads_is_not_the_word_of_a_gate(words: list[str], project: Path) -> None:
    (project / "rows.csv").write_text("id,x\n1,2\n", encoding="utf-8")
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-m", "noria", *words], cwd=project, stdout=theirs, stderr=subprocess.PIPE, check=False
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (141, b"")


def test_an_argument_that_is_no_text_is_a_mistake_of_usage(capsys: Captured, project: Path) -> None:
    assert run(["explain", os.fsdecode(b"\xff\xfe")]) == 2
    assert "UTF-8" in capsys.readouterr().err


def test_a_record_that_is_no_json_is_named(capsys: Captured, project: Path) -> None:
    (project / "rows.csv").write_text("id,x\n1,2\n", encoding="utf-8")
    assert run(["data", "add", "rows.csv"]) == 0
    ws = open_workspace(project)
    columns = [(table.name, column.name) for table in ws.ledger.slices.tables for column in table.columns]
    tried = 0
    for table, column in columns:
        with closing(sqlite3.connect(project / ".noria" / "ledger.db")) as connection:
            query = f"select {column} from {table} where json_valid({column}) and typeof({column}) = 'text'"
            before = connection.execute(query).fetchone()
            if before is None or not before[0].startswith(("[", "{")):
                continue
            connection.execute(f"update {table} set {column} = '{{' || {column}")
            connection.commit()
        capsys.readouterr()
        assert run(["audit", "verify"]) == 1, (table, column)
        assert f"record table {table}" in capsys.readouterr().out
        assert run(["status"]) in (0, 3)
        assert "noria itself failed" not in capsys.readouterr().err
        assert run(["admin", "rebuild"]) == 0
        assert run(["audit", "verify"]) == 0
        tried += 1
    assert tried


def test_an_audit_that_fails_exits_1(capsys: Captured, project: Path) -> None:
    (project / "rows.csv").write_text("id,x\n1,2\n", encoding="utf-8")
    assert run(["data", "add", "rows.csv"]) == 0
    assert run(["audit", "verify"]) == 0
    with closing(sqlite3.connect(project / ".noria" / "ledger.db")) as connection:
        for (name,) in connection.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            connection.execute(f'drop trigger "{name}"')
        changed = connection.execute("update fact set body = replace(body, 'rows.csv', 'rowz.csv') where seq = 1")
        assert changed.rowcount == 1
        connection.commit()
    capsys.readouterr()
    assert run(["audit", "verify", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["first_bad"], told["kind"]) == (False, 1, "edited")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM fact WHERE seq = 2", "the first bad fact is 2: truncated"),
        ("DELETE FROM fact", "the first bad fact is 1: truncated"),
        ("DELETE FROM node", "the first bad fact is 2: tree"),
        ("UPDATE node SET hash = x'00'", "the first bad fact is 2: tree"),
        ("DELETE FROM setting", "the row 'origin' of the table setting was altered"),
        ("UPDATE lease SET data = '{'", "a row of the table lease is not what was written"),
    ],
)
def test_an_audit_names_what_was_done_to_a_ledger_that_no_other_command_opens(
    project: Path, capsys: Captured, statement: str, said: str
) -> None:
    (project / "rows.csv").write_text("id,x\n1,2\n", encoding="utf-8")
    assert run(["data", "add", "rows.csv", "--name", "a"]) == 0
    assert run(["data", "add", "rows.csv", "--name", "b"]) == 0
    ws = open_workspace(project)
    ws.jobs.acquire("run/1", owner="me", ttl_s=100)
    ws.ledger.database.close()
    with closing(sqlite3.connect(project / ".noria" / "ledger.db")) as connection, connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        assert connection.execute(statement).rowcount > 0
    capsys.readouterr()
    assert run(["audit", "verify"]) == 1
    captured = capsys.readouterr()
    assert said in captured.out + captured.err
    assert "noria audit verify" not in captured.out + captured.err


def test_what_a_variable_sets_wrong_is_named_as_a_variable(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("NORIA_CLOCK", "moon")
    assert run(["status"]) == 2
    said = capsys.readouterr().err
    assert 'NORIA_CLOCK is "moon"' in said
    assert "where: the environment" in said
    assert "noria.toml" not in said


def test_objects_on_s3_without_its_library_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("NORIA_OBJECTS", "s3://nowhere/x")
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    assert run(["status"]) == 2
    assert "pip install 'noria[s3]'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["deploy"], ["data", "add"], ["run"]])
def test_a_name_longer_than_a_files_is_a_mistake_of_usage(words: list[str], capsys: Captured) -> None:
    name = "é" * 200 + ".py"
    assert run([*words, name]) == 2
    assert "more than a file's name may have" in capsys.readouterr().err


def test_the_folder_that_one_is_in_becomes_a_project(
    capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plans").mkdir()
    monkeypatch.chdir(tmp_path / "plans")
    assert run(["init", "."]) == 0
    assert 'name = "plans"' in Path("noria.toml").read_text(encoding="utf-8")
    assert "plans" in capsys.readouterr().out
    assert run(["init", ""]) == 2


@pytest.mark.parametrize("raised", ["BaseException('base')", "SystemExit(0)", "GeneratorExit()"])
def test_what_the_projects_file_raises_is_one_error_whatever_it_is(
    raised: str, project: Path, capsys: Captured
) -> None:
    """Nothing that code of the project raises is a traceback, or ends the command as if all were well."""
    (project / "pipeline.py").write_text(f"raise {raised}\n", encoding="utf-8")
    assert run(["run"]) == 4
    said = capsys.readouterr().err
    assert said.startswith(f"error: pipeline.py failed: {raised.partition('(')[0]}")
    assert len(said.splitlines()) <= 6


@pytest.mark.parametrize(
    ("words", "after"),
    [
        (["run", "--search"], "noria run --help"),
        (["run", "--search", "many"], "noria run --help"),
        (["schedule", "ticks", "--limit"], "noria schedule ticks --help"),
        (["schedule", "ticks", "--limit", "0"], "noria schedule ticks --limit 20"),
        (["schedule", "ticks", "nope"], "[schedule.nope] in noria.toml declares one"),
    ],
)
def test_what_is_refused_of_a_command_says_how_that_command_goes_on(
    capsys: Captured, words: list[str], after: str
) -> None:
    assert run(words) == 2
    assert capsys.readouterr().err.rstrip().endswith(f"next:  {after}")


def test_a_list_that_is_a_part_says_so(capsys: Captured, project: Path) -> None:
    """Beside the list, where a pipe that reads it does not see it; one that is whole says nothing."""
    ws = open_workspace(project)
    for _ in range(20):
        tracking.start(ws, "flow").finish()
    assert run(["tracking", "list"]) == 0
    assert capsys.readouterr().err == ""
    tracking.start(ws, "flow").finish()
    assert run(["tracking", "list"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("finished") == 20
    assert shown.err.strip() == "… these are 20, and there are more: --limit 200"
    assert run(["tracking", "list", "--limit", "21"]) == 0
    shown = capsys.readouterr()
    assert (shown.out.count("finished"), shown.err) == (21, "")
    assert run(["tracking", "list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 20, "as over HTTP"
