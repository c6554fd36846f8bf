"""A run, done again in a clean place: the place, the process, the comparison, and what made a difference."""
