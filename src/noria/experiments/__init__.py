"""Runs as a script records them: logging that never blocks, series of metrics, search, and histories."""
