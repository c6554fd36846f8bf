"""Places that tables are read from: databases."""
