"""The kinds of gates, each a function from evidence to verdicts; reached by name through plugins."""
