"""Evaluation data sets: what was answered survives a kill, two writers lose nothing, what was deleted really goes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from postgres_server import thrown_away

from noria.bootstrap import open_workspace
from noria.catalog import filing
from noria.config import Project, StoreConfig
from noria.core.errors import NotFound
from noria.data.collect import gc
from noria.evalsets import keeping, merging, records
from noria.evalsets.facts import EvalsetDeleted, RecordBody, RecordsMerged
from noria.evalsets.merging import Given
from noria.governance.audit import verify
from noria.store.replay import difference
from noria.store.workspace import Workspace
from noria.traces import keeping as traces
from noria.traces import records as trace_records

LIMIT_S = 120.0


class Later:
    """The wall's clock, but some days ahead: what was stored a moment ago is old."""

    def __init__(self) -> None:
        self.ahead = timedelta(days=2)

    def now(self) -> datetime:
        """Now, and some days."""
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "project"
    root.mkdir()
    workspace = open_workspace(project=Project(name="test", root=root), actor="user:test", clock=Later())
    yield workspace
    workspace.ledger.database.close()


def said(ws: Workspace, evalset: str) -> list[dict[str, Any]]:
    """What the records say, as they came."""
    found, has_more = merging.page(ws, evalset, limit=10_000)
    assert not has_more
    return [dict(each.said) for each in found]


def stored(ws: Workspace, word: str) -> int:
    """How many objects hold a word, the trash included."""
    names = list(ws.objects.names())
    return sum(word.encode() in content for _, content in ws.objects.get_many(names))


def test_what_was_deleted_goes_with_the_next_collection_and_the_facts_stay(ws: Workspace) -> None:
    kept = keeping.create(ws, "kept", experiments=[], tags={})
    gone = keeping.create(ws, "gone", experiments=[], tags={})
    merging.merge(ws, kept, [Given(inputs={"q": "secret one"}), Given(inputs={"q": "open two"})])
    merging.merge(ws, kept, [Given(inputs={"q": "open two"}, outputs="secret three", says_outputs=True)])
    merging.merge(ws, kept, [Given(inputs={"q": "open two"}, outputs="open four", says_outputs=True)])
    merging.merge(ws, gone, [Given(inputs={"q": "secret five", "secret six": 1}), Given(inputs={"q": "open two"})])
    with ws.ledger.read() as tx:
        first = records.page(tx, kept, behind=None, skip=0, limit=1)[0].record
    assert merging.remove(ws, kept, [first, "nobody"]) == 1
    keeping.delete(ws, gone)
    head = ws.ledger.head()
    assert stored(ws, "secret") == 4
    gc(ws, sweep=True)
    assert isinstance(ws.clock, Later)
    ws.clock.ahead += timedelta(days=8)
    assert gc(ws, sweep=True).purged >= 4
    assert stored(ws, "secret") == 0
    assert [(each["inputs"], each["outputs"]) for each in said(ws, kept)] == [({"q": "open two"}, "open four")]
    assert ws.ledger.head() == head
    assert not any("secret" in each.body for each in ws.ledger.bodies())
    assert difference(ws.ledger) == []
    assert verify(ws).ok
    with pytest.raises(NotFound):
        merging.merge(ws, gone, [])


def test_a_deleted_trace_goes_with_the_next_collection_and_what_others_say_alike_stays(ws: Workspace) -> None:
    filing.ensure_default(ws)
    for name in ("kept", "gone"):
        asked = "open question"
        traces.log(ws, traces.Said(trace=name, experiment=0, began_ms=1, took_ms=1, state="OK", asked=asked))
        own = {"span_id": "1", "secret" if name == "gone" else "open": 1}
        spans = traces.Spans(trace=name, began_ms=1, ended_ms=2, state="OK", spans=[own])
        traces.keep_spans(ws, 0, [spans])
        traces.assess(ws, name, "good", {"feedback": {"value": 1}})
    judged = traces.assess(ws, "kept", "bad", {"rationale": "secret"})
    traces.remove_assessment(ws, "kept", judged)
    traces.delete(ws, 0, upto_ms=None, names=["gone"], limit=9)
    assert stored(ws, "secret") == 2
    gc(ws, sweep=True)
    assert isinstance(ws.clock, Later)
    ws.clock.ahead += timedelta(days=8)
    gc(ws, sweep=True)
    assert stored(ws, "secret") == 0
    assert stored(ws, "open question") == 1
    assert verify(ws).ok
    with ws.ledger.read() as tx:
        assert traces.spans_of(ws, trace_records.span_objects(tx, ["kept"]))["kept"] == [{"span_id": "1", "open": 1}]
        assert [each.name for each in trace_records.assessments(tx, ["kept"])["kept"]] == ["good"]


