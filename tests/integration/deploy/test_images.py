"""The image, the compose file and the example of settings: linted, and true to the code."""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema.validators import validator_for

from engine.dashboard.guard import Guard
from engine.settings import EngineSettings, load_engine
from engine.tokens import all_tokens
from processors.settings import described, from_env
from tests.support.acl import USERS

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "deploy" / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yml").read_text())
OURS = ("migrate", "engine-1", "engine-2", "gateway")
PROGRAMS = Path(sysconfig.get_path("scripts"))
ENGINE_VARIABLES = {f"ENGINE_{name.upper()}" for name in EngineSettings.__struct_fields__}
KNOWN = ENGINE_VARIABLES | {row.variable for row in described({})}


def said(*command: str | Path, given: str | None = None) -> str:
    """Run a linter; what it found is its output."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr) if done.returncode else ""


def instructions() -> list[tuple[str, str]]:
    """Read the Dockerfile's instructions, joined over lines."""
    text = (DOCKER / "Dockerfile").read_text()
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line)
    ]


def test_the_dockerfile_pleases_hadolint() -> None:
    assert said(PROGRAMS / "hadolint", "-t", "info", DOCKER / "Dockerfile") == ""
    assert "DL3002" in said(PROGRAMS / "hadolint", "-", given="FROM python:3.13\nUSER root\n")


def test_the_image_is_lean_and_runs_as_nobody() -> None:
    found = instructions()
    stages = [index for index, (word, _) in enumerate(found) if word == "FROM"]
    last = found[stages[-1] :]

    assert len(stages) == 2
    assert ("USER", "10001:10001") in last
    assert not [rest for word, rest in last if word == "RUN" and "install " in rest.split("un")[0]]
    assert {"HEALTHCHECK", "STOPSIGNAL", "LABEL"} <= {word for word, _ in last}
    for word in ("ENTRYPOINT", "CMD"):
        assert isinstance(json.loads(dict(last)[word]), list), "exec form, or signals are lost"


def test_the_image_is_built_of_what_the_package_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = {
        part
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for part in rest.split()[:-1]
    }
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = {*wheel, project["project"]["readme"], *project["project"]["license-files"]}

    assert copied == {*needed, "pyproject.toml"}
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    extras = next(rest for word, rest in instructions() if rest.startswith("EXTRAS="))
    assert extras.partition("=")[2] in project["project"]["optional-dependencies"]
    version = next(rest for _, rest in instructions() if rest.startswith("VERSION="))
    assert version == f"VERSION={project['project']['version']}"


def test_the_compose_file_fits_the_schema_of_compose() -> None:
    schema = get_builtin_schema("vendor.compose-spec")
    validator = validator_for(schema)(schema)

    assert [error.message for error in validator.iter_errors(COMPOSE)] == []
    assert list(validator.iter_errors({"services": {"a": {"imagine": "b"}}}))


def test_the_files_that_compose_mounts_are_there() -> None:
    mounts = [
        mount.split(":")[0]
        for service in COMPOSE["services"].values()
        for mount in service.get("volumes", [])
        if mount.startswith(".")
    ]
    assert len(mounts) >= 6
    missing = [mount for mount in mounts if not (DOCKER / mount).exists()]
    assert missing == []


def test_services_of_compose_are_hardened_and_have_time_to_stop() -> None:
    for name, service in COMPOSE["services"].items():
        if name != "postgres":
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not re.search(r":latest$|^[^:]+$", service["image"]), f"{name} is not pinned"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is open to others"
    for name in ("engine-1", "engine-2", "gateway"):
        grace = COMPOSE["services"][name]["stop_grace_period"]
        assert int(grace.removesuffix("s")) >= EngineSettings().grace_s + 10


