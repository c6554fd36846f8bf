"""Branches that change data, merged by real git; and pushes that start the pipeline."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from git_project import PIPELINE, add, commit, git, new_project, noria, run

from noria.data.git import hooks
from noria.data.pins import read_pin

ROWS = ["id,price,name"] + [f"{number},{number}.50,n{number}" for number in range(1, 21)]


def csv(rows: Sequence[str]) -> str:
    return "\n".join(rows) + "\n"


def checked_out(project: Path, name: str, to: Path) -> dict[str, str]:
    """The files of the pinned version."""
    pin = read_pin(project, name)
    assert pin is not None
    noria(project, "data", "checkout", f"{name}@{pin.tree[7:27]}", to)
    return {file.relative_to(to).as_posix(): file.read_text() for file in to.rglob("*") if file.is_file()}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    made = new_project(tmp_path / "shop", tmp_path / "remote")
    add(made, "prices", {"a.csv": csv(ROWS), "b.csv": csv(ROWS[:3])}, "--key", "id")
    commit(made, "prices")
    return made


def on_branches(project: Path, ours: dict[str, str], theirs: dict[str, str], name: str = "prices") -> None:
    """One commit on a branch, another on main, each with other files of a data set."""
    git(project, "checkout", "--quiet", "-b", "theirs")
    add(project, name, theirs)
    commit(project, "theirs")
    git(project, "checkout", "--quiet", "main")
    add(project, name, ours)
    commit(project, "ours")


def test_branches_that_change_different_data_sets_never_conflict_with_plain_git(project: Path) -> None:
    add(project, "stock", {"a.csv": csv(["id,n", "1,2"])})
    commit(project, "stock")
    git(project, "config", "--remove-section", "merge.noria")
    git(project, "checkout", "--quiet", "-b", "theirs")
    add(project, "prices", {"a.csv": csv(ROWS[:5])})
    add(project, "fresh", {"a.csv": csv(["id,n", "7,7"])})
    commit(project, "theirs")
    git(project, "checkout", "--quiet", "main")
    add(project, "stock", {"a.csv": csv(["id,n", "1,3"])})
    add(project, "other", {"a.csv": csv(["id,n", "8,8"])})
    commit(project, "ours")
    git(project, "merge", "--quiet", "--no-edit", "theirs")
    assert {path.stem for path in (project / "noria.lock").iterdir()} == {"prices", "stock", "fresh", "other"}


def test_one_data_set_is_merged_by_path(project: Path, tmp_path: Path) -> None:
    base = {"a.csv": csv(ROWS), "b.csv": csv(ROWS[:3])}
    on_branches(
        project,
        {**base, "c.csv": csv([ROWS[0], "31,1.5,c"])},
        {"a.csv": csv(ROWS[:9]), "d.csv": csv([ROWS[0], "41,1.5,d"])},
    )
    git(project, "merge", "--quiet", "--no-edit", "theirs")
    found = checked_out(project, "prices", tmp_path / "merged")
    assert found == {"a.csv": csv(ROWS[:9]), "c.csv": csv([ROWS[0], "31,1.5,c"]), "d.csv": csv([ROWS[0], "41,1.5,d"])}
    newest = json.loads(noria(project, "data", "log", "prices", "--json"))[0]
    assert newest["operation"] == "merge"
    assert newest["note"] == "merge of prices@3 and prices@2"
    assert newest["rows"] == 8 + 1 + 1
    lineage = noria(project, "governance", "ancestors", f"dataset/prices@{newest['version']}")
    assert "merged" in lineage


def test_one_keyed_table_is_merged_by_row_and_untouched_rows_keep_their_bytes(project: Path, tmp_path: Path) -> None:
    odd = [ROWS[0], '1, 1.50 ,"n, 1"', *ROWS[2:]]
    add(project, "prices", {"a.csv": csv(odd)})
    commit(project, "odd")
    mine = [odd[0], odd[1], "2,99.00,mine", *odd[3:], "100,1.00,added here"]
    other = [odd[0], odd[1], *odd[2:4], "3.5,3.50,added there", *odd[4:9], *odd[10:]]
    on_branches(project, {"a.csv": csv(mine)}, {"a.csv": csv(other)})
    git(project, "merge", "--quiet", "--no-edit", "theirs")
    merged = checked_out(project, "prices", tmp_path / "merged")["a.csv"].splitlines()
    assert merged[1] == odd[1]
    assert "2,99.00,mine" in merged
    assert merged.index("3.5,3.50,added there") == merged.index(odd[3]) + 1
    assert odd[9] not in merged
    assert merged[-1] == "100,1.00,added here"
    assert len(merged) == len(odd) + 2 - 1


def test_a_row_that_both_changed_is_a_conflict_that_names_file_and_key(project: Path) -> None:
    on_branches(
        project,
        {"a.csv": csv([*ROWS[:2], "2,7.00,mine", *ROWS[3:]])},
        {"a.csv": csv([*ROWS[:2], "2,8.00,theirs", *ROWS[3:]])},
    )
    before = (project / "noria.lock" / "prices.toml").read_text()
    told = git(project, "merge", "--no-edit", "theirs", code=1)
    assert "a.csv: id = 2" in told
    assert "CONFLICT" in told
    text = (project / "noria.lock" / "prices.toml").read_text()
    assert "<<<<<<<" in text
    assert ">>>>>>>" in text
    for refused in (noria(project, "data", "pull", "prices", code=2), noria(project, "data", "status", code=1)):
        assert "both branches changed the same of this data set: a.csv: id = 2" in refused
        assert "git checkout --ours (or --theirs) noria.lock/prices.toml" in refused
        assert "noria data link" not in refused
    git(project, "checkout", "--merge", "noria.lock/prices.toml", code=0)
    assert "a.csv: id = 2" in noria(project, "data", "status", code=1)
    git(project, "checkout", "--ours", "noria.lock/prices.toml")
    assert (project / "noria.lock" / "prices.toml").read_text() == before
    git(project, "checkout", "--merge", "noria.lock/prices.toml", code=0)
    add(project, "prices", {"a.csv": csv([*ROWS[:2], "2,7.50,both", *ROWS[3:]])})
    assert "<<<<<<<" not in (project / "noria.lock" / "prices.toml").read_text()
    assert noria(project, "data", "status")


def test_a_file_without_a_key_that_both_changed_is_a_conflict_that_names_its_path(project: Path) -> None:
    add(project, "notes", {"x.bin": "one", "y.bin": "same"})
    commit(project, "notes")
    on_branches(project, {"x.bin": "two", "y.bin": "same"}, {"x.bin": "three", "y.bin": "same"}, name="notes")
    told = git(project, "merge", "--no-edit", "theirs", code=1)
    assert re.search(r"^\s+x\.bin$", told, re.MULTILINE)
    assert "y.bin" not in told


def test_a_data_set_that_both_branches_added_is_merged_too(project: Path, tmp_path: Path) -> None:
    on_branches(project, {"a.bin": "a", "same.bin": "s"}, {"b.bin": "b", "same.bin": "s"}, name="fresh")
    git(project, "merge", "--quiet", "--no-edit", "theirs")
    assert checked_out(project, "fresh", tmp_path / "m") == {"a.bin": "a", "b.bin": "b", "same.bin": "s"}


def test_a_clone_merges_what_it_has_to_pull_first(project: Path, tmp_path: Path) -> None:
    base = {"a.csv": csv(ROWS), "b.csv": csv(ROWS[:3])}
    on_branches(project, {**base, "c.csv": csv(ROWS[:2])}, {**base, "d.csv": csv(ROWS[:2])})
    noria(project, "data", "push")
    git(tmp_path, "clone", "--quiet", project, "clone")
    clone = tmp_path / "clone"
    git(clone, "checkout", "--quiet", "theirs")
    git(clone, "checkout", "--quiet", "main")
    noria(clone, "data", "link")
    git(clone, "merge", "--quiet", "--no-edit", "theirs")
    assert set(checked_out(clone, "prices", tmp_path / "m")) == {"a.csv", "b.csv", "c.csv", "d.csv"}


def test_without_the_data_a_merge_is_a_conflict_and_says_who_was_asked(project: Path, tmp_path: Path) -> None:
    base = {"a.csv": csv(ROWS), "b.csv": csv(ROWS[:3])}
    on_branches(project, {**base, "c.csv": csv(ROWS[:2])}, {**base, "d.csv": csv(ROWS[:2])})
    git(tmp_path, "clone", "--quiet", project, "clone")
    clone = tmp_path / "clone"
    git(clone, "checkout", "--quiet", "theirs")
    git(clone, "checkout", "--quiet", "main")
    noria(clone, "data", "link")
    told = git(clone, "merge", "--no-edit", "theirs", code=1)
    assert f"origin ({tmp_path / 'remote'})" in told


def test_a_merge_that_plain_git_could_not_do_is_done_after_a_link_on_branches_without_attributes(
    project: Path, tmp_path: Path
) -> None:
    git(project, "config", "--remove-section", "merge.noria")
    git(project, "rm", "--quiet", ".gitattributes")
    (project / ".git" / "info" / "attributes").unlink(missing_ok=True)
    commit(project, "no attributes")
    base = {"a.csv": csv(ROWS), "b.csv": csv(ROWS[:3])}
    on_branches(project, {**base, "c.csv": csv(ROWS[:2])}, {**base, "d.csv": csv(ROWS[:2])})
    git(project, "merge", "--no-edit", "theirs", code=1)
    refused = noria(project, "data", "status", code=1)
    assert "noria data link, then git checkout --merge noria.lock/prices.toml" in refused
    noria(project, "data", "link")
    (project / ".gitattributes").unlink()
    git(project, "checkout", "--merge", "noria.lock/prices.toml")
    assert set(checked_out(project, "prices", tmp_path / "m")) == {"a.csv", "b.csv", "c.csv", "d.csv"}


def test_a_repository_with_nothing_but_a_name_keeps_its_objects_out_of_git(tmp_path: Path) -> None:
    """No `noria init`, no .gitignore of the user's."""
    home = tmp_path / "plain"
    home.mkdir()
    git(home, "init", "--quiet", "--initial-branch", "main")
    (home / "table.csv").write_text(csv(ROWS))
    assert "noria.toml with [project] name will do" in noria(home, "data", "add", "table.csv", code=2)
    (home / "noria.toml").write_text("")
    told = noria(home, "data", "add", "table.csv", code=2)
    assert 'write [project] and under it name = "plain"' in told
    (home / "noria.toml").write_text('[project]\nname = "plain"\n')
    noria(home, "data", "add", "table.csv")
    assert git(home, "status", "--short", "--untracked-files=all").split() == [
        "??", "noria.lock/table.toml", "??", "noria.toml", "??", "table.csv",
    ]  # fmt: skip


