from __future__ import annotations

import contextlib
import importlib.util
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from noria.bootstrap import open_workspace
from noria.config import Project, StoreConfig
from noria.core.errors import ConfigError, Corrupt, NotFound, StoreUnavailable, Tampered, UsageError
from noria.core.fact import fact
from noria.governance import records
from noria.governance.facts import ApprovalGiven
from noria.store.checkpoint import parse_checkpoint
from noria.store.database import Database, database_url
from noria.store.fold import ROWS
from noria.store.log import head_of
from noria.store.merkle import leaf_hash, root_of
from noria.store.replay import difference
from noria.store.seen import Seen
from noria.store.slices import load_slices
from noria.store.start import start
from noria.store.verify import verify
from noria.store.workspace import Workspace, new_id
from noria.testing import open_memory


def given(about: str = "model/m", role: str = "lead") -> ApprovalGiven:
    return ApprovalGiven(about=about, digest="sha256:" + "0" * 64, role=role)


def append(ws: Workspace, *payloads: ApprovalGiven) -> None:
    with ws.ledger.transaction() as tx:
        for payload in payloads:
            tx.append(payload)


def test_a_fact_is_stored_in_its_place_with_who_and_when(ws: Workspace) -> None:
    with ws.ledger.transaction() as tx:
        first = tx.append(given(), inputs=[("tree", "sha256:aa")], outputs=[("model", "model/m:1"), ("x", "y")])
        second = tx.append(given(role="other"), actor="user:bob")
    assert (first.seq, second.seq) == (1, 2)
    assert (first.actor, second.actor) == ("user:test", "user:bob")
    assert first.subject == "model/m"
    assert first.at < second.at
    assert ws.ledger.facts() == [first, second]
    assert ws.ledger.head() == 2


@pytest.mark.parametrize("actor", ["user:bob", ',"at":"', '\\","at":"x', "Zoë,"])
def test_a_fact_that_was_made_ready_is_the_fact_that_would_have_been_appended(tmp_path: Path, actor: str) -> None:
    edges = [("tree", "sha256:aa")]
    spaces = [open_memory(root=tmp_path / name) for name in "ab"]
    with spaces[0].ledger.transaction() as tx:
        appended = tx.append(given(role=',"at":"'), inputs=edges, outputs=[("x", "y")], actor=actor)
    ready = spaces[1].ledger.ready(given(role=',"at":"'), inputs=edges, outputs=[("x", "y")], actor=actor)
    with spaces[1].ledger.transaction() as tx:
        placed = tx.place(ready)
    assert placed == appended
    assert spaces[0].ledger.bodies() == spaces[1].ledger.bodies()
    assert spaces[1].ledger.facts() == [placed]
    assert difference(spaces[1].ledger) == []


def test_what_may_not_be_appended_is_not_made_ready(ws: Workspace) -> None:
    with pytest.raises(UsageError, match="over the limit"):
        ws.ledger.ready(given(role="x" * (1 << 20)))


def test_facts_are_found_by_kind_subject_and_ref_in_pages(ws: Workspace) -> None:
    append(ws, *(given(about=f"model/{number % 3}") for number in range(30)))
    with ws.ledger.transaction() as tx:
        tx.append(given(), inputs=[("a", "ref")])
        tx.append(given(), outputs=[("a", "ref")])
    seqs = [stored.seq for stored in ws.ledger.facts(subject="model/1")]
    assert seqs == list(range(2, 31, 3))
    assert [stored.seq for stored in ws.ledger.facts(after=10, limit=3)] == [11, 12, 13]
    assert [stored.seq for stored in ws.ledger.facts(ref="ref")] == [31, 32]
    assert ws.ledger.facts(kind="run.started") == []
    assert len(ws.ledger.facts(kind="approval.given")) == 32


class Heard:
    """A connection to SQLite that keeps what it is told."""

    def __init__(self, raw: Any, said: list[str]) -> None:
        self._raw = raw
        self._said = said

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def execute(self, text: str, *values: Any) -> Any:
        self._said.append(text)
        return self._raw.execute(text, *values)

    def executemany(self, text: str, rows: Any) -> Any:
        self._said.append(text)
        return self._raw.executemany(text, rows)


