"""A lock names each distribution by its files, not by how it was installed; a host says what the machine was."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from noria.core.identity import canonical, digest
from noria.project.environments import differences
from noria.testing import open_memory
from noria.tracking import environment as locks
from noria.tracking import host as hosts
from noria.tracking import installed
from noria.tracking import run as tracking

RECORDS = {
    "pip": [
        "tool/__init__.py,sha256=aaa,3",
        "tool/__pycache__/__init__.cpython-311.pyc,,",
        "tool-1.dist-info/METADATA,sha256=bbb,9",
        "tool-1.dist-info/INSTALLER,sha256=ccc,4",
        "tool-1.dist-info/REQUESTED,sha256=eee,0",
        "tool-1.dist-info/RECORD,,",
        "../../../bin/tool,sha256=one,99",
    ],
    "uv": [
        "../../../bin/tool,sha256=another,120",
        "tool-1.dist-info/INSTALLER,sha256=ddd,2",
        "tool-1.dist-info/METADATA,sha256=bbb,9",
        "tool-1.dist-info/RECORD,,",
        "tool-1.dist-info/uv_cache.json,sha256=fff,9",
        "tool/__init__.py,sha256=aaa,3",
    ],
}


def distribution(folder: Path, record: list[str]) -> importlib.metadata.Distribution:
    notes = folder / "tool-1.dist-info"
    notes.mkdir(parents=True)
    (notes / "METADATA").write_text("Metadata-Version: 2.1\nName: tool\nVersion: 1\n")
    (notes / "RECORD").write_text("\n".join(record) + "\n")
    found = dict(installed.installed([str(folder)]))
    return found["tool"]


def test_installers_leave_the_same_content(tmp_path: Path) -> None:
    told = {who: installed.recorded_files(distribution(tmp_path / who, rows)) for who, rows in RECORDS.items()}
    assert (
        told["pip"] == told["uv"] == [("tool-1.dist-info/METADATA", "sha256=bbb"), ("tool/__init__.py", "sha256=aaa")]
    )


def test_another_file_is_another_content(tmp_path: Path) -> None:
    one = installed.recorded_files(distribution(tmp_path / "one", RECORDS["pip"]))
    changed = [row.replace("aaa", "aab") for row in RECORDS["pip"]]
    assert one != installed.recorded_files(distribution(tmp_path / "other", changed))


def test_the_present_lock_knows_every_distribution_and_reads_back(tmp_path: Path) -> None:
    found = locks.environment(tmp_path)
    document = found.document()
    assert found.python == platform.python_version()
    # numpy's own metadata, read by other means: its RECORD, line by line
    numpy = importlib.metadata.distribution("numpy")
    assert found.packages["numpy"] == numpy.version
    assert found.records["numpy"].startswith("sha256:")
    assert set(found.packages) - {"noria"} <= set(found.records), "every distribution has a content"  # it is editable
    back = locks.from_document(document)
    assert back.document() == document
    assert back.digest() == digest(canonical(document)) == found.digest()
    assert locks.environment(tmp_path) == found, "from the kept copy"


def test_what_is_said_of_each_distribution_is_what_the_standard_library_reads(tmp_path: Path) -> None:
    found = locks.environment(tmp_path)
    names = dict(installed.installed())
    assert len(names) > 50
    assert {name: text.partition("+editable")[0] for name, text in found.packages.items()} == {
        name: each.version for name, each in names.items()
    }
    for name, each in names.items():
        assert each.metadata["Name"].lower().replace("_", "-").replace(".", "-") == name
        if name not in found.places:
            assert found.records[name] == digest(canonical([list(row) for row in installed.recorded_files(each)]))
        if not each.read_text("top_level.txt"):
            modules = {str(file).partition("/")[0] for file in each.files or () if "/" in str(file)}
            mine = {root for root, of in found.roots.items() if of == name}
            assert modules - mine <= {f"{each.metadata['Name'].replace('-', '_')}-{each.version}.dist-info", ".."} | {
                other for other, of in found.roots.items() if of != name
            } | {module for module in modules if module.endswith((".dist-info", ".data"))}


def test_what_is_installed_later_is_seen_in_the_same_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(folder)
    before = locks.environment(tmp_path / "one")
    assert "tool" not in before.packages
    distribution(folder, [*RECORDS["pip"], "tool/größe.txt,sha256=fff,1"])
    after = locks.environment(tmp_path / "two")
    assert (after.packages["tool"], after.roots["tool"]) == ("1", "tool")
    rows = [["tool-1.dist-info/METADATA", "sha256=bbb"], ["tool/__init__.py", "sha256=aaa"]]
    assert after.records["tool"] == digest(canonical([*rows, ["tool/größe.txt", "sha256=fff"]]))
    shutil.rmtree(folder / "tool-1.dist-info")
    assert locks.environment(tmp_path / "three").packages == before.packages


def test_a_lock_of_the_first_format_reads_with_what_it_has() -> None:
    old = {"format": "environment/1", "python": "3.11.2", "machine": "x86_64", "packages": {"numpy": "2.0"}}
    found = locks.from_document(old)
    assert (found.python, found.packages, found.records, found.abi) == ("3.11.2", {"numpy": "2.0"}, {}, "")


@pytest.mark.parametrize(
    ("variables", "field", "value"),
    [
        ({"TZ": "Asia/Tokyo"}, "timezone", "Asia/Tokyo"),
        ({"PYTHONHASHSEED": "7"}, "hash_seed", "7"),
        ({"PYTHONHASHSEED": ""}, "hash_seed", "random"),
        ({"LC_ALL": "de_DE.UTF-8"}, "locale", "de_DE.UTF-8"),
        ({"OMP_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Haswell"}, "variables", None),
    ],
)
def test_a_host_says_how_the_process_was_set_up(
    monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str], field: str, value: str | None
) -> None:
    for name in hosts.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    found = hosts.host()
    assert getattr(found, field) == (dict(variables) if value is None else value)
    assert hosts.from_document(found.document()) == found


def test_a_host_knows_its_machine() -> None:
    found = hosts.host()
    assert found.cores >= 1
    assert found.memory_bytes > 1 << 26
    assert found.cpu
    assert platform.release() in found.kernel
    assert found.timezone in (*time.tzname, "/".join(time.tzname)) or "/" in found.timezone


def test_runs_share_one_lock_and_one_host(tmp_path: Path) -> None:
    ws = open_memory(root=tmp_path)
    names = []
    for _ in range(2):
        with tracking.start(ws, "flow") as run:
            names.append(run.run)
    first, second = (tracking.show(ws, name) for name in names)
    assert first.environment == second.environment
    assert first.host == second.host != ""
    stored = ws.objects.get_bytes(first.host)
    assert f"sha256:{hashlib.sha256(stored).hexdigest()}" == first.host
    assert hosts.from_document(ws.objects.get_json(first.host)) == hosts.host()
    edges = {role for role, _ in ws.ledger.facts(ref=first.host, limit=1)[0].fact.inputs}
    assert {"environment", "host", "config"} <= edges


def installed_from(folder: Path, source: Path, *, how: str) -> None:
    """A distribution `tool` that an installer took from a folder: by a link, a finder, or as a copy."""
    notes = folder / "tool-1.dist-info"
    notes.mkdir(parents=True)
    (source / "tool").mkdir(parents=True)
    (source / "tool" / "__init__.py").write_text("RATE = 1\n")
    (notes / "METADATA").write_text("Metadata-Version: 2.1\nName: tool\nVersion: 1\n")
    record = ["tool-1.dist-info/METADATA,sha256=bbb,9", "tool-1.dist-info/RECORD,,"]
    if how == "link":
        (folder / "_tool.pth").write_text(f"import sys\n{source}\n")
        record.append("_tool.pth,sha256=ccc,9")
    elif how == "finder":
        (folder / "__editable___tool_finder.py").write_text(f"MAPPING: dict[str, str] = {{'tool': '{source}/tool'}}\n")
        record.append("__editable___tool_finder.py,sha256=ccc,9")
    else:
        shutil.copytree(source / "tool", folder / "tool")
        record.append("tool/__init__.py,sha256=ddd,9")
    (notes / "RECORD").write_text("\n".join(record) + "\n")
    info = '{"editable": true}' if how != "copy" else "{}"
    (notes / "direct_url.json").write_text(f'{{"url": "file://{source}", "dir_info": {info}}}')


@pytest.mark.parametrize("how", ["link", "finder", "copy"])
def test_what_was_installed_from_a_folder_is_named_by_the_code_that_lies_there(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, source = tmp_path / "site-packages", tmp_path / "source"
    installed_from(folder, source, how=how)
    monkeypatch.syspath_prepend(folder)
    before = locks.lock(tmp_path / "project" / ".noria")
    assert before == locks.lock(tmp_path / "other" / ".noria"), "the same wherever it is asked"
    code = (folder if how == "copy" else source) / "tool" / "__init__.py"
    code.with_suffix(".pyc").write_bytes(b"compiled")
    (code.parent / ".#__init__.py").symlink_to("nobody@nowhere")
    assert locks.lock(tmp_path / "project" / ".noria") == before
    code.write_text("RATE = 2\n")
    after = locks.lock(tmp_path / "project" / ".noria")
    assert [(line.section, line.name) for line in differences(before, after)] == [("content", "tool")]
    code.write_text("RATE = 1\n")
    assert locks.lock(tmp_path / "project" / ".noria") == before


def test_a_module_that_was_copied_by_hand_is_in_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, state = tmp_path / "site-packages", tmp_path / "project" / ".noria"
    distribution(folder, RECORDS["pip"])
    (folder / "tool").mkdir()
    (folder / "tool" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(folder)
    before = locks.lock(state)
    (folder / "lone.py").write_text("RATE = 1\n")
    (folder / "pack").mkdir()
    (folder / "pack" / "__init__.py").write_text("")
    (folder / "pack" / "table.csv").write_text("1")
    there = locks.lock(state)
    assert [(line.section, line.name, line.a) for line in differences(before, there)] == [
        ("content", "lone", ""),
        ("content", "pack", ""),
    ]
    assert "lone" not in locks.environment(state).packages
    (folder / "pack" / "table.csv").write_text("2")
    assert [line.name for line in differences(there, locks.lock(state))] == ["pack"]


def test_the_project_itself_is_named_by_the_code_of_each_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, project = tmp_path / "site-packages", tmp_path / "project"
    installed_from(folder, project / "src", how="link")
    monkeypatch.syspath_prepend(folder)
    before = locks.lock(project / ".noria")
    (project / "src" / "tool" / "__init__.py").write_text("RATE = 2\n")
    assert locks.lock(project / ".noria") == before
