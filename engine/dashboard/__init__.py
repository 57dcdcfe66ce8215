"""HTTP in the daemon's loop: status page, API, metrics, probes, schemas."""

from engine.dashboard.overview import Reads
from engine.dashboard.server import HttpServer, HttpState

__all__ = ["HttpServer", "HttpState", "Reads"]
