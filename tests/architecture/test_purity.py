"""What may not be asked where: clocks, randomness, the environment and the network in pure modules."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from source_tree import SOURCE, name_of, nodes, parsed, sources

PURE_FILES = {"records.py", "facts.py"}
PURE_MODULES = {
    "pipeline/driving/attempts.py",
    "pipeline/driving/cost.py",
    "pipeline/caching/plan.py",
    "pipeline/room.py",
    "pipeline/driving/schedule.py",
    "serving/router.py",
    "serving/rollout.py",
    "loop/policy.py",
}
IMPURE_CALLS = {
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "datetime.datetime.now",
    "time.time", "time.time_ns", "time.monotonic", "time.perf_counter", "time.sleep",
    "os.urandom", "os.getenv", "os.getpid", "uuid.uuid1", "uuid.uuid4", "uuid4", "secrets.token_hex",
}  # fmt: skip
IMPURE_MODULES = {"random", "secrets", "uuid", "socket", "subprocess", "urllib", "http"}


def _pure(path: Path) -> bool:
    name = name_of(path)
    return name.startswith("core/") or path.name in PURE_FILES or name in PURE_MODULES


@pytest.mark.parametrize("path", [path for path in sources(templates=False) if _pure(path)], ids=name_of)
def test_pure_modules_ask_no_clock_no_chance_and_no_environment(path: Path) -> None:
    found = []
    for node in nodes(parsed(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in IMPURE_CALLS:
            found.append(f"line {node.lineno}: {ast.unparse(node.func)}")
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "os.environ":
            found.append(f"line {node.lineno}: os.environ")
        elif isinstance(node, ast.Import):
            found += [f"import {each.name}" for each in node.names if each.name.split(".")[0] in IMPURE_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in IMPURE_MODULES:
            found.append(f"from {node.module}")
    assert found == []


def test_core_imports_the_standard_library_and_itself_only() -> None:
    import sys

    foreign = set()
    for path in (SOURCE / "core").glob("*.py"):
        for node in nodes(parsed(path)):
            if isinstance(node, ast.Import):
                foreign |= {each.name.split(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("noria.core"):
                foreign.add(node.module.split(".")[0])
    assert foreign <= set(sys.stdlib_module_names)


def test_the_pure_modules_exist() -> None:
    assert [name for name in sorted(PURE_MODULES) if not (SOURCE / name).is_file()] == []
