"""Every executor that Noria brings does what the seam asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from noria import plugins
from noria.engines.executors.auto import AutoExecutor
from noria.engines.executors.inline import InlineExecutor
from noria.engines.executors.pool import PoolExecutor
from noria.engines.executors.raycluster import RayExecutor
from noria.pipeline.executor import Executor, Task
from noria.testing.conformance import ExecutorConformance, IsolatedExecutorConformance


class TestInlineExecutor(ExecutorConformance):
    @pytest.fixture
    def executor(self) -> Executor:
        return InlineExecutor()


class TestPoolExecutor(IsolatedExecutorConformance):
    @pytest.fixture
    def executor(self) -> Executor:
        return PoolExecutor()


class TestAutoExecutor(ExecutorConformance):
    """Alone, a task runs here."""

    @pytest.fixture
    def executor(self) -> Executor:
        return AutoExecutor()


class TestAutoExecutorBesideOthers(IsolatedExecutorConformance):
    """Where another could run beside it, a task goes to the pool."""

    @pytest.fixture
    def executor(self) -> Executor:
        return _Beside()


class _Beside(AutoExecutor):
    def submit(self, task: Task) -> tuple[Executor, Any]:
        return super().submit(replace(task, is_alone=False))


def test_every_built_in_executor_is_tested_here() -> None:
    found = {plugins.load("executor", name) for name in plugins.BUILTIN["executor"]}
    elsewhere = {RayExecutor}  # tests/peers/ray_conformance.py: Ray is in an environment of its own
    assert found == {AutoExecutor, InlineExecutor, PoolExecutor} | elsewhere
