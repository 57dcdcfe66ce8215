"""What of a job leaves the server: the one place where payloads, results and raw fields do."""

from __future__ import annotations

import base64
import hashlib

from schemas.looks import PayloadShown
from schemas.story import JobStory

DATA = "data"


def measured(story: JobStory) -> PayloadShown:
    """Tell size and hash of a job's payload."""
    raw = next((field for field in story.fields if field.name == DATA), None)
    if raw is None:
        cut, digest = (story.dead.cut, story.dead.sha256) if story.dead else (0, "")
        return PayloadShown(shown=True, size_bytes=cut, sha256=digest)
    data = base64.b64decode(raw.value) if raw.encoding == "base64" else raw.value.encode()
    return PayloadShown(shown=True, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
