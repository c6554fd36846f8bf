"""Settings that all tests share."""

from __future__ import annotations

from hypothesis import settings

# a busy machine is no failure: tests that mean to bound time measure it themselves
settings.register_profile("noria", deadline=None)
settings.load_profile("noria")