def test_what_was_said_before_stays_where_another_fact_names_it(ws: Workspace) -> None:
    filing.ensure_default(ws)
    traces.log(ws, traces.Said(trace="t", experiment=0, began_ms=1, took_ms=1, state="OK", asked="both"))
    with ws.ledger.read() as tx:
        record = trace_records.trace(tx, "t")
    assert record is not None
    with ws.ledger.transaction() as tx:
        tx.append(EvalsetDeleted(evalset="other"), outputs=[("file", record.details)])
    traces.delete(ws, 0, upto_ms=None, names=["t"], limit=9)
    gc(ws, sweep=True)
    assert isinstance(ws.clock, Later)
    ws.clock.ahead += timedelta(days=8)
    gc(ws, sweep=True)
    assert stored(ws, "both") == 1


def test_a_record_keeps_when_it_came_and_tells_when_it_changed(ws: Workspace) -> None:
    made = keeping.create(ws, "times", experiments=[], tags={})
    merging.merge(ws, made, [Given(inputs={"q": 1}, tags={"mlflow.user": "ann"})])
    before = merging.page(ws, made, limit=1)[0][0]
    assert isinstance(ws.clock, Later)
    ws.clock.ahead += timedelta(hours=1)
    merging.merge(ws, made, [Given(inputs={"q": 1}, tags={"mlflow.user": "bob"}, expectations={"a": 1})])
    after = merging.page(ws, made, limit=1)[0][0]
    assert after.row.created_ms == before.row.created_ms == before.row.updated_ms
    assert after.row.updated_ms >= before.row.updated_ms + 3_600_000
    assert (after.said["by"], after.said["updated_by"]) == ("ann", "bob")
    with ws.ledger.read() as tx:
        found = keeping.found(tx, made)
    assert (found.created_by, found.updated_by, found.updated_ms) == (None, "bob", after.row.updated_ms)


def test_a_record_whose_object_is_lost_is_found_by_the_audit(ws: Workspace) -> None:
    made = keeping.create(ws, "lost", experiments=[], tags={})
    assert verify(ws).ok
    lost = RecordBody(record="dr-1", key="k", details=f"sha256:{1:064x}", size=1)
    with ws.ledger.transaction() as tx:
        tx.append(RecordsMerged(evalset=made, at_ms=1, records=(lost,)))
    assert "record dr-1 of records.merged" in str(verify(ws))
    merging.remove(ws, made, ["dr-1"])
    assert verify(ws).ok


def test_what_says_what_it_said_before_is_kept(ws: Workspace) -> None:
    made = keeping.create(ws, "back", experiments=[], tags={})
    for outputs in ("a", "b", "a"):
        merging.merge(ws, made, [Given(inputs={}, outputs=outputs, says_outputs=True)])
    gc(ws, sweep=True)
    assert isinstance(ws.clock, Later)
    ws.clock.ahead += timedelta(days=8)
    gc(ws, sweep=True)
    assert [each["outputs"] for each in said(ws, made)] == ["a"]


def test_three_who_merge_at_once_lose_nothing(ws: Workspace) -> None:
    merge_at_once([ws] * 3)


def test_three_who_merge_at_once_into_postgres_lose_nothing(tmp_path: Path) -> None:
    with thrown_away("merged") as database:
        store = StoreConfig(database=database.database("merged"), objects=str(tmp_path / "objects"))
        roots = [tmp_path / str(who) for who in range(3)]
        for root in roots:
            root.mkdir()
        several = [
            open_workspace(project=Project(name="test", root=root, store=store), actor="user:test", clock=Later())
            for root in roots
        ]
        merge_at_once(several)
        for each in several:
            each.ledger.database.close()


