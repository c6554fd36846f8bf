"""Rows from databases, buckets and files become versions with every type kept; nothing secret is written down."""

from __future__ import annotations

import datetime
import decimal
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_postgres import Server

from noria.bootstrap import open_workspace
from noria.config import Project, RemoteConfig
from noria.core.errors import NotFound, StoreUnavailable, UsageError
from noria.core.identity import digest
from noria.data import status, versions
from noria.data.rows import read
from noria.data.tabular import asking, incremental, sources
from noria.store.bucket import Item
from noria.store.workspace import Workspace
from s3_server import S3Server

UTC = datetime.UTC


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "project"
    root.mkdir()
    made = open_workspace(project=Project(name="test", root=root), actor="user:test")
    yield made
    made.ledger.database.close()


@pytest.fixture
def shop(ws: Workspace) -> Path:
    path = ws.project.root / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "create table orders (id integer primary key, zip text, price decimal(10,2), at timestamp, zoned datetime,"
            " day date, ok boolean, big bigint, r real, b blob, empty text)"
        )
        rows = [
            (2, "02139", 1.1, "2020-01-01 10:00:00", "2020-01-01T10:00:00+02:00", "2020-01-02", 1, 2**62 + 1, 1.5, b"x",
             None),
            (1, "1", 2, None, None, None, None, None, None, None, None),
        ]  # fmt: skip
        connection.executemany(f"insert into orders values ({','.join('?' * 11)})", rows)
        connection.execute("create view cheap as select id, zip from orders where price < 2")
    connection.close()
    return path


def test_a_table_of_sqlite_keeps_its_types_and_has_the_order_of_its_key(ws: Workspace, shop: Path) -> None:
    version = versions.add(ws, "sqlite:///shop.db?table=orders", key="id")
    assert (version.name, version.source, version.rows) == ("orders", "sqlite:///shop.db table orders", 2)
    kinds = {name: kind for name, kind, _ in version.columns}
    assert kinds == {
        "id": "int64", "zip": "string", "price": "decimal128(10, 2)", "at": "timestamp[us]",
        "zoned": "timestamp[us, tz=UTC]", "day": "date32[day]", "ok": "bool", "big": "int64", "r": "double",
        "b": "binary", "empty": "string",
    }  # fmt: skip
    first, second = read.table(ws, version).to_pylist()
    assert (first["id"], first["price"], first["zip"]) == (1, decimal.Decimal("2.00"), "1")
    assert second["price"] == decimal.Decimal("1.10")
    assert second["zoned"] == datetime.datetime(2020, 1, 1, 8, tzinfo=UTC)
    assert (second["big"], second["ok"], second["day"]) == (2**62 + 1, True, datetime.date(2020, 1, 2))
    assert versions.add(ws, f"sqlite:///{shop}", table="orders") == version, "the same rows are the same version"


def test_a_query_and_a_view_are_tables_too(ws: Workspace, shop: Path) -> None:
    query = "select zip, sum(price) as total from orders where zip <> ':x' group by zip order by zip"
    version = versions.add(ws, "sqlite:///shop.db", "totals", query=query)
    assert read.table(ws, version).to_pylist() == [{"zip": "02139", "total": 1.1}, {"zip": "1", "total": 2.0}]
    assert query in version.source
    view = versions.add(ws, "sqlite:///shop.db", table="cheap")
    assert read.table(ws, view).to_pylist() == [{"id": 2, "zip": "02139"}]


