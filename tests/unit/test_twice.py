"""A second look at a test that failed beside others hides nothing that is broken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TWICE = Path(__file__).resolve().parents[1] / "twice.py"
ONCE = """
from pathlib import Path
import pytest

def test_{n}():
    seen = Path(__file__).with_suffix(".seen{n}")
    if not seen.exists():
        seen.touch()
        raise AssertionError("a race")
"""
ALWAYS = "\ndef test_always():\n    raise AssertionError('broken')\n"
SKIPS = ONCE.replace("    if not seen", "    if seen.exists():\n        pytest.skip('not today')\n    if not seen")
SOUND = "\ndef test_sound():\n    pass\n"


def run(root: Path, folder: str, text: str) -> tuple[int, str]:
    place = root / "tests" / folder
    place.mkdir(parents=True)
    (root / "pytest.ini").write_text("[pytest]\naddopts = -p no:schemathesis\n")  # it takes a second to load
    (place / "test_it.py").write_text(text)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, TWICE, "-q", "tests"], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


def test_a_race_is_told_at_the_end(tmp_path: Path) -> None:
    code, said = run(tmp_path, "integration", SOUND + ONCE.format(n=1) + ONCE.format(n=2))
    assert code == 0
    assert said.index("AssertionError: a race") < said.index("PASSED ALONE")
    assert "tests/integration/test_it.py::test_1\n" in said
    assert "tests/integration/test_it.py::test_2\n" in said


@pytest.mark.parametrize(
    ("folder", "text"),
    [
        ("integration", SOUND + ALWAYS),
        ("integration", ONCE.format(n=1) + ALWAYS),
        ("integration", "".join(ONCE.format(n=n) for n in range(3))),
        ("integration", SKIPS.format(n=1)),
        ("integration", "import no_such_module_at_all\n"),
        ("unit", ONCE.format(n=1)),
    ],
    ids=["broken", "one of two broken", "more than a race or two", "skipped then", "not even read", "no process"],
)
def test_what_is_broken_has_failed(tmp_path: Path, folder: str, text: str) -> None:
    code, said = run(tmp_path, folder, text)
    assert code != 0
    assert "PASSED ALONE" not in said


def test_what_passes_is_run_once(tmp_path: Path) -> None:
    code, said = run(tmp_path, "integration", SOUND)
    assert code == 0
    assert said.count("1 passed") == 1
