"""``python -m processors``."""

from processors.cli.root import run

run()
