"""Remotes: what is pushed and pulled, checked at both ends."""
