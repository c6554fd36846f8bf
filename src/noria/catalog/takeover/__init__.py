"""Runs, models and registries that come from, and go to, the stores of other trackers."""
