"""Scripts and notebooks as they are: run without a change, and put on record with what they read, made and fitted."""
