"""Stores of other trackers: their databases, folders and servers."""