def heard(ws: Workspace) -> list[str]:
    """What is said from now on to the connection that is used next: the one used last comes first."""
    said: list[str] = []
    idle: list[Any] = ws.ledger.database._pool._idle
    idle[-1] = Heard(idle[-1], said)
    return said


def test_many_facts_take_few_statements_and_are_read_within_their_transaction(ws: Workspace) -> None:
    """A statement costs several times what its row does; what waits to be written is there for whoever reads."""
    append(ws, given())
    said = heard(ws)
    with ws.ledger.transaction() as tx:
        for number in range(2 * ROWS):
            tx.append(given(about=f"model/{number}"), inputs=[("a", "x"), ("b", "y")])
        assert [each.role for each in records.approvals(tx, f"model/{2 * ROWS - 1}")] == ["lead"]
        tx.append(given(about="model/late", role="second"))
        assert [each.role for each in records.approvals(tx, "model/late")] == ["second"]
    written = [text for text in said if text.startswith("INSERT")]
    assert len(written) < 60, written
    assert ws.ledger.head() == 2 * ROWS + 2
    assert len(ws.ledger.facts(ref="y", limit=3 * ROWS)) == 2 * ROWS
    assert verify(ws.ledger, [ws.ledger.signer.verifier]).first_bad == 0
    assert difference(ws.ledger) == []


def test_whoever_acts_goes_on_from_the_tree_that_this_process_has_committed(ws: Workspace) -> None:
    append(ws, *(given(about=f"model/{number}") for number in range(7)))
    said = heard(ws)
    for name in ("user:a", "user:b"):
        with ws.ledger.acting(name).transaction() as tx:
            tx.append(given())
    assert not [text for text in said if text.startswith("SELECT") and ("node" in text or "fact.leaf" in text)], said
    assert [stored.actor for stored in ws.ledger.facts(after=7)] == ["user:a", "user:b"]
    assert verify(ws.ledger, [ws.ledger.signer.verifier]).first_bad == 0


