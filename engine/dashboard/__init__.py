"""HTTP in the daemon's loop: web page, API, metrics, probes, schemas."""

from engine.dashboard.overview import Reads
from engine.dashboard.server import HttpServer
from engine.dashboard.site import HttpState

__all__ = ["HttpServer", "HttpState", "Reads"]
