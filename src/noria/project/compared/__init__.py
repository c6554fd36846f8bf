"""Two runs, or the models that they made, beside each other: on the same rows, as logged, by input, and in words."""
