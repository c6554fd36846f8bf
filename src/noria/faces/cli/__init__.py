"""The command line: a static table of commands, each loaded only when it is typed."""
