"""Tokens against real server processes and the real command line: what opens, what does not, and what is told of it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres_server import thrown_away
from serving_client import ServerProcess, serving, wait_for
from serving_project import MODEL, make_project, make_release, rows

from noria.bootstrap import open_workspace
from noria.config import Project, StoreConfig
from noria.faces.http.auth import Guard
from noria.governance.approvals import approve, reject, reviews
from noria.governance.tokens import NewToken, create, revoke, tokens
from noria.registry.facts import ReleaseMade
from noria.serving.deployment import deploy
from noria.store.replay import difference, rebuild
from noria.store.workspace import Workspace, acting


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A project with a model that is live."""
    made = make_project(tmp_path_factory.mktemp("access"))
    make_release(made)
    deploy(made, MODEL)
    yield made
    made.ledger.database.close()


def noria(folder: Path, *words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """One command line, as a person would type it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NORIA_")}
    return subprocess.run(
        [sys.executable, "-m", "noria", *words],
        cwd=folder,
        env={**clean, **(environment or {})},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def bearer(made: NewToken | str) -> str:
    return f"authorization: Bearer {made if isinstance(made, str) else made.secret}"


def head(server: ServerProcess, method: str, path: str, *headers: str) -> int:
    """The status of a request without a body."""
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", "connection: close", *headers]
    return server.raw(("\r\n".join(lines) + "\r\n\r\n").encode())[0]


def test_a_laptop_needs_nothing_until_there_is_a_token_and_then_everybody_does(ws: Workspace) -> None:
    row = json.dumps({"row": rows(1)[0]}).encode()
    root = ws.project.root
    with serving(root) as server:
        wait_for(lambda: head(server, "GET", "/healthz") == 200)
        assert server.post("/predict", row)[0] == 200
        assert head(server, "GET", "/") == 200

        told = noria(root, "token", "create", "--name", "ann", "--role", "admin", "--json")
        assert told.returncode == 0, told.stderr
        ann = json.loads(told.stdout)
        wait_for(lambda: server.post("/predict", row)[0] == 401, what="the shut door")
        assert head(server, "GET", "/") == 401
        assert head(server, "GET", "/metrics") == 401
        assert head(server, "GET", "/healthz") == 200

        shop = create(ws, "shop", scopes=["serving.predict"], service=True)
        assert server.post("/predict", row, bearer(shop))[0] == 200, "a new token is good at once"
        assert head(server, "GET", "/metrics", bearer(shop)) == 403
        assert head(server, "GET", "/", bearer(ann["secret"])) == 200
        basic = base64.b64encode(f"ann:{ann['secret']}".encode()).decode()
        assert head(server, "GET", "/", f"authorization: Basic {basic}") == 200
        wrong = base64.b64encode(f"bob:{ann['secret']}".encode()).decode()
        assert head(server, "GET", "/", f"authorization: Basic {wrong}") == 401

        told = noria(root, "token", "revoke", shop.token, "--reason", "test")
        assert told.returncode == 0, told.stderr
        wait_for(lambda: server.post("/predict", row, bearer(shop))[0] in (401, 429), what="the revoked token")
        listed = json.loads(noria(root, "token", "list", "--every", "--json").stdout)
        by_holder = {each["holder"]: each for each in listed}
        assert by_holder["service:shop"]["state"] == "revoked"
        wait_for(lambda: _last_use(root, server, ann["secret"]), what="the noted use")
    for path in root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert ann["secret"].encode() not in content, path
            assert shop.secret.encode() not in content, path


def _last_use(root: Path, server: ServerProcess, secret: str) -> bool:
    head(server, "GET", "/metrics", bearer(secret))
    (found,) = json.loads(noria(root, "token", "list", "--json").stdout)
    return bool(found["last_used"])


def test_many_predictions_on_one_connection_stay_shut_out_when_their_token_ends(ws: Workspace) -> None:
    shop = create(ws, "shop", service=True)
    with serving(ws.project.root) as server:
        wait_for(lambda: head(server, "GET", "/healthz") == 200)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        body = json.dumps({"row": rows(1)[0]})

        def ask(secret: str) -> int:
            connection.request("POST", "/predict", body, {"authorization": f"Bearer {secret}"})
            answer = connection.getresponse()
            answer.read()
            return answer.status

        assert [ask(shop.secret) for _ in range(20)] == [200] * 20
        assert ask("nor_000000000000_" + "x" * 43) == 401
        assert ask(shop.secret) == 200
        noria(ws.project.root, "token", "revoke", shop.token)
        wait_for(lambda: ask(shop.secret) in (401, 429), what="the revoked token on its old connection")
        connection.close()


def test_the_command_line_acts_through_a_server_as_whom_its_token_names(ws: Workspace) -> None:
    editor, viewer = create(ws, "eve", role="editor"), create(ws, "vic")
    with serving(ws.project.root) as server:
        wait_for(lambda: head(server, "GET", "/healthz") == 200)
        place = {"NORIA_SERVER": f"http://127.0.0.1:{server.port}", "NORIA_ACTOR": "user:root"}

        def remote(secret: str, *words: str) -> Any:
            return noria(ws.project.root, *words, environment={**place, "NORIA_TOKEN": secret})

        before = ws.ledger.head()
        words = ("registry", "move-alias", MODEL, "best", "1")
        refused = remote(viewer.secret, *words)
        assert refused.returncode == 2
        assert "registry.promote takes the role editor, and it is viewer" in refused.stderr
        done = remote(editor.secret, *words)
        assert done.returncode == 0, done.stderr
        facts = [each for each in ws.ledger.facts(after=before) if each.fact.kind != "server.started"]
        assert [(each.fact.kind, each.actor) for each in facts] == [
            ("access.refused", "user:vic"),
            ("alias.moved", "user:eve"),
        ]
        nobody = remote("", "registry", "list")
        assert nobody.returncode == 2
        assert "NORIA_TOKEN" in nobody.stderr
        for secret in (editor.secret, viewer.secret):
            assert secret not in refused.stderr + refused.stdout + done.stdout + done.stderr
            assert not any(secret.encode() in line for line in command_lines())


def command_lines() -> list[bytes]:
    """What every process of the machine was started with; one that ends meanwhile has none."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(path.read_bytes())
    return found


def test_beyond_this_machine_a_server_starts_with_a_token_only(tmp_path: Path) -> None:
    ws = make_project(tmp_path)
    refused = noria(tmp_path, "up", "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 2
    assert "there is no token" in refused.stderr
    assert "noria token create" in refused.stderr
    made = create(ws, "ann", role="admin", expires="1h")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NORIA_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "noria", "up", "--host", "0.0.0.0", "--port", "0"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "noria is up" in process.stdout.readline()
        port = int(json.loads((tmp_path / ".noria" / "up.json").read_text())["url"].rpartition(":")[2])

        def status(*headers: str) -> int:
            lines = ["GET /metrics HTTP/1.1", "host: anything.example", "connection: close", *headers]
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=30) as stream:
                    stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
                    return int(stream.recv(65536)[9:12])
            except (ConnectionError, ValueError):
                return 0

        wait_for(lambda: status() == 401, limit_s=60)
        assert status(bearer(made)) == 200
    finally:
        process.terminate()
        process.wait(timeout=60)
        assert process.stdout is not None
        process.stdout.close()
        ws.ledger.database.close()


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Workspace]:
    """A project whose policy asks two leads, and a release by ann that passed its gates."""
    made = make_project(tmp_path, '[model.late.deploy]\napprove = ["lead 2"]\napprove_within = "1d"\n')
    make_release(made)
    yield made
    made.ledger.database.close()