@pytest.mark.parametrize(
    ("url", "query", "table", "message"),
    [
        ("sqlite:///shop.db", "", "nosuch", "no table 'nosuch'"),
        ("sqlite:///nosuch.db", "", "t", "there is no database nosuch.db"),
        ("sqlite:///shop.db", "select nope from orders", "", "no such column: nope"),
        ("sqlite:///shop.db", "delete from orders", "", "the database refuses"),
        ("sqlite:///shop.db", "select 1; drop table orders", "", "one statement"),
        ("sqlite:///shop.db", "", "", "give a query or a table"),
        ("sqlite:///shop.db", "select 1 as x union all select 'a'", "", "'x' holds values of several types: int, str"),
        ("sqlite:///shop.db", "select * from orders where id > 9", "", "has no rows"),
        ("mysql://host/db", "", "t", "'mysql' is not a source that is known"),
    ],
)  # fmt: skip
def test_what_a_database_refuses_is_one_clear_error(
    ws: Workspace, shop: Path, url: str, query: str, table: str, message: str
) -> None:
    with pytest.raises((UsageError, NotFound), match=message) as caught:
        versions.add(ws, url, "t", query=query, table=table)
    assert len(str(caught.value).splitlines()) <= 6
    assert ws.ledger.head() == 0
    with sqlite3.connect(shop) as connection:
        assert connection.execute("select count(*) from orders").fetchone() == (2,)
    connection.close()


def test_an_append_from_a_database_takes_only_what_is_new(ws: Workspace, shop: Path) -> None:
    first = incremental.append(ws, "o", "sqlite:///shop.db", table="orders", watermark="id")
    with sqlite3.connect(shop) as connection:
        connection.execute("insert into orders (id, zip, price) values (3, '00501', 12345678.91)")
        connection.execute("insert into orders (id, zip, price) values (-1, '9', 0)")
    connection.close()
    second = incremental.append(ws, "o", "sqlite:///shop.db", table="orders")
    assert (first.appended, second.appended, second.late, second.late_examples) == (2, 1, 1, ("-1",))
    assert read.table(ws, second.dataset)["price"].to_pylist()[-1] == decimal.Decimal("12345678.91")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    folder = Path(f"/tmp/noria-pg-sources-{os.getpid()}")
    folder.mkdir()
    try:
        made = Server(folder)
        made.start()
        yield made
        made.stop("immediate")
    finally:
        shutil.rmtree(folder)


def test_a_table_of_postgres_keeps_every_type(ws: Workspace, postgres: Server) -> None:
    url = postgres.database("types")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create type mood as enum ('sad', 'ok')")
        connection.execute(
            "create table t (id bigint primary key, p numeric(20,4), q numeric, big numeric(60,0), at timestamptz,"
            " plain timestamp, d date, tm time, ok boolean, j jsonb, u uuid, m mood, a int[], f real, b bytea,"
            " iv interval, zip varchar(5), small smallint)"
        )
        connection.execute(
            "insert into t values (2, 1.5, 1.23456789012345678901, 123456789012345678901234567890123456789012345678901,"
            " '2020-01-01 10:00+02', '2020-01-01 10:00', '2020-01-01', '10:00:01.5', true, '{\"a\": 1.10}',"
            " '6ec0bd7f-11c0-43da-975e-2a8ad9ebae0b', 'ok', '{1,NULL}', 1.5, '\\x0001', '1 mon 2 days', '02139', 3),"
            " (1, null, 7, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null)"
        )
    secret = url.replace("postgres@", "postgres:s3cr3t@")
    version = versions.add(ws, secret, "t", table="public.t")
    assert "s3cr3t" not in repr(ws.ledger.facts()[-1])
    kinds = {name: kind for name, kind, _ in version.columns}
    assert kinds == {
        "id": "int64", "p": "decimal128(20, 4)", "q": "decimal128(21, 20)", "big": "decimal256(60, 0)",
        "at": "timestamp[us, tz=UTC]", "plain": "timestamp[us]", "d": "date32[day]", "tm": "time64[us]", "ok": "bool",
        "j": "string", "u": "string", "m": "string", "a": "list<item: int32>", "f": "float", "b": "binary",
        "iv": "string", "zip": "string", "small": "int16",
    }  # fmt: skip
    first, second = read.table(ws, version).to_pylist()
    assert first["id"] == 1
    assert second["q"] == decimal.Decimal("1.23456789012345678901")
    assert second["big"] == decimal.Decimal("123456789012345678901234567890123456789012345678901")
    assert second["at"] == datetime.datetime(2020, 1, 1, 8, tzinfo=UTC)
    assert (second["j"], second["iv"], second["a"]) == ('{"a": 1.10}', "1 mon 2 days", [1, None])
    assert versions.add(ws, url, "t", query="select * from t order by id") == version
    with pytest.raises(UsageError, match="decimals that no exact type can"):
        versions.add(ws, url, "nan", query="select 'NaN'::numeric as x")
    with pytest.raises(UsageError, match="syntax error"):
        versions.add(ws, url, "x", query="delete from t returning 1")


