"""The job templates of work pools that start runs in containers."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect.utilities.templating import apply_values
from prefect.workers.base import BaseJobConfiguration

from deployments.pools import GLOBAL_LIMITS, POOLS, check_pool, job_template, register_pools
from fishersft.errors import InputError
from tasks.devices import VARIABLE

TEMPLATES = sorted((Path(__file__).parents[3] / "deployments" / "pools").glob("*.json"))
# What the workers of prefect-docker 0.7.4, prefect-kubernetes 0.8.0 and prefect-aws 0.7.12 understand.
BASE = {"command", "env", "labels", "name"}
UNDERSTOOD = {
    "docker": BASE | {
        "image", "registry_credentials", "image_pull_policy", "networks", "network_mode", "auto_remove", "volumes",
        "stream_output", "mem_limit", "memswap_limit", "privileged", "container_create_kwargs",
    },
    # and pod_watch_timeout_seconds, which it declares and never reads
    "kubernetes": BASE | {
        "namespace", "job_manifest", "cluster_config", "job_watch_timeout_seconds", "stream_output",
    },
    "ecs": BASE | {
        "aws_credentials", "task_definition", "task_run_request", "configure_cloudwatch_logs",
        "cloudwatch_logs_options", "cloudwatch_logs_prefix", "network_configuration", "stream_output",
        "task_start_timeout_seconds", "auto_deregister_task_definition", "vpc_id", "container_name", "cluster",
        "match_latest_revision_in_family", "execution_role_arn", "prefect_api_key_secret_arn",
        "prefect_api_auth_string_secret_arn", "task_definition_arn", "task_role_arn",
    },
}  # fmt: skip


def defaults(template: dict[str, Any]) -> dict[str, Any]:
    """The variables' defaults, and a text for each that has none and must be given."""
    properties = template["variables"]["properties"]
    required = dict.fromkeys(template["variables"]["required"], "given")
    return {name: each["default"] for name, each in properties.items() if "default" in each} | required


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.stem)
def test_every_placeholder_is_a_variable_and_every_variable_is_used(file: Path) -> None:
    template = json.loads(file.read_text())
    assert set(template) == {"job_configuration", "variables"}
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
    assert used == set(template["variables"]["properties"])
    assert set(template["variables"]["required"]) <= used


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.stem)
def test_defaults_are_valid_and_the_worker_understands_the_configuration(file: Path) -> None:
    template = json.loads(file.read_text())
    jsonschema.Draft202012Validator.check_schema(template["variables"])
    jsonschema.validate(defaults(template), template["variables"])
    assert set(template["job_configuration"]) <= UNDERSTOOD[file.stem.split("-")[0]]
    for variable in template["variables"]["properties"].values():
        assert variable["title"]


@pytest.mark.parametrize("pool_type", ["docker", "kubernetes", "ecs"])
def test_the_gpu_pool_asks_for_gpus_and_the_other_for_none(pool_type: str) -> None:
    cpu, gpu = (json.dumps(job_template(pool_type, pool, "r.test")["job_configuration"]) for pool in POOLS)
    assert "{{ gpus }}" in gpu and "{{ gpus }}" not in cpu
    assert "fishersft:cuda" in json.dumps(job_template(pool_type, "fishersft-gpu", "r.test")["variables"])


@pytest.mark.parametrize("pool_type", ["kubernetes", "ecs"])
def test_the_image_comes_from_the_registry_that_is_named(pool_type: str) -> None:
    template = job_template(pool_type, "fishersft-gpu", "registry.test/team/")
    image = template["variables"]["properties"]["image"]["default"]
    assert re.fullmatch(r"registry\.test/team/fishersft:cuda-[\d.]+", image)
    assert "registry.example" not in json.dumps(template)
    with pytest.raises(InputError, match="fishersft-gpu start from the image fishersft; give --registry HOST/PATH"):
        job_template(pool_type, "fishersft-gpu", None)


def test_containers_of_one_docker_host_take_turns_on_its_gpus() -> None:
    """Kubernetes and ECS give a GPU to one job at a time, Docker to every container that asks."""
    properties = job_template("docker", "fishersft-gpu", None)["variables"]["properties"]
    (limit,) = GLOBAL_LIMITS
    assert properties["env"]["default"] == {VARIABLE: limit}


