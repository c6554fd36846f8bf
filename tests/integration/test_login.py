"""Logins with real processes: a server, an OpenID provider, the command line and a browser's cookies."""

from __future__ import annotations

import html
import http.server
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from postgres_server import thrown_away
from served import free_port
from serving_client import wait_for

from noria.bootstrap import open_workspace
from noria.config import Project, StoreConfig
from noria.governance.claims import Grant, IdentityRefused
from noria.governance.sessions import Subject, close, once, open_session
from noria.governance.tokens import tokens
from noria.store.replay import difference, rebuild
from oidc_provider import CLIENT, SECRET, Provider, provider

TOML = """
[project]
name = "shop"
[server]
port = {port}
[access]
url = "http://localhost:{port}"
[access.login.corp]
issuer = "{people}"
client_id = "{client}"
client_secret = "env:NORIA_TEST_SECRET"
roles = {{ viewer = ["all"], admin = ["platform"] }}
[access.workload.github]
issuer = "{jobs}"
audience = "https://noria.test"
[[access.workload.github.allow]]
match = {{ repository = "acme/churn", ref = ["refs/heads/main", "refs/tags/v*"] }}
role = "editor"
"""


@dataclass
class Site:
    """A project that a server answers for, its provider of people, its platform of jobs, and a home folder."""

    root: Path
    port: int
    people: Provider
    jobs: Provider
    home: Path

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("NORIA_", "ACTIONS_"))}
        gone = ("DISPLAY", "WAYLAND_DISPLAY")
        clean = {name: value for name, value in clean.items() if name not in gone}
        return {**clean, "XDG_CONFIG_HOME": str(self.home), "NORIA_TEST_SECRET": SECRET}

    @property
    def credentials(self) -> Path:
        return self.home / "noria" / "credentials.json"

    def noria(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """One command line, as a person would type it."""
        return subprocess.run(
            [sys.executable, "-m", "noria", *words], cwd=self.home, env={**self.environment, **more},
            check=False, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    @contextmanager
    def up(self) -> Iterator[subprocess.Popen[str]]:
        """`noria up`, ready."""
        process = subprocess.Popen(
            [sys.executable, "-m", "noria", "up"],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            wait_for(lambda: self._is_ready(process), limit_s=60, what="the server")
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
            assert process.stdout is not None
            process.stdout.close()

    def _is_ready(self, process: subprocess.Popen[str]) -> bool:
        assert process.poll() is None, "the server ended"
        return self.is_answering()

    def is_answering(self) -> bool:
        """Whether the server answers."""
        try:
            return httpx.get(f"{self.url}/healthz").status_code == 200
        except httpx.HTTPError:
            return False


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A project with a provider of each kind; nothing of it runs yet but those."""
    port = free_port()
    root, home = tmp_path / "project", tmp_path / "home"
    root.mkdir()
    home.mkdir()
    with provider(redirects=[f"http://localhost:{port}/callback"]) as people, provider() as jobs:
        people.user["groups"] = ["all"]
        text = TOML.format(port=port, people=people.issuer, jobs=jobs.issuer, client=CLIENT)
        (root / "noria.toml").write_text(text, encoding="utf-8")
        yield Site(root, port, people, jobs, home)


@contextmanager
def github(jobs: Provider) -> Iterator[tuple[str, str, list[str]]]:
    """What a runner of GitHub Actions serves to its job: (address, bearer, the audiences that were asked for)."""
    bearer, asked = "of-the-runner", list[str]()

    class Runner(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            good = self.headers["authorization"] == f"bearer {bearer}"
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            asked.extend(query["audience"] if good else [])
            token = jobs.token(aud=query["audience"][0]) if good else ""
            body = json.dumps({"count": 1, "value": token}).encode()
            self.send_response(200 if good else 401)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Runner)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/idtoken?api-version=2.0", bearer, asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def log_in(site: Site, *words: str) -> tuple[subprocess.Popen[str], str]:
    """Begin `noria login`; gives the process and the address that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "noria", "login", site.url, "--no-browser", *words], cwd=site.home,
        env=site.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    lines = [process.stderr.readline(), process.stderr.readline()]
    code = re.search(r"code +([0-9A-F]{4}-[0-9A-F]{4})", lines[0])
    address = re.search(r"open +(http\S+)", lines[1])
    assert code is not None, lines
    assert address is not None, lines
    with httpx.Client(follow_redirects=True) as browser:
        page = browser.get(address[1])
    assert page.status_code == 200, page.text
    assert code[1] in page.text
    link = re.search(r'href="(http://127\.0\.0\.1:\d+/callback[^"]*)"', page.text)
    assert link is not None, page.text
    return process, html.unescape(link[1])


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """How a process ended, and what it said."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_a_person_logs_in_at_the_command_line_works_and_logs_out(site: Site) -> None:
    with site.up():
        process, link = log_in(site, "--json")
        assert httpx.get(link.replace("state=", "state=x")).status_code == 404, "another login's way back"
        assert process.poll() is None
        assert "close this page" in httpx.get(link).text
        code, out, err = finished(process)
        assert code == 0, err
        told = json.loads(out)
        assert (told["holder"], told["role"], told["server"]) == ("user:ann@corp", "viewer", site.url)
        assert stat.S_IMODE(site.credentials.stat().st_mode) == 0o600
        token = json.loads(site.credentials.read_text())[site.url]["token"]
        assert token not in out + err
        place: Mapping[str, str] = {"NORIA_SERVER": site.url}
        assert site.noria("registry", "list", **place).returncode == 0
        refused = site.noria("token", "list", **place)
        assert refused.returncode == 2
        assert "user:ann@corp may not do this" in refused.stderr

        site.credentials.chmod(0o644)
        unsafe = site.noria("registry", "list", **place)
        assert unsafe.returncode == 2
        assert "others may read" in unsafe.stderr
        site.credentials.chmod(0o600)

        out_of = site.noria("logout", **place)
        assert out_of.returncode == 0, out_of.stderr
        assert token not in site.credentials.read_text()
        assert httpx.get(f"{site.url}/", headers={"authorization": f"Bearer {token}"}).status_code == 401
        again = site.noria("registry", "list", **place)
        assert again.returncode == 2
        assert "noria login" in again.stderr
        assert site.noria("logout", **place).returncode == 2
    for path in site.root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert token.encode() not in content, path
            assert SECRET.encode() not in content, path


def test_a_job_of_ci_changes_its_token_and_works(site: Site) -> None:
    with site.up():
        done = site.noria("login", site.url, "--workload", NORIA_ID_TOKEN=site.jobs.token(ref="refs/tags/v1"))
        assert done.returncode == 0, done.stderr
        assert "service:repo-acme-churn-" in done.stdout
        assert "nor_" not in done.stdout
        assert site.noria("registry", "list", NORIA_SERVER=site.url).returncode == 0
        other = site.noria("login", site.url, "--workload", "--show-token", NORIA_ID_TOKEN=site.jobs.token())
        assert re.fullmatch(r"nor_[0-9a-f]{12}_[A-Za-z0-9_-]{43}\n", other.stdout), other.stderr
        assert other.stderr == ""
        file = site.home / "id-token"
        file.write_text(site.jobs.token(ref="refs/heads/other") + "\n", encoding="utf-8")
        refused = site.noria("login", site.url, "--workload", NORIA_ID_TOKEN_FILE=str(file))
        assert refused.returncode == 2
        assert "no rule lets this workload in: what it says as ref" in refused.stderr
        assert len(refused.stderr.splitlines()) <= 6
        nothing = site.noria("login", site.url, "--workload")
        assert nothing.returncode == 2
        assert "has no identity token" in nothing.stderr
        clear = site.noria("login", "http://noria.example.org", "--workload", NORIA_ID_TOKEN="x")
        assert clear.returncode == 2
        assert "in the clear" in clear.stderr
    ws = open_workspace(site.root, actor="user:test")
    kinds = [
        each.fact.kind for each in ws.ledger.facts() if each.fact.kind.split(".")[0] in ("token", "login", "identity")
    ]
    assert kinds == ["identity.bound", "token.created", "token.created", "login.refused"]
    assert difference(ws.ledger) == []
    ws.ledger.database.close()


def test_a_job_of_github_asks_its_platform_for_a_token(site: Site) -> None:
    """The address and the bearer are in the job's environment; the answer is `{"value": TOKEN}`."""
    with site.up(), github(site.jobs) as (url, bearer, asked):
        environment = {"ACTIONS_ID_TOKEN_REQUEST_URL": url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": bearer}
        done = site.noria("login", site.url, "--workload", "--audience", "https://noria.test", **environment)
        assert done.returncode == 0, done.stderr
        assert asked == ["https://noria.test"]
        wrong = site.noria("login", site.url, "--workload", **{**environment, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x"})
        assert wrong.returncode == 3
        assert "GitHub gave no identity token" in wrong.stderr


def test_a_session_outlives_a_server_that_was_killed(site: Site) -> None:
    with httpx.Client(follow_redirects=True, headers={"accept": "text/html"}) as browser:
        with site.up():
            page = browser.get(f"{site.url}/")
            assert page.status_code == 200
            assert "user:ann@corp" in page.text
            process, link = log_in(site)
            children = json.loads((site.root / ".noria" / "up.json").read_text(encoding="utf-8"))["children"]
            os.kill(children["server"], signal.SIGKILL)
            wait_for(site.is_answering, limit_s=60, what="the server after the kill")
            httpx.get(link)
            code, _, err = finished(process)
            assert code == 0, err
        site.people.status = 503
        with site.up():
            assert browser.get(f"{site.url}/").status_code == 200, "the provider is not asked again"
            browser.post(f"{site.url}/logout")
            away = browser.get(f"{site.url}/")
            assert away.status_code == 503
            assert "provider" in away.text


def test_a_server_does_not_start_without_what_its_providers_need(site: Site) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "noria", "up"], cwd=site.root, env={**site.environment, "NORIA_TEST_SECRET": ""},
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "the variable NORIA_TEST_SECRET is not set" in refused.stderr
    without = site.root / "without"
    without.mkdir()
    (without / "jwt.py").write_text("raise ImportError('as if it were not installed')\n", encoding="utf-8")
    refused = subprocess.run(
        [sys.executable, "-m", "noria", "up"], cwd=site.root, env={**site.environment, "PYTHONPATH": str(without)},
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "noria[oidc]" in refused.stderr


def test_beyond_this_machine_a_provider_is_enough_to_start(site: Site) -> None:
    toml = site.root / "noria.toml"
    toml.write_text(toml.read_text().replace("[server]", '[server]\nhost = "0.0.0.0"'), encoding="utf-8")
    with site.up():
        assert httpx.get(f"{site.url}/metrics").status_code == 401
        assert httpx.post(f"{site.url}/api/v1/data/list", json={}).status_code == 401


def test_sessions_are_the_same_on_postgres(tmp_path: Path) -> None:
    with thrown_away("logins") as postgres:
        project = Project(name="pg", root=tmp_path, store=StoreConfig(database=postgres.database("logins")))
        ws = open_workspace(project=project, actor="service:server")
        who = Subject(kind="user", provider="corp", issuer="https://a.test", subject="1", wanted="ann")
        other = Subject(kind="user", provider="corp", issuer="https://b.test", subject="1", wanted="ann")
        grant = Grant(role="viewer", life="1h")
        made = open_session(ws, who, grant, way="browser", used=once("a"))
        with pytest.raises(IdentityRefused):
            open_session(ws, who, grant, way="browser", used=once("a"))
        assert open_session(ws, other, grant, way="browser").holder not in ("user:ann@corp",)
        assert close(ws, made.token)
        ws.jobs.acquire("login-code/x", owner="login", ttl_s=0, data={})
        ws.jobs.forget("login-code/")
        assert ws.jobs.leases("login-code/") == []
        assert [each.state for each in tokens(ws, every=True)] == ["revoked", "live"]
        assert difference(ws.ledger) == []
        rebuild(ws.ledger)
        assert difference(ws.ledger) == []
        ws.ledger.database.close()
