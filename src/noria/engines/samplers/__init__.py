"""Who proposes the parameters of a search's trials, and who ends those that are not worth it."""
