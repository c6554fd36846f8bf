"""Lets the tests with peers import what lies beside them, and the projects and servers of the integration tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "integration")]
