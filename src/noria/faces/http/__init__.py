"""Noria over HTTP: predictions, verbs, the status page, and the processes that keep them up."""
