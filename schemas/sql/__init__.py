"""Numbered migrations, applied in the order of their names and never changed once applied."""
