"""Traces: what one request of an application did, span by span, as clients tell it."""
