"""`noria reproduce`: planted sources of chance are each found, by step and kind; what has none is bit-identical."""

from __future__ import annotations

import base64
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from again_project import Planted, environ
from cryptography.hazmat.primitives.asymmetric import ed25519

import warm
from noria.bootstrap import open_workspace
from noria.core.errors import NotFound, Tampered
from noria.project.again import verdict as verdicts
from noria.store.objects import Objects

THREADS = "from concurrent.futures import ThreadPoolExecutor, as_completed\nimport time"
JITTER = """
def late(number: int) -> int:
    time.sleep((time.perf_counter_ns() // 1000) % 11 / 500)
    return number
"""
VARYING = {
    "the random module": ("import random", "return random.random()", "unseeded random", "random.random()"),
    "numpy without a seed": (
        "import numpy as np",
        "return [float(x) for x in np.random.default_rng().normal(size=3)]",
        "unseeded random",
        "default_rng()",
    ),
    "numpy's global generator": (
        "import numpy as np",
        "return float(np.random.normal())",
        "unseeded random",
        "numpy.random.normal()",
    ),
    "the system's randomness": ("import secrets", "return secrets.token_hex(4)", "unseeded random", "os.urandom()"),
    "the clock": ("import time", "return round(time.time(), 3)", "time", "time.time()"),
    "a moment": (
        "from datetime import datetime, UTC",
        "return datetime.now(UTC).isoformat()",
        "time",
        "datetime.now()",
    ),
    "a moment by pandas": ("import pandas as pd", "return str(pd.Timestamp.now())", "time", "pandas.Timestamp.now()"),
    "elapsed time": (
        "import time",
        "began = time.perf_counter()\nsum(range(1000))\nreturn time.perf_counter() - began",
        "time",
        "time.perf_counter()",
    ),
    "a uuid": ("import uuid", "return [str(uuid.uuid4()), len(values)]", "uuid", "uuid.uuid4()"),
    "the order of a set": ("", "return list({f'item {v}' for v in values})", "hash seed", "PYTHONHASHSEED"),
    "hash()": ("", "return hash('a text') % 1000", "hash seed", "PYTHONHASHSEED"),
    "the process": ("import os", "return os.getpid()", "name of the process or machine", "os.getpid()"),
    "the thread": (
        "import threading",
        "return threading.get_ident()",
        *("name of the process or machine", "get_ident()"),
    ),
    "a name by tempfile": ("import tempfile", "return tempfile.mkdtemp()", "unseeded random", "a name by tempfile"),
    "the address of an object": ("", "return id(object())", "address in memory", "id()"),
    "the order in which threads end": (
        THREADS,
        """
with ThreadPoolExecutor(8) as pool:
    waiting = [pool.submit(late, number) for number in range(8)]
    return [each.result() for each in as_completed(waiting)]
""",
        "order of parallel results",
        "as_completed()",
    ),
    "a dict of parallel results": (
        THREADS,
        """
with ThreadPoolExecutor(8) as pool:
    waiting = {pool.submit(late, number): f"k{number}" for number in range(8)}
    return {waiting[each]: each.result() for each in as_completed(waiting)}
""",
        "order of parallel results",
        "as_completed()",
    ),
    "a sum in the order of threads": (
        THREADS,
        """
totals = [0.0] * 16  # one alone is the same in some other orders too
with ThreadPoolExecutor(8) as pool:
    for each in as_completed([pool.submit(late, number) for number in range(40)]):
        totals = [total + values[each.result()] ** (3 + place / 4) / 7 for place, total in enumerate(totals)]
return totals
""",
        "floating point reduction order",
        "as_completed()",
    ),
    "a file that counts": (
        "from pathlib import Path",
        """
counter = Path({folder!r}) / "counter.txt"
number = int(counter.read_text()) if counter.exists() else 0
counter.write_text(str(number + 1))
return number
""",
        "file outside the inputs",
        "counter.txt",
    ),
}


