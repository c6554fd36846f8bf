"""A run of a pipeline from its first ready step to its last fact."""
