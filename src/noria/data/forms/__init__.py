"""Forms that rows and files come in: CSV, JSON lines, Parquet, frames, and the identity of a table's content."""
