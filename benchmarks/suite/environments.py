"""
Where the systems are installed: an environment for each, made when it is first needed.

Each has the client library that it asks for. Nothing is installed outside ``.bench/`` of this
repository, or ``$STREAMLANE_BENCH_HOME``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.suite.catalog import Entry
from benchmarks.suite.processes import ROOT, MeasurementFailed
from benchmarks.systems.request import Request

HOME = "STREAMLANE_BENCH_HOME"
INSTALL_S = 600
TAIL = 500
OWN_PACKAGES = ("redis", "hiredis", "uvloop", "msgspec")
VERSIONS = """
import importlib.metadata, json, sys
found = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
print(json.dumps({name: found[name] for name in sys.argv[1:] if name in found}))
"""

Say = Callable[[str], None]


class NotInstallable(MeasurementFailed):
    """A system cannot be had on this machine; the message says why."""


def home() -> Path:
    """Return the directory of all environments."""
    return Path(os.environ.get(HOME) or ROOT / ".bench").resolve()


class Environments:
    """
    The environments of all systems.

    Args:
        directory: Where they are kept.
        say: Told what takes its time.
    """

    def __init__(self, directory: Path, say: Say) -> None:
        self._directory = directory
        self._say = say

    def prepare(self, entry: Entry) -> dict[str, str]:
        """
        Install a system unless it is there, and return the versions of what it runs on.

        Raises:
            NotInstallable: It cannot be had here.
        """
        if not entry.packages:
            return self._versions(Path(sys.executable), OWN_PACKAGES)
        place = self._place(entry)
        stamp, wanted = place / "installed", "\n".join([sys.version, *entry.packages])
        if not stamp.exists() or stamp.read_text() != wanted:
            self._say(f"installing {entry.name}: {', '.join(entry.packages)}")
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            self._install(entry, place)
            stamp.write_text(wanted)
        if entry.runtime == "node":
            return self._node_versions(entry, place)
        names = [package.split("[")[0].split("=")[0] for package in entry.packages]
        return self._versions(place / "bin" / "python", (*names, "redis"))

    def command(self, entry: Entry, request: Request) -> tuple[list[str], dict[str, str]]:
        """Return command and variables of a process that does what is asked."""
        place = self._place(entry)
        if entry.runtime == "node":
            script = ROOT / "benchmarks" / "systems" / f"{entry.name}.js"
            modules = {"NODE_PATH": str(place / "node_modules"), "NODE_ENV": "production"}
            return ["node", str(script), request.encode()], modules
        python = str(place / "bin" / "python") if entry.packages else sys.executable
        # -P, so that no module of ours takes the place of a package.
        words = [python, "-P", "-m", "benchmarks.systems.run", request.encode()]
        return words, {"PYTHONPATH": str(ROOT)}

    def _place(self, entry: Entry) -> Path:
        return self._directory / entry.name

    def _install(self, entry: Entry, place: Path) -> None:
        if entry.runtime == "node":
            for program in ("node", "npm"):
                if shutil.which(program) is None:
                    raise NotInstallable(f"{program} is not installed (Node 18 or newer)")
            (place / "package.json").write_text('{"private": true}\n')
            self._run(["npm", "install", "--no-audit", "--no-fund", *entry.packages], place)
            return
        self._run([sys.executable, "-m", "venv", str(place)], place)
        pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q"]
        self._run([*pip, "install", "--no-input", *entry.packages], place)

    def _run(self, words: list[str], place: Path) -> None:
        try:
            done = subprocess.run(
                words, cwd=place, capture_output=True, text=True, timeout=INSTALL_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise NotInstallable(f"{words[0]} took longer than {INSTALL_S} s") from None
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-TAIL:]
            raise NotInstallable(f"cannot be installed: {said}")

    def _versions(self, python: Path, names: tuple[str, ...]) -> dict[str, str]:
        done = subprocess.run(
            [python, "-c", VERSIONS, *(name.lower() for name in names)],
            capture_output=True,
            text=True,
            check=True,
        )
        found: dict[str, str] = json.loads(done.stdout)
        return found

    def _node_versions(self, entry: Entry, place: Path) -> dict[str, str]:
        found = {}
        for package in entry.packages:
            name = package.split("@")[0]
            told = json.loads((place / "node_modules" / name / "package.json").read_text())
            found[name] = str(told["version"])
        return found | {"node": _said(["node", "--version"])}


def _said(words: list[str]) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
