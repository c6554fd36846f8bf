"""A new project: what is written, what is looked at, what is refused."""

from __future__ import annotations

import ast
import json
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from noria.config import load_project
from noria.core.errors import Conflict, NoriaError, NotFound, UsageError
from noria.project.init import Table, init, look, templates

ROWS = "id,at,size,place,done\n" + "".join(
    f"k{number},2026-01-{number % 28 + 1:02d},{number},{place},{'yes' if number % 4 else 'no'}\n"
    for number, place in zip(range(100), ["south", "north", "north"] * 34, strict=False)
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table with a label of two texts."""
    path = tmp_path / "rows.csv"
    path.write_text(ROWS, encoding="utf-8")
    return path


def git(folder: Path, *words: str) -> str:
    """What git says there."""
    return subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True).stdout.strip()


def test_a_table_is_looked_at_and_nothing_of_it_is_copied(table: Path, tmp_path: Path) -> None:
    found = look(table, label="done", time="at", key="id")
    assert found == Table(
        source=str(table),
        label="done",
        time="at",
        key="id",
        positive='"yes"',
        task="binary",
        slices=("place",),
        window="day",
        example='{"size": 50, "place": "north"}',
    )
    made = init(tmp_path / "shop", "tabular", found)
    project = load_project(tmp_path / "shop", environment={})
    assert project.data["shop"].source == "../rows.csv"
    assert project.models["shop"].gate.metrics
    assert not any("k1," in (tmp_path / "shop" / name).read_text(encoding="utf-8") for name in made.files)
    assert (tmp_path / "shop" / "noria.lock").is_dir()


@pytest.mark.parametrize("name", templates())
def test_every_template_gives_valid_toml_and_python_without_slots(name: str, tmp_path: Path) -> None:
    made = init(tmp_path / "made", name)
    for file in made.files:
        text = (tmp_path / "made" / file).read_text(encoding="utf-8")
        assert "{{ " not in text, file
        if file.endswith(".py"):
            ast.parse(text)
        elif file.endswith(".toml"):
            tomllib.loads(text)
    load_project(tmp_path / "made", environment={})


@pytest.mark.parametrize("nasty", ['a"b', "a\\b", "a b", "größe", "class", "a'b", "{{ key }}", "x\ty"])
def test_columns_with_any_name_are_written_as_they_are(nasty: str, tmp_path: Path) -> None:
    table = Table(source="/data/x.csv", label=nasty, time=f"t {nasty}", key=nasty * 2, positive="1", slices=(nasty,))
    init(tmp_path / "made", "tabular", table)
    tree = ast.parse((tmp_path / "made" / "pipeline.py").read_text(encoding="utf-8"))
    values = {
        ast.unparse(node.targets[0]): ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }
    assert (values["LABEL"], values["TIME"], values["KEY"]) == (nasty, f"t {nasty}", nasty * 2)


@pytest.mark.parametrize(
    ("label", "positive", "expected"),
    [
        (["yes", "no"], "", ("binary", '"yes"')),
        (["true", "false"], "", ("binary", "True")),
        (["0", "1"], "", ("binary", "1")),
        (["a", "b", "b"], "", ("binary", '"a"')),
        (["a", "b", "c"], "B", ("binary", '"b"')),
        (["1", "2", "3"], "2", ("binary", "2")),
        ([str(number) for number in range(50)], "", ("regression", "")),
        ([f"{number}.5" for number in range(50)], "", ("regression", "")),
    ],
)
def test_what_is_predicted_follows_from_the_label(
    label: list[str], positive: str, expected: tuple[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    lines = [f"2026-01-{number % 28 + 1:02d},{number},{label[number % len(label)]}" for number in range(100)]
    path.write_text("at,size,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    found = look(path, label="label", time="at", positive=positive)
    assert (found.task, found.positive) == expected


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"label": "dnoe"}, NotFound, "no column 'dnoe' for --label"),
        ({"label": ""}, UsageError, "which column is the label?"),
        ({"time": ""}, UsageError, "which column is the time?"),
        ({"key": "nothing"}, NotFound, "no column 'nothing' for --key"),
        ({"time": "place"}, UsageError, "place"),
        ({"label": "id"}, UsageError, "values"),
        ({"positive": "maybe"}, NotFound, "never is 'maybe'"),
    ],
)
def test_a_column_that_cannot_play_its_role_is_named(
    given: dict[str, Any], kind: type[NoriaError], said: str, table: Path
) -> None:
    with pytest.raises(kind) as error:
        look(table, **{"label": "done", "time": "at", "key": "id", **given})
    assert said in error.value.message
    assert error.value.hint


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.csv", "", "is empty"),
        ("rows.csv", "at,done\n2026-01-01,x\n2026-01-02,x\n", "one value"),
        ("rows.csv", "at,done\n2026-01-01,\n2026-01-02,\n", "no value"),
        ("rows.csv", "at,done\n2026-01-01,x\n2026-01-02,y\n", "no column is left to learn from beside done, at"),
        ("rows.csv", "at,done,a\n2026-01-01,x,\n2026-01-02,y,\n", "no column is left to learn from"),
        ("rows.csv", "at,done,a\n2026-01-01,x,1\n2026-01-01,y,2\n", "the time 'at' has one value"),
        ("rows.txt", "at,done\n", "is no table"),
    ],
)
def test_a_file_that_is_no_table_to_learn_from_is_named(name: str, content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        look(tmp_path / name, label="done", time="at")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file"):
        look(tmp_path / "nowhere.csv", label="x", time="y")


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(Conflict):
        init(tmp_path / "shop")
    assert [each.name for each in (tmp_path / "shop").iterdir()] == ["mine.txt"]
    assert [each.name for each in tmp_path.iterdir()] == ["shop"]


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    init(tmp_path / "shop")
    assert (tmp_path / "shop" / "noria.toml").is_file()


@pytest.mark.parametrize("name", ["1shop", "-x", "a b", "a.b", "x" * 65, "ü"])
def test_a_name_that_cannot_be_one_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no name"):
        init(tmp_path / name)


def test_an_unknown_template_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as error:
        init(tmp_path / "shop", "nothing")
    assert "tabular" in error.value.hint


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
class TestGit:
    """What becomes of git."""

    def test_a_folder_of_its_own_gets_a_first_commit(self, tmp_path: Path) -> None:
        made = init(tmp_path / "shop")
        assert git(tmp_path / "shop", "status", "--porcelain") == ""
        assert git(tmp_path / "shop", "rev-parse", "--short", "HEAD") == made.commit
        assert not (tmp_path / "shop" / ".git" / "hooks" / "pre-commit").exists()

    def test_a_folder_that_a_repository_tracks_stays_in_it(self, tmp_path: Path) -> None:
        git(tmp_path, "init", "--quiet")
        made = init(tmp_path / "shop")
        assert made.commit == ""
        assert any("already" in note for note in made.notes)
        assert not (tmp_path / "shop" / ".git").exists()

    def test_a_folder_that_a_repository_ignores_is_its_own(self, tmp_path: Path) -> None:
        git(tmp_path, "init", "--quiet")
        (tmp_path / ".gitignore").write_text("shop/\n", encoding="utf-8")
        assert init(tmp_path / "shop").commit
        assert (tmp_path / "shop" / ".git").is_dir()


def test_the_readme_can_be_typed_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "my rows' file.csv"
    path.write_text(ROWS.replace("size", "it's size"), encoding="utf-8")
    init(tmp_path / "shop", "tabular", look(path, label="done", time="at", key="id"))
    lines = (tmp_path / "shop" / "README.md").read_text(encoding="utf-8").splitlines()
    [added] = [shlex.split(line) for line in lines if line.startswith("noria data add")]
    assert (tmp_path / "shop" / added[3]).resolve() == path
    [asked] = [shlex.split(line) for line in lines if "/predict/" in line]
    assert json.loads(asked[-1]) == {"id": "first", "row": {"it's size": 50, "place": "north"}}
    [told] = [shlex.split(line) for line in lines if "/feedback" in line]
    assert json.loads(told[-1]) == {"labels": [{"id": "first", "label": 1}]}


def test_a_table_that_is_not_there_names_the_one_that_was_meant(table: Path) -> None:
    with pytest.raises(NotFound) as found:
        look(table.with_name("row.csv"), label="done", time="at")
    assert f"did you mean {table}?" in found.value.hint
    with pytest.raises(NotFound) as found:
        look(table.with_name("nofile.csv"), label="done", time="at")
    assert "rows.csv" in found.value.hint
