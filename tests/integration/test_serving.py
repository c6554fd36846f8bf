"""A real server process: answers, bad input, swaps under load, kill -9, rollouts judged by their log."""

from __future__ import annotations

import itertools
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from serving_client import Answers, ServerProcess, load, serving, under_load, wait_for
from serving_project import MODEL, TOML, make_project, make_release, rows
from stored_bytes import damaged

from noria.bootstrap import open_workspace
from noria.core.errors import Conflict, Corrupt
from noria.packaging import bundle as bundles
from noria.project.explain import explain
from noria.registry import records as registry_records
from noria.serving import capture, follow, records
from noria.serving.advance import Watch, advance, replay
from noria.serving.deployment import deploy, promote, rollback
from noria.store.workspace import Workspace

ROLLOUT = ("shadow 150 requests", "canary 20% 60 requests", "canary 50% 120 requests", "100%")
POLICY = """
[model.late.deploy]
path = {path}
abort = {{ errors = 0.05, p99_ms = 2000 }}
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two validated releases, the first deployed. Copied by each test that changes what answers."""
    ws = make_project(tmp_path_factory.mktemp("late") / "project", POLICY.format(path=json.dumps(ROLLOUT)))
    make_release(ws, 0)
    shipped = deploy(ws, MODEL)
    assert (shipped.action, shipped.release) == ("deployed", 1)
    make_release(ws, 1)
    ws.ledger.database.close()
    return ws.project.root


def copied(template: Path, root: Path, *, at_once: bool = False) -> Workspace:
    """The project as a copy of its own; `at_once` lets a promotion go to 100 % without a rollout."""
    shutil.copytree(template, root)
    if at_once:
        (root / "noria.toml").write_text(TOML + POLICY.format(path='["100%"]'), encoding="utf-8")
    return open_workspace(root, actor="user:ann")


@contextmanager
def served(ws: Workspace) -> Iterator[ServerProcess]:
    """A server of a project that is known to answer."""
    with serving(ws.project.root) as process:
        wait_for(lambda: process.process.pid in pids(ws), what="the server's lease")
        yield process


