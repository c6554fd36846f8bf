"""An environment is rebuilt from its lock by pip, from wheels made here, and compared file by file."""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

import warm
from noria.core.errors import NotFound, UsageError, WorldError
from noria.core.identity import canonical, digest
from noria.project import environments
from noria.project.rebuild import rebuild
from noria.store.workspace import Workspace
from noria.testing import open_memory
from noria.tracking.environment import Environment, environment
from noria.tracking.facts import Code, RunStarted
from noria.tracking.host import host


def wheel(folder: Path, name: str, version: str, files: Mapping[str, str], *, lies: str = "") -> str:
    """Write a wheel; gives the digest of its content. The RECORD of the file `lies` says what it does not hold."""
    notes = f"{name}-{version}.dist-info"
    whole = {
        **files,
        f"{notes}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{notes}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = {
        path: "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        for path, text in whole.items()
    }
    record = "".join(f"{path},{found},{len(whole[path])}\n" for path, found in rows.items())
    if lies:
        whole[lies] += "print('altered')\n"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in {**whole, f"{notes}/RECORD": record + f"{notes}/RECORD,,\n"}.items():
            archive.writestr(path, text)
    return digest(canonical([[path, found] for path, found in sorted(rows.items())]))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip knows."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def lock(packages: Mapping[str, str], records: Mapping[str, str]) -> Environment:
    return Environment(
        python=platform.python_version(),
        implementation="CPython",
        system="Linux",
        machine=platform.machine(),
        packages=packages,
        roots={},
        records=records,
    )


def test_what_the_index_has_is_installed_and_verified(index: Path, tmp_path: Path) -> None:
    one = wheel(index, "alpha", "1.0", {"alpha/__init__.py": "VALUE = 1\n"})
    two = wheel(index, "beta", "2.1", {"beta.py": "import alpha\nVALUE = alpha.VALUE + 1\n"})
    wheel(index, "alpha", "1.1", {"alpha/__init__.py": "VALUE = 9\n"})
    made = rebuild(lock({"alpha": "1.0", "beta": "2.1"}, {"alpha": one, "beta": two}), tmp_path / "new", ref="r")
    assert (made.ok, made.verified, made.missing, made.altered) == (True, 2, (), ())
    said = subprocess.run(
        [made.python, "-c", "import beta; print(beta.VALUE)"], capture_output=True, text=True, check=False
    )
    assert said.stdout.strip() == "2"
    listed = subprocess.run(
        [made.python, "-c", "import importlib.metadata as m; print(sorted(d.name for d in m.distributions()))"],
        capture_output=True,
        check=False,
        text=True,
    )
    assert listed.stdout.strip() == "['alpha', 'beta']", "nothing but what is locked, not even pip"


def test_what_cannot_be_had_is_named_and_the_rest_is_there(index: Path, tmp_path: Path) -> None:
    one = wheel(index, "alpha", "1.0", {"alpha.py": "VALUE = 1\n"})
    wheel(index, "gamma", "1.0", {"gamma.py": "VALUE = 1\n"})
    wanted = {"alpha": "1.0", "gamma": "3.0", "delta": "0.1", "local": "1.0+0123456789abcdef"}
    made = rebuild(lock(wanted, {"alpha": one}), tmp_path / "new", ref="r")
    assert not made.ok
    assert made.verified == 1
    assert [(each.name, each.version) for each in made.missing] == [
        ("delta", "0.1"),
        ("gamma", "3.0"),
        ("local", "1.0+0123456789abcdef"),
    ]
    assert "gamma==3.0" in made.missing[1].why
    assert "local file" in made.missing[2].why


def test_one_that_cannot_be_built_does_not_keep_the_others_out(index: Path, tmp_path: Path) -> None:
    """pip names nobody when a wheel is broken: it is found in halves, and the rest is installed."""
    good = {name: wheel(index, name, "1.0", {f"{name}.py": "VALUE = 1\n"}) for name in ("alpha", "beta", "gamma")}
    (index / "broken-1.0-py3-none-any.whl").write_bytes(b"this is no archive")
    made = rebuild(lock(dict.fromkeys((*good, "broken"), "1.0"), good), tmp_path / "new", ref="r")
    assert [each.name for each in made.missing] == ["broken"]
    assert (made.ok, made.verified) == (False, 3)


def test_another_build_of_the_same_version_is_found(index: Path, tmp_path: Path) -> None:
    was = wheel(tmp_path / "then", "alpha", "1.0", {"alpha.py": "VALUE = 1\n"})
    wheel(index, "alpha", "1.0", {"alpha.py": "VALUE = 2\n"})
    made = rebuild(lock({"alpha": "1.0"}, {"alpha": was}), tmp_path / "new", ref="r")
    assert (made.ok, made.verified) == (False, 0)
    assert made.altered[0].why == "another build of the same version (py3-none-any)"


