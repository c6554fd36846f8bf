"""Edits of projects, in groups: what each program is before, and what is done to it."""