@pytest.fixture
def project(tmp_path: Path) -> Planted:
    return Planted(tmp_path / "project")


def test_what_has_no_chance_in_it_is_bit_identical(project: Planted) -> None:
    project.write("return [round(value * 3, 6) for value in values]")
    run = project.run()["run"]
    found = project.again(code=0)
    assert (found["ok"], found["verdict"], found["causes"], found["step"]) == (True, "identical", [], "")
    assert found["run"] == run
    assert [each["step"] for each in found["steps"]] == ["before", "planted", "after"]
    assert all(output["then"] == output["now"] for each in found["steps"] for output in each["outputs"])
    assert found["environment"] == "here"
    assert found["is_same_lock"]


@pytest.mark.parametrize("name", VARYING)
def test_a_source_of_chance_is_found(project: Planted, tmp_path: Path, name: str) -> None:
    imports, body, kind, evidence = VARYING[name]
    project.write(
        body.replace("{folder!r}", repr(str(tmp_path))), imports=imports, module=JITTER if "late" in body else ""
    )
    project.run()
    found = project.again()
    assert (found["ok"], found["verdict"], found["step"]) == (False, "different", "planted"), found["causes"]
    first = found["causes"][0]
    assert (first["kind"], first["sure"]) == (kind, "proved"), found["causes"]
    assert evidence in first["evidence"] + first["where"]
    verdict = {each["step"]: each["verdict"] for each in found["steps"]}
    assert verdict == {"before": "identical", "planted": "different", "after": "different"}
    if kind in ("unseeded random", "time", "uuid", "address in memory"):
        assert first["where"].startswith("pipeline.py:"), first


def test_chance_that_is_seen_and_changes_nothing_is_not_blamed(project: Planted) -> None:
    body = """
began = time.time()
random.seed(1)
first = random.random()
print(time.time() - began, uuid.uuid4())
return [first, str(uuid.uuid4())[0:0], hash(str(values)) * 0, random.Random().random()]
"""
    project.write(body, imports="import random, time, uuid")
    project.run()
    found = project.again()
    assert [cause["kind"] for cause in found["causes"]] == ["unseeded random"]
    assert "random.Random() without a seed" in found["causes"][0]["evidence"] + found["causes"][0]["where"]


def test_a_variable_that_has_another_value(project: Planted) -> None:
    project.write('return [os.environ.get("REGION", ""), len(values)]', imports="import os")
    project.run(REGION="north")
    found = project.again(REGION="south")
    assert (found["step"], found["causes"][0]["kind"]) == ("planted", "environment variable")
    assert "REGION" in found["causes"][0]["evidence"]
    assert "south" not in json.dumps(found["causes"]), "values of variables are nobody's business"
    assert project.again(code=0, REGION="north")["verdict"] == "identical"


def test_a_file_outside_of_the_inputs_that_has_changed(project: Planted, tmp_path: Path) -> None:
    rates = tmp_path / "rates.json"
    rates.write_text("[1, 2]")
    project.write(
        f"return json.loads(Path({str(rates)!r}).read_text())", imports="import json\nfrom pathlib import Path"
    )
    project.run()
    assert project.again(code=0)["ok"]
    rates.write_text("[1, 3]")
    found = project.again()
    assert (found["step"], found["causes"][0]["kind"]) == ("planted", "file outside the inputs")
    assert "rates.json" in found["causes"][0]["evidence"]


def test_a_file_that_is_named_by_its_whole_path_is_one_file_then_and_now(project: Planted, tmp_path: Path) -> None:
    rates = tmp_path / "rates.json"
    rates.write_text("1")
    project.write(f"return open({str(rates)!r}).read()")
    project.run()
    rates.write_text("2")
    (cause,) = project.again()["causes"]
    assert cause["kind"] == "file outside the inputs"
    assert cause["evidence"].startswith(f"{rates} has other bytes ("), cause


