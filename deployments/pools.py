"""Work pools and the limits beside them: made where they are missing, and left as they are where a person set them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect.utilities.urls import url_for

from deployments.changes import Change
from fishersft.errors import InputError

# By pool, how many runs it works on at once: of fishersft-gpu one for each machine, as a run uses all its GPUs.
POOLS = {"fishersft": 4, "fishersft-gpu": 4}
GLOBAL_LIMITS = {"fishersft-device": 1}  # for FISHERSFT_DEVICE_LIMIT, see `tasks.devices`; a person may set its slots
_REGISTRY = "registry.example"  # in the job templates, for the one where the images are


def register_pools(client: SyncPrefectClient, pool_type: str, registry: str | None) -> Iterator[Change]:
    """Makes the work pools that are missing, and limits those that have no limit, as a worker makes them.

    Args:
        registry: where the images of pools that are made are, such as registry.host/team.

    Raises:
        InputError: a pool is there, but of another type; or one has to be made, and its image is nowhere.
    """
    for name, limit in POOLS.items():
        url = url_for("work-pool", obj_id=name, work_pool_name=name) or ""
        try:
            there = client.read_work_pool(name)
        except ObjectNotFound:
            template = job_template(pool_type, name, registry)
            client.create_work_pool(
                WorkPoolCreate(name=name, type=pool_type, concurrency_limit=limit, base_job_template=template)
            )
            yield Change("work pool", name, "made", url)
            continue
        if there.type != pool_type:
            raise InputError(
                f"the work pool {name} is of type {there.type}, not {pool_type}; give --pool-type {there.type}, or "
                f"`prefect work-pool delete {name}` first"
            )
        if there.concurrency_limit is None:
            client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit))
        yield Change("work pool", name, "unchanged" if there.concurrency_limit is not None else "changed", url)


def check_pool(client: SyncPrefectClient, name: str) -> None:
    """Looks whether there is such a work pool.

    Raises:
        InputError: there is none.
    """
    try:
        client.read_work_pool(name)
    except ObjectNotFound as error:
        raise InputError(f"there is no work pool {name}; `prefect work-pool ls` lists them") from error


def register_limits(client: SyncPrefectClient) -> Iterator[Change]:
    """Makes the global concurrency limits that are missing."""
    for name, limit in GLOBAL_LIMITS.items():
        url = url_for("concurrency-limit", obj_id=name) or ""
        try:
            client.read_global_concurrency_limit_by_name(name)
            yield Change("concurrency limit", name, "unchanged", url)
        except ObjectNotFound:
            client.upsert_global_concurrency_limit_by_name(name, limit)
            yield Change("concurrency limit", name, "made", url)


def job_template(pool_type: str, pool: str, registry: str | None) -> dict[str, Any]:
    """How a pool of that type starts a run; empty for processes, whose template the first worker brings along.

    Args:
        registry: where its image is.

    Raises:
        InputError: the image comes from a registry, and none is named.
    """
    if pool_type == "process":
        return {}
    role = "gpu" if pool.endswith("-gpu") else "cpu"
    file = resources.files("deployments").joinpath("pools", f"{pool_type}-{role}.json")
    template: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    image = template["variables"]["properties"]["image"]
    if _REGISTRY in image["default"]:
        if not registry:
            raise InputError(
                f"runs of the work pool {pool} start from the image fishersft; give --registry HOST/PATH, where that is"
            )
        image["default"] = image["default"].replace(_REGISTRY, registry.rstrip("/"))
    return template