def test_a_table_of_postgres_has_the_id_of_the_csv_that_says_the_same(ws: Workspace, postgres: Server) -> None:
    url = postgres.database("ids")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "create table t (id bigint primary key, zip text, x double precision, d date, at timestamp,"
            " z timestamptz, ok boolean, n integer)"
        )
        connection.execute(
            "insert into t values (2, null, null, null, null, null, null, 2),"
            " (1, '02139', 1.5, '2020-01-02', '2020-01-02 10:00', '2020-01-02 10:00+02', true, 1)"
        )
    columns = "id, zip, x, d, at, z, ok"
    table = versions.add(ws, url, "q", query=f"select {columns} from t order by id")
    text = "id,zip,x,d,at,z,ok\n1,02139,1.5,2020-01-02,2020-01-02 10:00:00,2020-01-02T08:00:00Z,true\n2,,,,,,\n"
    (ws.project.root / "a.csv").write_text(text)
    assert versions.add(ws, "a.csv", "c").content == table.content
    (asked,) = asking.ask(ws, ["q"])
    assert (asked.state, asked.note) == ("same", "asked: the same rows")
    (told,) = status.status(ws, ["q"])
    assert (told.state, "known only to postgresql" in told.note) == ("elsewhere", True)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("update t set x = 2 where id = 1")
    assert asking.ask(ws, ["q"])[0].state == "changed"
    number = versions.add(ws, url, "n", query="select n from t order by id")
    (ws.project.root / "n.csv").write_text("n\n1\n2\n")
    assert versions.add(ws, "n.csv", "m").content != number.content, "an int32 is another column than an int64"
    postgres.stop("immediate")
    (asked,) = asking.ask(ws, ["q"])
    assert (asked.state, asked.note.startswith("could not be asked")) == ("elsewhere", True)
    postgres.start()


def test_a_database_that_is_not_up_is_told_without_the_password(ws: Workspace) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be read") as caught:
        versions.add(ws, "postgresql://u:s3cr3t@127.0.0.1:1/db", "t", table="t")
    assert "s3cr3t" not in str(caught.value)


