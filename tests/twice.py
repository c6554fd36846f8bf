"""Run pytest; what failed beside other tests is run once more alone, and told apart from what is broken.

`python tests/twice.py ARGUMENT…` takes pytest's own arguments. Tests that start processes and wait for leases share
two processors with others, and among ten thousand one may meet a moment that its author did not think of. As CPython's
own runner does (`python -m test --rerun`), at most `MOST` such tests get a second look, by themselves: what fails
again, and what starts no process of its own, has failed. What passes then is named at the end as a race to be mended.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

MOST = 2
FOLDERS = ("tests/conformance/", "tests/integration/", "tests/peers/", "tests/e2e/")  # where tests start processes


class Failures:
    """The names of tests that failed, as a plugin of the process that reports them."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.others = 0
        self.seed: object = "default"

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self.seed = session.config.getoption("randomly_seed", "default")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and report.nodeid not in self.names:
            self.names.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.others += report.failed


def is_worth_a_second_look(failures: Failures, folders: tuple[str, ...] = FOLDERS) -> bool:
    """Whether few enough failed, each of them beside processes."""
    few = 0 < len(failures.names) <= MOST and not failures.others
    return few and all(name.startswith(folders) for name in failures.names)


def main(words: list[str]) -> int:
    failures = Failures()
    code = int(pytest.main(words, plugins=[failures]))
    if code != pytest.ExitCode.TESTS_FAILED or not is_worth_a_second_look(failures):
        return code
    print(f"\nonce more, with nothing beside: {', '.join(failures.names)}", flush=True)
    with TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        options = [f"--randomly-seed={failures.seed}", f"--junitxml={report}"]
        again = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *options, *failures.names], check=False
        ).returncode
        if again:
            return again
        said = report.read_text(encoding="utf-8")
        if f'tests="{len(failures.names)}"' not in said or 'skipped="0"' not in said:
            print("the second run did not run those tests")
            return 1
    print("\nFAILED BESIDE OTHERS, PASSED ALONE (a race; the failure is above, mend it):")
    print("".join(f"  {name}\n" for name in failures.names), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
