"""Hooks that tell what a library fits, measures, reads and writes in a captured process (seam `autolog`).

Each is called by name with the module that has just been imported, and the recorder of the process.
"""