def test_compose_hands_secrets_out_as_files_that_the_script_makes(tmp_path: Path) -> None:
    script = tmp_path / "secrets.sh"
    script.write_text((DOCKER / "secrets.sh").read_text())
    subprocess.run(["sh", str(script)], check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    subprocess.run(["sh", str(script)], check=True)

    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == made
    assert {f"secrets/{name}" for name in made} == {
        secret["file"] for secret in COMPOSE["secrets"].values()
    }
    assert (tmp_path / "secrets").stat().st_mode & 0o77 == 0
    users = {name.removeprefix("redis_") for name in made if name.startswith("redis_")} - {"url"}
    assert users < set(USERS)
    settings = load_engine(
        {
            "ENGINE_REDIS_URL": made["redis_url"].strip(),
            "ENGINE_HTTP_TOKEN": made["http_token"].strip(),
            "ENGINE_HTTP_TOKENS_FILE": str(tmp_path / "secrets" / "http_tokens"),
        }
    ).settings
    tokens = all_tokens(settings.http_token, settings.http_tokens, settings.http_tokens_file)
    shown = Guard("0.0.0.0", tokens).token(made["metrics_token"].strip())
    assert shown is not None
    assert (shown.name, shown.scope) == ("prometheus", "metrics")
    assert f"engine:{made['redis_engine'].strip()}@valkey" in settings.redis_url


@pytest.mark.parametrize("name", OURS)
def test_compose_sets_what_are_settings(name: str) -> None:
    variables = set(COMPOSE["services"][name]["environment"]) - {"LIVE_URL"}

    assert {variable.removesuffix("_FILE") for variable in variables} <= KNOWN


def test_prometheus_of_compose_is_that_of_the_repository_elsewhere() -> None:
    ours = yaml.safe_load((DOCKER / "prometheus.yml").read_text())
    theirs = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    found = ours["scrape_configs"][0].pop("http_sd_configs")
    (wanted,) = theirs["scrape_configs"][0].pop("http_sd_configs")

    assert ours == theirs
    engines = [name for name in OURS if name.startswith("engine-")]
    assert found == [{**wanted, "url": f"http://{name}:8787/sd"} for name in engines]


@pytest.mark.parametrize("name", OURS)
def test_programs_of_compose_start_with_their_settings_and_secrets(
    name: str, tmp_path: Path
) -> None:
    script = tmp_path / "secrets.sh"
    script.write_text((DOCKER / "secrets.sh").read_text())
    subprocess.run(["sh", str(script)], check=True)
    service = COMPOSE["services"][name]
    environ = {
        variable: text.replace("/run/secrets", str(tmp_path / "secrets"))
        for variable, text in service["environment"].items()
        if variable != "LIVE_URL"
    }
    own = {name: text for name, text in environ.items() if name.startswith("PROCESSORS_")}

    settings = load_engine({n: text for n, text in environ.items() if n not in own}).settings

    files = {Path(text).name for variable, text in environ.items() if variable.endswith("_FILE")}
    assert files == set(service["secrets"])
    assert settings.redis_url.endswith("@valkey:6379/0")
    assert from_env(own).gateway.listen == ("0.0.0.0:8788" if name == "gateway" else "")
    assert bool(from_env(own).gateway.token) is (name == "gateway")


def test_prometheus_of_compose_keeps_what_the_rules_look_back_over() -> None:
    rules = "".join(
        path.read_text() for path in (ROOT / "deploy" / "prometheus" / "rules").glob("*.yml")
    )
    (kept,) = [
        int(found)
        for word in COMPOSE["services"]["prometheus"]["command"]
        for found in re.findall(r"^--storage.tsdb.retention.time=(\d+)d$", word)
    ]

    assert kept > max(map(int, re.findall(r"\[(\d+)d\]", rules)))


def example(*, with_comments: bool) -> dict[str, str]:
    text = (ROOT / "deploy" / "env.example").read_text()
    start = r"^#?" if with_comments else "^"
    return dict(re.findall(rf"{start}([A-Z_]+)=(.*)$", text, re.MULTILINE))


def test_the_example_names_settings_that_exist() -> None:
    strange = [
        name
        for name in example(with_comments=True)
        if name not in KNOWN and name.removesuffix("_FILE") not in KNOWN
    ]
    assert strange == []


def test_the_example_is_in_force_as_it_is() -> None:
    environ = example(with_comments=False)

    settings = load_engine({n: v for n, v in environ.items() if n.startswith("ENGINE_")}).settings

    # All that run on a host are given these, so an engine and a gateway would want one port.
    assert "PROCESSORS_GATEWAY_LISTEN" not in environ
    assert settings.http_place == "PRODUCTION"
    assert from_env({n: v for n, v in environ.items() if n.startswith("PROCESSORS_")}) is not None
