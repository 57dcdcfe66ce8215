"""``python -m processors``: the commands that belong to messaging alone."""
