"""One deployment, with its schedule and trigger, made or brought up to date."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.events import DeploymentEventTrigger
from prefect.exceptions import ObjectNotFound
from prefect.utilities.urls import url_for

from deployments.changes import Change, What
from deployments.description import Described
from deployments.register_automation import register_automation

_PULL = "prefect.deployments.steps.set_working_directory"


@dataclass(frozen=True)
class Given:
    """What a user's configuration gives a deployment; having it turns its schedule or trigger on.

    Attributes:
        parameters: of its runs.
        cron: when it runs, in UTC; None: as in `prefect.yaml`.
        resources: changes of which start it.
    """

    parameters: dict[str, Any]
    cron: str | None = None
    resources: list[str] = field(default_factory=list)


def register_deployment(
    client: SyncPrefectClient, described: Described, given: Given | None, home: str, pool: str | None
) -> Iterator[Change]:
    """Makes the deployment and its trigger, or changes what is not as wanted.

    Where nothing is given, parameters, schedules and triggers of a deployment that is there stay as they are.

    Args:
        home: the folder on the workers that relative paths start from.
        pool: its work pool; None: the one that it has, or as in `prefect.yaml`.
    """
    try:
        there = client.read_deployment_by_name(described.name)
    except ObjectNotFound:
        there = None
    wanted = _wanted(described, given, there, home, pool)
    what: What = "unchanged"
    if there is not None and _settings(there) == _comparable(wanted):
        identifier = there.id
    else:
        flow = client.create_flow_from_name(described.flow.name)
        identifier = client.create_deployment(flow, **wanted)
        what = "changed" if there else "made"
    yield Change("deployment", described.name, what, url_for("deployment", obj_id=identifier) or "")
    if given is not None or there is None:
        yield from _triggers(client, described, given, identifier)


def _wanted(
    described: Described, given: Given | None, there: DeploymentResponse | None, home: str, pool: str | None
) -> dict[str, Any]:
    """The arguments of the client's `create_deployment`."""
    settings = described.settings
    kept = there if given is None else None
    home_kept = kept is not None and ("schedules" in settings or "triggers" in settings)  # paths given then start there
    parameters = {**settings.get("parameters", {}), **(given.parameters if given else {})}
    return {
        "name": settings["name"],
        "description": settings["description"],
        "tags": settings["tags"],
        "entrypoint": settings["entrypoint"],
        "pull_steps": kept.pull_steps if kept and home_kept else [{_PULL: {"directory": home}}],
        "work_pool_name": pool or (there and there.work_pool_name) or settings["work_pool"]["name"],
        "parameters": kept.parameters if kept else parameters,
        "schedules": [_again(schedule) for schedule in kept.schedules] if kept else _schedules(settings, given),
        "parameter_openapi_schema": described.parameter_schema,
        "enforce_parameter_schema": True,
        "job_variables": _job_variables(settings, there),
    }


def _job_variables(settings: dict[str, Any], there: DeploymentResponse | None) -> dict[str, Any]:
    """Those of `prefect.yaml` on top of what a person has set in the UI, environment variables one by one."""
    ours: dict[str, Any] = settings["work_pool"].get("job_variables", {})
    theirs = there.job_variables if there else {}
    environment = {**theirs.get("env", {}), **ours.get("env", {})}
    return {**theirs, **ours, **({"env": environment} if environment else {})}


def _schedules(settings: dict[str, Any], given: Given | None) -> list[DeploymentScheduleCreate]:
    return [
        DeploymentScheduleCreate(
            slug=schedule["slug"],
            active=given is not None,
            schedule=CronSchedule(
                cron=given.cron if given and given.cron else schedule["cron"], timezone=schedule["timezone"]
            ),
        )
        for schedule in settings.get("schedules", ())
    ]


def _again(schedule: Any) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate(
        slug=schedule.slug, active=schedule.active, schedule=schedule.schedule, parameters=schedule.parameters
    )


def _triggers(
    client: SyncPrefectClient, described: Described, given: Given | None, deployment: UUID
) -> Iterator[Change]:
    for settings in described.settings.get("triggers", ()):
        changed = {"enabled": True, "match": {"prefect.resource.id": given.resources}} if given else {}
        trigger = DeploymentEventTrigger.model_validate({**settings, **changed})
        trigger.set_deployment_id(deployment)
        yield register_automation(client, trigger.as_automation())


def _settings(there: DeploymentResponse) -> dict[str, Any]:
    """Of a deployment that is there, what `_comparable` has of one that is wanted."""
    return {
        "name": there.name,
        "description": there.description,
        "tags": there.tags,
        "entrypoint": there.entrypoint,
        "pull_steps": there.pull_steps,
        "work_pool_name": there.work_pool_name,
        "parameters": there.parameters,
        "schedules": [_when(schedule) for schedule in there.schedules],
        "parameter_openapi_schema": there.parameter_openapi_schema,
        "enforce_parameter_schema": there.enforce_parameter_schema,
        "job_variables": there.job_variables,
    }


def _comparable(wanted: dict[str, Any]) -> dict[str, Any]:
    return {
        **wanted,
        "schedules": [_when(schedule) for schedule in wanted["schedules"]],
    }


def _when(schedule: Any) -> tuple[Any, ...]:
    return schedule.slug, schedule.active, schedule.schedule, schedule.parameters
