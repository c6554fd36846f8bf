"""What a step is seen to read while it runs, and where chance enters it."""
