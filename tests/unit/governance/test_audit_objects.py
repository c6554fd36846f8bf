"""An audit reads every stored object: an altered one is named, with the fact that gave it."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.bootstrap import open_workspace
from noria.config import Project
from noria.core.identity import Digest
from noria.data import versions
from noria.governance import audit
from noria.store.linelog import LineWriter
from noria.store.workspace import Workspace
from noria.tracking import records
from noria.tracking import run as tracking


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n3,4\n", encoding="utf-8")
    return open_workspace(project=Project(name="audited", root=tmp_path), actor="user:test")


def test_every_object_is_read_and_a_flipped_byte_is_named(ws: Workspace, tmp_path: Path) -> None:
    version = versions.add(ws, "rows.csv", "rows")
    before = audit.verify(ws)
    assert before.ok
    assert before.objects == sum(1 for _ in ws.objects.names()) > 0
    name = version.tree.removeprefix("sha256:")
    path = tmp_path / ".noria" / "objects" / name[:2] / name[2:]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    found = audit.verify(ws)
    assert (found.ok, found.kind, found.altered) == (False, "object", (version.tree,))
    assert found.first_bad == 1
    assert name[:12] in found.message
    assert "dataset.committed" in found.message


def test_an_object_that_is_gone_and_one_inside_of_a_tree_are_named_with_the_fact(ws: Workspace, tmp_path: Path) -> None:
    version = versions.add(ws, "rows.csv", "rows")
    [entry] = versions.show(ws, "rows").entries
    content = (tmp_path / "rows.csv").read_bytes()
    [pack] = (tmp_path / ".noria" / "objects" / "packs").glob("*.pack")
    pack.write_bytes(pack.read_bytes().replace(content, content[:-1] + b"!"))
    inside = audit.verify(ws)
    assert (inside.ok, inside.altered) == (False, (entry.digest,))
    assert inside.message.endswith(
        f"{entry.digest[7:19]} is altered (rows.csv in the tree of dataset.committed, fact 1)"
    )
    ws.objects.store.delete(Digest(entry.digest))
    gone = audit.verify(ws)
    assert (gone.ok, gone.kind, gone.first_bad, gone.altered) == (False, "object", 1, (entry.digest,))
    assert "is gone (rows.csv in the tree of dataset.committed, fact 1)" in gone.message
    assert ws.objects.put_many([content]) == [entry.digest]
    ws.objects.store.delete(Digest(version.tree))
    assert "is gone (tree of dataset.committed, fact 1)" in audit.verify(ws).message


def test_a_damaged_line_of_a_log_that_is_not_sealed_is_named_and_a_torn_one_is_not(ws: Workspace) -> None:
    path = ws.project.state / "predictions" / "churn" / "7-1.log"
    writer = LineWriter(path)
    writer.append([b'{"id":"pred_%d"}' % number for number in range(3)])
    writer.close()
    assert audit.verify(ws).lines == 3
    with path.open("ab") as stream:
        stream.write(b"0badc0de {half of a li")
    assert audit.verify(ws).ok, "nobody was answered for a torn line"
    content = bytearray(path.read_bytes())
    content[content.index(b"pred_1") + 5] ^= 1
    path.write_bytes(bytes(content))
    found = audit.verify(ws)
    assert (found.ok, found.kind, found.altered) == (False, "log", ("predictions/churn/7-1.log",))
    assert "byte 25" in found.message


def test_what_a_fact_only_takes_is_named_with_the_fact(ws: Workspace) -> None:
    with tracking.start(ws, "flow") as run:
        pass
    with ws.ledger.read() as tx:
        found = records.run(tx, run.run)
    assert found is not None
    place = ws.objects.path(found.environment)
    place.chmod(0o644)
    place.write_bytes(b"")
    said = audit.verify(ws)
    assert (said.ok, said.altered) == (False, (found.environment,))
    assert said.message.endswith(f"{found.environment[7:19]} is altered (environment of run.started, fact 1)")