@pytest.fixture(scope="module")
def built(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The project of the tests that only ask: the first release answers from the first to the last of them."""
    return copied(template, tmp_path_factory.mktemp("asked") / "project")


@pytest.fixture(scope="module")
def server(built: Workspace) -> Iterator[ServerProcess]:
    with served(built) as process:
        yield process


@pytest.fixture
def own(template: Path, tmp_path: Path) -> Workspace:
    """A project of the test's own."""
    return copied(template, tmp_path / "project")


@pytest.fixture
def own_server(own: Workspace) -> Iterator[ServerProcess]:
    with served(own) as process:
        yield process


def pids(ws: Workspace) -> set[object]:
    """The processes that answer for a project."""
    return {found["pid"] for found in follow.servers(ws)}


def traffic(prefix: str, count: int | None = None, seed: int = 3) -> Iterator[dict[str, Any]]:
    """Requests with ids of their own."""
    pool = rows(200, seed)
    numbers = range(count) if count is not None else itertools.count()
    for number in numbers:
        yield {"id": f"{prefix}-{number}", "at": "2026-03-01T00:00:00Z", "row": pool[number % len(pool)]}


def check_true(ws: Workspace, answers: Answers) -> None:
    """Every answer is the score of its own row by the release that it names."""
    predictors = {}
    by_release: dict[int, list[tuple[dict[str, Any], float]]] = {}
    for request, status, body, _ in answers.found:
        assert status == 200, body
        assert body["id"] == request["id"]
        by_release.setdefault(body["release"], []).append((request["row"], body["score"]))
    for release, pairs in by_release.items():
        with ws.ledger.read() as tx:
            record = registry_records.release(tx, MODEL, release)
        assert record is not None
        digest = ws.objects.get_json(record.content)["bundle"]
        predictors[release] = bundles.load(ws, digest)
        expected = predictors[release].predict([row for row, _ in pairs])
        assert [score for _, score in pairs] == pytest.approx(list(expected), abs=1e-12)


def test_every_caller_gets_the_score_of_its_own_row(built: Workspace, server: ServerProcess) -> None:
    answers = load(server.port, traffic("own", 600), at_once=48)
    assert len(answers.found) == 600
    check_true(built, answers)
    table = capture.predictions(built, MODEL)
    logged = {row["rid"]: row for row in table.select(["rid", "y", "b"]).to_pylist()}
    for request, _, body, _ in answers.found:
        assert logged[request["id"]]["y"] == body["score"]
    batches = {logged[request["id"]]["b"] for request, _, _, _ in answers.found}
    assert len(batches) < 600, "requests that waited together were predicted together"


def test_several_rows_in_one_request_come_back_in_order(built: Workspace, server: ServerProcess) -> None:
    pool = rows(7, 9)
    status, body = server.post("/predict/late", json.dumps({"id": "many", "rows": pool}).encode())
    assert status == 200
    singles = [server.post("/predict", json.dumps({"row": row}).encode())[1]["score"] for row in pool]
    assert body["score"] == singles
    assert len(set(body["prediction_id"])) == 7


def test_the_open_inference_protocol_answers_as_predict_does(server: ServerProcess) -> None:
    pool = rows(3, 11)
    inputs = [
        {
            "name": name,
            "shape": [3, 1] if name == "n0" else [3],
            "datatype": "BYTES" if isinstance(pool[0][name], str) else "FP64",
            "data": [row[name] for row in pool],
        }
        for name in pool[0]
    ]
    status, body = server.post("/v2/models/late/infer", json.dumps({"id": "v2-1", "inputs": inputs}).encode())
    assert status == 200, body
    outputs = {output["name"]: output for output in body["outputs"]}
    _, plain = server.post("/predict", json.dumps({"rows": pool}).encode())
    assert (body["model_name"], body["id"], body["model_version"]) == ("late", "v2-1", str(plain["release"]))
    assert outputs["score"]["data"] == plain["score"]
    assert outputs["label"]["data"] == plain["label"]
    assert outputs["score"]["shape"] == [3]
    status, content = server.get("/v2/models/late")
    described = json.loads(content)
    assert status == 200
    assert {column["name"] for column in described["inputs"]} == set(pool[0])
    assert json.loads(server.get("/v2/health/ready")[1]) == {"live": True, "ready": True}
    assert server.get("/v2")[0] == server.get("/v2/")[0] == 200


GOOD = rows(1, 5)[0]
MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "no json": b"{",
    "not utf-8": b'{"row": {"a": "\xff\xfe"}}',
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "no row": b'{"id": "x"}',
    "row is a list": b'{"row": [1, 2]}',
    "row is null": b'{"row": null}',
    "row and rows": json.dumps({"row": GOOD, "rows": [GOOD]}).encode(),
    "rows empty": b'{"rows": []}',
    "rows of numbers": b'{"rows": [1]}',
    "unknown key": json.dumps({"row": GOOD, "rwo": 1}).encode(),
    "id is an object": json.dumps({"row": GOOD, "id": {}}).encode(),
    "id too long": json.dumps({"row": GOOD, "id": "x" * 10_000}).encode(),
    "id is a boolean": json.dumps({"row": GOOD, "id": True}).encode(),
    "at is no time": json.dumps({"row": GOOD, "at": "yesterday"}).encode(),
    "missing column": json.dumps({"row": {k: v for k, v in GOOD.items() if k != "n3"}}).encode(),
    "extra column": json.dumps({"row": {**GOOD, "n99": 1}}).encode(),
    "wrong type": json.dumps({"row": {**GOOD, "n0": "three"}}).encode(),
    "nested value": json.dumps({"row": {**GOOD, "n0": {"a": 1}}}).encode(),
    "boolean for a number": json.dumps({"row": {**GOOD, "n0": True}}).encode(),
    "huge integer": json.dumps({"row": GOOD}).replace(str(GOOD["n0"]), "1" * 400).encode(),
    "huge exponent": json.dumps({"row": {**GOOD, "n0": 0.5}}).replace("0.5", "1e999").encode(),
    "nan": json.dumps({"row": {**GOOD, "n0": float("nan")}}).encode(),
    "lone surrogate in a column": json.dumps({"row": {**GOOD, "carrier": "\ud800"}}).encode(),
    "lone surrogate in the id": json.dumps({"row": {"a": 1}, "id": "\ud800"}).encode(),
    "deep arrays": b'{"row": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"row": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    "deep unclosed": b"[" * 200_000,
    "trailing garbage": json.dumps({"row": GOOD}).encode() + b"x",
    "nul bytes": b"\x00" * 100,
    "oversized": b'{"row": "' + b"x" * (9 * 1024 * 1024) + b'"}',
}