@pytest.mark.parametrize(
    ("body", "evidence"),
    [("return os.getcwd()", "os.getcwd()"), ("return __file__", "__file__"), ("return os.path.abspath('x')", "getcwd")],
)
def test_the_folder_of_the_project_in_a_result(project: Planted, body: str, evidence: str) -> None:
    project.write(body, imports="import os")
    project.run()
    (cause,) = project.again()["causes"]
    assert (cause["kind"], cause["sure"]) == ("folder of the project", "proved"), cause
    assert evidence in cause["evidence"]


def test_a_file_that_is_only_looked_at_is_brought_while_it_is_what_it_was(project: Planted) -> None:
    project.write('return os.stat("table.dat").st_mtime_ns', imports="import os")
    project.root.mkdir(exist_ok=True)
    table = project.root / "table.dat"
    table.write_text("abc")
    os.utime(table, (1_600_000_000, 1_600_000_000))
    project.run()
    assert project.again(code=0)["verdict"] == "identical"
    os.utime(table, (1_700_000_000, 1_700_000_000))
    first = project.again()["causes"][0]
    assert first["kind"] == "file outside the inputs", first
    assert "table.dat" in first["evidence"]


def test_whoever_waits_is_told_what_is_done(project: Planted) -> None:
    project.write("return random.random()", imports="import random")
    project.run()
    done = warm.noria("reproduce", cwd=project.root, env=environ({}))
    told = done.stderr.splitlines()
    assert told[0] == "code and data of the run …", told
    assert any(line.startswith("running all of it again, which took ") for line in told), told
    assert "why planted differs: run 1, as it is …" in told
    assert any("with another seed for every generator …" in line for line in told), told


def test_a_file_of_the_project_that_no_snapshot_holds(project: Planted) -> None:
    """It is taken from the project's folder while it is what it was, and missed when it is not."""
    body = 'return (Path(__file__).parent / "table.dat").read_bytes()[:3].decode()'
    project.write(body, imports="from pathlib import Path")
    (project.root / "table.dat").write_text("abcdef")
    project.run()
    assert project.again(code=0)["ok"]
    (project.root / "table.dat").write_text("xyz")
    found = project.again()
    assert (found["step"], found["causes"][0]["kind"]) == ("planted", "file outside the inputs")
    assert "table.dat" in found["causes"][0]["evidence"]


class _Counter(BaseHTTPRequestHandler):
    """Answers with the number of the request, or with what the server was told to say."""

    def do_GET(self) -> None:
        server: Any = self.server
        server.asked += 1
        text = str(server.says or server.asked).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Any]:
    made: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Counter)
    made.asked, made.says = 0, ""
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def test_an_answer_from_the_network(project: Planted, server: Any) -> None:
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    project.write(f"return urlopen({url!r}).read().decode()", imports="from urllib.request import urlopen")
    project.run()
    found = project.again()
    assert (found["step"], found["causes"][0]["kind"]) == ("planted", "network")
    assert str(server.server_address[1]) in found["causes"][0]["evidence"]
    server.says = "always"  # and one that is steady, but is not what it was
    steady = project.again()
    assert (steady["step"], steady["causes"][0]["kind"]) == ("planted", "network")


def test_a_time_zone(project: Planted) -> None:
    project.write("return datetime.fromtimestamp(1_600_000_000).isoformat()", imports="from datetime import datetime")
    project.run(TZ="Asia/Tokyo")
    found = project.again(TZ="UTC")
    first = found["causes"][0]
    assert (found["step"], first["kind"], first["sure"]) == ("planted", "time zone", "proved")
    assert "TZ=Asia/Tokyo" in first["evidence"]


def test_a_locale(project: Planted) -> None:
    project.write('return locale.setlocale(locale.LC_ALL, "")', imports="import locale")
    project.run(LC_ALL="C.UTF-8")
    found = project.again(LC_ALL="POSIX")
    first = found["causes"][0]
    assert (found["step"], first["kind"], first["sure"]) == ("planted", "locale", "proved")


