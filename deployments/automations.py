"""The automations that watch over deployed runs: lost ones go on, long ones are cancelled, and somebody is told."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, CancelFlowRun, ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.variables import Variable

from deployments.environment import HEARTBEAT_SECONDS
from fishersft.errors import InputError
from tasks.guard import LOST, STOPPED
from tasks.notices import NOT_BETTER
from tasks.sub_runs import STARTS_WITHIN

PREFIX = "fishersft: "  # of the names of all of these
RESCHEDULED = "Rescheduled"  # the state of a lost run that goes on
SUB_RUN = "embed-shards"  # the flow of sub-runs
TAG = "fishersft"  # every deployment has it, and so every run of one
NOTIFICATIONS = "fishersft_notifications"  # a variable: the block that notifies, as BLOCK-TYPE/NAME
LONGEST_HOURS = "fishersft_longest_hours"  # a variable: how long a run may take
DEFAULT_LONGEST_HOURS = 24.0

SILENT_AFTER = timedelta(seconds=4 * HEARTBEAT_SECONDS)  # so that a server that is away for 90 s loses no run
PROCESS_STARTS_WITHIN = timedelta(minutes=3)
MACHINE_STARTS_WITHIN = timedelta(seconds=STARTS_WITHIN)
LATE_FOR = timedelta(minutes=30)  # until somebody is told
PENDING_FOR = timedelta(hours=1)  # until somebody is told
ONCE_WITHIN = timedelta(minutes=1)  # a server whose SQLite is locked takes an event up again, and would tell again

_RUN = ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})
_OURS = ResourceSpecification({"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"})
_NO_SUB_RUN = ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": f"!{SUB_RUN}"})
_OF_PROCESS_POOL = ResourceSpecification({"prefect.work-pool.type": "process"})
_OF_OTHER_POOLS = ResourceSpecification({"prefect.work-pool.type": "!process"})
_OVER = ("Completed", "Failed", "Crashed", STOPPED, "TimedOut", "Cancelling", "Cancelled")
_ELSEWHERE = ("Suspended", "Paused", "Scheduled", "AwaitingRetry", "AwaitingConcurrencySlot", "Resuming")


def wanted() -> list[AutomationCore]:
    """The automations to register, as the server's variables have it.

    Raises:
        InputError: a variable names a block that is not there, or no number of hours.
    """
    return [*lost_runs(SILENT_AFTER, PROCESS_STARTS_WITHIN, MACHINE_STARTS_WITHIN), _too_long(), *_notices()]


def lost_runs(silent: timedelta, process: timedelta, machine: timedelta) -> list[AutomationCore]:
    """Has runs go on whose process, machine or worker is gone.

    In two steps, as Prefect refuses the first for a run that has ended meanwhile, and would grant the second.

    No wait ends with what it leads to: that event comes while the server still acts, and would have it act once more.
    A run that is Lost twice all the same goes on each time, as nobody else looks after it.
    """
    return [
        _absence(
            "fishersft: notice a run that gives no sign of life",
            "Its process or its machine is gone.",
            after=("heartbeat", "Running"),
            unless=("heartbeat", *_OVER, *_ELSEWHERE),
            within=silent,
            action=_lost(f"No sign of life for {silent.total_seconds():.0f} s"),
        ),
        _absence(
            "fishersft: notice a run that a process pool's worker left pending",
            "Its worker is gone.",
            after=("Pending",),
            unless=("Running", *_OVER, *_ELSEWHERE),
            within=process,
            action=_lost(f"Pending for {process.total_seconds():.0f} s, so its worker is gone"),
            further=[_OF_PROCESS_POOL],
        ),
        _absence(
            "fishersft: notice a run that stays pending",
            "Its machine did not come, or its worker is gone.",
            after=("Pending",),
            unless=("Running", *_OVER, *_ELSEWHERE),
            within=machine,
            action=_lost(f"Pending for {machine.total_seconds():.0f} s"),
            further=[_OF_OTHER_POOLS],
        ),
        _presence(
            "fishersft: go on with a lost run",
            "Or with one told to stop: the next worker takes it up. Who waits for a sub-run takes up what it left.",
            (f"prefect.flow-run.{LOST}", f"prefect.flow-run.{STOPPED}"),
            _state(StateType.SCHEDULED, RESCHEDULED, "It goes on from its artifacts"),
            further=[_NO_SUB_RUN],
            within=timedelta(0),
        ),
    ]


def _too_long() -> AutomationCore:
    hours = Variable.get(LONGEST_HOURS, default=DEFAULT_LONGEST_HOURS)
    if isinstance(hours, bool) or not isinstance(hours, (int, float)) or not hours > 0:
        raise InputError(f"the Prefect variable {LONGEST_HOURS} is {hours!r}; expected a number of hours over 0")
    return _absence(
        "fishersft: cancel a run that takes too long",
        f"It ran for {hours:g} hours at a stretch. The Prefect variable {LONGEST_HOURS} sets that.",
        after=("Running",),
        unless=(RESCHEDULED, *_OVER, *_ELSEWHERE),
        within=timedelta(hours=hours),
        action=CancelFlowRun(),
    )


def _notices() -> list[AutomationCore]:
    """Notifications, where a block for them is named."""
    name = Variable.get(NOTIFICATIONS)
    if name is None:
        return []
    with get_client(sync_client=True) as client:
        block = _block(client, str(name))
    return [
        _presence(
            "fishersft: tell of a run that failed",
            "Its last state is Failed, Crashed or TimedOut.",
            ("prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"),
            SendNotification(
                block_document_id=block,
                subject="FisherSFT: {{ flow_run.name }} {{ flow_run.state.name }}",
                body="{{ flow_run.state.message }}\n\n{{ flow_run|ui_url }}",
            ),
        ),
        _presence(
            "fishersft: tell of a selection that is not better than chance",
            "A uniform choice of as many tokens did as well or better.",
            (NOT_BETTER,),
            SendNotification(
                block_document_id=block,
                subject="FisherSFT: a selection that is not better than chance",
                body="{{ event.payload.headline }}\n\n{{ event.resource.name }}: {{ event.resource|ui_url }}",
            ),
        ),
        _absence(
            "fishersft: tell of a run that no worker takes up",
            "It stays Late: no worker of its pool is online, or they have as many runs as they may. Sub-runs may wait.",
            after=("Late",),
            unless=("Pending", "Running", *_OVER, *_ELSEWHERE),
            within=LATE_FOR,
            action=_waits(block, "no worker of the work pool {{ flow_run.work_pool_name }} takes it up", LATE_FOR),
            further=[_NO_SUB_RUN],
        ),
        _absence(
            "fishersft: tell of a run whose machine does not come",
            "It stays Pending: the cluster is full, its image cannot be had, or its worker is gone.",
            after=("Pending",),
            unless=("Running", *_OVER, *_ELSEWHERE),
            within=PENDING_FOR,
            action=_waits(block, "its machine or image does not come", PENDING_FOR),
        ),
    ]


def _waits(block: UUID, why: str, how_long: timedelta) -> SendNotification:
    return SendNotification(
        block_document_id=block,
        subject="FisherSFT: {{ flow_run.name }} does not start",
        body=f"For {how_long.total_seconds() / 60:.0f} minutes {why}.\n\n{{{{ flow_run|ui_url }}}}",
    )


def _block(client: SyncPrefectClient, name: str) -> UUID:
    type_slug, _, block = name.partition("/")
    try:
        return client.read_block_document_by_name(block, type_slug, include_secrets=False).id
    except ObjectNotFound as error:
        raise InputError(
            f"the Prefect variable {NOTIFICATIONS} is {name!r}, and there is no such block; expected BLOCK-TYPE/NAME "
            "of a notification block, such as slack-webhook/curation (`prefect block ls` lists them)"
        ) from error


def _absence(
    name: str,
    description: str,
    *,
    after: Iterable[str],
    unless: Iterable[str],
    within: timedelta,
    action: ActionTypes,
    further: Iterable[ResourceSpecification] = (),
) -> AutomationCore:
    """Acts on a run of ours that has no event of `unless` within a time of one of `after`."""
    trigger = EventTrigger(
        posture=Posture.Proactive,
        after={f"prefect.flow-run.{event}" for event in after},
        expect={f"prefect.flow-run.{event}" for event in unless},
        match=_RUN,
        match_related=[_OURS, *further],
        for_each={"prefect.resource.id"},
        threshold=1,
        within=within,
    )
    return AutomationCore(name=name, description=description, trigger=trigger, actions=[action])


def _presence(
    name: str,
    description: str,
    events: Iterable[str],
    action: ActionTypes,
    further: Iterable[ResourceSpecification] = (),
    within: timedelta = ONCE_WITHIN,
) -> AutomationCore:
    """Acts on such an event of a run of ours, and once on several of the same run within that time."""
    trigger = EventTrigger(
        posture=Posture.Reactive,
        expect=set(events),
        match=_RUN,
        match_related=[_OURS, *further],
        for_each={"prefect.resource.id"},
        threshold=1,
        within=within,
    )
    return AutomationCore(name=name, description=description, trigger=trigger, actions=[action])


def _lost(message: str) -> ChangeFlowRunState:
    """Ends a start of a run; the state's name is what `tasks.guard` counts losses by."""
    return _state(StateType.CRASHED, LOST, message)


def _state(state: StateType, name: str, message: str) -> ChangeFlowRunState:
    """Not forced, so that Prefect refuses it for a run that is in no such case any more."""
    return ChangeFlowRunState(state=state, name=name, message=message, force=False)
