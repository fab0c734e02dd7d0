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


def of_gunicorn(name: str) -> int:
    """A number in Gunicorn's settings."""
    source = (ROOT / "gunicorn.conf.py").read_text()
    found = re.search(rf"^{name} = (\d+)$", source, re.MULTILINE)
    assert found
    return int(found[1])


def of_image(pattern: str) -> str:
    """What the last stage of the Dockerfile says."""
    found = re.search(pattern, DOCKERFILE.rpartition("\nFROM ")[2], re.MULTILINE)
    assert found
    return found[1]


def mebibytes(quantity: str) -> int:
    """A quantity of memory, which here is always in Mi."""
    return int(quantity.removesuffix("Mi"))


@pytest.mark.parametrize("version", ["1.30", "1.37"])
@pytest.mark.parametrize("kind", sorted(BY_KIND.keys() - {"ServiceMonitor"}))
def test_every_manifest_keeps_its_schema(kind: str, version: str) -> None:
    """The oldest Kubernetes that the README allows and a new one know each field and its type."""
    assert "Kubernetes 1.30 or newer" in README
    assert kubernetes_validate.validate(BY_KIND[kind], version, strict=True) == version


def test_the_kustomization_has_every_manifest() -> None:
    """Each file is listed once, and there is one for each kind."""
    assert KUSTOMIZATION["resources"] == FILES
    assert len(BY_KIND) == len(FILES)


def test_the_image_is_of_this_version() -> None:
    """The kustomization renames the container's image and gives it the project's version."""
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
def test_every_probe_asks_its_route(stranger: FlaskClient, probe: str, path: str) -> None:
    """Each is a route of the app that answers 200 without a key."""
    assert CONTAINER[probe]["httpGet"] == {"path": path, "port": PORT["name"]}
    assert stranger.get(CONTAINER[probe]["httpGet"]["path"]).status_code == 200


def test_a_worker_that_hangs_does_not_cost_the_pod() -> None:
    """Gunicorn has replaced it before liveness gives up."""
    probe = CONTAINER["livenessProbe"]
    assert probe["periodSeconds"] * (probe["failureThreshold"] - 1) > of_gunicorn("timeout")


def test_the_environment_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable is a setting with a value that it takes."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    settings = Settings.read()
    assert settings.workers == int(ENVIRONMENT["WEB_CONCURRENCY"])
    assert set(settings.trusted_proxies) == {ENVIRONMENT["IRIS_TRUSTED_PROXIES"]}


