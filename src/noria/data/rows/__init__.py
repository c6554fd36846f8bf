"""Rows of a version that is kept: which parts hold them, and reading them."""
