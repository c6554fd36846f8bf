"""What steps give to each other: written and read without loss, and compared."""