def test_jobs_with_several_gpus_have_shared_memory_for_their_processes() -> None:
    docker, kubernetes, ecs = (
        job_template(kind, "fishersft-gpu", "r.test")["job_configuration"] for kind in ("docker", "kubernetes", "ecs")
    )
    assert docker["container_create_kwargs"]["shm_size"] == "4g"
    pod = kubernetes["job_manifest"]["spec"]["template"]["spec"]
    ((mount,), (volume,)) = pod["containers"][0]["volumeMounts"], pod["volumes"]
    assert mount["mountPath"] == "/dev/shm" and mount["name"] == volume["name"]
    assert volume["emptyDir"] == {"medium": "Memory"}
    assert ecs["task_definition"]["containerDefinitions"][0]["linuxParameters"]["sharedMemorySize"] == 4096


class Blocks:
    """As much of Prefect's client as a job template needs: one Secret block."""

    async def read_block_document_by_name(self, name: str, block_type_slug: str) -> SimpleNamespace:
        assert (name, block_type_slug) == ("s3-secret-key", "secret")
        return SimpleNamespace(data={"value": "k3y"})


def test_the_environment_of_a_docker_pool_takes_secrets_from_blocks() -> None:
    template = job_template("docker", "fishersft", None)
    secret = {"AWS_SECRET_ACCESS_KEY": "{{ prefect.blocks.secret.s3-secret-key }}"}
    template["variables"]["properties"]["env"]["default"] = secret
    given = {"env": {"PREFECT_CLIENT_MAX_RETRIES": "8"}}
    resolved = BaseJobConfiguration.from_template_and_values(template, given, client=Blocks())  # type: ignore[arg-type]
    assert asyncio.run(resolved).env == {"AWS_SECRET_ACCESS_KEY": "k3y", "PREFECT_CLIENT_MAX_RETRIES": "8"}


@pytest.mark.parametrize("pool", list(POOLS))
def test_the_job_that_a_kubernetes_pool_makes_follows_the_clusters_schema(pool: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    template = job_template("kubernetes", pool, "r.test")
    values = {**defaults(template), "command": ["prefect", "flow-run", "execute"], "env": []}
    manifest = apply_values(template["job_configuration"]["job_manifest"], values)
    kubernetes_validate.validate(manifest, "1.31", strict=True)
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"].get("nvidia.com/gpu") == (1 if pool == "fishersft-gpu" else None)


def test_processes_need_no_template() -> None:
    assert job_template("process", "fishersft", None) == {}


class Pools:
    """As much of Prefect's client as work pools need."""

    def __init__(self, **limits: int | None) -> None:
        self.limits = {name.replace("_", "-"): limit for name, limit in limits.items()}

    def read_work_pool(self, name: str) -> SimpleNamespace:
        if name not in self.limits:
            raise ObjectNotFound(Exception(name))
        return SimpleNamespace(type="process", concurrency_limit=self.limits[name])

    def create_work_pool(self, pool: WorkPoolCreate) -> None:
        self.limits[pool.name] = pool.concurrency_limit

    def update_work_pool(self, name: str, pool: WorkPoolUpdate) -> None:
        assert pool.model_dump(exclude_unset=True).keys() == {"concurrency_limit"}
        self.limits[name] = pool.concurrency_limit


def test_a_pool_that_a_worker_made_gets_its_limit_and_one_that_a_person_limited_keeps_it() -> None:
    client = Pools(fishersft=None, fishersft_gpu=8)
    changes = [change.what for change in register_pools(client, "process", None)]  # type: ignore[arg-type]
    assert changes == ["changed", "unchanged"]
    assert client.limits == {"fishersft": 4, "fishersft-gpu": 8}


def test_pools_that_are_missing_are_made_with_a_limit() -> None:
    client = Pools()
    changes = [change.what for change in register_pools(client, "process", None)]  # type: ignore[arg-type]
    assert changes == ["made", "made"] and client.limits == POOLS


def test_a_pool_that_is_not_there_is_one_clear_error() -> None:
    with pytest.raises(InputError, match="there is no work pool big"):
        check_pool(Pools(fishersft=4), "big")  # type: ignore[arg-type]