@pytest.mark.parametrize("name", sorted(MALFORMED))
def test_a_malformed_body_is_refused_with_an_error_and_the_process_lives(name: str, server: ServerProcess) -> None:
    pid = server.process.pid
    status, body = server.post("/predict", MALFORMED[name])
    if name in ("lone surrogate in a column",) and status == 200:
        return  # an unseen category is a legal level for this model
    assert 400 <= status < 500, body
    assert set(body["error"]) == {"code", "message", "where", "hint"}
    assert body["error"]["message"]
    assert server.process.poll() is None
    assert server.process.pid == pid
    assert server.post("/predict", json.dumps({"row": GOOD}).encode())[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"inputs": []}',
        b'{"inputs": [{"name": "n0", "shape": [1], "datatype": "FP64", "data": [1]}]}',
        b'{"inputs": [{"name": "n0", "shape": [2], "datatype": "FP64", "data": [1]}]}',
        b'{"inputs": [{"name": "n0", "shape": [-1], "datatype": "FP64", "data": []}]}',
        b'{"inputs": [{"name": "n0", "shape": [0], "datatype": "FP64", "data": []}]}',
        b'{"inputs": [{"name": "n0", "shape": [], "datatype": "FP64", "data": [1]}]}',
        b'{"inputs": [{"name": "n0", "shape": [1], "datatype": "FP64", "data": ["a"]}]}',
        b'{"inputs": [{"name": "n0", "shape": [1], "datatype": "WORDS", "data": ["a"]}]}',
        b'{"inputs": [{"name": "n0", "shape": [1], "datatype": "FP64", "data": [[[[1]]]]}]}',
        b'{"inputs": [{"name": "n0", "shape": [1], "datatype": "INT64", "data": [1.5]}]}',
        b'{"inputs": ' + b"[" * 50_000,
        b'{"inputs": [{"name": "n0", "shape": [99999999999999999999], "datatype": "FP64", "data": [1]}]}',
    ],
)
def test_a_malformed_tensor_is_refused_with_an_error(body: bytes, server: ServerProcess) -> None:
    status, found = server.post("/v2/models/late/infer", body)
    assert 400 <= status < 500, found
    assert found["error"]["message"]


def test_a_misfit_names_its_column_and_spoils_no_other_request(built: Workspace, server: ServerProcess) -> None:
    def mixed() -> Iterator[dict[str, Any]]:
        for number, request in enumerate(traffic("mixed", 300)):
            if number % 7 == 0:
                request = {**request, "row": {**request["row"], "n2": "much"}}
            yield request

    answers = load(server.port, mixed(), at_once=32)
    bad = [(request, status, body) for request, status, body, _ in answers.found if request["row"]["n2"] == "much"]
    assert len(bad) == 43
    assert all(status == 400 and body["column"] == "n2" and body["id"] == r["id"] for r, status, body in bad)
    good = Answers(found=[answer for answer in answers.found if answer[0]["row"]["n2"] != "much"])
    check_true(built, good)


def test_wrong_paths_and_methods_are_answered(server: ServerProcess) -> None:
    assert server.post("/predict/nobody", json.dumps({"row": GOOD}).encode())[0] == 404
    assert server.get("/predict")[0] == 405
    assert server.get("/v2/models/nobody")[0] == 404
    assert server.get("/v2/models/late/versions/99")[0] == 404
    assert server.get("/v2/nothing")[0] == 404
    assert server.raw(b"NONSENSE\r\n\r\n")[0] == 400
    looked_at = ["/metrics", "/healthz", *(f"/v2{rest}" for rest in ("", "/models", "/models/late", "/health/live"))]
    looked_at.append("/v2/models/late/ready")
    for path, method in itertools.product(looked_at, ("DELETE", "POST", "PUT")):
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        status, body = server.raw(head.encode())
        assert (status, json.loads(body)["error"]["code"]) == (405, "usage"), (method, path)
        assert server.raw(head.replace(method, "HEAD", 1).encode()) == (200, b""), path
    assert server.post("/predict", json.dumps({"row": GOOD}).encode(), "origin: http://evil.example")[0] == 403


def test_labels_are_on_disk_before_they_are_acknowledged(built: Workspace, server: ServerProcess) -> None:
    labels = [{"id": f"told-{number}", "label": number % 2, "at": "2026-03-05T00:00:00Z"} for number in range(50)]
    status, body = server.post("/v2/models/late/feedback", json.dumps({"labels": labels}).encode())
    assert (status, body) == (200, {"accepted": 50})
    place = built.project.state / "labels" / MODEL
    lines = b"".join(path.read_bytes() for path in place.glob("*.log")).splitlines()
    assert [json.loads(line[9:])["id"] for line in lines] == [label["id"] for label in labels]
    assert server.post("/v2/models/late/feedback", b'{"labels": [{"label": 1}]}')[0] == 400
    assert server.post("/v2/models/late/feedback", b"[" * 10_000)[0] == 400


