"""Checks: rules inferred from a reference and edited in a file, which stop bad data."""
