"""Searching hyperparameters: trials as runs, judged on rows kept from training, never on the holdout."""