def test_linking_twice_changes_nothing_and_another_hook_is_named(project: Path) -> None:
    noria(project, "data", "link")
    files = [project / name for name in (".gitattributes", ".git/config", ".git/info/attributes")]
    before = [file.read_bytes() for file in files]
    noria(project, "data", "link")
    assert before == [file.read_bytes() for file in files]
    hook = project / ".git" / "hooks" / "pre-push"
    hook.write_text("#!/bin/sh\nexit 0\n")
    told = noria(project, "data", "link", "--hooks", code=2)
    assert "pre-push" in told
    assert hook.read_text() == "#!/bin/sh\nexit 0\n"


class TestPipeline:
    """A push to a bare repository."""

    @pytest.fixture
    def bare(self, project: Path, tmp_path: Path) -> Path:
        """A bare repository with the hook, and the project's first push to it, without its data."""
        bare = tmp_path / "shop.git"
        git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", bare)
        noria(tmp_path, "data", "hook", bare)
        git(project, "remote", "add", "origin", bare)
        return bare

    def pushed(self, project: Path) -> str:
        return git(project, "push", "--quiet", "origin", "main", code=None)

    def logs(self, bare: Path) -> list[str]:
        return [path.read_text() for path in sorted((bare / "noria" / "logs").glob("*.log"))]

    def test_a_pin_starts_it_with_its_data_and_a_document_does_not(self, project: Path, bare: Path) -> None:
        noria(project, "data", "push")
        told = self.pushed(project)
        assert "noria.lock/prices.toml" in told
        assert "22 rows" in told
        assert "the pipeline is done, exit code 0" in told
        (project / "README.md").write_text("# shop\n")
        commit(project, "readme")
        told = self.pushed(project)
        assert "nothing that the pipeline stands on changed (README.md)" in told
        assert len(self.logs(bare)) == 1
        add(project, "prices", {"a.csv": csv(ROWS[:11])})
        commit(project, "fewer prices")
        noria(project, "data", "push")
        told = self.pushed(project)
        assert "10 rows" in told
        assert len(self.logs(bare)) == 2
        assert "10 rows" in self.logs(bare)[1]

    def test_code_starts_it_and_steps_that_did_not_change_are_not_run_again(self, project: Path, bare: Path) -> None:
        noria(project, "data", "push")
        self.pushed(project)
        (project / "pipeline.py").write_text(PIPELINE + "\n\nUNUSED = 1\n")
        commit(project, "a line")
        told = self.pushed(project)
        assert "pipeline.py changed: the pipeline starts" in told
        assert "exit code 0" in told
        assert "count cached" in told

    def test_a_pipeline_that_fails_tells_the_pusher_and_the_log(self, project: Path, bare: Path) -> None:
        noria(project, "data", "push")
        (project / "pipeline.py").write_text(PIPELINE.replace("return len(rows)", "raise ValueError('no')"))
        commit(project, "break it")
        told = self.pushed(project)
        assert "the pipeline failed, exit code 4" in told
        assert "the pipeline failed, exit code 4" in self.logs(bare)[0]

    def test_without_the_data_it_fails_naming_the_remote(self, project: Path, bare: Path) -> None:
        told = self.pushed(project)
        assert "[remote.origin] url" in told
        assert "the pipeline failed, exit code 3" in told

    def test_without_a_remote_it_fails_naming_the_one_missing_setting(self, project: Path, bare: Path) -> None:
        (project / "noria.toml").write_text('[project]\nname = "shop"\n')
        commit(project, "no remote")
        told = self.pushed(project)
        assert "[remote.origin] url is not set" in told
        assert "the pipeline failed, exit code 2" in told

    def test_another_branch_starts_nothing(self, project: Path, bare: Path) -> None:
        git(project, "checkout", "--quiet", "-b", "idea")
        told = git(project, "push", "--quiet", "origin", "idea")
        assert "noria: idea starts nothing" in told
        assert not (bare / "noria").exists()
        assert "from now on, pushes to main start the pipeline" in self.pushed(project)
        git(project, "checkout", "--quiet", "-b", "other")
        assert "noria" not in git(project, "push", "--quiet", "origin", "other")

    def test_what_could_not_be_asked_is_asked_again_by_the_next_push(self, project: Path, bare: Path) -> None:
        noria(project, "data", "push")
        self.pushed(project)
        add(project, "prices", {"a.csv": csv(ROWS[:11])})
        commit(project, "fewer prices, not pushed")
        told = self.pushed(project)
        assert "is on no remote" in told
        assert "the next push to main starts it again: git commit --allow-empty" in told
        noria(project, "data", "push")
        (project / "README.md").write_text("# shop\n")
        commit(project, "readme")
        told = self.pushed(project)
        assert "noria.lock/prices.toml changed, and the pipeline has not come to an end since" in told
        assert "10 rows" in told
        assert "exit code 0" in told
        (project / "README.md").write_text("# our shop\n")
        commit(project, "readme again")
        assert "nothing that the pipeline stands on changed (README.md)" in self.pushed(project)

    def test_code_that_fails_is_an_answer(self, project: Path, bare: Path) -> None:
        noria(project, "data", "push")
        (project / "pipeline.py").write_text(PIPELINE.replace("return len(rows)", "raise ValueError('no')"))
        commit(project, "break it")
        assert "exit code 4" in self.pushed(project)
        (project / "README.md").write_text("# shop\n")
        commit(project, "readme")
        assert "nothing that the pipeline stands on changed (README.md)" in self.pushed(project)

    def test_a_document_does_not_wait_for_a_pipeline_that_runs(self, project: Path, bare: Path) -> None:
        noria(project, "data", "push")
        self.pushed(project)
        (project / "README.md").write_text("# shop\n")
        commit(project, "readme")
        with (bare / "noria" / "lock").open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            told = self.pushed(project)
        assert "nothing that the pipeline stands on changed (README.md)" in told

    def test_an_older_push_that_comes_to_its_turn_late_runs_nothing(self, project: Path, bare: Path) -> None:
        noria(project, "data", "push")
        self.pushed(project)
        first = run(bare, "git", "rev-parse", "main").strip()
        (project / "pipeline.py").write_text(PIPELINE + "\n\nUNUSED = 1\n")
        commit(project, "a line")
        self.pushed(project)
        said: list[str] = []
        hooks.receive(bare, "main", [f"{'0' * 40} {first} refs/heads/main"], said.append)
        tip = run(bare, "git", "rev-parse", "main").strip()[:12]
        assert said == [f"noria: a later push was first: the pipeline has been run on {tip}, which has this one"]
        assert len(self.logs(bare)) == 2

    @pytest.mark.parametrize("branches", [["main"], ["main", "idea"]])
    def test_in_an_empty_repository_whose_head_names_another_branch_the_first_push_tells(
        self, project: Path, tmp_path: Path, branches: list[str]
    ) -> None:
        bare = tmp_path / "empty.git"
        git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=master", bare)
        assert "there is no branch yet" in noria(tmp_path, "data", "hook", bare)
        git(project, "remote", "add", "origin", bare)
        git(project, "branch", "idea")
        noria(project, "data", "push")
        told = git(project, "push", "origin", *branches, code=None)
        assert "from now on, pushes to main start the pipeline" in told
        assert "exit code 0" in told
        assert "--branch main" in (bare / "hooks" / "post-receive").read_text()
        assert "noria:" not in git(project, "push", "origin", "idea:other", code=None)
        assert json.loads(noria(tmp_path, "data", "hook", bare, "--json"))["branch"] == "main"

    def test_a_push_sends_the_data_first_where_the_hooks_are_linked(
        self, project: Path, bare: Path, tmp_path: Path
    ) -> None:
        noria(project, "data", "link", "--hooks")
        told = self.pushed(project)
        assert "1 version pushed" in told
        assert "22 rows" in told
        shutil.rmtree(tmp_path / "remote")
        add(project, "prices", {"a.csv": csv(ROWS[:4])})
        commit(project, "less")
        (project / "noria.toml").write_text(
            '[project]\nname = "shop"\n[remote.origin]\nurl = "s3://nowhere/x"\nendpoint = "http://127.0.0.1:9"\n'
        )
        told = git(
            project, "push", "origin", "main", code=1, env={"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        )
        assert "cannot be reached" in told
        assert git(project, "rev-parse", "main") != run(bare, "git", "rev-parse", "main")

    def test_a_hook_of_somebody_else_is_not_overwritten(self, bare: Path, tmp_path: Path) -> None:
        hook = bare / "hooks" / "post-receive"
        hook.write_text("#!/bin/sh\necho mine\n")
        told = noria(tmp_path, "data", "hook", bare, code=2)
        assert "post-receive" in told
        assert hook.read_text() == "#!/bin/sh\necho mine\n"
