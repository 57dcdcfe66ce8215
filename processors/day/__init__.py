"""A small chat day for people to watch: ``python -m processors demo``."""