def test_promote_waits_for_the_people_that_the_policy_names(asking: Workspace) -> None:
    leads = {name: create(asking, name, role="approver", approves=["lead"]).secret for name in ("lea", "leo", "ann")}
    others = {
        "vic": create(asking, "vic").secret,
        "eve": create(asking, "eve", role="editor").secret,
        "ops": create(asking, "ops", role="approver").secret,
        "ci": create(asking, "ci", role="admin", service=True).secret,
    }
    secrets = {**leads, **others}
    with serving(asking.project.root) as server:
        wait_for(lambda: head(server, "GET", "/healthz") == 200)
        place = {"NORIA_SERVER": f"http://127.0.0.1:{server.port}", "NORIA_ACTOR": "user:lea"}

        def remote(who: str, *words: str) -> subprocess.CompletedProcess[str]:
            return noria(asking.project.root, *words, environment={**place, "NORIA_TOKEN": secrets[who]})

        def yes(who: str, *more: str) -> subprocess.CompletedProcess[str]:
            return remote(who, "approve", f"{MODEL}:1", "--role", "lead", "--comment", "slices reviewed", *more)

        waiting = remote("eve", "deploy", MODEL)
        assert waiting.returncode == 1
        assert f"{MODEL} r1 waits for approval as lead 2" in waiting.stderr
        assert "noria approve late@r1 --role lead --comment" in waiting.stderr
        for who, why in (
            ("vic", "takes the role approver, and it is viewer"),
            ("eve", "takes the role approver, and it is editor"),
            ("ops", "may not approve as lead"),
            ("ci", "for people only"),
            ("ann", "the author of a thing never counts"),
        ):
            refused = yes(who)
            assert refused.returncode == 2, who
            assert why in refused.stderr, who
        assert "that was reviewed" in yes("lea", "--digest", "0" * 12).stderr
        assert "needs a comment" in remote("lea", "approve", f"{MODEL}:1", "--role", "lead").stderr
        assert asking.ledger.facts(kind="approval.given") == []

        told = json.loads(remote("lea", "governance", "reviews", f"{MODEL}:1", "--json").stdout)
        assert yes("lea", "--digest", told["digest"][7:19]).returncode == 0
        assert "waits for approval as lead (" in remote("eve", "deploy", MODEL).stderr
        assert remote("leo", "reject", f"{MODEL}:1", "--comment", "PT is worse").returncode == 0
        assert "was rejected by user:leo: PT is worse" in remote("eve", "deploy", MODEL).stderr
        assert yes("leo").returncode == 0
        done = remote("eve", "deploy", MODEL)
        assert done.returncode == 0, done.stderr
    given = asking.ledger.facts(kind="approval.given")
    assert [(each.actor, each.payload.role, each.payload.digest) for each in given] == [
        ("user:lea", "lead", told["digest"]),
        ("user:leo", "lead", told["digest"]),
    ]


