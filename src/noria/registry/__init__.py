"""Model versions, how good they are, what the gates said, and which release answers."""

__all__: list[str] = []