NUMBERS = """
rng = np.random.default_rng(0)
a, b, m = rng.normal(size=200_000), rng.normal(size=200_000), rng.normal(size=(300, 300))
return [float(np.dot(a, b)), float((m @ m).sum())]
"""


def test_the_threads_of_blas(project: Planted) -> None:
    project.write(NUMBERS, imports="import numpy as np")
    project.run(OPENBLAS_NUM_THREADS="1")
    found = project.again(code=None)
    if found["ok"]:
        pytest.skip("one thread and many give the same here: this machine has one core, or another BLAS")
    first = found["causes"][0]
    assert (found["step"], first["kind"], first["sure"]) == ("planted", "thread count", "proved")
    assert "OPENBLAS_NUM_THREADS=1" in first["evidence"]


def test_the_kernels_of_another_processor(project: Planted) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("OpenBLAS is asked for the kernels of another x86 processor")
    project.write(NUMBERS, imports="import numpy as np")
    project.run(OPENBLAS_CORETYPE="Nehalem", OPENBLAS_NUM_THREADS="1")
    found = project.again(OPENBLAS_NUM_THREADS="1")
    first = found["causes"][0]
    assert (found["step"], first["kind"], first["sure"]) == ("planted", "hardware", "proved")
    assert "OPENBLAS_CORETYPE=Nehalem" in first["evidence"]


def test_the_number_of_cores_that_is_asked_for(project: Planted) -> None:
    project.write("return [i % os.cpu_count() for i in range(64)]", imports="import os")
    project.run()
    path = project.root
    ws = open_workspace(path)
    # the record of a machine with more cores: the fact is appended anew under another run, as it would be there
    run = _as_on_another_machine(ws, cores=61)
    found = project.again(run)
    first = found["causes"][0]
    assert (found["step"], first["kind"], first["sure"]) == ("planted", "thread count", "proved"), found["causes"]


def _as_on_another_machine(ws: Any, *, cores: int) -> str:
    """A copy of the newest run as a machine with that many cores would have recorded it."""
    from dataclasses import asdict, replace

    from noria.pipeline import records as pipeline
    from noria.pipeline.facts import Output, StepFinished
    from noria.pipeline.outputs import values
    from noria.tracking import run as tracking
    from noria.tracking.facts import RunFinished, RunStarted

    newest = tracking.resolve(ws)
    host = {**ws.objects.get_json(newest.host), "cores": cores}
    result = [i % cores for i in range(64)]
    outputs = {"planted": values.store(ws.objects, result), "after": values.store(ws.objects, repr(result))}
    with ws.ledger.read() as tx:
        steps = pipeline.steps(tx, newest.run)
    with ws.ledger.transaction() as tx:
        names = ("pipeline", "code", "config", "environment", "seed", "pins")
        known = {name: getattr(newest, name) for name in names}
        tx.append(RunStarted(run="run_other", cause="user", owner="", host=ws.objects.put_json(host), **known))
        for step in steps:
            told = {name: value for name, value in asdict(step).items() if name not in ("seq", "outputs", "reads")}
            made = outputs.get(step.step)
            given = (Output(name="result", digest=made.digest, type=made.type),) if made else step.outputs
            known_fields = StepFinished.__dataclass_fields__
            told = {name: value for name, value in told.items() if name in known_fields}
            tx.append(StepFinished(**{**told, "run": "run_other", "outputs": given, "reads": step.reads}))
        tx.append(RunFinished(run="run_other", status="finished"))
    assert replace(newest, run="run_other").run == "run_other"
    return "run_other"


