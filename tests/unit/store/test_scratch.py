"""Temporary folders that go with who made them, also when that was killed; nobody else's are touched."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from noria.store.scratch import PREFIX, Scratch, sweep

HOLD = """
import sys
from noria.store.scratch import Scratch
held = Scratch("model")
(held.path / "model.pkl").write_bytes(b"x")
print(held.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_what_a_killed_process_left_goes_with_the_next_and_what_is_in_use_stays(place: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    with Scratch("bundle") as own:
        assert sweep() == 0
        assert (left / "model.pkl").exists(), "its process lives"
        process.send_signal(signal.SIGKILL)
        process.wait()
        other = Scratch("model")
        assert not left.exists()
        assert own.is_dir()
        assert other.path.is_dir()
        other.remove()
    process.stdin.close()
    process.stdout.close()
    assert list(place.iterdir()) == []


def test_a_folder_goes_with_the_object_that_holds_it(place: Path) -> None:
    held = Scratch("model")
    path = held.path
    assert path.name.startswith(f"{PREFIX}model-")
    assert path.stat().st_mode & 0o077 == 0
    del held
    gc.collect()
    assert not path.exists()


def test_what_is_not_such_a_folder_stays(place: Path) -> None:
    kept = place / "noria-model-of-somebody"
    kept.mkdir()
    (place / f"{PREFIX}file").write_text("x")
    (place / f"{PREFIX}link").symlink_to(kept)
    assert sweep() == 0
    assert sorted(each.name for each in place.iterdir()) == sorted(
        [f"{PREFIX}file", f"{PREFIX}link", "noria-model-of-somebody"]
    )
