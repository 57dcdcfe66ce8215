"""The command line: arguments in, admin, client and runtime called, text or JSON out."""

from __future__ import annotations

from engine.cli.root import main

__all__ = ["main"]
