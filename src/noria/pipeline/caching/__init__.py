"""Keys of steps, the entries under them, and the conditions under which an entry holds."""
