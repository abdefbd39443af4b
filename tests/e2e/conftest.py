"""Prefect as in production, but small: a server on SQLite, everything deployed, a worker, and a tiny run's config."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from transformers import PreTrainedTokenizerFast

from fishersft.config import CurateConfig
from tests.conftest import random_llama
from tests.faults.whole_run import small_config
from tests.prefect_server import PrefectServer, running_prefect
from tests.seaweed import S3Server

SHORT_INTERVALS = {  # what the server otherwise does every 5 to 60 seconds
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "2",
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "2",
}


@pytest.fixture(scope="session")
def e2e_server(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[PrefectServer]:
    """A server of these tests' own, beside an S3 server for the store; nothing is deployed yet."""
    home = tmp_path_factory.mktemp("e2e")
    wide = {"COLUMNS": "200"}  # so that no table is cut
    with running_prefect(home, **s3_server.environment, **SHORT_INTERVALS, **wide) as server:
        yield server


@pytest.fixture(scope="session")
def e2e_config(e2e_server: PrefectServer, s3_server: S3Server, tokenizer: PreTrainedTokenizerFast) -> CurateConfig:
    """A whole run of seconds, its store on S3: sixty verses, a tiny random model with room for a judge's question."""
    s3_server.filesystem().mkdir("e2e")
    model = e2e_server.home / "model"
    random_llama(tokenizer, context=512).save_pretrained(model)
    tokenizer.save_pretrained(model)
    return small_config(e2e_server.home, model, "s3://e2e/store")


@pytest.fixture(scope="session")
def run_yaml(e2e_server: PrefectServer, e2e_config: CurateConfig) -> Path:
    """That config as a file beside the corpus."""
    path = e2e_server.home / "run.yaml"
    path.write_text(yaml.safe_dump(e2e_config.model_dump(mode="json", exclude_defaults=True)))
    return path


@pytest.fixture(scope="session")
def deploy_command(run_yaml: Path) -> tuple[str, ...]:
    """The words of the `fishersft deploy` that these tests are about."""
    return "fishersft.cli", "deploy", str(run_yaml), "--cron", "30 3 * * *"


@pytest.fixture(scope="session")
def deployed(e2e_server: PrefectServer, deploy_command: tuple[str, ...]) -> PrefectServer:
    """The server with everything deployed by `fishersft deploy`."""
    e2e_server.module(*deploy_command)
    return e2e_server


@pytest.fixture(scope="session")
def worker(deployed: PrefectServer) -> Iterator[None]:
    """A worker of the pool fishersft."""
    with deployed.worker("fishersft", deployed.home / "worker.log", limit=4):
        yield