def test_a_file_that_is_not_what_its_record_says_is_found(index: Path, tmp_path: Path) -> None:
    was = wheel(index, "alpha", "1.0", {"alpha.py": "VALUE = 1\n"}, lies="alpha.py")
    made = rebuild(lock({"alpha": "1.0"}, {"alpha": was}), tmp_path / "new", ref="r")
    assert (made.ok, made.verified) == (False, 0)
    assert made.altered[0].why == "alpha.py is not what its RECORD says"


def test_an_editable_install_is_taken_as_it_is_and_said_to_be(index: Path, tmp_path: Path) -> None:
    here = environment(tmp_path / "state")
    if not here.packages["noria"].endswith("+editable"):
        pytest.skip("noria is not installed as editable here")
    made = rebuild(lock({"noria": here.packages["noria"]}, {}), tmp_path / "new", ref="r")
    assert [each.name for each in made.unpinned] == ["noria"]
    assert made.ok
    said = subprocess.run(
        [made.python, "-c", "import noria; print(noria.__file__)"], capture_output=True, text=True, check=False
    )
    assert said.stdout.strip().endswith("noria/__init__.py")


def test_no_folder_is_overwritten_and_no_other_python_is_taken_for_the_wanted_one(index: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        rebuild(lock({}, {}), tmp_path / "full", ref="r")
    with pytest.raises(WorldError, match=r"Python 3\.3\.9 is not on this machine"):
        rebuild(replace(lock({}, {}), python="3.3.9"), tmp_path / "new", ref="r")
    minor = platform.python_version().rpartition(".")[0]
    made = rebuild(replace(lock({}, {}), python=f"{minor}.999"), tmp_path / "new", ref="r")
    assert (made.ok, made.python_wanted) == (False, f"{minor}.999")
    assert made.python_found.startswith(minor)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    (tmp_path / "noria.toml").write_text('[project]\nname = "test"\n')
    return open_memory(root=tmp_path)


def started(ws: Workspace, run: str, changed: Mapping[str, str], records: Mapping[str, str] | None = None) -> None:
    """A run on record whose environment differs from this one in some packages, and in its time zone."""
    here = environment(ws.project.state)
    then = replace(here, packages={**here.packages, **changed}, records={**here.records, **(records or {})})
    machine = replace(host(), timezone="Asia/Tokyo")
    payload = RunStarted(
        run=run,
        pipeline="flow",
        cause="user",
        code=Code(),
        config="",
        environment=ws.objects.put_json(then.document()),
        seed=0,
        pins=(),
        owner="",
        host=ws.objects.put_json(machine.document()),
    )
    with ws.ledger.transaction() as tx:
        tx.append(payload)


def test_a_mismatch_is_shown_as_a_diff(ws: Workspace) -> None:
    here = environment(ws.project.state)
    started(ws, "run_a", {"numpy": "1.0.0", "gone": "2.0"}, {"scipy": "sha256:" + "0" * 64})
    found = environments.diff_environments(ws, "run_a")
    told = {(line.section, line.name): (line.a, line.b) for line in found.lines}
    assert told[("package", "numpy")] == ("1.0.0", here.packages["numpy"])
    assert told[("package", "gone")] == ("2.0", "")
    assert told[("content", "scipy")] == ("0" * 12, here.records["scipy"][7:19])
    assert told[("host", "timezone")] == ("Asia/Tokyo", host().timezone)
    assert (found.is_same, found.is_same_lock, len(found.lines)) == (False, False, 4)
    assert found.next == "noria env rebuild run_a rebuilt"
    started(ws, "run_b", {})
    same = environments.diff_environments(ws, "run_a", "run_b")
    assert {line.section for line in same.lines} == {"package", "content"}, "both are of the same host"
    assert environments.diff_environments(ws, "run_b").is_same_lock
    with pytest.raises(NotFound):
        environments.diff_environments(ws, "run_c")


def test_the_command_shows_what_a_run_ran_in(ws: Workspace) -> None:
    started(ws, "run_a", {"numpy": "1.0.0"})
    root = ws.project.root
    shown = _noria(root, "env", "show", "run_a", "--json")
    assert shown["python"] == platform.python_version()
    assert {"name": "numpy", "version": "1.0.0"}.items() <= next(
        each for each in shown["packages"] if each["name"] == "numpy"
    ).items()
    assert shown["differences"] >= 2
    text = warm.noria("env", "diff", "run_a", cwd=root)
    assert text.returncode == 0
    assert "numpy" in text.stdout
    assert "1.0.0" in text.stdout
    assert "next: noria env rebuild run_a rebuilt" in text.stdout


def _noria(root: Path, *words: str) -> dict[str, object]:
    done = warm.noria(*words, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found
