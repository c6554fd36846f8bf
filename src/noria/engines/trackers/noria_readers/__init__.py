"""Readers of other tools' stores that run where those tools are: they import the standard library and the tool."""
