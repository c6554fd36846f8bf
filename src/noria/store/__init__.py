"""Floor 1: the ground. Objects, the ledger of facts and its records, series, jobs."""
