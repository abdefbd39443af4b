"""Sub-runs of a deployment that embed shards: waiting for them, and noticing those that are lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, StateType
from prefect.states import Cancelling, Crashed

from fishersft.data.claims import renewed_claims
from fishersft.data.store import Store
from fishersft.steps.missing_shards import ShardToEmbed, missing_shards

LOST_AFTER = 300.0  # seconds without a sign of life of a running sub-run; at work, it gives one every 5
# seconds that a run may be pending: a machine may have to be had first, for which its job stays in the queue of a busy
# cluster, where a second job for the same run would only come after it
STARTS_WITHIN = 6 * 3600.0
POLL_SECONDS = 5.0
LOG_SECONDS = 30.0  # between two notes that nobody works
_LOOKED_AHEAD = 32  # shards of a sub-run that are looked for at a poll, so that a large one costs no more
_RUNS_A_REQUEST = 200  # the server gives no more


@dataclass(frozen=True)
class Workers:
    """The workers of a deployment: its name, its work pool's (if it has one) and how many sub-runs they do at once."""

    deployment: str
    pool: str | None
    at_once: int


@dataclass
class SubRun:
    """A sub-run, the shards of it that are still missing, and when it last gave a sign of life."""

    id: UUID
    name: str
    missing: list[ShardToEmbed]
    signs: object = None
    seen: float = field(default_factory=time.monotonic)

    def look(self, store: Store, looked: int | None) -> None:
        """Drops what was embedded of the first `looked` missing shards, or of all."""
        self.missing = missing_shards(store, self.missing[:looked]) + self.missing[len(self.missing[:looked]) :]

    def is_lost(self, state: StateType, claims: dict[str, datetime]) -> bool:
        """Whether it should be at work, but for long nothing changed: state, shards or claims."""
        signs = state, [(shard.key, claims.get(shard.key)) for shard in self.missing]
        if signs != self.signs or state is StateType.SCHEDULED:
            self.signs, self.seen = signs, time.monotonic()
        return time.monotonic() - self.seen > (STARTS_WITHIN if state is StateType.PENDING else LOST_AFTER)


@contextmanager
def cancelled_on_error() -> Iterator[list[SubRun]]:
    """A list for sub-runs; those that are in it when the block is left, by an error, are cancelled."""
    runs = list[SubRun]()
    try:
        yield runs
    finally:
        with get_client(sync_client=True) as client:
            for run in runs:
                client.set_flow_run_state(run.id, Cancelling(message="The run that it belongs to has ended"))


def wait_for(runs: list[SubRun], store: Store, workers: Workers, on_left: Callable[[int], None]) -> list[str]:
    """Takes sub-runs out of `runs` as they end or are lost; why those ended that left shards missing.

    Args:
        on_left: is called with how many shards are missing.
    """
    faults, left_behind, logger, logged = list[str](), 0, get_run_logger(), time.monotonic()
    with get_client(sync_client=True) as client:
        while runs:
            time.sleep(POLL_SECONDS)
            states, claims = _states(client, runs), _claims(store, runs)
            for run in list(runs):
                why = _why_over(client, store, run, states.get(run.id), claims)
                if why is None:
                    continue
                runs.remove(run)
                left_behind += len(run.missing)
                if run.missing:
                    faults.append(f"{run.name}: {why}")
                    logger.warning("%s; its %s missing shards are for the next round", faults[-1], len(run.missing))
            on_left(left_behind + sum(len(run.missing) for run in runs))
            at_work = [run for run in runs if states[run.id].type is not StateType.SCHEDULED]
            if runs and not at_work and time.monotonic() - logged > LOG_SECONDS:
                logged = time.monotonic()
                pool = f"; `prefect worker start --pool {workers.pool}` starts one" if workers.pool else ""
                logger.info("%s sub-runs wait for a worker of %s%s", len(runs), workers.deployment, pool)
    return faults


def _why_over(
    client: SyncPrefectClient, store: Store, run: SubRun, state: State | None, claims: dict[str, datetime]
) -> str | None:
    """Why a sub-run is over, having ended or been lost; None while it is not."""
    ended = state is None or state.is_final()
    run.look(store, None if ended else _LOOKED_AHEAD)
    if state is None:
        return "it was deleted"
    if state.is_completed():
        return "it ended well, but not with these embeddings: its worker sees another store or another model"
    if ended:
        return f"{state.name}: {state.message}"
    if not run.is_lost(state.type, claims):
        return None
    why = f"{state.name}, without a sign of life for {time.monotonic() - run.seen:.0f} s"
    client.set_flow_run_state(run.id, Crashed(message=why), force=True)
    run.look(store, None)
    return why


def _claims(store: Store, runs: Sequence[SubRun]) -> dict[str, datetime]:
    """When the claim of what is being made for these sub-runs was last written, by key."""
    kinds = {shard.kind for run in runs for shard in run.missing}
    return {key: at for kind in sorted(kinds) for key, at in renewed_claims(store.files, kind).items()}


def _states(client: SyncPrefectClient, runs: Sequence[SubRun]) -> dict[UUID, State]:
    """The states of those of the sub-runs that the server knows."""
    states = dict[UUID, State]()
    for first in range(0, len(runs), _RUNS_A_REQUEST):
        ids = [run.id for run in runs[first : first + _RUNS_A_REQUEST]]
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids)))
        states.update((run.id, run.state) for run in found if run.state is not None)
    return states
