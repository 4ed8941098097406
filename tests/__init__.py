"""A folder for each room of the package; ``tests.`` is the name by which they import helpers."""