def _distribution(folder: Path, version: str) -> None:
    """A package as an installer leaves it."""
    shutil.rmtree(folder, ignore_errors=True)
    notes = folder / f"tinyrates-{version}.dist-info"
    notes.mkdir(parents=True)
    (folder / "tinyrates.py").write_text(f"RATE = {version.replace('.', '')}\n")
    (notes / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tinyrates\nVersion: {version}\n")
    (notes / "RECORD").write_text(f"tinyrates.py,sha256=x{version},9\n{notes.name}/METADATA,sha256=y{version},9\n")


def test_a_package_of_another_version(project: Planted, tmp_path: Path) -> None:
    folder = tmp_path / "site-packages"
    _distribution(folder, "1.0")
    project.write("return tinyrates.RATE * len(values)", imports="import tinyrates")
    project.run(PYTHONPATH=str(folder))
    assert project.again(code=0, PYTHONPATH=str(folder))["ok"]
    _distribution(folder, "2.0")
    found = project.again("--environment", "here", PYTHONPATH=str(folder))
    assert (found["step"], found["causes"][0]["kind"]) == ("planted", "package version")
    assert "tinyrates 1.0 -> 2.0" in found["causes"][0]["evidence"]
    assert not found["is_same_lock"]
    assert {"section": "package", "name": "tinyrates", "a": "1.0", "b": "2.0"} in found["lines"]


def test_code_outside_of_the_project_that_has_changed(project: Planted, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "shared.py").write_text("def factor() -> int:\n    return 3\n")
    project.write("return shared.factor() * len(values)", imports="import shared")
    project.run(PYTHONPATH=str(library))
    assert project.again(code=0, PYTHONPATH=str(library))["ok"]
    (library / "shared.py").write_text("def factor() -> int:\n    return 4\n")
    found = project.again(PYTHONPATH=str(library))
    assert (found["step"], found["causes"][0]["kind"]) == ("planted", "changed code")
    assert "factor" in found["causes"][0]["evidence"]


def test_state_that_another_step_leaves(project: Planted) -> None:
    """The first step was cached in the run, so what it leaves in the process was not there."""
    project.write("return len(LEFT)", module="LEFT = []\n")
    text = (project.root / "pipeline.py").read_text()
    text = text.replace("    return [float(", "    LEFT.append(1)\n    return [float(")
    (project.root / "pipeline.py").write_text(
        text.replace("@nr.step\ndef planted", "@nr.step(cache=False)\ndef planted")
    )
    project.run()
    project.run()  # `before` is cached now: LEFT is empty when `planted` runs
    found = project.again()
    assert (found["step"], found["causes"][0]["kind"]) == ("planted", "state left by another step"), found


def test_data_that_were_altered(project: Planted) -> None:
    project.write("return sum(values)")
    project.run()
    ws = open_workspace(project.root)
    with ws.ledger.read() as tx:
        from noria.data import records as data

        version = data.newest(tx, "sales")
    assert version is not None
    _alter(project.root, ws.objects, version.tree)
    found = project.again()
    assert (found["verdict"], found["step"], found["causes"][0]["kind"]) == ("impossible", "before", "changed data")
    assert "sales@1" in found["causes"][0]["evidence"]


def _alter(root: Path, objects: Objects, tree: str) -> None:
    """Change a byte of a data file in the store, wherever it stands there."""
    from noria.store.tree import iter_tree

    entry = next(iter(iter_tree(objects, tree)))
    content = objects.get_bytes(entry.digest)[:64]
    for path in (root / ".noria" / "objects").rglob("*"):
        if path.is_file() and content in (whole := path.read_bytes()):
            place = whole.index(content) + 20
            path.chmod(0o600)
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            return
    raise AssertionError("the data are not in the store")


def test_code_that_is_gone(project: Planted) -> None:
    project.write("return sum(values)")
    project.run()
    for path in (project.root / ".noria" / "objects").rglob("*"):
        if path.is_file() and b"def planted" in path.read_bytes():
            path.chmod(0o600)
            path.write_bytes(path.read_bytes().replace(b"def planted", b"def plantet"))
    found = project.again()
    assert (found["verdict"], found["causes"][0]["kind"]) == ("impossible", "changed code")


def test_a_tolerance_is_kept_and_a_step_beyond_it_is_not(project: Planted) -> None:
    project.write(NUMBERS, imports="import numpy as np", options="(tolerance=1e-9)")
    text = (project.root / "pipeline.py").read_text()
    (project.root / "pipeline.py").write_text(text.replace("return repr(found)", "return repr(len(found))"))
    if platform.machine() != "x86_64":
        pytest.skip("OpenBLAS is asked for the kernels of another x86 processor")
    project.run(OPENBLAS_CORETYPE="Nehalem")
    found = project.again(code=0)
    assert (found["verdict"], found["ok"]) == ("tolerated", True)
    verdict = {each["step"]: each["verdict"] for each in found["steps"]}
    assert verdict == {"before": "identical", "planted": "tolerated", "after": "identical"}
    largest = next(each for each in found["steps"] if each["step"] == "planted")["outputs"][0]["largest"]
    assert 0 < largest < 1e-9
    toml = project.root / "noria.toml"
    toml.write_text(toml.read_text() + "[reproduce]\ntolerance = { planted = 1e-18 }\n")
    assert project.again()["step"] == "planted"


def test_the_working_tree_and_the_cache_are_not_used(project: Planted) -> None:
    project.write("return sum(values)")
    run = project.run()["run"]
    (project.root / "pipeline.py").write_text("raise SystemExit('edited since')\n")
    (project.root / "sales.csv").write_text("id,amount\n1,2\n")
    before = project.state()
    found = project.again(run, code=0)
    assert found["verdict"] == "identical"
    assert all(each["seconds"] > 0 for each in found["steps"]), "every step ran"
    after = project.state()
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert changed
    assert all(name.startswith(".noria/") for name in changed), changed
    ws = open_workspace(project.root)
    with ws.ledger.read() as tx:
        from noria.tracking import records as tracking

        assert [each.run for each in tracking.runs(tx)] == [run], "what was done again is no run of the project"


def test_stores_that_noria_toml_names_are_not_touched(project: Planted, tmp_path: Path) -> None:
    """The restored noria.toml names the production database and object store: nothing of the repetition goes there."""
    stores = f'[store]\ndatabase = "sqlite:///{tmp_path / "production.db"}"\nobjects = "{tmp_path / "production"}"\n'
    project.write("return sum(values)", config=stores)
    project.run()
    head = open_workspace(project.root).ledger.head()
    objects = set(open_workspace(project.root).objects.names())
    found = project.again(code=0)
    ws = open_workspace(project.root)
    assert ws.ledger.head() == head + 1, "one fact: the verdict"
    assert set(ws.objects.names()) - objects == {found["document"]}


def test_the_verdict_is_signed_and_can_be_checked_without_noria(project: Planted) -> None:
    project.write("return sum(values)")
    run = project.run()["run"]
    found = project.again(code=0)
    ws = open_workspace(project.root)
    envelope = ws.objects.get_json(found["document"])
    # DSSE by hand: PAE, and the key as the note form of verifier keys carries it
    body = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"].encode()
    text = b"DSSEv1 " + str(len(kind)).encode() + b" " + kind + b" " + str(len(body)).encode() + b" " + body
    material = base64.b64decode(found["signer"].split("+", 2)[2])
    key = ed25519.Ed25519PublicKey.from_public_bytes(material[1:])
    key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), text)
    document = json.loads(body)
    assert (document["run"], document["verdict"]) == (f"run/{run}", "identical")
    assert [each["step"] for each in document["steps"]] == ["before", "planted", "after"]
    fact = ws.ledger.facts(after=found["fact"] - 1, limit=1)[0]
    assert (fact.fact.kind, fact.payload.verdict, fact.payload.document) == (
        "run.reproduced",
        "identical",
        found["document"],
    )
    record, told = verdicts.read(ws, run)
    assert (record.verdict, told) == ("identical", document)
    with pytest.raises(NotFound):
        verdicts.read(ws, "run_none")
    envelope["payload"] = base64.b64encode(body.replace(b"identical", b"different")).decode()
    with pytest.raises(Tampered):
        verdicts.opened(envelope, ws.ledger.signer.verifier, envelope["payloadType"])


