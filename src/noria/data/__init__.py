"""Data sets: versions by content, read without loss, compared."""
