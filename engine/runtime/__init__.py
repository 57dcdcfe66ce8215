"""The running engine."""

from engine.runtime.engine import Engine
from engine.runtime.serving import serve

__all__ = ["Engine", "serve"]
