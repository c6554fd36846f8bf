"""Git: pins that follow a clone, hooks, and the merge driver."""
