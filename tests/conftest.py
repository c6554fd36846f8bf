"""Settings and servers that all tests share."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).resolve().parent))

from s3_server import s3_server

__all__ = ["s3_server"]

# a busy machine is no failure: tests that mean to bound time measure it themselves
settings.register_profile("noria", deadline=None)
settings.load_profile("noria")
