"""Runs that wait: how long they may, and whom that tells, without a server."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import RelatedResource
from prefect.server.utilities.user_templates import validate_user_template

from deployments import automations
from tasks import sub_runs

BLOCK = UUID(int=7)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, AutomationCore]:
    """The automations that notify, by what event they begin to wait at."""
    monkeypatch.setattr(automations, "_block", lambda client, name: BLOCK)
    monkeypatch.setattr(automations, "get_client", lambda sync_client: _NoClient())
    variables: dict[str, Any] = {automations.NOTIFICATIONS: "slack-webhook/curation"}
    monkeypatch.setattr(automations.Variable, "get", lambda name, default=None: variables.get(name, default))
    found = [each for each in automations.wanted() if isinstance(each.actions[0], SendNotification)]
    waiting = [each for each in found if each.trigger.posture is Posture.Proactive]
    assert len(found) == 4 and len(waiting) == 2
    return {next(iter(each.trigger.after)): each for each in waiting}


class _NoClient:
    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...


def trigger(automation: AutomationCore) -> EventTrigger:
    assert isinstance(automation.trigger, EventTrigger)
    return automation.trigger


@pytest.mark.parametrize(
    ("event", "within"), [("Late", timedelta(minutes=30)), ("Pending", timedelta(hours=1))], ids=["late", "pending"]
)
def test_somebody_is_told_of_a_run_that_does_not_start(
    told: dict[str, AutomationCore], event: str, within: timedelta
) -> None:
    automation = told[f"prefect.flow-run.{event}"]
    waits = trigger(automation)
    assert waits.within == within and waits.for_each == {"prefect.resource.id"}
    started = {f"prefect.flow-run.{state}" for state in ("Running", "Cancelled", "AwaitingConcurrencySlot")}
    assert waits.expect >= started and f"prefect.flow-run.{event}" not in waits.expect
    (action,) = automation.actions
    assert isinstance(action, SendNotification) and action.block_document_id == BLOCK
    validate_user_template(action.subject)
    validate_user_template(action.body)
    assert f"For {within.total_seconds() / 60:.0f} minutes" in action.body and "{{ flow_run|ui_url }}" in action.body


def test_a_run_that_a_worker_took_up_is_late_no_more(told: dict[str, AutomationCore]) -> None:
    assert "prefect.flow-run.Pending" in trigger(told["prefect.flow-run.Late"]).expect


def test_only_runs_of_ours_count_and_sub_runs_may_be_late(told: dict[str, AutomationCore]) -> None:
    late = trigger(told["prefect.flow-run.Late"]).match_related
    pending = trigger(told["prefect.flow-run.Pending"]).match_related
    for specification in (late, pending):
        specifications = specification if isinstance(specification, list) else [specification]
        assert any("prefect.tag.fishersft" in each.get("prefect.resource.id", ()) for each in specifications)

    def is_told(flow: str) -> bool:
        resource = RelatedResource.model_validate(
            {"prefect.resource.id": "prefect.flow.1", "prefect.resource.role": "flow", "prefect.resource.name": flow}
        )
        assert isinstance(late, list)
        return late[-1].matches(resource)

    assert is_told("curate") and not is_told(automations.SUB_RUN)


def test_a_pod_in_the_queue_of_a_busy_cluster_is_not_lost_for_hours_and_a_process_is_soon() -> None:
    _, of_process, pending, _ = automations.lost_runs(
        automations.SILENT_AFTER, automations.PROCESS_STARTS_WITHIN, automations.MACHINE_STARTS_WITHIN
    )
    assert trigger(of_process).within == timedelta(minutes=3)
    assert trigger(pending).within == timedelta(hours=6) == timedelta(seconds=sub_runs.STARTS_WITHIN)
