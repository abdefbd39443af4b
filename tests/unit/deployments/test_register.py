"""What the configurations give to which deployment, and what is refused before the server is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments import automations
from deployments.description import described_deployments
from deployments.environment import JOB_ENVIRONMENT
from deployments.register import register
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


def deploy(config: CurateConfig | None = None, cron: str | None = None) -> None:
    register(config=config, comparison=None, cron=cron, pool_type="process", home=Path("/work"))


def test_a_cron_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="--cron 'at night': expected five fields"):
        deploy(CurateConfig.model_validate({"corpus": {"path": "x.jsonl"}}), cron="at night")


def test_settings_that_cannot_go_on_from_the_last_selection_are_refused() -> None:
    config = CurateConfig.model_validate({"corpus": {"path": "x.jsonl"}, "selection": {"project_to": 8}})
    with pytest.raises(InputError, match=r"for curate/nightly(.|\n)*project_to cannot be used with"):
        deploy(config)


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
