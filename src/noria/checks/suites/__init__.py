"""Suites as files that people edit: their rules, how they are read, merged and exchanged."""
