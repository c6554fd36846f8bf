"""Evidence and consent: lineage, audit, approvals."""
