"""Settings and servers that all tests share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hypothesis import settings

# As `noria` sets it for itself: threads of OpenMP that wait sleep. Spinning, 15 small fits took 38 s of CPU and 212 s
# beside a second process on 2 cores, and asleep 1.8 s and 4 s. Read when the library is loaded, so before any test.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parent))

from s3_server import s3_server

__all__ = ["s3_server"]

# a busy machine is no failure: tests that mean to bound time measure it themselves
settings.register_profile("noria", deadline=None)
settings.load_profile("noria")
