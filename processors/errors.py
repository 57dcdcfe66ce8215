"""
The errors of the processors, as one tree.

    ProcessorError
    ├── ConfigurationError       a setting is missing, out of range or contradicts another
    ├── MigrationError           the migrations on disk do not fit those in the database
    ├── Refused                  a job asks for what the rules of messaging do not allow
    ├── ServiceUnavailable       another system that a job needs cannot serve now
    └── DatabaseError
        ├── DatabaseUnavailable      PostgreSQL cannot be reached, or no connection is free
        └── StatementTimeout         a statement did not end within the client's limit
"""

from __future__ import annotations

from engine import EngineError, SettingsError


class ProcessorError(EngineError):
    """Anything the processors report by name."""


class ConfigurationError(ProcessorError, SettingsError):
    """A setting is missing, out of range or contradicts another."""


class MigrationError(ProcessorError):
    """The migrations on disk do not fit those that the database has."""


class Refused(ProcessorError):
    """
    A job asks for what the rules of messaging do not allow; trying again changes nothing.

    Attributes:
        code: A short, bounded name such as ``not-a-member``.
        detail: The case at hand, without any content.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class ServiceUnavailable(ProcessorError):
    """
    Another system that a job needs cannot serve now; the job is put off and spends no attempt.

    Attributes:
        service: Which one, a short, bounded name such as ``key-provider`` or ``object-store``.
        retry_after_ms: How long it asked to be left alone; 0 where it did not say.
    """

    def __init__(self, service: str, detail: str, *, retry_after_ms: int = 0) -> None:
        super().__init__(f"{service}: {detail}")
        self.service = service
        self.retry_after_ms = retry_after_ms


class DatabaseError(ProcessorError):
    """PostgreSQL did not do what was asked."""


class DatabaseUnavailable(DatabaseError):
    """
    PostgreSQL cannot be reached or has no connection free; what was asked may or may not be done.

    Attributes:
        kind: ``connect``, ``pool`` or ``lost``, for logs.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class StatementTimeout(DatabaseError):
    """A statement did not end within the client's limit and was given up."""