def test_a_label_is_taken_back_by_null_and_explain_says_so(built: Workspace, server: ServerProcess) -> None:
    body = json.dumps({"id": "taken-back", "row": GOOD, "at": "2026-03-05T00:00:00Z"}).encode()
    assert server.post("/predict", body)[0] == 200

    def told() -> list[str]:
        return [link.text for link in explain(built, "taken-back").links if link.what == "label"]

    for label, said in ((1, "the outcome was 1"), (None, "the label was taken back"), (0, "the outcome was 0")):
        given = json.dumps({"labels": [{"id": "taken-back", "label": label}]}).encode()
        assert server.post("/v2/models/late/feedback", given) == (200, {"accepted": 1})
        assert told() == [said]


def test_metrics_are_what_prometheus_reads(server: ServerProcess) -> None:
    assert server.post("/predict", json.dumps({"row": GOOD}).encode())[0] == 200
    status, content = server.get("/metrics")
    assert status == 200
    text = content.decode()
    assert 'noria_deployment_seq{model="late"}' in text
    assert 'noria_requests_total{model="late",release="1",arm="stable",status="200"}' in text
    for line in text.splitlines():
        assert line.startswith("#") or float(line.rpartition(" ")[2]) >= 0


def mixed_batches(ws: Workspace) -> list[list[str]]:
    """The arms, in the order of the log, of every batch that has many of both."""
    batches: dict[int, list[str]] = {}
    for path in sorted((ws.project.state / "predictions" / MODEL).glob("*.log")):
        for line in path.read_bytes().splitlines():
            found = json.loads(line[9:])
            if "pi" in found:
                batches.setdefault(found["b"], []).append(found["arm"])
    mixed = [arms for arms in batches.values() if min(Counter(arms).get(arm, 0) for arm in ("stable", "candidate")) > 5]
    assert mixed, "there was a canary under load"
    return mixed


def is_grouped(arms: list[str]) -> bool:
    """Does one arm come as a whole before the other?"""
    return sum(one != other for one, other in itertools.pairwise(arms)) == 1


def test_a_rollout_is_carried_to_production_by_its_traffic(own: Workspace, own_server: ServerProcess) -> None:
    started = promote(own, MODEL)
    assert started.action == "rollout started"
    with pytest.raises(Conflict):
        promote(own, MODEL)
    watch = Watch()
    with under_load(own_server.port, traffic("roll"), at_once=24) as answers:
        last = wait_for(lambda: _judge(own, watch), limit_s=60, what="the rollout's end")
    assert last.outcome == "promoted", last
    assert not all(is_grouped(arms) for arms in mixed_batches(own)), "a reader in between sees both arms as they came"
    check_true(own, answers)
    with own.ledger.read() as tx:
        steps = records.step_deployments(tx, started.rollout)
        live = registry_records.production(tx, MODEL)
        current = records.deployment(tx, MODEL)
        ended_record = records.rollout(tx, started.rollout)
    assert sorted(steps.values()) == [0, 1, 2], "every step was in force once"
    assert live is not None
    assert current is not None
    assert ended_record is not None
    assert (live.release, current.production, current.kept) == (2, 2, (1,))
    # A judge that remembers nothing comes to the same counts from the log alone, and those that came after.
    again: Any = replay(own, started.rollout).evidence
    then: Any = ended_record.evidence
    for guard, numbers in again["guards"].items():
        assert numbers["candidate_n"] >= then["guards"][guard]["candidate_n"]
    assert again["requests"]["0"] >= 150


def _judge(ws: Workspace, watch: Watch) -> Any:
    progress = advance(ws, MODEL, watch)
    return progress if progress is not None and progress.outcome != "open" else None


def test_rollback_and_forward_again_under_load_lose_nothing(template: Path, tmp_path: Path) -> None:
    ws = copied(template, tmp_path / "project", at_once=True)
    with served(ws) as server, under_load(server.port, traffic("back"), at_once=24) as answers:
        assert promote(ws, MODEL).action == "rollout started"
        moves = [rollback(ws, MODEL, to=target, reason="test") for target in (1, 2, 1, 2, 1, 2)]
    assert [move.release for move in moves] == [1, 2, 1, 2, 1, 2]
    assert all(move.acknowledged == move.servers == 1 for move in moves)
    assert all(move.ms < 1000 for move in moves), [move.ms for move in moves]
    assert answers.broken == 0
    assert answers.failed == 0
    check_true(ws, answers)
    assert {body["release"] for _, _, body, _ in answers.found} == {1, 2}


