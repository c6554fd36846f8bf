"""Floor 3: implementations of the seams, reached by name through `plugins.py` and imported by nobody."""
