"""The manifests for Kubernetes: valid by its schemas, and in accord with what the engine does."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from engine.settings import load_engine
from engine.tokens import new_token, setting_of
from processors.settings import described, from_env
from tests.integration.deploy.test_images import ENGINE_VARIABLES

PLACE = Path(__file__).parents[3] / "deploy" / "kubernetes"
KUBECTL = shutil.which("kubectl")
VERSION = "1.37"
CUSTOM = {"ScaledObject", "ServiceMonitor"}
Manifest = dict[str, Any]


def read(*parts: str) -> list[Manifest]:
    """Read the manifests of files, as they are written."""
    texts = (PLACE / part for part in parts)
    return [found for path in texts for found in yaml.safe_load_all(path.read_text())]


(KUSTOMIZATION,) = read("base/kustomization.yaml")
BASE = read(*(f"base/{name}" for name in KUSTOMIZATION["resources"]))
WORKLOADS = [each for each in BASE if each["kind"] in {"Deployment", "Job"}]
DEPLOYMENTS = [each for each in BASE if each["kind"] == "Deployment"]


def named(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def pod_of(manifest: Manifest) -> Manifest:
    return dict(manifest["spec"]["template"]["spec"])


def settings_of() -> dict[str, str]:
    literals = KUSTOMIZATION["configMapGenerator"][0]["literals"]
    return dict(text.split("=", 1) for text in literals)


def environ_of(manifest: Manifest) -> dict[str, str]:
    """Return the variables that a workload's pods are given, apart from those of the cluster."""
    (container,) = pod_of(manifest)["containers"]
    own = {row["name"]: row["value"] for row in container.get("env", []) if "value" in row}
    return {**settings_of(), **own}


@pytest.mark.parametrize("manifest", WORKLOADS, ids=named)
def test_programs_start_with_the_settings_and_the_secret_that_are_named(
    manifest: Manifest, tmp_path: Path
) -> None:
    secret = {
        "redis_url": "rediss://engine:secret@valkey:6379/0",
        "postgres_url": "postgresql://streamlane:secret@postgres/streamlane",
        "http_tokens": f"alice={setting_of(new_token(), 'admin')}",
        "gateway_token": new_token(),
    }
    for name, text in secret.items():
        (tmp_path / name).write_text(f"{text}\n")
    environ = {
        name: text.replace("/run/secrets/streamlane", str(tmp_path))
        for name, text in environ_of(manifest).items()
    }
    own = {name: text for name, text in environ.items() if name.startswith("PROCESSORS_")}

    settings = load_engine({n: text for n, text in environ.items() if n not in own}).settings

    assert settings.redis_url == secret["redis_url"]
    assert settings.postgres_url == secret["postgres_url"]
    token = from_env(own).gateway.token
    assert token == (secret["gateway_token"] if "gateway" in named(manifest) else "")
    listed = (PLACE / "base" / "kustomization.yaml").read_text().partition("apiVersion")[0]
    assert all(name in listed for name in secret), "told in the comment"


@pytest.mark.parametrize("manifest", BASE, ids=named)
def test_manifests_fit_the_schemas_of_kubernetes(manifest: Manifest) -> None:
    kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_the_schemas_see_a_misspelling() -> None:
    broken = {**DEPLOYMENTS[0], "spec": {**DEPLOYMENTS[0]["spec"], "replica": 2}}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSION, strict=True)


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")
def test_kustomize_puts_them_together() -> None:
    assert KUBECTL is not None
    done = subprocess.run(
        [KUBECTL, "kustomize", str(PLACE / "example")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = list(yaml.safe_load_all(done.stdout))
    for manifest in found:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, VERSION, strict=True)
    images = set(re.findall(r"image: (\S+)", done.stdout))
    assert len(images) == 1
    assert ":" in images.pop()
    engine = next(each for each in found if named(each) == "Deployment streamlane-engine")
    assert "replicas" not in engine["spec"], "KEDA says how many"
    assert {each["kind"] for each in found} > CUSTOM


@pytest.mark.parametrize("manifest", WORKLOADS, ids=named)
def test_pods_have_no_more_rights_than_they_need(manifest: Manifest) -> None:
    pod = pod_of(manifest)

    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001, "as in the Dockerfile"
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        assert not [row for row in container.get("env", []) if "secretKeyRef" in str(row)]


@pytest.mark.parametrize("manifest", DEPLOYMENTS, ids=named)
def test_probes_and_grace_are_those_of_the_engine(manifest: Manifest) -> None:
    pod = pod_of(manifest)
    (container,) = pod["containers"]
    grace = float(settings_of()["ENGINE_GRACE_S"])
    sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)

    assert pod["terminationGracePeriodSeconds"] >= grace + sleep + 10
    assert container["startupProbe"]["httpGet"]["path"] == "/live"
    assert container["livenessProbe"]["httpGet"]["path"] == "/live"
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    (port,) = container["ports"]
    listens = "ENGINE_HTTP" if "engine" in named(manifest) else "PROCESSORS_GATEWAY_LISTEN"
    assert environ_of(manifest)[listens] == f"0.0.0.0:{port['containerPort']}"
    # An engine with that address would serve a gateway of its own.
    assert ("PROCESSORS_GATEWAY_LISTEN" in environ_of(manifest)) is ("gateway" in named(manifest))


