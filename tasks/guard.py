"""What every flow run is guarded by: limits that are there, an end to being lost again and again, a quick stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import TerminationSignal
from prefect.runtime import flow_run

from fishersft.errors import InputError
from tasks.devices import check_device_limit

STOPPED = "Stopped"  # the state that a run sets that is told to stop, before an automation schedules it again
LOST = "Lost"  # the state that an automation sets where a run's process is gone, before it is scheduled again
MOST_LOSSES = 4  # starts after a loss; so a run that kills its machine each time is started five times
STOPPED_WITHIN = 10.0  # seconds that threads have after a request to stop
_BY_A_PERSON = ("Scheduled", "AwaitingRetry")  # how a run is scheduled at first, and by the UI's Retry


@contextmanager
def guarded_run() -> Iterator[None]:
    """Wraps the work of a flow.

    Asked to stop, the process ends soon whatever its threads compute: the store holds what is finished, and claims of
    a process that is gone bind nobody. A run that nobody cancelled (its machine or worker is stopped) says so by its
    state, for which an automation schedules it again.

    Raises:
        InputError: this machine's device limit is not there, or the run was lost too often.
    """
    check_device_limit()
    _refuse_what_is_lost_again_and_again()
    try:
        yield
    except TerminationSignal:
        if _is_to_go_on():
            os._exit(os.EX_OK)  # by any other way out Prefect would set it to Crashed after it was scheduled again
        stop = threading.Timer(STOPPED_WITHIN, os._exit, [128 + signal.SIGTERM])
        stop.daemon = True  # a process that ends by itself does not wait for it
        stop.start()
        raise


def _is_to_go_on() -> bool:
    """Sets a deployment's run to Stopped, unless somebody has it stop for good."""
    identifier = UUID(flow_run.get_id())
    stopped = State(type=StateType.CRASHED, name=STOPPED, message="Its process was asked to stop")
    try:
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(identifier)
            at_work = run.state is not None and run.state.type in (StateType.RUNNING, StateType.PAUSED)
            if run.deployment_id is None or not at_work:
                return False
            client.set_flow_run_state(identifier, stopped, force=True)
    except httpx.HTTPError:  # the server is away too: later it misses the run's heartbeats
        return False
    return True


def losses(states: Sequence[State]) -> int:
    """How often a run was lost since a person or a schedule started it, by its states, oldest first."""
    lost = 0
    for state in reversed(states):
        if state.name == LOST:
            lost += 1
        elif state.type is StateType.SCHEDULED and state.name in _BY_A_PERSON:
            break
    return lost


def _refuse_what_is_lost_again_and_again() -> None:
    with get_client(sync_client=True) as client:
        states = client.read_flow_run_states(UUID(flow_run.get_id()))
    lost = losses(sorted(states, key=lambda state: state.timestamp))
    if lost > MOST_LOSSES:
        raise InputError(
            f"the process of this run was lost {lost} times in a row, so it is not tried again by itself: its machine "
            "may have too little memory, or goes away. See the last lines of its logs and the worker's; then Retry"
        )
