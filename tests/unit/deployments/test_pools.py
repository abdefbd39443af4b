"""The job templates of work pools that start runs in containers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from prefect.utilities.templating import apply_values

from deployments.pools import POOLS, job_template

TEMPLATES = sorted((Path(__file__).parents[3] / "deployments" / "pools").glob("*.json"))
# What the workers of prefect-docker 0.7.4, prefect-kubernetes 0.8.0 and prefect-aws 0.7.12 understand.
BASE = {"command", "env", "labels", "name"}
UNDERSTOOD = {
    "docker": BASE | {
        "image", "registry_credentials", "image_pull_policy", "networks", "network_mode", "auto_remove", "volumes",
        "stream_output", "mem_limit", "memswap_limit", "privileged", "container_create_kwargs",
    },
    "kubernetes": BASE | {
        "namespace", "job_manifest", "cluster_config", "job_watch_timeout_seconds", "pod_watch_timeout_seconds",
        "stream_output",
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
    cpu, gpu = (json.dumps(job_template(pool_type, pool)["job_configuration"]) for pool in POOLS)
    assert "{{ gpus }}" in gpu and "{{ gpus }}" not in cpu
    assert "fishersft:cuda" in json.dumps(job_template(pool_type, "fishersft-gpu")["variables"])


@pytest.mark.parametrize("pool", list(POOLS))
def test_the_job_that_a_kubernetes_pool_makes_follows_the_clusters_schema(pool: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    template = job_template("kubernetes", pool)
    values = {**defaults(template), "command": ["prefect", "flow-run", "execute"], "env": []}
    manifest = apply_values(template["job_configuration"]["job_manifest"], values)
    kubernetes_validate.validate(manifest, "1.31", strict=True)
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"].get("nvidia.com/gpu") == (1 if pool == "fishersft-gpu" else None)


def test_processes_need_no_template() -> None:
    assert job_template("process", "fishersft") == {}
