"""Backups of a project while it works, and projects from backups."""
