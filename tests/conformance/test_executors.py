"""Every executor that Noria brings does what the seam asks for."""

from __future__ import annotations

import pytest

from noria import plugins
from noria.engines.executors.inline import InlineExecutor
from noria.engines.executors.pool import PoolExecutor
from noria.pipeline.executor import Executor
from noria.testing.conformance import ExecutorConformance, IsolatedExecutorConformance


class TestInlineExecutor(ExecutorConformance):
    @pytest.fixture
    def executor(self) -> Executor:
        return InlineExecutor()


class TestPoolExecutor(IsolatedExecutorConformance):
    @pytest.fixture
    def executor(self) -> Executor:
        return PoolExecutor()


def test_every_built_in_executor_is_tested_here() -> None:
    found = {plugins.load("executor", name) for name in plugins.BUILTIN["executor"]}
    assert found == {InlineExecutor, PoolExecutor}
