"""Schedules: what is done by itself at set times, exactly once for each, whoever looks at the clock."""