@pytest.mark.parametrize("kind", ["PodDisruptionBudget", "Service"])
def test_each_deployment_is_selected_by(kind: str) -> None:
    found = {
        each["metadata"]["name"]: each["spec"]["selector"] for each in BASE if each["kind"] == kind
    }

    for manifest in DEPLOYMENTS:
        selector = found[manifest["metadata"]["name"]]
        labels = manifest["spec"]["template"]["metadata"]["labels"]
        assert (selector.get("matchLabels") or selector).items() <= labels.items()


def test_the_network_policy_covers_every_pod() -> None:
    (policy,) = [each for each in BASE if each["kind"] == "NetworkPolicy"]
    (rule,) = policy["spec"]["podSelector"]["matchExpressions"]

    labels = [each["spec"]["template"]["metadata"]["labels"] for each in WORKLOADS]
    assert {each[rule["key"]] for each in labels} == set(rule["values"])


def test_the_settings_exist_and_secrets_come_as_files() -> None:
    known = ENGINE_VARIABLES | {row.variable for row in described({})}
    said = {*settings_of(), "ENGINE_NAME", "ENGINE_HTTP_HOST"}
    (example,) = read("example/kustomization.yaml")
    said |= {text.split("=")[0] for text in example["configMapGenerator"][0]["literals"]}

    assert {
        name for name in said if name not in known and name.removesuffix("_FILE") not in known
    } == set()
    mounts = {
        mount["mountPath"]
        for each in WORKLOADS
        for mount in pod_of(each)["containers"][0]["volumeMounts"]
    }
    files = [text for name, text in settings_of().items() if name.endswith("_FILE")]
    assert files
    assert {str(Path(text).parent) for text in files} <= mounts


def metrics() -> set[str]:
    """Name every metric that an engine tells, by the README's table, which a test checks."""
    text = (PLACE.parents[1] / "README.md").read_text()
    return set(re.findall(r"^\| `(engine_\w+)` \|", text, re.MULTILINE))


def test_keda_scales_engines_by_metrics_that_exist() -> None:
    """Its schema is not at hand: what KEDA's documentation demands is checked field by field."""
    (scaled,) = read("components/keda/scaled-object.yaml")
    spec = scaled["spec"]
    names = {each["metadata"]["name"] for each in DEPLOYMENTS}

    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    assert spec["scaleTargetRef"]["name"] in names
    assert 1 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
    assert spec["fallback"]["replicas"] <= spec["maxReplicaCount"]
    known = metrics()
    assert len(spec["triggers"]) == 2
    for trigger in spec["triggers"]:
        assert trigger["type"] == "prometheus"
        told = trigger["metadata"]
        assert {"serverAddress", "query", "threshold"} <= told.keys()
        assert all(isinstance(text, str) for text in told.values()), "KEDA takes strings alone"
        used = set(re.findall(r"engine_\w+", told["query"]))
        assert used
        assert used <= known


def test_the_service_monitor_finds_the_service_and_its_token() -> None:
    (monitor,) = read("components/service-monitor/service-monitor.yaml")
    (endpoint,) = monitor["spec"]["endpoints"]
    service = next(each for each in BASE if named(each) == "Service streamlane-engine")

    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    labels = service["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    shown = endpoint["authorization"]["credentials"]
    mounted = {
        volume["secret"]["secretName"]
        for each in WORKLOADS
        for volume in pod_of(each)["volumes"]
        if "secret" in volume
    }
    # What opens the page is not handed to Prometheus, nor Prometheus' token to pods.
    assert shown == {"name": "streamlane-metrics", "key": "token"}
    assert mounted == {"streamlane"}


def test_yaml_is_in_order() -> None:
    from yamllint import linter
    from yamllint.config import YamlLintConfig

    config = YamlLintConfig(
        "extends: default\nrules: {line-length: {max: 110}, document-start: disable, "
        "comments: {min-spaces-from-content: 1}, braces: {max-spaces-inside: 0}, "
        "truthy: {check-keys: false}}"
    )
    files = [*PLACE.rglob("*.yaml"), *(PLACE.parent / "docker").glob("*.yml")]
    assert len(files) > 10
    problems = [
        f"{path.name}: {each}" for path in files for each in linter.run(path.read_text(), config)
    ]
    assert problems == []
