"""The folder that a captured process finds first on its path: Python itself imports `sitecustomize` from it."""
