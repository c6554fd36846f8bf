"""Runs: what was started by whom, from which code, data and environment, and how it ended."""