def test_a_release_with_an_altered_file_is_not_gone_back_to(template: Path, tmp_path: Path) -> None:
    ws = copied(template, tmp_path / "project", at_once=True)
    promote(ws, MODEL)
    assert [rollback(ws, MODEL, to=target).release for target in (1, 2)] == [1, 2]
    with ws.ledger.read() as tx:
        first = registry_records.release(tx, MODEL, 1)
        before = records.deployment(tx, MODEL)
    assert first is not None
    files = bundles.read(ws, ws.objects.get_json(first.content)["bundle"]).files.entries
    (model,) = (entry for entry in files if "model" in entry.path)
    content = ws.objects.get_bytes(model.digest)
    damaged(ws.project.root / ".noria" / "objects", content, content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(Corrupt, match=r"late r1 cannot answer: object .* was altered"):
        rollback(ws, MODEL, to=1)
    with ws.ledger.read() as tx:
        assert records.deployment(tx, MODEL) == before


def test_what_is_live_and_was_altered_is_not_said_to_be_live_already(template: Path, tmp_path: Path) -> None:
    ws = copied(template, tmp_path / "project", at_once=True)
    assert deploy(ws, f"{MODEL}@r1").action == "already live"
    with ws.ledger.read() as tx:
        live = registry_records.release(tx, MODEL, 1)
    assert live is not None
    files = bundles.read(ws, ws.objects.get_json(live.content)["bundle"]).files.entries
    (model,) = (entry for entry in files if "model" in entry.path)
    content = ws.objects.get_bytes(model.digest)
    damaged(ws.project.root / ".noria" / "objects", content, content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(Corrupt, match=r"late r1 cannot answer: object .* was altered"):
        deploy(ws, f"{MODEL}@r1")


def has_more(answers: Answers, count: int) -> bool:
    return len(answers.found) > count


def test_kill_9_loses_no_answer_and_the_client_only_reconnects(own: Workspace, own_server: ServerProcess) -> None:
    with under_load(own_server.port, traffic("kill")) as answers:
        for _ in range(3):
            count = len(answers.found)
            own_server.kill()
            own_server.start()
            wait_for(lambda: own_server.process.pid in pids(own), what="a new lease")
            wait_for(partial(has_more, answers, count + 50), what="answers of the new server")
    assert answers.broken >= 3
    assert answers.failed == 0
    check_true(own, answers)
    everything = capture.predictions(own, MODEL, every=True)
    ids = set(everything["id"].to_pylist())
    assert all(body["prediction_id"] in ids for _, _, body, _ in answers.found), "an answered row is not in the log"
    table = capture.predictions(own, MODEL)
    assert len(set(table["rid"].to_pylist())) == table.num_rows


def test_sealing_keeps_every_row_and_finds_it_by_either_id(own: Workspace, own_server: ServerProcess) -> None:
    for number in range(2):
        load(own_server.port, traffic(f"seal{number}", 200))
        own_server.kill()
        own_server.start()
        wait_for(lambda: own_server.process.pid in pids(own), what="a new lease")
    load(own_server.port, traffic("open", 100))
    before = capture.predictions(own, MODEL)
    assert before.num_rows == 500
    assert capture.seal(own) == 2, "the files of the killed servers are closed, and that of the living one is not"
    assert capture.seal(own) == 0
    after = capture.predictions(own, MODEL)
    assert after.num_rows == before.num_rows
    assert after.select(["rid", "id", "y", "rel", "x_n0", "x_carrier"]).equals(
        before.select(["rid", "id", "y", "rel", "x_n0", "x_carrier"])
    )
    row = after.slice(after.num_rows // 2, 1).to_pylist()[0]
    for name in (row["id"], row["rid"]):
        found = capture.find(own, name)
        assert (found["id"], found["y"], found["rel"]) == (row["id"], row["y"], row["rel"])
        assert found["x"]["n0"] == row["x_n0"]
    assert Path(own.objects.path(_segment(own))).exists()


def _segment(ws: Workspace) -> str:
    with ws.ledger.read() as tx:
        return records.segments(tx, MODEL)[0].segment