def test_what_has_no_result_is_refused(project: Planted) -> None:
    project.write("raise ValueError('broken')")
    project.noria("run", code=4)
    error = project.again(code=2)["error"]
    assert "failed" in error["message"]
    assert project.again("run_nothing", code=2)["error"]["code"] == "not-found"
    assert project.again("--environment", "elsewhere", code=2)["error"]["code"] == "usage"


def test_a_step_that_fails_now_is_named_with_why(project: Planted, tmp_path: Path) -> None:
    path = tmp_path / "needed.txt"
    path.write_text("5")
    project.write(f"return int(Path({str(path)!r}).read_text())", imports="from pathlib import Path")
    project.run()
    path.unlink()
    found = project.again()
    assert (found["verdict"], found["step"], found["causes"][0]["kind"]) == (
        "different",
        "planted",
        "file outside the inputs",
    )
    assert "not there any more" in found["causes"][0]["evidence"]
    assert {each["step"]: each["verdict"] for each in found["steps"]} == {
        "before": "identical",
        "planted": "failed",
        "after": "failed",
    }


def test_what_does_not_need_a_step_that_fails_is_done_again_and_is_not_blamed(project: Planted, tmp_path: Path) -> None:
    path = tmp_path / "needed.txt"
    path.write_text("5")
    project.write("return 1")
    (project.root / "noria.toml").write_text('[project]\nname = "again"\n')
    (project.root / "pipeline.py").write_text(
        "from pathlib import Path\n\nimport noria as nr\n\n\n"
        "@nr.step\ndef before() -> int:\n    return 1\n\n\n"
        "@nr.step\ndef beside(value: int) -> int:\n    return value + 1\n\n\n"
        f"@nr.step\ndef extra(value: int) -> int:\n    return value + int(Path({str(path)!r}).read_text())\n\n\n"
        "@nr.step\ndef after(one: int, other: int) -> int:\n    return one + other\n\n\n"
        "@nr.pipeline\ndef flow():\n    value = before()\n    after(beside(value), extra(value))\n"
    )
    project.run()
    path.unlink()
    found = project.again()
    assert found["step"] == "extra"
    (cause,) = found["causes"]
    assert cause["kind"] == "file outside the inputs"
    assert "needed.txt is not there any more" in cause["evidence"]
    assert {each["step"]: (each["verdict"], each["text"]) for each in found["steps"] if each["step"] != "extra"} == {
        "before": ("identical", ""),
        "beside": ("identical", ""),
        "after": ("failed", "it was not run: extra failed"),
    }


@pytest.mark.slow
def test_the_flights_template_gives_a_model_that_is_bit_identical(tmp_path: Path) -> None:
    for words in (
        ["-m", "noria", "init", "flights", "--template", "flights"],
        ["feed.py", "--month", "2013-01"],
        ["-m", "noria", "run"],
    ):
        folder = tmp_path if words[2:3] == ["init"] else tmp_path / "flights"
        done = subprocess.run([sys.executable, *words], cwd=folder, env=environ({}), check=False, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
    found = Planted(tmp_path / "flights").again("flights", code=0)
    assert (found["verdict"], found["model"]) == ("identical", "flights:1")
    assert found["code"].startswith("commit ")
    told = {each["step"]: each["verdict"] for each in found["steps"]}
    assert told == dict.fromkeys(("landed", "split", "train", "model flights", "metrics"), "identical")
    metrics = next(each for each in found["steps"] if each["step"] == "metrics")
    assert {"auc", "log_loss"} <= {each["name"] for each in metrics["outputs"]}
