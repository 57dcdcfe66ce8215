"""The systemd units: well-formed, hardened, and in accord with what the engine does."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from engine.cli.root import USAGE
from engine.runtime.engine import EXIT_UNFINISHED
from engine.settings import EngineSettings
from tests.support.daemon import Start
from tests.support.ledger import Ledger, send
from tests.support.servers import RedisTestServer
from tests.support.waiting import eventually

UNITS = Path(__file__).parents[3] / "deploy" / "systemd"
SERVICES = (
    "streamlane-engine@1.service",
    "streamlane-gateway.service",
    "streamlane-migrate.service",
)
ANALYZE = shutil.which("systemd-analyze")
EXPOSURE_MAX = 1.5
SECONDS = {"": 1, "s": 1, "min": 60}

needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Give the units as they would be installed, on this test's Python."""
    shutil.copytree(UNITS, tmp_path, dirs_exist_ok=True)
    for unit in tmp_path.glob("*.service"):
        unit.write_text(unit.read_text().replace("/opt/streamlane/bin/python", sys.executable))
    (tmp_path / "streamlane-engine@.service").rename(tmp_path / SERVICES[0])
    return tmp_path


def analyze(installed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze on units in a directory of their own."""
    assert ANALYZE is not None
    return subprocess.run(
        [ANALYZE, *words],
        cwd=installed,
        env={"SYSTEMD_UNIT_PATH": f"{installed}:", "SYSTEMD_COLORS": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def directives(unit: str) -> dict[str, list[str]]:
    """Read the directives of a unit's service section, which may come several times."""
    found: dict[str, list[str]] = {}
    section = (UNITS / unit).read_text().partition("[Service]")[2].partition("\n[")[0]
    for line in section.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(\w*)", text).groups()  # type: ignore[union-attr]
    return float(number) * SECONDS[unit]


@needs_systemd
def test_the_units_are_well_formed(installed: Path) -> None:
    found = analyze(installed, "verify", *(f"./{name}" for name in SERVICES))

    ours = [line for line in found.stderr.splitlines() if "streamlane" in line]
    assert (found.returncode, ours) == (0, [])


@needs_systemd
def test_the_check_sees_a_directive_that_does_not_exist(installed: Path) -> None:
    unit = installed / SERVICES[0]
    unit.write_text(unit.read_text().replace("WatchdogSec", "WatchDogSeconds"))

    assert "WatchDogSeconds" in analyze(installed, "verify", f"./{SERVICES[0]}").stderr


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES)
def test_the_units_are_hardened(installed: Path, unit: str) -> None:
    threshold = f"--threshold={EXPOSURE_MAX * 10:.0f}"

    found = analyze(installed, "security", "--offline=yes", "--no-pager", threshold, f"./{unit}")

    assert found.returncode == 0, found.stdout


@needs_systemd
def test_without_its_drop_in_a_unit_would_not_pass_for_hardened(installed: Path) -> None:
    shutil.rmtree(installed / "streamlane-.service.d")

    found = analyze(installed, "security", "--offline=yes", "--threshold=50", f"./{SERVICES[0]}")

    assert found.returncode != 0


def test_the_times_of_the_unit_fit_those_of_the_engine() -> None:
    unit, settings = directives("streamlane-engine@.service"), EngineSettings()

    assert seconds(unit["TimeoutStopSec"][0]) >= settings.grace_s + 10
    # The food comes twice in a watchdog's time; a lease must not end long before the watchdog acts.
    assert seconds(unit["WatchdogSec"][0]) >= 2 * settings.lease_ms / 1e3
    assert unit["Type"] == ["notify"]
    assert unit["NotifyAccess"] == ["main"], "the supervisor speaks for its engines"


def test_the_exit_codes_of_the_unit_are_those_of_the_engine() -> None:
    unit = directives("streamlane-engine@.service")

    assert unit["SuccessExitStatus"] == unit["RestartForceExitStatus"] == [str(EXIT_UNFINISHED)]
    assert unit["RestartPreventExitStatus"] == [str(USAGE)]


@pytest.mark.parametrize("unit", sorted(path.name for path in UNITS.glob("*.service")))
def test_secrets_come_as_credentials_for_settings_that_exist(unit: str) -> None:
    said = directives(unit)
    credentials = {text.partition(":")[0] for text in said.get("LoadCredential", [])}
    variables = dict(text.split("=", 1) for text in said.get("Environment", []))
    by_file = {name: text for name, text in variables.items() if text.startswith("%d/")}

    assert {text.removeprefix("%d/") for text in by_file.values()} == credentials
    fields = {f"ENGINE_{name.upper()}_FILE" for name in EngineSettings.__struct_fields__}
    assert by_file.keys() <= fields
    known = {f"ENGINE_{name.upper()}" for name in EngineSettings.__struct_fields__}
    assert {name for name in variables if name.startswith("ENGINE_")} - by_file.keys() <= known


def allowed_calls() -> set[str]:
    """Ask systemd which system calls the hardened units may make."""
    text = (UNITS / "streamlane-.service.d" / "hardening.conf").read_text()
    filters = re.findall(r"^SystemCallFilter=(.*)$", text, re.MULTILINE)
    allowed: set[str] = set()
    for line in filters:
        taken = calls_of(line.removeprefix("~").split())
        allowed = allowed - taken if line.startswith("~") else allowed | taken
    # systemd always lets these through, for execve and clean ends.
    return allowed | calls_of(["@default"])


def calls_of(names: Iterable[str]) -> set[str]:
    """Resolve groups of system calls."""
    assert ANALYZE is not None
    found: set[str] = set()
    for name in names:
        if not name.startswith("@"):
            found.add(name)
            continue
        told = subprocess.run(
            [ANALYZE, "syscall-filter", "--no-pager", name],
            capture_output=True,
            text=True,
            check=True,
        )
        inner = [line.strip() for line in told.stdout.splitlines()[1:]]
        found |= calls_of(word for word in inner if word and not word.startswith("#"))
    return found


@needs_systemd
@pytest.mark.full
@pytest.mark.servers
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
async def test_an_engine_makes_no_system_call_that_the_unit_forbids(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger, tmp_path: Path
) -> None:
    engine = start_daemon(redis_server.url)
    engine.kill9()
    trace = tmp_path / "calls"
    engine._command = ["strace", "-D", "-f", "-qq", "-o", str(trace), *engine._command]
    engine.start()
    await eventually(engine.is_ready, "ready", limit_s=60)
    accepted = {send(redis_server, kind, f"{kind}1"): 0 for kind in ("quick", "failing", "bulk")}
    await eventually(ledger.is_empty, "all ended")
    ledger.check(accepted)
    assert engine.stop() == 0

    made = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))
    assert {"execve", "socket", "mmap"} <= made
    assert made - allowed_calls() == set()