def test_a_prefix_of_a_bucket_is_a_folder_of_files(tmp_path: Path, s3_server: S3Server) -> None:
    bucket, _, prefix = s3_server.new_bucket().removeprefix("s3://").partition("/")
    client = s3_server.client()

    def put(key: str, content: bytes) -> None:
        client.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=content)

    put("in/2013/a.csv", b"id,zip\n1,02139\n")
    put("in/2013/b.jsonl", b'{"id": 2, "zip": "x"}\n')
    put("in/.kept/c.csv", b"id,zip\n9,9\n")
    put("in/.git/config", b"no")
    put("other/c.csv", b"id,zip\n9,9\n")
    root = tmp_path / "p"
    root.mkdir()
    remotes = {"origin": RemoteConfig(url=f"s3://{bucket}/store", endpoint=s3_server.endpoint)}
    ws = open_workspace(project=Project(name="t", root=root, remotes=remotes), actor="user:test")
    version = versions.add(ws, f"s3://{bucket}/{prefix}/in", "t")
    assert [entry.path for entry in versions.show(ws, "t").entries] == [".kept/c.csv", "2013/a.csv", "2013/b.jsonl"]
    assert read.table(ws, version).to_pylist() == [{"id": 1, "zip": "02139"}, {"id": 2, "zip": "x"}]
    local = root / "same"
    (local / "2013").mkdir(parents=True)
    (local / "2013/a.csv").write_bytes(b"id,zip\n1,02139\n")
    (local / "2013/b.jsonl").write_bytes(b'{"id": 2, "zip": "x"}\n')
    (local / ".kept").mkdir()
    (local / ".kept/c.csv").write_bytes(b"id,zip\n9,9\n")
    assert versions.add(ws, str(local), "local").tree == version.tree, "the same bytes have the same id anywhere"
    put("in/2013/a.csv", b"id,zip\n1,02139\n3,00501\n")
    assert read.table(ws, versions.add(ws, f"s3://{bucket}/{prefix}/in", "t"))["zip"].to_pylist() == [
        "02139",
        "00501",
        "x",
    ]
    with pytest.raises(NotFound, match="there is nothing under"):
        versions.add(ws, f"s3://{bucket}/{prefix}/nosuch/", "n")
    ws.ledger.database.close()


def test_what_is_no_content_below_a_prefix_is_told_and_what_would_be_lost_is_refused(
    tmp_path: Path, s3_server: S3Server
) -> None:
    bucket, _, prefix = s3_server.new_bucket().removeprefix("s3://").partition("/")
    client = s3_server.client()

    def put(key: str, content: bytes) -> None:
        client.put_object(Bucket=bucket, Key=f"{prefix}/in/{key}", Body=content)

    (tmp_path / "p").mkdir()
    remotes = {"origin": RemoteConfig(url=f"s3://{bucket}/store", endpoint=s3_server.endpoint)}
    ws = open_workspace(project=Project(name="t", root=tmp_path / "p", remotes=remotes), actor="user:test")
    address = f"s3://{bucket}/{prefix}/in"
    put("a.csv", b"x\n1\n")
    plain = versions.add(ws, address, "t")
    assert not isinstance(plain, versions.Added)
    for key in (".git/config", ".git/HEAD", "sub/.dvc/x", "marked/", "sub/"):
        put(key, b"" if key.endswith("/") else b"own")
    again = versions.add(ws, address, "t")
    assert isinstance(again, versions.Added)
    assert again.tree == plain.tree
    assert again.left_out == (
        "2 paths left out, kept there by a tool for itself: .git, sub/.dvc; "
        "2 marks of empty folders left out: marked/, sub/"
    )
    ws.ledger.database.close()


def test_a_key_that_ends_as_a_folder_and_has_bytes_is_refused_by_name() -> None:
    """The server of these tests keeps no such bytes, Amazon does."""

    class Amazon:
        url = "s3://b/p"

        def list(self, prefix: str = "") -> Iterator[Item]:
            return iter([Item("", 0, "", 0.0), Item("a/", 0, "", 0.0), Item("full/", 9, "", 0.0)])

    bucket: Any = Amazon()
    with pytest.raises(UsageError, match="1 key cannot be the path of a file: 'full/'"):
        sources._items(bucket)


