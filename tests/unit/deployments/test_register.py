"""What the configurations give to which deployment, and what is refused before the server is asked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from prefect.exceptions import ObjectNotFound

from deployments import automations
from deployments.description import described_deployments
from deployments.environment import JOB_ENVIRONMENT
from deployments.register import register
from deployments.register_deployment import register_deployment
from fishersft import deploy_cli
from fishersft.config import CurateConfig
from fishersft.errors import InputError


def test_prefect_yaml_describes_the_six_and_leaves_overlapping_runs_to_their_flows() -> None:
    described = {each.name: each.settings for each in described_deployments()}
    assert list(described) == [
        "curate/nightly",
        "curate/on-new-data",
        "curate/manual",
        "embed-shards/gpu",
        "compare/weekly",
        "store/gc",
    ]
    # Prefect ends a run whose slot is gone, after a pause or a server's restart: see tasks/overlap.py.
    assert not any("concurrency_limit" in settings for settings in described.values())
    for settings in described.values():
        assert "https://" in settings["description"] and automations.TAG in settings["tags"]
        assert settings["work_pool"]["job_variables"]["env"] == JOB_ENVIRONMENT


def test_the_page_of_manual_tells_what_its_flow_tells() -> None:
    (manual,) = [each for each in described_deployments() if each.name == "curate/manual"]
    told = manual.settings["description"]
    for what in ("Corpus > Path", "`Output`", "Nothing is computed twice", "Approval", "containers"):
        assert what in told
    for page in ("README.md", "docs/design.md", "docs/operations.md"):
        assert page in told and page in (manual.flow.description or "")


def deploy(config: CurateConfig | None = None, cron: str | None = None, pool_type: str = "process") -> None:
    register(config=config, comparison=None, cron=cron, pool_type=pool_type, home=Path("/work"))


def test_a_cron_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="--cron 'at night': expected five fields"):
        deploy(CurateConfig.model_validate({"corpus": {"path": "x.jsonl"}}), cron="at night")


def test_settings_that_cannot_go_on_from_the_last_selection_are_refused() -> None:
    config = CurateConfig.model_validate({"corpus": {"path": "x.jsonl"}, "selection": {"project_to": 8}})
    with pytest.raises(InputError, match=r"for curate/nightly(.|\n)*project_to cannot be used with"):
        deploy(config)


@pytest.mark.parametrize("pool_type", ["docker", "kubernetes", "ecs"])
@pytest.mark.parametrize(
    ("places", "told"),
    [
        ({}, "store is 'store', a folder in a run's container"),
        ({"store": "s3://bucket/store"}, "output is 'output', a folder in a run's container"),
        ({"store": "s3://bucket/store", "output": "~/output"}, "output is '~/output'"),
    ],
)
def test_what_would_go_with_the_container_is_refused(pool_type: str, places: dict[str, str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        deploy(CurateConfig.model_validate({"corpus": {"path": "x.jsonl"}, **places}), pool_type=pool_type)


def test_what_stays_is_not_refused() -> None:
    places = {"store": "s3://bucket/store", "output": "/mnt/shared/output"}
    config = CurateConfig.model_validate({"corpus": {"path": "x.jsonl"}, **places})
    with pytest.raises(InputError, match="--cron"):  # looked at next
        deploy(config, cron="at night", pool_type="kubernetes")


class Deployments:
    """As much of Prefect's client as a deployment without a trigger needs."""

    def __init__(self) -> None:
        self.there: SimpleNamespace | None = None

    def read_deployment_by_name(self, name: str) -> SimpleNamespace:
        if self.there is None:
            raise ObjectNotFound(Exception(name))
        return self.there

    def create_flow_from_name(self, name: str) -> UUID:
        return UUID(int=1)

    def create_deployment(self, flow: UUID, **settings: Any) -> UUID:
        self.there = SimpleNamespace(**settings, id=UUID(int=2), global_concurrency_limit=None)
        return UUID(int=2)


def test_a_deployment_keeps_the_pool_that_was_named_for_it() -> None:
    client = Deployments()
    (manual,) = [each for each in described_deployments() if each.name == "curate/manual"]
    for named, kept in ((None, "fishersft"), ("fishersft-gpu", "fishersft-gpu"), (None, "fishersft-gpu")):
        list(register_deployment(client, manual, None, "/work", named))  # type: ignore[arg-type]
        assert client.there is not None and client.there.work_pool_name == kept


def test_without_a_server_the_message_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings(restore_defaults={PREFECT_API_URL}), pytest.raises(InputError, match="no Prefect server"):
        deploy()


def test_a_server_that_is_not_there_is_one_message() -> None:
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    nowhere = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(nowhere), pytest.raises(InputError, match=r"cannot reach Prefect's server at http://127"):
        deploy()


def test_a_cron_without_a_configuration_is_refused() -> None:
    with pytest.raises(InputError, match=r"name its CONFIG\.yaml too"):
        deploy_cli.deploy(config=None, comparison=None, cron="0 2 * * *", pool_type="process")
