"""Prometheus' programs, where they are installed, and a Prometheus that runs."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.embedded import unused_port
from tests.support.promql import PROMETHEUS

MISSING = (
    "the rules were not tried by Prometheus itself: install it (Debian: apt-get install prometheus)"
)


def program(name: str) -> str:
    """Find one of Prometheus' programs, or skip the test."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(MISSING)
    return found


def promtool(*words: str, directory: Path = PROMETHEUS, given: bytes = b"") -> str:
    """Run promtool, which must be content, and return what it says."""
    ended = subprocess.run(
        [program("promtool"), *words],
        cwd=directory,
        input=given,
        capture_output=True,
        timeout=110,
        check=False,
    )
    said = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == 0, said
    return said


class Prometheus:
    """
    A running Prometheus.

    Args:
        address: Where it listens.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str, **query: str) -> Any:
        """Ask its API; None while it is not there yet."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{path} {query}: {error.read().decode()}") from None
        except OSError:
            return None

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """List the series that an expression gives now, each with its value."""
        found = self.get("query", query=expression)
        rows = found["result"] if found else []
        return [(row["metric"], float(row["value"][1])) for row in rows]

    def rules(self) -> list[dict[str, Any]]:
        """List the rules as it has read them, with the state of each."""
        found = self.get("rules")
        return [rule for group in found["groups"] for rule in group["rules"]] if found else []


@contextlib.contextmanager
def prometheus(directory: Path, *, sd: str, token: str) -> Iterator[Prometheus]:
    """
    Run a Prometheus with the configuration of ``deploy``; addresses and paces are replaced.

    Args:
        directory: Where it keeps what it reads and writes.
        sd: Address of the engine that it asks for all engines.
        token: What engines want to be shown.
    """
    binary = program("prometheus")
    copy = Path(shutil.copytree(PROMETHEUS, directory / "prometheus"))
    config = yaml.safe_load((copy / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    (scrape,) = config["scrape_configs"]
    (discovery,) = scrape["http_sd_configs"]
    discovery |= {"url": f"http://{sd}/sd", "refresh_interval": "200ms"}
    (copy / "prometheus.yml").write_text(yaml.safe_dump(config))
    (copy / "streamlane.token").write_text(token)
    for rules in (copy / "rules").glob("*.yml"):
        # Groups have paces of their own, by which a first look may take minutes.
        told = yaml.safe_load(rules.read_text())
        for group in told["groups"]:
            group.pop("interval", None)
        rules.write_text(yaml.safe_dump(told))
    address = f"127.0.0.1:{unused_port()}"
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(binary, f"--config.file={copy / 'prometheus.yml'}"),
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={address}",
                "--scrape.discovery-reload-interval=100ms",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield Prometheus(address)
    finally:
        process.kill()
        process.wait()