def test_all_speak_of_the_port_that_the_image_listens_on() -> None:
    """Container and network policy by number, the Service by name."""
    assert ENVIRONMENT.keys().isdisjoint({"PORT", "IRIS_HOST"})
    assert PORT["containerPort"] == int(of_image(r"\bPORT=(\d+)"))
    assert SERVICE_PORT["targetPort"] == PORT["name"]
    (rule,) = SPEC["NetworkPolicy"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": PORT["containerPort"]}]


def test_the_user_is_that_of_the_image() -> None:
    """User and group are those that the image is made for."""
    context = POD["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == of_image(r"^USER (\S+)$")


def test_nothing_is_killed_before_it_is_done() -> None:
    """The grace period has room for preStop, the drain and Gunicorn's graceful stop."""
    wait = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = float(ENVIRONMENT["IRIS_DRAIN_SECONDS"])
    needed = wait + drain + of_gunicorn("graceful_timeout")
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


def test_what_is_written_has_its_place() -> None:
    """There is /tmp and, in memory and far below the container's limit, /dev/shm."""
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    mounted = {mount["mountPath"]: volumes[mount["name"]] for mount in CONTAINER["volumeMounts"]}
    assert mounted["/tmp"]["emptyDir"].keys() == {"sizeLimit"}  # noqa: S108
    shared_memory = mounted["/dev/shm"]["emptyDir"]  # noqa: S108
    assert shared_memory["medium"] == "Memory"
    limit = CONTAINER["resources"]["limits"]["memory"]
    assert 0 < mebibytes(shared_memory["sizeLimit"]) < mebibytes(limit) / 10


def test_keys_come_from_a_secret_and_rotate() -> None:
    """The file of keys is in a directory that is the Secret's: a subPath would never change."""
    file = PurePosixPath(ENVIRONMENT["IRIS_API_KEYS_FILE"])
    (mount,) = (one for one in CONTAINER["volumeMounts"] if one["mountPath"] == str(file.parent))
    assert mount.keys() == {"name", "mountPath", "readOnly"}
    (volume,) = (one for one in POD["volumes"] if one["name"] == mount["name"])
    assert f"generic {volume['secret']['secretName']} --from-file={file.name}\n" in README


def test_no_secret_is_here() -> None:
    """Keys are made with the commands of the README, and are in none of the files."""
    assert "Secret" not in BY_KIND
    assert "secretGenerator" not in KUSTOMIZATION
    assert "IRIS_API_KEYS" not in ENVIRONMENT


def test_all_select_the_same_pods() -> None:
    """The label of the pods is what each selector asks for, and each manifest bears it."""
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
    """At the Service's port and a route that needs a key, which comes from a Secret as a bearer."""
    assert SCRAPE["port"] == SERVICE_PORT["name"]
    assert stranger.get(SCRAPE["path"]).status_code == 401
    assert SCRAPE["authorization"].keys() == {"type", "credentials"}
    assert SCRAPE["authorization"]["type"] == "Bearer"
    secret = SCRAPE["authorization"]["credentials"]
    assert f"generic {secret['name']} --from-file={secret['key']}=/dev/stdin" in README


def test_the_job_is_the_one_that_the_alerts_know() -> None:
    """Prometheus takes it from the Service's label."""
    labels = BY_KIND["Service"]["metadata"]["labels"]
    rules = (ROOT / "deploy" / "prometheus" / "rules.yml").read_text()
    assert f'up{{job="{labels[SPEC["ServiceMonitor"]["jobLabel"]]}"}}' in rules


def test_only_ingress_and_monitoring_get_in_and_nothing_gets_out() -> None:
    """Two namespaces by their names, and no egress."""
    policy = SPEC["NetworkPolicy"]
    (rule,) = policy["ingress"]
    name = "kubernetes.io/metadata.name"
    assert rule["from"] == [
        {"namespaceSelector": {"matchLabels": {name: namespace}}}
        for namespace in ("ingress-nginx", "monitoring")
    ]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["egress"] == []


def test_there_is_always_a_pod_that_serves() -> None:
    """A rollout adds before it removes, and of two pods or more a drained node takes one."""
    deployment = SPEC["Deployment"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert SPEC["PodDisruptionBudget"]["maxUnavailable"] == 1
    assert SPEC["HorizontalPodAutoscaler"]["minReplicas"] >= 2


def test_the_autoscaler_owns_the_replicas() -> None:
    """It scales the Deployment by the CPU that this requests, and nothing else sets a number."""
    autoscaler = SPEC["HorizontalPodAutoscaler"]
    target = autoscaler["scaleTargetRef"]
    deployment = BY_KIND[target["kind"]]
    assert target["apiVersion"] == deployment["apiVersion"]
    assert target["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]
    assert [metric["resource"]["name"] for metric in autoscaler["metrics"]] == ["cpu"]
    assert CONTAINER["resources"]["requests"].keys() == {"cpu", "memory"}


def test_the_readme_is_short_and_names_what_is_there() -> None:
    """Its files exist, and so do the namespace and the Service that it speaks of."""
    assert len(README.splitlines()) <= 50
    named = set(re.findall(r"`([\w-]+\.yaml)`", README))
    assert named <= {*FILES, "kustomization.yaml"}
    assert set(re.findall(r"-n (\S+)", README)) == {KUSTOMIZATION["namespace"]}
    service = BY_KIND["Service"]["metadata"]["name"]
    assert f"Service `{service}`, port {SERVICE_PORT['port']}" in README
