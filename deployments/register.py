"""Registers everything with Prefect's server, and again without harm: what is there as wanted is left alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import get_current_settings

from deployments import automations, corpus_events
from deployments.changes import Change
from deployments.description import described_deployments
from deployments.pools import check_pool, register_limits, register_pools
from deployments.register_automation import register_automation, remove_others
from deployments.register_deployment import Given, register_deployment
from fishersft.config import CurateConfig
from fishersft.config.compare import CompareConfig
from fishersft.config.files import checked_config
from fishersft.errors import InputError


def register(
    *,
    config: CurateConfig | None,
    comparison: CompareConfig | None,
    cron: str | None,
    pool_type: str,
    home: Path,
    pool: str | None = None,
    registry: str | None = None,
) -> list[Change]:
    """Makes or changes work pools, limits, deployments and automations until they are as wanted.

    Args:
        config: of curate/nightly, curate/on-new-data and store/gc; None leaves them as they are.
        comparison: of compare/weekly; None leaves it as it is.
        cron: when curate/nightly runs, in UTC; None: as in `prefect.yaml`.
        pool_type: of the work pools: process, docker, kubernetes or ecs.
        home: the folder on the workers that relative paths start from.
        pool: the work pool of curate/* and compare/weekly; None: the one that they have, or as in `prefect.yaml`.
        registry: where the images of work pools that are made are.

    Raises:
        InputError: no server is set or it cannot be reached, or it refuses something; or a setting is wrong.
    """
    if pool_type != "process":
        _check_places(config, comparison)
    given = _given(config, comparison, cron)
    with _server() as client:
        changes = [*register_pools(client, pool_type, registry), *register_limits(client)]
        if pool is not None:
            check_pool(client, pool)
        for described in described_deployments():
            theirs = pool if described.flow.name in ("curate", "compare") else None
            changes += register_deployment(client, described, given.get(described.name), str(home), theirs)
        wanted = automations.wanted()
        changes += [register_automation(client, automation) for automation in wanted]
        changes += remove_others(client, automations.PREFIX, {automation.name for automation in wanted})
    return changes


def notify(path: str) -> list[str]:
    """Tells Prefect's server that a corpus changed; the names of the automations that this starts.

    Raises:
        InputError: no server is set or it cannot be reached, or the path holds credentials.
    """
    with _server() as client:
        return corpus_events.emit_changed(client, path)


def _check_places(*given: CurateConfig | CompareConfig | None) -> None:
    """Refuses places that go with a run's container, in which a run would say Completed and leave nothing."""
    for config in filter(None, given):
        for name, place in (("store", config.store), ("output", config.output)):
            if "://" not in place and not os.path.isabs(place):
                raise InputError(
                    f"{name} is {place!r}, a folder in a run's container, which goes with it; name a URL such as "
                    "s3://bucket/prefix, or the full path of a volume that the pool's job template mounts"
                )


def _given(config: CurateConfig | None, comparison: CompareConfig | None, cron: str | None) -> dict[str, Given]:
    """By deployment, what it gets from the configurations."""
    given = dict[str, Given]()
    if cron is not None:
        _check_cron(cron)
    if config is not None:
        growing = {"config": _parameter(_extending(config))}
        given["curate/nightly"] = Given(growing, cron=cron)
        given["curate/on-new-data"] = Given(growing, resources=corpus_events.resources_below(config.corpus.path))
        given["store/gc"] = Given({"store": config.store})
    if comparison is not None:
        given["compare/weekly"] = Given({"config": _parameter(comparison)})
    return given


def _extending(config: CurateConfig) -> CurateConfig:
    """The settings, going on from the last run's selection unless they say from which."""
    values = _parameter(config)
    values.setdefault("selection", {}).setdefault("extends", "previous")
    return checked_config(values, "for curate/nightly, which goes on from the last selection", CurateConfig)


def _parameter(config: CurateConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude_defaults=True)


def _check_cron(cron: str) -> None:
    try:
        CronSchedule(cron=cron)
    except ValueError as error:
        raise InputError(f"--cron {cron!r}: expected five fields such as '0 2 * * *', at 02:00 UTC") from error


@contextmanager
def _server() -> Iterator[SyncPrefectClient]:
    """A client of the server that is set; what goes wrong there is one message."""
    url = get_current_settings().api.url
    if url is None:
        raise InputError(
            "no Prefect server is set; start one with `prefect server start`, then `prefect config set "
            "PREFECT_API_URL=http://127.0.0.1:4200/api`"
        )
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.TransportError as error:
        raise InputError(f"cannot reach Prefect's server at {url}: {error}; is it running?") from error
    except PrefectHTTPStatusError as error:
        raise InputError(f"Prefect's server at {url} refused it: {error.response.text}") from error
