"""Drift tests: each a function of two profiles of a column that gives a score. Nothing else here decides."""