def test_a_ledger_that_another_program_has_locked_is_unavailable_not_a_driver_error(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    made = Database(f"sqlite:///{file}", wait_s=0.05)
    with made.write():
        pass
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"), made.write():
        pass
    other.close()
    with made.write():
        pass
    made.close()


def test_an_exception_takes_back_facts_records_and_the_tree(ws: Workspace) -> None:
    append(ws, given())
    before = ws.ledger.checkpoint()

    def work() -> None:
        with ws.ledger.transaction() as tx:
            tx.append(given(role="lost"))
            assert len(records.approvals(tx, "model/m")) == 2
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        work()
    assert ws.ledger.checkpoint() == before
    assert ws.ledger.head() == 1
    with ws.ledger.read() as reader:
        assert len(records.approvals(reader, "model/m")) == 1
    append(ws, given(role="next"))
    assert [stored.payload.role for stored in ws.ledger.facts()] == ["lead", "next"]


def test_a_reader_sees_one_moment_while_a_writer_commits(ws: Workspace) -> None:
    append(ws, given())
    with ws.ledger.read() as reader:
        assert len(records.approvals(reader, "model/m")) == 1
        thread = threading.Thread(target=append, args=(ws, given(role="meanwhile")))
        thread.start()
        thread.join(20)
        assert len(records.approvals(reader, "model/m")) == 1
    with ws.ledger.read() as reader:
        assert len(records.approvals(reader, "model/m")) == 2


def test_a_transaction_in_a_transaction_is_a_bug_that_is_named(ws: Workspace) -> None:
    with ws.ledger.transaction(), pytest.raises(AssertionError, match="already open"), ws.ledger.transaction():
        pass
    append(ws, given())


def test_records_are_written_by_projections_only(ws: Workspace) -> None:
    with ws.ledger.transaction() as tx:
        with pytest.raises(AssertionError, match="only a projection"):
            tx.upsert(records.approval, about="a", digest="b", actor="c", role="d")
        with pytest.raises(AssertionError, match="only a projection"):
            tx.update(records.approval, {"about": "a"}, comment="x")
        with pytest.raises(AssertionError, match="only a projection"):
            tx.delete(records.approval, about="a")


def test_an_undeclared_or_oversized_fact_is_refused_and_leaves_nothing(ws: Workspace) -> None:
    @fact("nobody.knows", subject="x")
    class NobodyKnows:
        """A kind outside of every slice."""

    with pytest.raises(UsageError, match=r"nobody\.knows is not a kind"), ws.ledger.transaction() as tx:
        tx.append(NobodyKnows())
    with pytest.raises(UsageError, match="over the limit"), ws.ledger.transaction() as tx:
        tx.append(ApprovalGiven(about="a", digest="b", role="c", comment="x" * (1 << 20)))
    assert ws.ledger.head() == 0


def test_the_database_itself_refuses_to_change_what_was_said(ws: Workspace) -> None:
    append(ws, given(), given(role="two"))
    for table in ("fact", "edge", "node", "checkpoint"):
        with ws.ledger.transaction() as tx:
            tx.append(given(), inputs=[("a", "b")])
        for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET rowid = rowid"):
            with pytest.raises(sqlite3.IntegrityError, match="immutable"), ws.ledger.database.write() as connection:
                connection.execute(text(statement))


def test_the_checkpoint_is_the_signed_root_of_the_leaves(ws: Workspace) -> None:
    assert parse_checkpoint(ws.ledger.checkpoint()).size == 0
    append(ws, *(given(role=str(number)) for number in range(11)))
    append(ws, given(role="more"))
    found = parse_checkpoint(ws.ledger.checkpoint())
    bodies = ws.ledger.bodies()
    assert [body.seq for body in bodies] == list(range(1, 13))
    assert all(body.leaf == leaf_hash(body.body.encode()) for body in bodies)
    assert found.root == root_of([body.leaf for body in bodies])
    assert ws.ledger.signer.verifier.is_signed(found)


def test_an_empty_transaction_changes_nothing(ws: Workspace) -> None:
    append(ws, given())
    before = ws.ledger.checkpoint()
    append(ws)
    assert ws.ledger.checkpoint() == before


def test_many_threads_append_without_losing_or_repeating_a_place(ws: Workspace) -> None:
    def work(name: str) -> None:
        for number in range(20):
            append(ws, given(about=name, role=str(number)))

    threads = [threading.Thread(target=work, args=(f"model/{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [stored.seq for stored in ws.ledger.facts()] == list(range(1, 121))
    for number in range(6):
        roles = [stored.payload.role for stored in ws.ledger.facts(subject=f"model/{number}")]
        assert roles == [str(place) for place in range(20)]


def test_a_forked_child_does_not_share_its_parents_connections(ws: Workspace) -> None:
    append(ws, given())
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            append(ws, given(role="child"))
            code = 0 if ws.ledger.head() == 2 else 2
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    append(ws, given(role="parent"))
    assert [stored.payload.role for stored in ws.ledger.facts()] == ["lead", "child", "parent"]


def test_a_ledger_that_was_swapped_for_a_shorter_one_is_noticed_at_the_next_use(tmp_path: Path) -> None:
    ws = open_memory(root=tmp_path)
    append(ws, given())
    ws.ledger.database.close()
    database = tmp_path / ".noria" / "ledger.db"
    old = database.read_bytes()
    ws = open_memory(root=tmp_path)
    append(ws, given(role="later"))
    ws.ledger.database.close()
    database.write_bytes(old)
    with pytest.raises(Tampered, match="was cut: it has 1 facts, and this client saw 2"):
        open_memory(root=tmp_path)


def test_a_ledger_that_is_gone_or_another_is_noticed(tmp_path: Path) -> None:
    ws = open_memory(root=tmp_path / "a")
    append(ws, given())
    ws.ledger.database.close()
    other = open_memory(root=tmp_path / "b")
    append(other, given(role="b"), given(role="c"))
    other.ledger.database.close()
    database = tmp_path / "a" / ".noria" / "ledger.db"
    database.write_bytes((tmp_path / "b" / ".noria" / "ledger.db").read_bytes())
    with pytest.raises(Tampered, match="are not those that this client saw"):
        open_memory(root=tmp_path / "a")
    database.unlink()
    with pytest.raises(Tampered, match="the ledger is gone"):
        open_memory(root=tmp_path / "a")


def test_a_ledger_that_is_cut_while_it_is_open_is_noticed(tmp_path: Path) -> None:
    ws = open_memory(root=tmp_path)
    append(ws, given(), given(role="two"))
    connection = sqlite3.connect(tmp_path / ".noria" / "ledger.db")
    connection.executescript("DROP TRIGGER fact_no_delete; DELETE FROM fact WHERE seq = 2;")
    connection.close()
    with pytest.raises(Tampered, match="was cut"):
        append(ws, given())
    ws.ledger.database.close()


def test_a_commit_between_looking_and_reading_is_no_sign_of_a_cut_ledger(tmp_path: Path) -> None:
    ws = open_memory(root=tmp_path)
    append(ws, given())
    seen = Seen(tmp_path / ".noria" / "seen")
    seen.look()
    with ws.ledger.database.read() as connection:
        head = head_of(connection)
        thread = threading.Thread(target=append, args=(ws, given(role="meanwhile")))
        thread.start()
        thread.join(30)
        seen.check(connection, head)
    late = Seen(tmp_path / ".noria" / "seen")
    late.look()
    with ws.ledger.database.read() as connection, pytest.raises(Tampered, match="was cut"):
        late.check(connection, head)
    ws.ledger.database.close()


def test_a_note_that_was_being_written_is_looked_at_again(tmp_path: Path) -> None:
    ws = open_memory(root=tmp_path)
    append(ws, given(), given(role="two"))
    path = tmp_path / ".noria" / "seen"
    whole = path.read_bytes()
    seen = Seen(path)
    path.write_bytes(whole.replace(b"\n2\n", b"\n1\n"))
    seen.look()
    path.write_bytes(whole)
    with ws.ledger.database.read() as connection:
        seen.check(connection, 2)
    path.write_bytes(b"not a note")
    with ws.ledger.database.read() as connection, pytest.raises(Tampered, match="not a signed checkpoint"):
        Seen(path).check(connection, 2)
    path.write_bytes(b"")
    with ws.ledger.database.read() as connection:
        Seen(path).check(connection, 2)
    ws.ledger.database.close()


def test_a_damaged_file_is_named_and_not_overwritten(tmp_path: Path) -> None:
    ws = open_memory(root=tmp_path)
    append(ws, *(given(role=str(number)) for number in range(200)))
    ws.ledger.database.close()
    database = tmp_path / ".noria" / "ledger.db"
    content = database.read_bytes()
    database.write_bytes(b"this is not a database at all" * 1000)
    with pytest.raises(Corrupt, match="the ledger file is damaged") as caught:
        open_memory(root=tmp_path)
    assert str(database) in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 6
    assert database.read_bytes().startswith(b"this is not")
    database.write_bytes(content[: len(content) // 2 // 4096 * 4096])
    with pytest.raises((Corrupt, Tampered)):
        open_memory(root=tmp_path).ledger.facts()


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    ws = open_memory(root=tmp_path)
    append(ws, given())
    connection = sqlite3.connect(tmp_path / ".noria" / "ledger.db")
    connection.execute("DROP TABLE fact")
    connection.close()
    with pytest.raises(Corrupt, match="lacks a table"):
        ws.ledger.facts()
    ws.ledger.database.close()


def test_a_missing_subtree_is_named(tmp_path: Path) -> None:
    ws = open_memory(root=tmp_path)
    append(ws, given(), given(role="two"))
    connection = sqlite3.connect(tmp_path / ".noria" / "ledger.db")
    connection.executescript("DROP TRIGGER node_no_delete; DELETE FROM node;")
    connection.close()
    ws.ledger.database.close()
    with pytest.raises(Tampered, match="lacks the subtree 1/0"):
        open_memory(root=tmp_path)


def test_an_unsigned_newest_fact_has_no_checkpoint(tmp_path: Path) -> None:
    ws = open_memory(root=tmp_path)
    append(ws, given())
    connection = sqlite3.connect(tmp_path / ".noria" / "ledger.db")
    connection.executescript("DROP TRIGGER checkpoint_no_delete; DELETE FROM checkpoint;")
    connection.close()
    with pytest.raises(Tampered, match="is not signed"):
        ws.ledger.checkpoint()
    ws.ledger.database.close()


def test_a_ledger_of_a_newer_noria_is_refused(tmp_path: Path) -> None:
    ws = open_memory(root=tmp_path)
    with ws.ledger.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    ws.ledger.database.close()
    with pytest.raises(StoreUnavailable, match="made by a newer Noria"):
        open_memory(root=tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / ".noria").write_text("a file where the folder should be")
    with pytest.raises(StoreUnavailable):
        open_memory(root=tmp_path)


def test_waiting_for_the_writer_ends_with_a_clear_error(tmp_path: Path) -> None:
    ws = open_memory(root=tmp_path)
    hurried = Database(database_url("", tmp_path / ".noria"), wait_s=0.2)
    release = threading.Event()
    taken = threading.Event()

    def hold() -> None:
        with ws.ledger.transaction():
            taken.set()
            release.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(30)
    with pytest.raises(StoreUnavailable, match="has held the ledger"), hurried.write():
        pass
    release.set()
    thread.join(30)
    with hurried.write():
        pass
    hurried.close()
    ws.ledger.database.close()


def test_opening_twice_gives_the_same_log(tmp_path: Path) -> None:
    first = open_memory(root=tmp_path)
    append(first, given())
    second = open_memory(root=tmp_path)
    assert second.ledger.signer.origin == first.ledger.signer.origin
    assert second.ledger.facts() == first.ledger.facts()
    database = Database(database_url("", tmp_path / ".noria"))
    assert start(database, load_slices(), Seen(None), "x") == first.ledger.signer.origin
    for made in (first.ledger.database, second.ledger.database, database):
        made.close()


def test_ids_are_new_and_sort_by_time(ws: Workspace) -> None:
    first, second = new_id(ws, "run"), new_id(ws, "run")
    assert first.startswith("run_")
    assert first != second
    assert first[:14] <= second[:14]


def test_database_urls_are_understood_or_refused(tmp_path: Path) -> None:
    assert database_url("", tmp_path) == f"sqlite:///{tmp_path}/ledger.db"
    assert database_url("postgresql://u@h/d", tmp_path) == "postgresql+psycopg://u@h/d"
    assert database_url("postgres://u@h/d", tmp_path) == "postgresql+psycopg://u@h/d"
    assert database_url("sqlite:////x.db", tmp_path) == "sqlite:////x.db"
    with pytest.raises(UsageError, match="mysql"):
        database_url("mysql://h/d", tmp_path)


def test_a_service_that_is_not_there_is_unavailable_and_worth_a_retry(tmp_path: Path) -> None:
    database = Database("postgresql+psycopg://nobody@127.0.0.1:1/none?connect_timeout=2")
    with pytest.raises(StoreUnavailable) as caught, database.read():
        pass
    assert caught.value.is_retry_safe
    assert len(str(caught.value).splitlines()) <= 6


def test_an_unknown_object_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gopher"):
        open_workspace(project=Project(name="p", root=tmp_path, store=StoreConfig(objects="gopher://bucket")))
    for number, url in enumerate(("elsewhere", f"file://{tmp_path}/third")):
        made = open_workspace(project=Project(name="p", root=tmp_path, store=StoreConfig(objects=url)))
        made.objects.put_bytes(b"x")
        assert (tmp_path / ("elsewhere", "third")[number]).is_dir()
        made.ledger.database.close()
    with pytest.raises(NotFound):
        made.objects.get_bytes("sha256:" + "0" * 64)


def test_postgres_without_its_driver_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs psycopg") as refused:
        Database("postgresql+psycopg://localhost/nowhere")
    assert refused.value.hint == "pip install 'noria[postgres]'"