def merge_at_once(several: Sequence[Workspace]) -> None:
    """Three add to the same records at once, each by a workspace of its own, and each has records of its own."""
    ws = several[0]
    made = keeping.create(ws, "shared", experiments=[], tags={})
    rounds, shared = 12, 5
    counted: list[tuple[int, int]] = []

    def work(who: int) -> None:
        for number in range(rounds):
            both = [Given(inputs={"n": each}, expectations={f"{who} {number}": 1}) for each in range(shared)]
            counted.append(merging.merge(several[who], made, [*both, Given(inputs={"own": [who, number]})]))

    threads = [threading.Thread(target=work, args=(who,)) for who in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    found = said(ws, made)
    everything = {f"{who} {number}" for who in range(3) for number in range(rounds)}
    together = [each for each in found if "n" in each["inputs"]]
    assert len(together) == shared
    assert all(set(each["expectations"]) == everything for each in together)
    assert len(found) == shared + 3 * rounds
    assert sum(inserted for inserted, _ in counted) == len(found)
    assert sum(updated for _, updated in counted) == 3 * rounds * shared - shared
    assert difference(ws.ledger) == []


def test_more_than_one_fact_holds_and_more_than_one_page_tells_is_all_there(ws: Workspace) -> None:
    made = keeping.create(ws, "many", experiments=[], tags={})
    many = [Given(inputs={"n": number}) for number in range(2 * merging.A_FACT + 7)]
    assert merging.merge(ws, made, many) == (len(many), 0)
    assert len(ws.ledger.facts(kind="records.merged")) == 3
    behind, seen = None, []
    while True:
        found, has_more = merging.page(ws, made, behind=behind, limit=300)
        seen += [each.said["inputs"]["n"] for each in found]
        if not has_more:
            break
        behind = (found[-1].row.created_ms, found[-1].row.record)
    assert seen == list(range(len(many))), "in the order in which they were given, each once"
    assert merging.remove(ws, made, [each.row.record for each in merging.page(ws, made, limit=9999)[0]]) == len(many)
    assert said(ws, made) == []


def test_a_page_of_large_records_is_short(ws: Workspace) -> None:
    made = keeping.create(ws, "large", experiments=[], tags={})
    large = "x" * (merging.PAGE_BYTES // 3)
    for number in range(4):
        merging.merge(ws, made, [Given(inputs={"n": number, "text": large})])
    found, has_more = merging.page(ws, made, limit=1000)
    assert (len(found), has_more) == (2, True)


class Client:
    """Plain requests on one connection, which is opened again when it breaks."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def call(self, method: str, endpoint: str, given: Any = None) -> Any:
        """The JSON of an answer, None if there was none."""
        try:
            body = None if given is None else json.dumps(given)
            headers = {"content-type": "application/json"}
            self._connection.request(method, f"/api/3.0/mlflow/{endpoint}", body, headers)
            answer = self._connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            return json.loads(text)
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return None

    def until(self, method: str, endpoint: str, given: Any = None) -> Any:
        """The answer, however often the server has to be asked."""
        limit = time.monotonic() + LIMIT_S
        while time.monotonic() < limit:
            found = self.call(method, endpoint, given)
            if found is not None:
                return found
            time.sleep(0.1)
        raise AssertionError(f"no answer within {LIMIT_S} s")


@contextmanager
def up(folder: Path) -> Iterator[int]:
    """`noria up` in a new project; gives its port."""
    (folder / "noria.toml").write_text('[project]\nname = "evaluated"\n', encoding="utf-8")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    with (folder / "up.out").open("wb") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("noria")), "up", "--port", str(port)],
            cwd=folder,
            stdout=output,
            stderr=output,
        )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(60)


def test_a_server_that_is_killed_among_two_clients_loses_nothing_that_it_answered(tmp_path: Path) -> None:
    answered: Counter[int] = Counter()
    asked = threading.Event()

    def fill(port: int, evalset: str, who: int) -> None:
        mine = Client(port)
        number = 0
        while not asked.is_set():
            given = {"records": json.dumps([{"inputs": {"n": number * 2 + who}}, {"inputs": {"all": True}}])}
            if mine.call("POST", f"datasets/{evalset}/records", given) is not None:
                answered[number * 2 + who] += 1
                number += 1
            else:
                time.sleep(0.05)  # the same again: once it is there, it is there once
        mine.close()

    with up(tmp_path) as port:
        one = Client(port)
        made = one.until("POST", "datasets/create", {"name": "killed"})["dataset"]["dataset_id"]
        threads = [threading.Thread(target=fill, args=(port, made, who)) for who in range(2)]
        for each in threads:
            each.start()
        for _ in range(3):
            before = len(answered)
            limit = time.monotonic() + LIMIT_S
            while len(answered) < before + 20 and time.monotonic() < limit:
                time.sleep(0.02)
            server = json.loads((tmp_path / ".noria/up.json").read_text())["children"]["server"]
            os.kill(server, signal.SIGKILL)
            one.until("GET", f"datasets/{made}")
        asked.set()
        for each in threads:
            each.join()
        told = json.loads(one.until("GET", f"datasets/{made}/records?max_results=10000")["records"])
        profile = one.until("GET", f"datasets/{made}")["dataset"]["profile"]
        one.close()
    numbers = Counter(each["inputs"].get("n") for each in told)
    assert max(numbers.values()) == 1, "no record twice"
    assert set(answered) <= set(numbers)
    assert len(answered) >= 60
    assert json.loads(profile) == {"num_records": len(told)}
    workspace = open_workspace(tmp_path)
    assert difference(workspace.ledger) == []
    workspace.ledger.database.close()