def test_an_address_of_one_key_is_that_file_with_its_id(tmp_path: Path, s3_server: S3Server) -> None:
    bucket, _, prefix = s3_server.new_bucket().removeprefix("s3://").partition("/")
    client = s3_server.client()
    client.put_object(Bucket=bucket, Key=f"{prefix}/in/a.csv", Body=b"x\n1\n")
    client.put_object(Bucket=bucket, Key=f"{prefix}/in/a.csv.bin", Body=b"\0")
    root = tmp_path / "p"
    root.mkdir()
    remotes = {"origin": RemoteConfig(url=f"s3://{bucket}/store", endpoint=s3_server.endpoint)}
    ws = open_workspace(project=Project(name="t", root=root, remotes=remotes), actor="user:test")
    version = versions.add(ws, f"s3://{bucket}/{prefix}/in/a.csv")
    assert (version.name, version.files, version.rows) == ("a", 1, 1)
    (root / "other.csv").write_text("x\n1\n")
    assert versions.add(ws, "other.csv", "b").content == version.content
    assert asking.ask(ws, ["a"])[0].state == "same"
    client.put_object(Bucket=bucket, Key=f"{prefix}/in/a.csv", Body=b"x\n2\n")
    assert asking.ask(ws, ["a"])[0].paths == ("~ a.csv",)
    assert versions.add(ws, f"s3://{bucket}/{prefix}/in/a.csv.bin", "bin").content == digest(b"\0")
    with pytest.raises(NotFound, match="there is nothing under"):
        versions.add(ws, f"s3://{bucket}/{prefix}/in/none.csv")
    ws.ledger.database.close()


def test_what_is_known_by_its_tag_is_not_downloaded_again(tmp_path: Path, s3_server: S3Server) -> None:
    bucket, _, prefix = s3_server.new_bucket().removeprefix("s3://").partition("/")
    client = s3_server.client()
    client.put_object(Bucket=bucket, Key=f"{prefix}/in/a.csv", Body=b"x\n1\n")
    root = tmp_path / "p"
    root.mkdir()
    remotes = {"origin": RemoteConfig(url=f"s3://{bucket}", endpoint=s3_server.endpoint)}
    ws = open_workspace(project=Project(name="t", root=root, remotes=remotes), actor="user:test")
    first = versions.add(ws, f"s3://{bucket}/{prefix}/in", "t")
    notes = list((ws.project.state / "cache" / "sources").iterdir())
    assert len(notes) == 1
    tag = client.head_object(Bucket=bucket, Key=f"{prefix}/in/a.csv")["ETag"].strip('"')
    forged = notes[0].read_text().replace(tag, "0" * 32)
    notes[0].write_text(forged)
    assert versions.add(ws, f"s3://{bucket}/{prefix}/in", "t") == first, "an unknown tag is only a download"
    assert tag in notes[0].read_text()
    ws.ledger.database.close()


def test_rows_of_every_kind_of_file_can_be_appended(ws: Workspace) -> None:
    root = ws.project.root
    (root / "a.csv").write_text("id,zip\n1,02139\n")
    (root / "b.jsonl").write_text('{"id": 2, "zip": "10001"}\n')
    pq.write_table(pa.table({"id": [3], "zip": ["00501"]}), root / "c.parquet")
    (root / "d").mkdir()
    (root / "d/1.csv").write_text("id,zip\n4,1\n")
    (root / "d/2.jsonl").write_text('{"id": 5, "zip": "z"}\n')
    for name in ("a.csv", "b.jsonl", "c.parquet", "d"):
        incremental.append(ws, "t", str(root / name), watermark="id")
    found = read.table(ws, versions.resolve(ws, "t"))
    assert found.to_pydict() == {"id": [1, 2, 3, 4, 5], "zip": ["02139", "10001", "00501", "1", "z"]}


def test_an_address_is_shown_without_user_password_and_settings() -> None:
    assert sources.shown("postgresql+psycopg://u:p@h:5432/db?sslmode=x&password=y") == "postgresql://h:5432/db"
    assert sources.default_name("sqlite:///a/shop.db?table=main.orders") == "orders"
    assert sources.default_name("s3://bucket/in/photos/") == "photos"
    assert sources.default_name("postgresql://h/db", "public.people") == "people"


def test_a_table_that_grew_says_why_its_source_is_not_asked(ws: Workspace, shop: Path) -> None:
    incremental.append(ws, "orders", "sqlite:///shop.db", table="orders", watermark="id")
    with pytest.raises(UsageError, match="orders cannot be asked: its rows are kept here, the last change was append"):
        asking.ask(ws, ["orders"])
