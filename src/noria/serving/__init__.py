"""Answering requests: deployments, routing, the prediction log, and rollouts judged by evidence."""
