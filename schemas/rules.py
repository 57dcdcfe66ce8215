"""Names and numbers that the wire allows, one place for each bound."""

from __future__ import annotations

import re

TYPE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
QUEUE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
SCHEDULE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

PATH_STEP = r"(\.{0,2})([^.\[\]\s;,$][^.\[\]\s;,]*)|\[(?:\*|\d*)\]"
"""One step of a path into a payload: a name, ``..`` for any depth before it, or ``[*]``."""

LANES = ("critical", "high", "normal", "low")
"""All lanes, highest first. Their initials are unique and begin the ids of nameless jobs."""

DATA_BYTES_MAX = 1_048_576
TRACESTATE_BYTES_MAX = 512
"""W3C Trace Context, section 3.3.1.5."""
HEADERS_MAX = 32
HEADER_BYTES_MAX = 1_024
ID_CHARS_MAX = 128
ATTEMPTS_MAX = 100
DELAY_MS_MAX = 366 * 86_400_000
VERSION_MAX = 1_000_000
FIELDS_MAX = 64

CHILDREN_BYTES_MAX = 1_048_576
CHILDREN_MAX = 10_000
"""Nodes of one flow below its parent, on all levels."""
CHILDREN_DEPTH_MAX = 16
FLOW_RESULTS_BYTES_MAX = 262_144
"""Results of all children that one parent is given."""
FLOW_FAILURES_MAX = 20
BYTES_MAX_LEAST = 65_536
"""The lowest bound of a queue's memory: an empty one takes some thousand bytes."""
