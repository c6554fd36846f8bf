"""Folders of files: walking them, what is known of each file, and what has changed."""
