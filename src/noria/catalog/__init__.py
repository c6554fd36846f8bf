"""Experiments as things of their own, what clients change of runs afterwards, and what runs took and gave."""
