"""Providers of identities: who says who somebody is. Reached by name (`plugins.py`, seam `issuer`)."""
