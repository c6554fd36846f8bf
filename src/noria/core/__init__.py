"""Floor 0: values. Standard library only: no input or output, no clock, no randomness."""
