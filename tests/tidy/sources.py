"""The files over which the tidy tests go."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SOURCES = sorted(
    path
    for package in ("engine", "processors", "schemas")
    for path in (ROOT / package).rglob("*.py")
)
"""Every Python file of the product."""

SCRIPTS = sorted((ROOT / "engine" / "store" / "lua").glob("*.lua"))
"""Every script that runs inside the server."""


def name_of(path: Path) -> str:
    """Name a file as one would from the root."""
    return str(path.relative_to(ROOT))


def repository_files() -> list[Path]:
    """
    List the files of the repository, new ones included, ignored ones left out.

    Empty where this is no repository, as in an unpacked archive.
    """
    if not (ROOT / ".git").exists():
        return []
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # A file may be removed and not yet committed.
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]
