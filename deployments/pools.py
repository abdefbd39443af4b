"""Work pools and the limits beside them: made where they are missing, and left as they are where a person set them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound
from prefect.utilities.urls import url_for

from deployments.changes import Change
from fishersft.errors import InputError

# By pool, how many runs it works on at once: of fishersft-gpu one for each machine, as a run uses all its GPUs.
POOLS = {"fishersft": 4, "fishersft-gpu": 4}
GLOBAL_LIMITS = {"fishersft-device": 1}  # for FISHERSFT_DEVICE_LIMIT, see `tasks.devices`; a person may set its slots


def register_pools(client: SyncPrefectClient, pool_type: str) -> Iterator[Change]:
    """Makes the work pools that are missing.

    Raises:
        InputError: a pool is there, but of another type.
    """
    for name, limit in POOLS.items():
        url = url_for("work-pool", obj_id=name, work_pool_name=name) or ""
        try:
            there = client.read_work_pool(name)
        except ObjectNotFound:
            template = job_template(pool_type, name)
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
        yield Change("work pool", name, "unchanged", url)


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


def job_template(pool_type: str, pool: str) -> dict[str, Any]:
    """How a pool of that type starts a run; empty for processes, whose template the first worker brings along."""
    if pool_type == "process":
        return {}
    role = "gpu" if pool.endswith("-gpu") else "cpu"
    file = resources.files("deployments").joinpath("pools", f"{pool_type}-{role}.json")
    template: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return template