def test_tokens_and_reviews_are_the_same_on_postgres(tmp_path: Path) -> None:
    with thrown_away("access") as postgres:
        project = Project(name="pg", root=tmp_path, store=StoreConfig(database=postgres.database("access")))
        made = open_workspace(project=project, actor="user:root")
        lea = create(made, "lea", role="approver", approves=["lead"])
        gone = create(made, "gone", expires="never")
        revoke(made, gone.token, "test")
        thing = "sha256:" + "a" * 64
        with acting(made, "user:ann").ledger.transaction() as tx:
            tx.append(
                ReleaseMade(model="m", release=1, version=1, content=thing),
                outputs=[("release", "release/m/1"), ("content", thing)],
            )
        reject(acting(made, "user:lea"), "m@r1", comment="no")
        assert [each.actor for each in reviews(made, "m@r1").rejections] == ["user:lea"]
        approve(acting(made, "user:lea"), "m@r1", role="lead", comment="yes", expires="1d")
        assert [each.role for each in reviews(made, "m@r1").approvals] == ["lead"]
        assert reviews(made, "m@r1").rejections == ()

        def status(secret: str) -> int:
            headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {secret}".encode())]
            scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
            refusal = asyncio.run(guard.enter(scope))
            return 200 if refusal is None else refusal.status

        guard = Guard(made)
        assert (status(lea.secret), status(gone.secret)) == (200, 401)
        assert {each.holder: each.state for each in tokens(made, every=True)} == {
            "user:lea": "live",
            "user:gone": "revoked",
        }
        assert difference(made.ledger) == []
        rebuild(made.ledger)
        assert difference(made.ledger) == []
        made.ledger.database.close()
