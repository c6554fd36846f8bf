"""Where steps run: in this process, or in one of their own."""
