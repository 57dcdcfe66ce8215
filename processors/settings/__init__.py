"""
Settings of the processors, read from ``PROCESSORS_*`` variables.

The general ones stand in :class:`ProcessorSettings` itself; each part of the back end has a section
of its own, whose variables carry its name: ``PROCESSORS_PUSH_…``, ``PROCESSORS_EMAIL_…``.
``VARIABLE_FILE`` reads a value from a file, as container platforms hand out secrets.
"""

from processors.settings.core import PREFIX, ProcessorSettings, described, from_env, sections

__all__ = ["PREFIX", "ProcessorSettings", "described", "from_env", "sections"]
