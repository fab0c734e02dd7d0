from __future__ import annotations

import re
import tomllib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from iris_api.settings import Settings
from tests.constants import ROOT

if TYPE_CHECKING:
    from flask.testing import FlaskClient

DEPLOY = ROOT / "deploy" / "kubernetes"
README = (DEPLOY / "README.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())
FILES = sorted({path.name for path in DEPLOY.glob("*.yaml")} - {"kustomization.yaml"})
MANIFESTS: list[dict[str, Any]] = [yaml.safe_load((DEPLOY / name).read_text()) for name in FILES]
BY_KIND = {manifest["kind"]: manifest for manifest in MANIFESTS}
SPEC = {kind: manifest["spec"] for kind, manifest in BY_KIND.items()}

POD: dict[str, Any] = SPEC["Deployment"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
ENVIRONMENT: dict[str, str] = {entry["name"]: entry["value"] for entry in CONTAINER["env"]}
(PORT,) = CONTAINER["ports"]
(SERVICE_PORT,) = SPEC["Service"]["ports"]
(SCRAPE,) = SPEC["ServiceMonitor"]["endpoints"]


def gunicorn_setting(name: str) -> int:
    """A number in gunicorn.conf.py."""
    source = (ROOT / "gunicorn.conf.py").read_text()
    match = re.search(rf"^{name} = (\d+)$", source, re.MULTILINE)
    assert match
    return int(match[1])


def image_setting(pattern: str) -> str:
    """The group of a pattern in the last stage of the Dockerfile."""
    match = re.search(pattern, DOCKERFILE.rpartition("\nFROM ")[2], re.MULTILINE)
    assert match
    return match[1]


def mebibytes(quantity: str) -> int:
    """A quantity of memory in Mi."""
    return int(quantity.removesuffix("Mi"))


@pytest.mark.parametrize("version", ["1.30", "1.37"])
@pytest.mark.parametrize("kind", sorted(BY_KIND.keys() - {"ServiceMonitor"}))
def test_every_manifest_matches_its_schema(kind: str, version: str) -> None:
    """In the oldest Kubernetes that the README allows and in a new one."""
    assert "Kubernetes 1.30 or newer" in README
    assert kubernetes_validate.validate(BY_KIND[kind], version, strict=True) == version


def test_the_kustomization_lists_every_manifest() -> None:
    """Each file once, with one kind each."""
    assert KUSTOMIZATION["resources"] == FILES
    assert len(BY_KIND) == len(FILES)


def test_the_image_has_the_version_of_the_project() -> None:
    """The kustomization replaces the name of the container image by one with a tag."""
    (image,) = KUSTOMIZATION["images"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert image["name"] == CONTAINER["image"]
    assert image["newTag"] == project["version"]


@pytest.mark.parametrize(
    ("probe", "path"),
    [
        ("startupProbe", "/health/ready"),
        ("readinessProbe", "/health/ready"),
        ("livenessProbe", "/health/live"),
    ],
)
def test_every_probe_has_a_public_route(stranger: FlaskClient, probe: str, path: str) -> None:
    """The route answers 200 without a key."""
    assert CONTAINER[probe]["httpGet"] == {"path": path, "port": PORT["name"]}
    assert stranger.get(CONTAINER[probe]["httpGet"]["path"]).status_code == 200


def test_a_stuck_worker_does_not_restart_the_pod() -> None:
    """Gunicorn replaces it before the liveness probe fails."""
    probe = CONTAINER["livenessProbe"]
    assert probe["periodSeconds"] * (probe["failureThreshold"] - 1) > gunicorn_setting("timeout")


def test_every_environment_variable_is_a_valid_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings accept each name and value."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    settings = Settings.read()
    assert settings.workers == int(ENVIRONMENT["WEB_CONCURRENCY"])
    assert set(settings.trusted_proxies) == {ENVIRONMENT["IRIS_TRUSTED_PROXIES"]}


def test_all_manifests_use_the_port_of_the_image() -> None:
    """Container and network policy by number, the Service by name."""
    assert ENVIRONMENT.keys().isdisjoint({"PORT", "IRIS_HOST"})
    assert PORT["containerPort"] == int(image_setting(r"\bPORT=(\d+)"))
    assert SERVICE_PORT["targetPort"] == PORT["name"]
    (rule,) = SPEC["NetworkPolicy"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": PORT["containerPort"]}]


def test_the_user_is_that_of_the_image() -> None:
    """User and group."""
    context = POD["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == image_setting(r"^USER (\S+)$")


def test_the_grace_period_covers_the_stop() -> None:
    """It covers preStop, the drain and the graceful timeout of Gunicorn."""
    wait = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = float(ENVIRONMENT["IRIS_DRAIN_SECONDS"])
    needed = wait + drain + gunicorn_setting("graceful_timeout")
    assert POD["terminationGracePeriodSeconds"] >= needed


def test_the_pod_keeps_the_restricted_profile() -> None:
    """All that the Pod Security Standard of this name asks of pod and container, and no token.

    https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    """
    pod, container = POD["securityContext"], CONTAINER["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD.keys().isdisjoint({"hostNetwork", "hostPID", "hostIPC", "initContainers"})
    assert "hostPort" not in PORT
    assert {kind for volume in POD["volumes"] for kind in volume} <= {"name", "secret", "emptyDir"}
    assert POD["automountServiceAccountToken"] is False
    assert POD["enableServiceLinks"] is False


def test_writable_directories_are_mounted() -> None:
    """One for temporary files and, in memory and far below the memory limit, one for counters."""
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    mounted = {mount["mountPath"]: volumes[mount["name"]] for mount in CONTAINER["volumeMounts"]}
    assert mounted["/tmp"]["emptyDir"].keys() == {"sizeLimit"}  # noqa: S108
    shared_memory = mounted["/dev/shm"]["emptyDir"]  # noqa: S108
    assert shared_memory["medium"] == "Memory"
    limit = CONTAINER["resources"]["limits"]["memory"]
    assert 0 < mebibytes(shared_memory["sizeLimit"]) < mebibytes(limit) / 10


def test_keys_come_from_a_secret_and_rotate() -> None:
    """The Secret is mounted as a directory: a subPath would never be updated."""
    file = PurePosixPath(ENVIRONMENT["IRIS_API_KEYS_FILE"])
    (mount,) = (one for one in CONTAINER["volumeMounts"] if one["mountPath"] == str(file.parent))
    assert mount.keys() == {"name", "mountPath", "readOnly"}
    (volume,) = (one for one in POD["volumes"] if one["name"] == mount["name"])
    assert f"generic {volume['secret']['secretName']} --from-file={file.name}\n" in README


def test_no_manifest_holds_a_secret() -> None:
    """The README has the commands that create the keys."""
    assert "Secret" not in BY_KIND
    assert "secretGenerator" not in KUSTOMIZATION
    assert "IRIS_API_KEYS" not in ENVIRONMENT


def test_all_selectors_match_the_pods() -> None:
    """Each selector asks for the label of the pods, and each manifest has it."""
    label = SPEC["Deployment"]["template"]["metadata"]["labels"]
    selectors = [
        SPEC["Deployment"]["selector"]["matchLabels"],
        SPEC["Service"]["selector"],
        SPEC["PodDisruptionBudget"]["selector"]["matchLabels"],
        SPEC["NetworkPolicy"]["podSelector"]["matchLabels"],
        SPEC["ServiceMonitor"]["selector"]["matchLabels"],
        *(one["labelSelector"]["matchLabels"] for one in POD["topologySpreadConstraints"]),
        *(manifest["metadata"]["labels"] for manifest in MANIFESTS),
    ]
    assert label == {"app.kubernetes.io/name": "iris-api"}
    assert [selector for selector in selectors if selector != label] == []
    assert not any(pairs.get("includeSelectors") for pairs in KUSTOMIZATION["labels"])


def test_prometheus_scrapes_the_metrics_with_a_key(stranger: FlaskClient) -> None:
    """The route needs a key, which comes from a Secret as a bearer token."""
    assert SCRAPE["port"] == SERVICE_PORT["name"]
    assert stranger.get(SCRAPE["path"]).status_code == 401
    assert SCRAPE["authorization"].keys() == {"type", "credentials"}
    assert SCRAPE["authorization"]["type"] == "Bearer"
    secret = SCRAPE["authorization"]["credentials"]
    assert f"generic {secret['name']} --from-file={secret['key']}=/dev/stdin" in README


def test_the_job_is_the_one_in_the_alerts() -> None:
    """Prometheus takes it from the Service's label."""
    labels = BY_KIND["Service"]["metadata"]["labels"]
    rules = (ROOT / "deploy" / "prometheus" / "rules.yml").read_text()
    assert f'up{{job="{labels[SPEC["ServiceMonitor"]["jobLabel"]]}"}}' in rules


def test_the_network_policy_admits_ingress_and_monitoring_only() -> None:
    """Two namespaces by name, and no egress."""
    policy = SPEC["NetworkPolicy"]
    (rule,) = policy["ingress"]
    name = "kubernetes.io/metadata.name"
    assert rule["from"] == [
        {"namespaceSelector": {"matchLabels": {name: namespace}}}
        for namespace in ("ingress-nginx", "monitoring")
    ]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["egress"] == []


def test_a_pod_serves_at_all_times() -> None:
    """A rollout adds a pod before it removes one; a drain takes one of at least two."""
    deployment = SPEC["Deployment"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert SPEC["PodDisruptionBudget"]["maxUnavailable"] == 1
    assert SPEC["HorizontalPodAutoscaler"]["minReplicas"] >= 2


def test_the_autoscaler_alone_sets_the_replicas() -> None:
    """By CPU, which the Deployment requests; the Deployment sets no number."""
    autoscaler = SPEC["HorizontalPodAutoscaler"]
    target = autoscaler["scaleTargetRef"]
    deployment = BY_KIND[target["kind"]]
    assert target["apiVersion"] == deployment["apiVersion"]
    assert target["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]
    assert [metric["resource"]["name"] for metric in autoscaler["metrics"]] == ["cpu"]
    assert CONTAINER["resources"]["requests"].keys() == {"cpu", "memory"}


def test_the_readme_is_short_and_names_existing_files() -> None:
    """Its files, its namespace and its Service exist."""
    assert len(README.splitlines()) <= 50
    named = set(re.findall(r"`([\w-]+\.yaml)`", README))
    assert named <= {*FILES, "kustomization.yaml"}
    assert set(re.findall(r"-n (\S+)", README)) == {KUSTOMIZATION["namespace"]}
    service = BY_KIND["Service"]["metadata"]["name"]
    assert f"Service `{service}`, port {SERVICE_PORT['port']}" in README
