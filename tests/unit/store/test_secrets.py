"""Secrets come back whole with the key, and are nothing without it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from noria.core.errors import StoreUnavailable
from noria.store.database import Database
from noria.store.secrets import VARIABLE, Secrets
from noria.store.seen import Seen
from noria.store.slices import load_slices
from noria.store.start import start

KEY = base64.b64encode(b"k" * 32).decode()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path}/ledger.db")
    start(made, load_slices(), Seen(None), "x")
    yield made
    made.close()


def test_a_secret_comes_back_and_is_not_in_the_database(database: Database, tmp_path: Path) -> None:
    secrets = Secrets(database, tmp_path, {})
    secrets.put("a", "correct horse ü")
    assert Secrets(database, tmp_path, {}).get("a") == "correct horse ü"
    assert (tmp_path / "secrets.key").stat().st_mode & 0o777 == 0o600
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("ledger.db*"))
    assert b"correct horse" not in stored
    assert base64.b64encode(b"correct horse")[:12] not in stored
    secrets.drop("a")
    secrets.drop("a")
    with pytest.raises(StoreUnavailable, match="gone"):
        secrets.get("a")


def test_equal_secrets_look_different(database: Database, tmp_path: Path) -> None:
    secrets = Secrets(database, tmp_path, {})
    secrets.put("a", "same")
    secrets.put("b", "same")
    with database.read() as connection:
        found = connection.execute(text("SELECT sealed FROM secret")).scalars().all()
    assert len(set(found)) == 2


def test_a_secret_under_another_name_or_altered_is_not_taken(database: Database, tmp_path: Path) -> None:
    secrets = Secrets(database, tmp_path, {})
    secrets.put("a", "mine")
    secrets.put("b", "yours")
    with database.write() as connection:
        sealed = connection.execute(text("SELECT sealed FROM secret WHERE name = 'b'")).scalar()
        connection.execute(text("UPDATE secret SET sealed = :sealed WHERE name = 'a'"), {"sealed": sealed})
        connection.execute(text("UPDATE secret SET sealed = 'é!' WHERE name = 'b'"))
    for name in "ab":
        with pytest.raises(StoreUnavailable, match="altered"):
            secrets.get(name)


def test_servers_with_the_same_variable_read_each_others_secrets(database: Database, tmp_path: Path) -> None:
    Secrets(database, tmp_path / "one", {VARIABLE: KEY}).put("a", "shared")
    assert Secrets(database, tmp_path / "other", {VARIABLE: KEY}).get("a") == "shared"
    assert not (tmp_path / "one").exists()
    with pytest.raises(StoreUnavailable, match="another key"):
        Secrets(database, tmp_path / "other", {}).get("a")


@pytest.mark.parametrize("key", ["no key", "é", base64.b64encode(b"k" * 31).decode()])
def test_a_variable_that_is_no_key_is_named_but_not_shown(database: Database, tmp_path: Path, key: str) -> None:
    with pytest.raises(StoreUnavailable, match=VARIABLE) as failed:
        Secrets(database, tmp_path, {VARIABLE: key}).put("a", "b")
    assert key not in str(failed.value).replace(VARIABLE, "")


def test_a_key_that_others_may_read_is_refused(database: Database, tmp_path: Path) -> None:
    secrets = Secrets(database, tmp_path, {})
    secrets.put("a", "mine")
    (tmp_path / "secrets.key").chmod(0o644)
    with pytest.raises(StoreUnavailable, match="others may read"):
        secrets.get("a")
