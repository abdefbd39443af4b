"""Runs whose worker, process or server goes away are finished all the same, and cancelled ones stop soon.

Whatever happens, what was finished is not made again.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.events.actions import CancelFlowRun, SendNotification
from prefect.events.schemas.automations import AutomationCore
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.variables import Variable

from deployments import automations
from fishersft.config import CurateConfig
from tasks.guard import LOST, STOPPED
from tasks.notices import NOT_BETTER
from tests.e2e.robust_fixtures import (
    GPU_POOL,
    POOL,
    Run,
    claims,
    computing_processes,
    listening,
    registered,
    running_server,
    small_run,
    start_run,
)
from tests.faults.whole_run import publications, small_config
from tests.prefect_server import PrefectServer, until
from tests.processes import kill

pytestmark = [pytest.mark.e2e, pytest.mark.server]

STARTS = 240.0  # seconds that a busy machine may take to start a run, or to say how one ended
FINISHED_WITHIN = 300.0  # seconds from a kill until a new worker has finished the work: the bound of the issue
STOPPED_WITHIN = 30.0  # seconds from the request to cancel until the processes are gone: the bound of the issue


@pytest.fixture
def config(tmp_path: Path, tiny_model_folder: Path) -> CurateConfig:
    return small_run(small_config(tmp_path, tiny_model_folder, str(tmp_path / "store")))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server whose automations have little patience, and whose runs give a sign of life more often."""
    settings = {
        "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S",
        # so that an automation whose time is up while the server stands still for a minute is not forgotten
        "PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER": "PT10M",
        "HEARTBEAT_SECONDS": "3",
    }
    with running_server(tmp_path_factory.mktemp("prefect"), **settings) as server:
        lost = automations.lost_runs(timedelta(seconds=25), timedelta(minutes=5), timedelta(minutes=15))
        with registered(server, lost):
            yield server


