"""Prefect as in production, but small: a server on SQLite, everything deployed, a worker, and a tiny run's config."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from transformers import PreTrainedTokenizerFast

from fishersft.config import CurateConfig
from tests.conftest import random_llama
from tests.faults.whole_run import small_config
from tests.processes import kill
from tests.seaweed import S3Server

ROOT = Path(__file__).parents[2]
SHORT_INTERVALS = {  # what the server and the worker otherwise do every 5 to 60 seconds
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "2",
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "2",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
}


@dataclass(frozen=True)
class Server:
    """A Prefect server of the tests' own, and the environment of what talks to it."""

    url: str
    environment: dict[str, str]
    home: Path

    def get(self, path: str) -> Any:
        """What the API answers."""
        return self._ask("GET", path)

    def post(self, path: str, body: Any) -> Any:
        """What the API answers; None where it has nothing to say."""
        return self._ask("POST", path, body)

    def patch(self, path: str, body: Any) -> Any:
        """What the API answers; None where it has nothing to say."""
        return self._ask("PATCH", path, body)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer of the API, asked again while its database is busy, as Prefect's own client does."""
        for _ in range(20):
            response = httpx.request(method, f"{self.url}/api/{path}", json=body, timeout=60)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(0.5)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    def runs(self, deployment: str) -> list[dict[str, Any]]:
        """The runs of a deployment such as curate/manual, the one that was to start first first."""
        identifier = self.deployment(deployment)["id"]
        found = self.post("flow_runs/filter", {"deployments": {"id": {"any_": [identifier]}}})
        return sorted(found, key=lambda run: str(run["expected_start_time"]))

    def deployment(self, name: str) -> dict[str, Any]:
        """A deployment as the API has it."""
        deployment: dict[str, Any] = self.get(f"deployments/name/{name}")
        return deployment

    def start(self, deployment: str, parameters: Mapping[str, Any] | None = None) -> str:
        """Starts a run as the UI does; its id."""
        identifier = self.deployment(deployment)["id"]
        run = self.post(f"deployments/{identifier}/create_flow_run", {"parameters": dict(parameters or {})})
        return str(run["id"])

    def state(self, run: str) -> str:
        """The name of a run's state, such as Completed."""
        return str(self.get(f"flow_runs/{run}")["state_name"])

    def states(self, run: str) -> list[str]:
        """The names of all states that a run was in, in order."""
        return [state["name"] for state in self.get(f"flow_run_states/?flow_run_id={run}")]

    def ends(self, run: str, seconds: float = 600) -> str:
        """The name of the state in which a run ends."""
        final = {"Completed", "Failed", "Cancelled", "Crashed", "TimedOut"}
        until(lambda: self.state(run) in final, f"run {run} ends", seconds)
        return self.state(run)

    def command(self, *words: str, cwd: Path | None = None) -> str:
        """What a Python module prints, such as `fishersft.cli deploy` or `prefect deploy`; it has to end well."""
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=cwd or self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


def until(happened: Callable[[], bool], what: str, seconds: float = 300) -> None:
    """Waits for something that has to happen within so many seconds."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(home: Path, port: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Starts a server on that port, with its database in `environment`'s PREFECT_HOME; it answers when this returns."""
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "server.log").open("a") as log:
        process = subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=subprocess.STDOUT)

    def healthy() -> bool:
        assert process.poll() is None, (home / "server.log").read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{port}/api/health").status_code == 200
        except httpx.TransportError:
            return False

    until(healthy, "the server answers")
    return process


def start_worker(server: Server, pool: str = "fishersft") -> subprocess.Popen[bytes]:
    """Starts a worker of that pool; it is online when this returns."""
    name = f"worker-{time.monotonic_ns()}"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--name", name]
    with (server.home / f"{name}.log").open("w") as log:
        worker = subprocess.Popen(
            command, env=server.environment, cwd=server.home, stdout=log, stderr=subprocess.STDOUT
        )
    until(lambda: name in online(server, pool), "the worker is online")
    return worker


def online(server: Server, pool: str) -> set[str]:
    """The names of a pool's workers that are online."""
    found = server.post(f"work_pools/{pool}/workers/filter", {})
    return {worker["name"] for worker in found if worker["status"] == "ONLINE"}


@pytest.fixture(scope="session")
def e2e_server(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[Server]:
    """A server of these tests' own, beside an S3 server for the store; nothing is deployed yet."""
    home, port = tmp_path_factory.mktemp("e2e"), free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        **s3_server.environment,
        **SHORT_INTERVALS,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_WAIT_POLICY": "passive",
        "COLUMNS": "200",  # so that no table is cut
    }
    process = start_server(home, port, environment)
    try:
        yield Server(url, environment, home)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


@pytest.fixture(scope="session")
def e2e_config(e2e_server: Server, s3_server: S3Server, tokenizer: PreTrainedTokenizerFast) -> CurateConfig:
    """A whole run of seconds, its store on S3: sixty verses, a tiny random model with room for a judge's question."""
    s3_server.filesystem().mkdir("e2e")
    model = e2e_server.home / "model"
    random_llama(tokenizer, context=512).save_pretrained(model)
    tokenizer.save_pretrained(model)
    return small_config(e2e_server.home, model, "s3://e2e/store")


@pytest.fixture(scope="session")
def run_yaml(e2e_server: Server, e2e_config: CurateConfig) -> Path:
    """That config as a file beside the corpus."""
    path = e2e_server.home / "run.yaml"
    path.write_text(yaml.safe_dump(e2e_config.model_dump(mode="json", exclude_defaults=True)))
    return path


@pytest.fixture(scope="session")
def deploy_command(run_yaml: Path) -> tuple[str, ...]:
    """The words of the `fishersft deploy` that these tests are about."""
    return "fishersft.cli", "deploy", str(run_yaml), "--cron", "30 3 * * *"


@pytest.fixture(scope="session")
def deployed(e2e_server: Server, deploy_command: tuple[str, ...]) -> Server:
    """The server with everything deployed by `fishersft deploy`."""
    e2e_server.command(*deploy_command)
    return e2e_server


@pytest.fixture(scope="session")
def worker(deployed: Server) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the pool fishersft."""
    worker = start_worker(deployed)
    yield worker
    kill(worker.pid)
