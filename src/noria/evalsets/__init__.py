"""Evaluation data sets: what an application is asked when it is evaluated, and what is expected of it."""
