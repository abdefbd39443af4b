"""The automations that are registered: what they watch, what they do, and what the server's variables change."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CancelFlowRun, ChangeFlowRunState, SendNotification
from prefect.testing.utilities import prefect_test_harness
from prefect.variables import Variable

from deployments import automations
from deployments.environment import HEARTBEAT_SECONDS, JOB_ENVIRONMENT
from fishersft.errors import InputError
from tasks.guard import LOST, STOPPED

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", autouse=True)
def prefect() -> Iterator[None]:
    """A server for this module, in memory."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(autouse=True)
def no_variables() -> Iterator[None]:
    yield
    for name in (automations.NOTIFICATIONS, automations.LONGEST_HOURS):
        Variable.unset(name)


def test_a_silent_run_is_lost_and_a_lost_run_is_scheduled_again() -> None:
    silent, *_, again = automations.wanted()[:4]
    assert silent.trigger.within == timedelta(seconds=4 * HEARTBEAT_SECONDS)
    (action,) = silent.actions
    assert isinstance(action, ChangeFlowRunState) and (action.state, action.name) == (StateType.CRASHED, LOST)
    assert again.trigger.expect == {f"prefect.flow-run.{name}" for name in (LOST, STOPPED)}
    assert f"prefect.flow-run.{STOPPED}" in silent.trigger.expect  # else it would be Lost before it is started again
    (action,) = again.actions
    assert isinstance(action, ChangeFlowRunState) and action.state is StateType.SCHEDULED


def test_no_automation_waits_for_what_it_sets_as_the_server_would_have_it_act_twice() -> None:
    for automation in automations.wanted():
        (action,) = automation.actions
        if isinstance(action, ChangeFlowRunState):
            assert f"prefect.flow-run.{action.name}" not in automation.trigger.expect


def test_the_environment_of_jobs_has_the_heartbeats_that_the_automations_expect() -> None:
    assert JOB_ENVIRONMENT["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == str(HEARTBEAT_SECONDS)


def test_names_are_unique_so_that_registering_twice_changes_nothing() -> None:
    names = [automation.name for automation in automations.wanted()]
    assert len(names) == len(set(names)) == 5


def test_a_run_is_cancelled_after_a_day_or_what_the_variable_says() -> None:
    def limit() -> timedelta:
        (found,) = [a for a in automations.wanted() if isinstance(a.actions[0], CancelFlowRun)]
        return found.trigger.within

    assert limit() == timedelta(hours=24)
    Variable.set(automations.LONGEST_HOURS, 6.5)
    assert limit() == timedelta(hours=6.5)


@pytest.mark.parametrize("hours", ["a day", 0, True])
def test_what_is_no_number_of_hours_is_refused(hours: object) -> None:
    Variable.set(automations.LONGEST_HOURS, hours)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected a number of hours over 0"):
        automations.wanted()


def test_notifications_are_registered_where_a_block_is_named() -> None:
    assert not [a for a in automations.wanted() if isinstance(a.actions[0], SendNotification)]
    CustomWebhookNotificationBlock(name="curation", url="http://127.0.0.1:9/").save("curation")
    Variable.set(automations.NOTIFICATIONS, "custom-webhook/curation")
    told = [a for a in automations.wanted() if isinstance(a.actions[0], SendNotification)]
    assert [a.trigger.expect for a in told[:2]] == [
        {"prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"},
        {"fishersft.selection.not-better"},
    ]
    assert [(a.trigger.after, a.trigger.within) for a in told[2:]] == [
        ({"prefect.flow-run.Late"}, automations.LATE_FOR),
        ({"prefect.flow-run.Pending"}, automations.PENDING_FOR),
    ]


def test_a_block_that_is_not_there_is_one_clear_error() -> None:
    Variable.set(automations.NOTIFICATIONS, "slack-webhook/nobody")
    with pytest.raises(InputError, match="is 'slack-webhook/nobody', and there is no such block"):
        automations.wanted()
