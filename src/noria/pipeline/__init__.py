"""Pipelines of steps: what a project declares, what is cached, what runs, and why."""
