"""The attacks of somebody who can write the database but does not have the key: all are named."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from noria.core.errors import Tampered, UsageError
from noria.faces import verbs
from noria.faces.cli import show_live
from noria.governance.audit import AuditReport, export, verify
from noria.governance.facts import ApprovalGiven
from noria.store.checkpoint import Signer, parse_checkpoint, parse_verifier
from noria.store.merkle import Frontier, leaf_hash, root_of
from noria.store.verify import verify as verify_log
from noria.testing import open_memory

SIZE = 41
Log = list[tuple[str, bytes]]
"""Rows as the attacker writes them: body and leaf."""


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a ledger of SIZE facts, some committed in batches."""
    root = tmp_path_factory.mktemp("honest") / "p"
    ws = open_memory(root=root)
    number = 0
    while number < SIZE:
        with ws.ledger.transaction() as tx:
            for _ in range(min(1 + number % 4, SIZE - number)):
                given = ApprovalGiven(about=f"model/{number % 5}", digest="sha256:" + "0" * 64, role=str(number))
                tx.append(given, inputs=[("thing", f"model/{number}")])
                number += 1
    ws.ledger.database.close()
    return root


class Attacker:
    """Has the database file, not the key. Works on a copy of the honest project."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.connection = sqlite3.connect(root / ".noria" / "ledger.db")
        triggers = self.connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            self.connection.execute(f"DROP TRIGGER {name}")

    def bodies(self) -> list[str]:
        return [body for (body,) in self.connection.execute("SELECT body FROM fact ORDER BY seq")]

    def write(self, bodies: list[str], *, is_rehashed: bool, keeps: Callable[[int], bool] = lambda size: True) -> None:
        """Put these facts in place of the old ones, with their edges and, if rehashed, leaves and subtrees."""
        leaves = [leaf for (leaf,) in self.connection.execute("SELECT leaf FROM fact ORDER BY seq")]
        for table in ("fact", "edge"):
            self.connection.execute(f"DELETE FROM {table}")
        for seq, body in enumerate(bodies, start=1):
            document = json.loads(body)
            leaf = leaf_hash(body.encode()) if is_rehashed or seq > len(leaves) else leaves[seq - 1]
            row = (seq, document["kind"], document["subject"], document["actor"], document["at"], body, leaf)
            self.connection.execute("INSERT INTO fact VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            for side, edges in (("in", document["inputs"]), ("out", document["outputs"])):
                for place, (role, ref) in enumerate(edges):
                    self.connection.execute("INSERT INTO edge VALUES (?, ?, ?, ?, ?)", (seq, side, place, role, ref))
        if is_rehashed:
            self.connection.execute("DELETE FROM node")
            frontier = Frontier()
            for body in bodies:
                for node in frontier.append(leaf_hash(body.encode())):
                    values = (node.level, node.position, node.hash)
                    self.connection.execute("INSERT INTO node VALUES (?, ?, ?)", values)
        for (size,) in self.connection.execute("SELECT size FROM checkpoint").fetchall():
            if not keeps(size):
                self.connection.execute("DELETE FROM checkpoint WHERE size = ?", (size,))
        self.connection.commit()
        self.connection.close()

    def forget(self) -> None:
        """Also take away what this client saw last."""
        (self.root / ".noria" / "seen").unlink()


@pytest.fixture
def attacker(honest: Path, tmp_path: Path) -> Iterator[Attacker]:
    root = tmp_path / "p"
    shutil.copytree(honest, root)
    made = Attacker(root)
    yield made
    made.connection.close()


def audited(root: Path, checkpoint: str = "") -> AuditReport:
    """An audit that gets past the first look of opening, which refuses most of these ledgers at once."""
    seen = root / ".noria" / "seen"
    note = seen.read_text() if seen.exists() else ""
    seen.unlink(missing_ok=True)
    ws = open_memory(root=root)
    if note:
        seen.write_text(note)
    try:
        return verify(ws, checkpoint)
    finally:
        ws.ledger.database.close()


def checkpoint_of(honest: Path, size: int = SIZE) -> str:
    connection = sqlite3.connect(honest / ".noria" / "ledger.db")
    note = connection.execute("SELECT note FROM checkpoint WHERE size = ?", (size,)).fetchone()[0]
    connection.close()
    return str(note)


def changed(body: str) -> str:
    document = json.loads(body)
    document["data"]["role"] = "chief"
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def edit(bodies: list[str], at: int) -> list[str]:
    return [*bodies[: at - 1], changed(bodies[at - 1]), *bodies[at:]]


def delete(bodies: list[str], at: int) -> list[str]:
    return [*bodies[: at - 1], *bodies[at:]]


def insert(bodies: list[str], at: int) -> list[str]:
    return [*bodies[: at - 1], changed(bodies[0]), *bodies[at - 1 :]]


def reorder(bodies: list[str], at: int) -> list[str]:
    made = list(bodies)
    made[at - 1], made[at + 1] = made[at + 1], made[at - 1]
    return made


def cut(bodies: list[str], at: int) -> list[str]:
    return bodies[: at - 1]


def empty(_bodies: list[str], _at: int) -> list[str]:
    return []


def forge(bodies: list[str], at: int) -> list[str]:
    return [*bodies, *(changed(body) for body in bodies[:at])]


ATTACKS = {
    "edited": edit,
    "deleted": delete,
    "inserted": insert,
    "reordered": reorder,
    "truncated": cut,
    "emptied": empty,
    "unsigned": forge,
}


def test_an_honest_ledger_is_well(honest: Path) -> None:
    report = audited(honest, checkpoint_of(honest, 20))
    assert report.ok
    assert (report.size, report.first_bad, report.kind) == (SIZE, 0, "")
    assert len(report.compared) == 3
    found = parse_checkpoint(report.checkpoint)
    assert (found.size, found.root.hex()) == (SIZE, report.root)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("is_rehashed", [False, True], ids=["plain", "rehashed"])
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_named_with_its_first_bad_fact(
    name: str, is_rehashed: bool, seed: int, attacker: Attacker
) -> None:
    at = random.Random(f"{name}{seed}").randint(2, SIZE - 2)
    attacker.write(ATTACKS[name](attacker.bodies(), at), is_rehashed=is_rehashed)
    report = audited(attacker.root)
    place = {"emptied": 1, "unsigned": SIZE + 1}.get(name, at)
    assert not report.ok
    assert (report.first_bad, report.kind) == (place, "truncated" if name == "emptied" else name)
    assert report.message


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_that_drops_the_stored_checkpoints_is_found_by_the_one_outside(
    name: str, seed: int, attacker: Attacker, honest: Path
) -> None:
    at = random.Random(f"{name}{seed}").randint(2, SIZE - 2)
    outside = checkpoint_of(honest)
    attacker.write(ATTACKS[name](attacker.bodies(), at), is_rehashed=True, keeps=lambda size: size < at)
    attacker.forget()
    report = audited(attacker.root, outside)
    assert not report.ok
    if name in ("unsigned", "emptied", "truncated"):
        assert (report.kind, report.first_bad) == {
            "unsigned": ("unsigned", SIZE + 1),
            "emptied": ("truncated", 1),
            "truncated": ("truncated", at),
        }[name]
    else:
        assert report.kind in ("forked", "truncated")
        assert report.first_bad == at, "everything before is proved by the checkpoints that are left"


def test_a_history_signed_anew_by_another_key_is_found(attacker: Attacker) -> None:
    bodies = edit(attacker.bodies(), 7)
    origin = attacker.connection.execute("SELECT value FROM setting WHERE name = 'origin'").fetchone()[0]
    forger, leaves = Signer(origin, b"\x01" * 32), [leaf_hash(body.encode()) for body in bodies]
    for size in range(1, SIZE + 1):
        note = forger.sign(size, root_of(leaves[:size]))
        attacker.connection.execute("UPDATE checkpoint SET note = ? WHERE size = ?", (note, size))
    attacker.write(bodies, is_rehashed=True)
    report = audited(attacker.root)
    assert (report.ok, report.kind) == (False, "forked")
    attacker.forget()
    report = audited(attacker.root)
    assert (report.ok, report.kind, report.first_bad) == (False, "signer", 1)


@pytest.mark.parametrize(
    ("statement", "kind", "first_bad"),
    [
        ("UPDATE fact SET actor = 'user:eve' WHERE seq = 9", "edited", 9),
        ("UPDATE fact SET leaf = zeroblob(32) WHERE seq = 9", "edited", 9),
        ("UPDATE fact SET body = 'not json' WHERE seq = 9", "edited", 9),
        ("UPDATE edge SET ref = 'model/other' WHERE seq = 9", "edited", 9),
        ("DELETE FROM edge WHERE seq = 9", "edited", 9),
        ("INSERT INTO edge VALUES (9, 'out', 0, 'x', 'y')", "edited", 9),
        ("DELETE FROM fact WHERE seq = 9", "deleted", 9),
        ("DELETE FROM fact WHERE seq = 41", "truncated", 41),
        ("UPDATE node SET hash = zeroblob(32) WHERE level = 2 AND position = 1", "tree", 8),
        ("DELETE FROM node WHERE level = 2 AND position = 1", "tree", 8),
        ("INSERT INTO node VALUES (9, 9, zeroblob(32))", "tree", 42),
        ("DELETE FROM checkpoint WHERE size = 9", "checkpoint", 9),
        ("UPDATE checkpoint SET note = replace(note, char(10) || '9' || char(10), char(10) || '8' || char(10)) "
         "WHERE size = 9", "checkpoint", 9),
        ("UPDATE checkpoint SET note = 'x' WHERE size = 9", "checkpoint", 9),
        ("UPDATE approval SET comment = 'yes' WHERE seq = 9", "record", 0),
        ("DELETE FROM approval WHERE seq = 9", "record", 0),
    ],
)  # fmt: skip
def test_any_row_that_is_changed_by_hand_is_named(
    statement: str, kind: str, first_bad: int, attacker: Attacker
) -> None:
    assert attacker.connection.execute(statement).rowcount
    attacker.connection.commit()
    report = audited(attacker.root)
    assert (report.ok, report.kind, report.first_bad) == (False, kind, first_bad), report


@pytest.mark.parametrize("size", [1, 20, 38, 39, 40])
def test_an_old_note_must_state_its_tree_even_when_its_signature_is_not_checked(size: int, attacker: Attacker) -> None:
    changed_note = checkpoint_of(attacker.root, size).replace(f"\n{size}\n", "\n99\n")
    attacker.connection.execute("UPDATE checkpoint SET note = ? WHERE size = ?", (changed_note, size))
    attacker.connection.commit()
    attacker.forget()
    ws = open_memory(root=attacker.root)
    found = verify_log(ws.ledger, [ws.ledger.signer.verifier], signatures=3)
    assert (found.kind, found.first_bad) == ("checkpoint", size)
    assert verify_log(ws.ledger, [ws.ledger.signer.verifier], signatures=SIZE).first_bad == size
    ws.ledger.database.close()


def test_any_changed_byte_of_any_fact_is_found(attacker: Attacker) -> None:
    chance = random.Random(5)
    rows = attacker.connection.execute("SELECT seq, body FROM fact").fetchall()
    for _ in range(40):
        seq, body = chance.choice(rows)
        place = chance.randrange(len(body))
        wrong = body[:place] + chr((ord(body[place]) + chance.randint(1, 90)) % 127) + body[place + 1 :]
        attacker.connection.execute("UPDATE fact SET body = ? WHERE seq = ?", (wrong, seq))
        attacker.connection.commit()
        report = audited(attacker.root)
        assert (report.kind, report.first_bad) == ("edited", seq)
        attacker.connection.execute("UPDATE fact SET body = ? WHERE seq = ?", (body, seq))
        attacker.connection.commit()
    assert audited(attacker.root).ok


def test_a_checkpoint_of_another_log_or_key_is_refused(honest: Path, tmp_path: Path) -> None:
    ws = open_memory(root=tmp_path / "other")
    foreign = ws.ledger.checkpoint()
    ws.ledger.database.close()
    with pytest.raises(Tampered, match="of another log"):
        audited(honest, foreign)
    origin = parse_checkpoint(checkpoint_of(honest)).origin
    with pytest.raises(Tampered, match="not signed by a key"):
        audited(honest, Signer(origin, b"\x02" * 32).sign(3, b"\x00" * 32))
    with pytest.raises(UsageError, match="not a signed checkpoint"):
        audited(honest, "hello")


def test_a_second_machines_key_counts_once_it_is_trusted(honest: Path, tmp_path: Path) -> None:
    root = tmp_path / "p"
    shutil.copytree(honest, root)
    first_key = (root / ".noria" / "key").read_bytes()
    note = checkpoint_of(root)
    ws = open_memory(root=root)
    trusted = str(ws.ledger.signer.verifier)
    ws.ledger.database.close()
    (root / ".noria" / "key").unlink()
    ws = open_memory(root=root)
    with ws.ledger.transaction() as tx:
        tx.append(ApprovalGiven(about="a", digest="b", role="second machine"))
    found = verify(ws)
    assert (found.ok, found.kind, found.first_bad) == (False, "signer", 1), "nothing says who the other key is of"
    assert trusted.split("+")[1] in found.message
    hint = show_live.audit_help(verbs.builtins(found))
    assert ".noria/signers" in hint
    assert "restore" not in hint
    mine = found.signer
    (root / ".noria" / "signers").write_text(trusted + "\n")
    assert verify(ws, note).ok
    ws.ledger.database.close()
    (root / ".noria" / "signers").unlink()
    second_key = (root / ".noria" / "key").read_bytes()
    (root / ".noria" / "key").write_bytes(first_key)
    ws = open_memory(root=root)
    back = verify(ws)
    assert (back.kind, back.first_bad) == ("signer", SIZE + 1), "the same from the other side"
    (root / ".noria" / "signers").write_text(mine + "\n")
    assert verify(ws).ok
    ws.ledger.database.close()
    (root / ".noria" / "key").write_bytes(second_key)
    assert (root / ".noria" / "key").read_bytes() != first_key


def test_an_export_is_checked_with_plain_tools(honest: Path) -> None:
    ws = open_memory(root=honest)
    made = export(ws, "evidence")
    with pytest.raises(UsageError, match="outside of the project"):
        export(ws, "../elsewhere")
    with pytest.raises(UsageError, match="outside of the project"):
        export(ws, "/tmp")
    ws.ledger.database.close()
    folder = Path(made.folder)
    lines = [json.loads(line) for line in (folder / "facts.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, SIZE + 1))
    assert all(leaf_hash(line["fact"].encode()).hex() == line["leaf"] for line in lines)
    checkpoint = parse_checkpoint((folder / "checkpoint.txt").read_text())
    assert checkpoint.root == root_of([bytes.fromhex(line["leaf"]) for line in lines])
    assert parse_verifier((folder / "key.pub").read_text()).is_signed(checkpoint)


@pytest.mark.parametrize("where", ["seq BETWEEN 5 AND 40", "seq < 5", "seq = 40"])
def test_a_ledger_with_a_hole_is_not_exported(where: str, attacker: Attacker) -> None:
    attacker.forget()
    attacker.connection.execute(f"DELETE FROM fact WHERE {where}")
    attacker.connection.commit()
    ws = open_memory(root=attacker.root)
    with pytest.raises(Tampered, match="facts are missing"):
        export(ws, "evidence")
    ws.ledger.database.close()
