"""Where rules are read from: a protected branch of a real git repository, or the server, never the working tree."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from noria.bootstrap import open_workspace
from noria.core.errors import ConfigError, UsageError
from noria.governance import policy
from noria.governance.approvals import approve, waiting
from noria.registry import gates
from noria.registry.facts import ReleaseMade
from noria.store.replay import difference
from noria.store.workspace import Workspace, acting

CONTENT = "sha256:" + "c" * 64
STRICT = """
[project]
name = "p"
[server]
token = "s3cret"
[model.m.gate]
auc = { min = 0.9 }
[model.m.deploy]
approve = ["lead"]
"""
WEAK = '[project]\nname = "p"\n[model.m.gate]\nauc = { min = 0.1 }\n'


def git(folder: Path, *words: str) -> str:
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *settings, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(params=["", "inside/project"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A project in a repository, at its top or deeper, whose committed rules are strict and whose files are weak."""
    git(tmp_path, "init")
    folder = tmp_path / request.param
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "noria.toml").write_text(STRICT, encoding="utf-8")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "rules")
    git(tmp_path, "checkout", "-b", "mine")
    (folder / "noria.toml").write_text(WEAK, encoding="utf-8")
    git(tmp_path, "commit", "-am", "weaker")
    return folder


@pytest.fixture
def ws(root: Path) -> Iterator[Workspace]:
    made = open_workspace(root, actor="user:root")
    yield made
    made.ledger.database.close()


def floor(ws: Workspace) -> float | None:
    """What the gate asks of the model `m` now."""
    return policy.of(ws, "m").config.gate.metrics["auc"].min


def test_without_protection_the_working_tree_says(ws: Workspace) -> None:
    assert floor(ws) == 0.1
    assert policy.show(ws) == policy.Source("working tree", "", "", ("m",))


def test_a_protected_branch_says_and_no_change_of_the_working_tree_does(ws: Workspace, root: Path) -> None:
    weak = gates.policy_digest(ws, "m")
    commit = git(root, "rev-parse", "main").strip()
    told = policy.protect(ws, "main")
    assert (told.origin, told.protected_by) == (f"main@{commit}", "user:root")
    assert floor(ws) == 0.9
    strict = gates.policy_digest(ws, "m")
    assert strict != weak
    for text in (WEAK, WEAK.replace("0.1", "0.0"), '[project]\nname = "p"\n'):
        (root / "noria.toml").write_text(text, encoding="utf-8")
        again = open_workspace(root, actor="user:eve")
        assert gates.policy_digest(again, "m") == strict
        assert policy.of(again, "m").config.deploy.approve == ("lead",)
        again.ledger.database.close()


def test_the_branch_is_read_anew_when_it_moves(ws: Workspace, root: Path) -> None:
    policy.protect(ws, "main")
    git(root, "stash", "-q") if git(root, "status", "--porcelain", "-uno") else None
    git(root, "checkout", "main")
    (root / "noria.toml").write_text(STRICT.replace("0.9", "0.95"), encoding="utf-8")
    assert floor(ws) == 0.9, "what is not committed there counts for nothing"
    git(root, "commit", "-am", "stricter")
    assert floor(ws) == 0.95


def test_a_protected_policy_that_cannot_be_read_lets_nothing_through(ws: Workspace, root: Path) -> None:
    policy.protect(ws, "main")
    git(root, "branch", "-m", "main", "elsewhere")
    with pytest.raises(ConfigError, match="the rules are read from main, which cannot be read"):
        policy.of(ws, "m")
    with pytest.raises(ConfigError), ws.ledger.read() as tx:
        waiting(ws, tx, "release/m/1", CONTENT)
    with pytest.raises(ConfigError):
        gates.policy_digest(ws, "m")
    git(root, "branch", "-m", "elsewhere", "main")
    git(root, "checkout", "-q", "main")
    (root / "noria.toml").write_text("[model", encoding="utf-8")
    git(root, "commit", "-qam", "broken")
    with pytest.raises(ConfigError, match="not valid TOML"):
        policy.of(ws, "m")


@pytest.mark.parametrize("ref", ["--help", "-n", "a..b", "main:noria.toml", "a b", "main^{tree}", "nothing", "$(id)"])
def test_what_is_no_branch_protects_nothing(ws: Workspace, ref: str) -> None:
    with pytest.raises((UsageError, ConfigError)):
        policy.protect(ws, ref)
    assert ws.ledger.facts() == []
    assert policy.show(ws).origin == "working tree"


@pytest.mark.parametrize("ref", ["HEAD", "ORIG_HEAD", "FETCH_HEAD"])
def test_where_the_working_tree_stands_is_no_protected_branch(ws: Workspace, root: Path, ref: str) -> None:
    git(root, "update-ref", ref, "main")
    with pytest.raises(UsageError, match=f"^{ref} is what was last checked out or fetched"):
        policy.protect(ws, ref)
    assert ws.ledger.facts() == []


def test_another_repository_in_the_environment_is_not_asked(
    ws: Workspace, root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy.protect(ws, "main")
    other = tmp_path_factory.mktemp("other")
    git(other, "init")
    (other / "noria.toml").write_text(WEAK, encoding="utf-8")
    git(other, "add", ".")
    git(other, "commit", "-m", "weak")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert floor(ws) == 0.9


def test_the_server_keeps_the_rules_of_now_and_nothing_else_of_the_file(ws: Workspace, root: Path) -> None:
    (root / "noria.toml").write_text(STRICT, encoding="utf-8")
    told = policy.protect(ws)
    assert told.origin.startswith("kept@")
    (root / "noria.toml").write_text(WEAK, encoding="utf-8")
    assert floor(ws) == 0.9
    (fact,) = ws.ledger.facts(kind="policy.protected")
    assert set(ws.objects.get_json(fact.payload.content)) == {"m"}, "no token of the file is kept"
    policy.unprotect(ws)
    policy.unprotect(ws)
    assert floor(ws) == 0.1
    assert len(ws.ledger.facts(kind="policy.protected")) == 2
    assert difference(ws.ledger) == []


def test_rules_that_cannot_be_read_are_not_kept(ws: Workspace, root: Path) -> None:
    for content in (b"[model", b"\xff\xfe", None):
        (root / "noria.toml").unlink(missing_ok=True)
        if content is not None:
            (root / "noria.toml").write_bytes(content)
        with pytest.raises(ConfigError):
            policy.protect(ws)
    assert ws.ledger.facts() == []


def test_approvals_that_the_branch_asks_for_are_asked_for(ws: Workspace) -> None:
    with acting(ws, "user:ann").ledger.transaction() as tx:
        outputs = [("release", "release/m/1"), ("content", CONTENT)]
        tx.append(ReleaseMade(model="m", release=1, version=1, content=CONTENT), outputs=outputs)
        assert waiting(ws, tx, "release/m/1", CONTENT) is None
    policy.protect(ws, "main")
    eve = replace(acting(ws, "user:eve"), project=replace(ws.project, models={}))
    with ws.ledger.read() as tx:
        found = waiting(eve, tx, "release/m/1", CONTENT)
        assert found is not None
        assert found.text == "waits for approval as lead"
    approve(eve, "m@r1", role="lead", comment="fine")
    with ws.ledger.read() as tx:
        assert waiting(eve, tx, "release/m/1", CONTENT) is None
