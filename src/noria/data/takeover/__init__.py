"""Other tools' repositories taken over, and plain files given back."""
