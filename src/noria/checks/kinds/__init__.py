"""Kinds of rules, each a function `(rule, rows) -> False or a mask of the rows that break it`."""
