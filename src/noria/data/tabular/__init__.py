"""Tables: SQL and object-store sources, append, upsert and delete by key, and each row's history."""
