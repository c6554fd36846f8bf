"""The published conformance class over Ray; run by `test_ray.py` in the environment that has it."""

from __future__ import annotations

import os

import pytest

from noria import plugins
from noria.pipeline.executor import Executor
from noria.testing.conformance import IsolatedExecutorConformance


class TestRayExecutor(IsolatedExecutorConformance):
    """On the cluster at RAY_ADDRESS, or on one of its own for each test."""

    @pytest.fixture
    def executor(self) -> Executor:
        made: Executor = plugins.load("executor", "ray")(address=os.environ.get("RAY_ADDRESS", ""))
        return made
