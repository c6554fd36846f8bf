"""One pass over rows: profiles that merge, tallies of rules, and what they are compared with."""