@pytest.fixture(scope="module")
def deployed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server with the automations as they are deployed, and their time-outs."""
    with running_server(tmp_path_factory.mktemp("prefect")) as server:
        lost = automations.lost_runs(
            automations.SILENT_AFTER, automations.PROCESS_STARTS_WITHIN, automations.MACHINE_STARTS_WITHIN
        )
        with registered(server, lost):
            yield server


def embedded(config: CurateConfig) -> int:
    return sum(name.startswith("embeddings/") for name in publications(config.store))


def finish_after_a_kill(server: PrefectServer, config: CurateConfig, folder: Path) -> None:
    with server.worker(POOL, folder / "first.log", SHARD_SECONDS="4") as worker:
        run, _ = start_and_embed(server, config)
        kill(worker.pid)
    before, killed = publications(config.store), time.monotonic()
    with server.worker(POOL, folder / "second.log"):
        assert run.until_over(FINISHED_WITHIN) == "Completed"
    print(f"finished {time.monotonic() - killed:.0f} s after the kill: {run.states}")
    assert before.items() <= publications(config.store).items(), "what was finished is not made again"
    assert run.states.count(LOST) == 1
    assert automations.RESCHEDULED in run.states  # more than once where SQLite was locked and the event came again


def outlive(server: PrefectServer, config: CurateConfig, away: int, folder: Path) -> None:
    with server.worker(POOL, folder / "worker.log", SHARD_SECONDS="4"):
        run = start_run(server, config)
        until(lambda: claims(config.store, "embeddings"), "it embeds", STARTS, run.told)
        before = publications(config.store)
        server.stop()
        time.sleep(away)
        server.start()
        assert run.until_over(FINISHED_WITHIN) == "Completed"
    print(f"after {away} s without a server: {run.states}")
    assert before.items() <= publications(config.store).items(), "what was finished is not made again"


def cancel_at_work(run: Run, config: CurateConfig, kind: str) -> None:
    """Cancels the run as the UI does while a process makes artifacts of that kind; that is gone in time."""
    until(lambda: computing_processes(config.store, kind), f"it makes {kind}", STARTS, run.told)
    processes, requested = computing_processes(config.store, kind), time.monotonic()
    run.set_state("CANCELLING")
    until(lambda: not any(map(psutil.pid_exists, processes)), "its processes are gone", STOPPED_WITHIN, run.told)
    print(f"gone {time.monotonic() - requested:.1f} s after the request")
    assert run.until_over(STARTS) == "Cancelled"


@pytest.mark.faults
def test_a_run_whose_worker_and_process_were_killed_is_finished_by_a_new_worker(
    server: PrefectServer, config: CurateConfig, tmp_path: Path
) -> None:
    finish_after_a_kill(server, config, tmp_path)


@pytest.mark.faults
def test_with_the_time_outs_that_are_deployed_it_is_finished_within_five_minutes(
    deployed_server: PrefectServer, config: CurateConfig, tmp_path: Path
) -> None:
    finish_after_a_kill(deployed_server, config, tmp_path)


@pytest.mark.faults
def test_a_run_whose_worker_is_told_to_stop_is_finished_by_the_next(
    server: PrefectServer, config: CurateConfig, tmp_path: Path
) -> None:
    with server.worker(POOL, tmp_path / "first.log", SHARD_SECONDS="4") as worker:
        run, before = start_and_embed(server, config)
        worker.terminate()  # it kills the processes of its runs
        worker.wait(STARTS)
    with server.worker(POOL, tmp_path / "second.log"):
        finish_after_a_stop(run, config, before, LOST)


@pytest.mark.faults
def test_a_run_whose_process_is_told_to_stop_as_by_systemd_is_started_again_by_its_worker(
    server: PrefectServer, config: CurateConfig, tmp_path: Path
) -> None:
    with server.worker(POOL, tmp_path / "worker.log", SHARD_SECONDS="4"):
        run, before = start_and_embed(server, config)
        (process,) = computing_processes(config.store, "embeddings")
        psutil.Process(process).terminate()
        finish_after_a_stop(run, config, before, STOPPED)


def start_and_embed(server: PrefectServer, config: CurateConfig) -> tuple[Run, dict[str, object]]:
    """A run that embeds now, and what it has published."""
    run = start_run(server, config)
    until(lambda: embedded(config) >= 1 and claims(config.store, "embeddings"), "it embeds", STARTS, run.told)
    return run, publications(config.store)


def finish_after_a_stop(run: Run, config: CurateConfig, before: dict[str, object], state: str) -> None:
    assert run.until_over(FINISHED_WITHIN) == "Completed", run.told()
    assert before.items() <= publications(config.store).items(), "what was finished is not made again"
    assert run.states.count(state) == 1, run.told()
    assert automations.RESCHEDULED in run.states  # more than once where SQLite was locked and the event came again


@pytest.mark.faults
def test_a_run_cancelled_in_training_is_gone_soon_and_a_retry_goes_on_where_it_was(
    server: PrefectServer, config: CurateConfig, tmp_path: Path
) -> None:
    with server.worker(POOL, tmp_path / "worker.log", STEP_SECONDS="600") as worker:
        run = start_run(server, config)
        cancel_at_work(run, config, "fine-tuned-model")
        assert worker.poll() is None
    before = publications(config.store)
    with server.worker(POOL, tmp_path / "quick.log"):
        run.set_state("SCHEDULED", "AwaitingRetry")  # as the UI's Retry does
        assert run.until_over(STARTS) == "Completed"
    assert before.items() <= publications(config.store).items(), "what was finished is not made again"


@pytest.mark.faults
def test_a_cancelled_run_takes_the_sub_runs_that_embed_for_it_with_it(
    server: PrefectServer, config: CurateConfig, tmp_path: Path
) -> None:
    elsewhere = config.embedding.model_copy(update={"deployment": "embed-shards/slow"})
    config = config.model_copy(update={"embedding": elsewhere})
    with (
        server.worker(GPU_POOL, tmp_path / "gpu.log", SHARD_SECONDS="600"),
        server.worker(POOL, tmp_path / "worker.log"),
    ):
        run = start_run(server, config)
        cancel_at_work(run, config, "embeddings")
        until(lambda: set(sub_runs(server)) == {"Cancelled"}, "its sub-runs are cancelled", STARTS, run.told)


def sub_runs(server: PrefectServer) -> list[str]:
    """The states of all sub-runs."""
    wanted = {"flows": {"name": {"any_": ["embed-shards"]}}}
    return [run["state_name"] for run in server.post("flow_runs/filter", wanted)]


@pytest.mark.faults
def test_a_run_outlives_a_server_that_is_restarted_after_some_seconds(
    server: PrefectServer, config: CurateConfig, tmp_path: Path
) -> None:
    outlive(server, config, 15, tmp_path)


@pytest.mark.faults
def test_a_run_outlives_a_server_that_is_gone_for_a_minute(
    deployed_server: PrefectServer, config: CurateConfig, tmp_path: Path
) -> None:
    outlive(deployed_server, config, 60, tmp_path)


def test_a_run_that_a_killed_worker_left_pending_is_scheduled_again(
    server: PrefectServer, config: CurateConfig
) -> None:
    _, pending, *_ = automations.lost_runs(timedelta(hours=1), timedelta(seconds=10), timedelta(hours=1))
    with registered(server, [pending]):
        run = start_run(server, config)
        run.set_state("PENDING")
        until(lambda: run.state["name"] == automations.RESCHEDULED, "it is scheduled again", told=run.told)
        states = run.states
        assert states.index("Pending") < states.index(LOST) < states.index(automations.RESCHEDULED)
        run.set_state("CRASHED", LOST)  # as a server does that acts twice
        until(lambda: run.state["name"] == automations.RESCHEDULED, "and once more", told=run.told)
    run.set_state("CANCELLED")


def test_a_run_that_takes_too_long_is_cancelled(server: PrefectServer, config: CurateConfig) -> None:
    with temporary_settings({PREFECT_API_URL: server.api}):
        Variable.set(automations.LONGEST_HOURS, 0.003)
        too_long = [found for found in automations.wanted() if isinstance(found.actions[0], CancelFlowRun)]
    with registered(server, too_long):
        run = start_run(server, config)
        for state in ("PENDING", "RUNNING"):
            run.set_state(state)
        until(lambda: run.state["type"] == "CANCELLING", "it is cancelled", told=run.told)
    run.set_state("CANCELLED")


def test_somebody_is_told_of_a_run_that_failed_and_of_a_selection_that_is_not_better_than_chance(
    server: PrefectServer, config: CurateConfig
) -> None:
    headline = "Information gain is worse than uniform at equal tokens and steps: perplexity 7.5% higher"
    with listening() as (url, posted), registered(server, notices(server, url)):
        run = start_run(server, config)
        run.set_state("FAILED")
        until(lambda: posted, "somebody is told that it failed")
        name = server.get(f"flow_runs/{run.id}")["name"]
        assert posted.pop()["subject"] == f"FisherSFT: {name} Failed"
        emit(server, run, headline)
        until(lambda: posted, "somebody is told that it was not better")
        assert headline in posted.pop()["body"]


def notices(server: PrefectServer, url: str) -> list[AutomationCore]:
    """The automations that tell that webhook."""
    with temporary_settings({PREFECT_API_URL: server.api}):
        content = {"subject": "{{subject}}", "body": "{{body}}"}
        CustomWebhookNotificationBlock(name="curation", url=url, json_data=content).save("curation")
        Variable.set(automations.NOTIFICATIONS, "custom-webhook/curation")
        return [found for found in automations.wanted() if isinstance(found.actions[0], SendNotification)]


def emit(server: PrefectServer, run: Run, headline: str) -> None:
    """Emits what `tasks.notices` does within a deployed run."""
    event = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": NOT_BETTER,
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": "curate"},
        "related": [{"prefect.resource.id": f"prefect.tag.{automations.TAG}", "prefect.resource.role": "tag"}],
        "payload": {"headline": headline},
    }
    server.post("events", [event])
