"""Webhooks: other systems are told what happens in the registry, signed and as often as it takes."""
