"""An audit reads every stored object: an altered one is named, with the fact that gave it."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.bootstrap import open_workspace
from noria.config import Project
from noria.data import versions
from noria.governance import audit
from noria.store.workspace import Workspace


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
