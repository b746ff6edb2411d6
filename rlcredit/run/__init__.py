"""A run, from an empty folder to its summary."""
