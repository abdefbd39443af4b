"""What is deployed: registered twice without harm, started by schedule and event, and overlapping as it says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.corpus_events import CHANGED, resource_of
from fishersft.config import CurateConfig
from fishersft.data.claims import one_at_a_time
from fishersft.data.files import Files
from tests.prefect_server import ROOT, PrefectServer, until

pytestmark = [pytest.mark.e2e, pytest.mark.server]

NAMES = ("curate/nightly", "curate/on-new-data", "curate/manual", "embed-shards/gpu", "compare/weekly", "store/gc")


def words(printed: str, name: str) -> str:
    """What `fishersft deploy` said of something."""
    (line,) = [line for line in printed.splitlines() if f" {name} " in line]
    return line


def parameters(config: CurateConfig) -> dict[str, object]:
    return {"config": config.model_dump(mode="json", exclude_defaults=True)}


def runs_of(server: PrefectServer, deployment: str) -> list[dict[str, Any]]:
    """The runs of a deployment, the one that was to start first first."""
    wanted = {"deployments": {"id": {"any_": [server.deployment(deployment)["id"]]}}}
    return sorted(server.post("flow_runs/filter", wanted), key=lambda run: str(run["expected_start_time"]))


def ends(server: PrefectServer, run: str) -> str:
    """The name of the state in which a run ends."""
    final = {"Completed", "Failed", "Cancelled", "Crashed", "TimedOut"}
    until(lambda: server.state(run) in final, f"run {run} ends", 600)
    return server.state(run)


def test_prefect_deploy_all_registers_all_six_with_nothing_switched_on(e2e_server: PrefectServer) -> None:
    for pool in ("fishersft", "fishersft-gpu"):
        e2e_server.post("work_pools/", {"name": pool, "type": "process"})
    file = str(ROOT / "deployments" / "prefect.yaml")
    server = e2e_server.with_environment(FISHERSFT_HOME=str(e2e_server.home))
    server.module("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", file)
    for name in NAMES:
        deployment = e2e_server.deployment(name)
        assert not any(schedule["active"] for schedule in deployment["schedules"])
        assert deployment["description"] and deployment["tags"][0] == "fishersft"
    assert [found["enabled"] for found in e2e_server.post("automations/filter")] == [False]


def test_deploying_again_changes_nothing(deployed: PrefectServer, deploy_command: tuple[str, ...]) -> None:
    printed = deployed.module(*deploy_command)
    assert "made" not in printed and "changed" not in printed.replace("unchanged", "")
    for name in NAMES:
        assert "unchanged" in words(printed, name)


def test_a_configuration_switches_on_what_it_is_for_and_later_deployments_keep_it(
    deployed: PrefectServer, e2e_config: CurateConfig
) -> None:
    deployed.module("fishersft.cli", "deploy")
    nightly = deployed.deployment("curate/nightly")
    (schedule,) = nightly["schedules"]
    assert schedule["active"] and schedule["schedule"]["cron"] == "30 3 * * *"
    assert nightly["parameters"]["config"]["selection"] == {
        "budget": 6,
        "budget_unit": "sentences",
        "extends": "previous",
    }
    assert deployed.deployment("store/gc")["parameters"]["store"] == e2e_config.store
    assert not deployed.deployment("compare/weekly")["schedules"][0]["active"]  # no comparison was given


@pytest.mark.usefixtures("worker")
def test_the_schedule_of_nightly_starts_a_run_that_completes(deployed: PrefectServer) -> None:
    nightly = deployed.deployment("curate/nightly")
    (schedule,) = nightly["schedules"]
    place = f"deployments/{nightly['id']}/schedules/{schedule['id']}"
    first = datetime.now(UTC) + timedelta(seconds=5)
    # Every quarter of a minute, so that one comes soon however busy the machine is.
    deployed.patch(place, {"schedule": {"interval": 15, "anchor_date": first.isoformat()}})

    def ended() -> list[dict[str, Any]]:
        return [run for run in runs_of(deployed, "curate/nightly") if run["end_time"]]

    until(ended, "a scheduled run ends", 600)
    deployed.patch(place, {"active": False})
    run = ended()[0]
    assert run["state_name"] == "Completed" and run["auto_scheduled"]


@pytest.mark.usefixtures("worker")
def test_notify_starts_on_new_data_with_the_corpus_of_its_configuration(
    deployed: PrefectServer, run_yaml: Path
) -> None:
    corpus = yaml.safe_load(run_yaml.read_text())["corpus"]["path"]
    with Path(corpus).open("a") as verses:
        verses.write("a new verse of my heart that nobody has read\n")
    printed = deployed.module("fishersft.cli", "notify", corpus)
    assert "this starts: New data starts a run" in printed
    until(lambda: runs_of(deployed, "curate/on-new-data"), "the event starts a run")
    (run,) = runs_of(deployed, "curate/on-new-data")
    assert ends(deployed, run["id"]) == "Completed"
    assert run["parameters"]["config"]["corpus"]["path"] == corpus


def test_a_corpus_that_no_trigger_listens_to_starts_nothing_and_is_said(
    deployed: PrefectServer, tmp_path: Path
) -> None:
    before = len(runs_of(deployed, "curate/on-new-data"))
    printed = deployed.module("fishersft.cli", "notify", str(tmp_path / "another.jsonl"))
    assert "no trigger that is on listens to this corpus" in printed
    assert len(runs_of(deployed, "curate/on-new-data")) == before


@pytest.mark.usefixtures("worker")
def test_an_s3_notification_posted_to_the_api_starts_on_new_data(
    deployed: PrefectServer, e2e_config: CurateConfig
) -> None:
    before = len(runs_of(deployed, "curate/on-new-data"))
    # What docs/operations.md has EventBridge or a webhook post.
    event = {
        "id": "0199f0c2-7a5e-7cc1-9c33-1d6a7f1f0e11",
        "occurred": datetime.now(UTC).isoformat(),
        "event": CHANGED,
        "resource": {"prefect.resource.id": resource_of(str(e2e_config.corpus.path))},
    }
    deployed.post("events", [event])
    until(lambda: len(runs_of(deployed, "curate/on-new-data")) > before, "the event starts a run")
    assert ends(deployed, runs_of(deployed, "curate/on-new-data")[-1]["id"]) == "Completed"


@pytest.mark.usefixtures("worker")
def test_of_two_runs_of_manual_at_once_the_second_waits(deployed: PrefectServer, e2e_config: CurateConfig) -> None:
    runs = [deployed.start_run("curate/manual", parameters(e2e_config)) for _ in range(2)]
    assert [ends(deployed, run) for run in runs] == ["Completed", "Completed"]
    waiting = f"Waiting for another run of curate-{e2e_config.name} to end: process "
    (second,) = [run for run in runs if waiting in deployed.log(run)]
    (first,) = {*runs} - {second}
    assert deployed.get(f"flow_runs/{first}")["end_time"] < deployed.get(f"flow_runs/{second}")["end_time"]


@pytest.mark.usefixtures("worker", "bucket")  # with a bucket comes the store's environment
def test_a_run_of_gc_is_dropped_while_another_is_at_work_and_tells_what_it_removed_else(
    deployed: PrefectServer, e2e_config: CurateConfig
) -> None:
    collect = {"older_than": "0h", "keep_runs": 1}
    with one_at_a_time(Files(e2e_config.store), "gc", False, print):  # as one that is at work has it
        assert ends(deployed, deployed.start_run("store/gc", collect)) == "Cancelled"
    run = deployed.start_run("store/gc", collect)
    assert ends(deployed, run) == "Completed"
    (table,) = [found for found in deployed.artifacts(run) if found["key"] == "store-gc"]
    assert table["type"] == "table"
    assert "run records" in table["data"]  # those of all but the last runs
