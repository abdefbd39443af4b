"""A Prefect server that a test may stop and start, process workers that it may kill, and runs of slow deployments."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
from prefect.events.schemas.automations import AutomationCore

from deployments.automations import TAG
from deployments.environment import JOB_ENVIRONMENT
from fishersft.config import CurateConfig
from tasks.guard import LOST

ROOT = Path(__file__).parents[2]
FLOWS = "tests/e2e/slow_flows.py"
POOL, GPU_POOL = "fishersft", "fishersft-gpu"
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass
class Server:
    """A Prefect server on SQLite, in a folder of its own."""

    home: Path
    port: int
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.api = f"http://127.0.0.1:{self.port}/api"
        self.environment = {
            **os.environ,
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            "OMP_WAIT_POLICY": "passive",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # SQLite on a busy machine
            **self.settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        with (self.home / "server.log").open("a") as log:
            self._process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=subprocess.STDOUT)
        until(self._answers, "the server answers", seconds=120)

    def stop(self) -> None:
        """Ends it as a power cut would."""
        if self._process is not None:
            kill(self._process.pid)

    def post(self, path: str, **body: Any) -> Any:
        answer = httpx.post(f"{self.api}/{path}", json=body, timeout=60)
        assert answer.is_success, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        answer = httpx.get(f"{self.api}/{path}", timeout=60)
        assert answer.is_success, answer.text
        return answer.json()

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, (self.home / "server.log").read_text()
        try:
            return httpx.get(f"{self.api}/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def running_server(home: Path, **settings: str) -> Iterator[Server]:
    """A server with both pools, and the slow deployments `curate/slow` and `embed-shards/slow`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(home, port, settings)
    try:
        server.start()
        for pool in (POOL, GPU_POOL):
            server.post("work_pools/", name=pool, type="process", concurrency_limit=2)
        deploy(server, "curate", POOL)
        deploy(server, "embed-shards", GPU_POOL)
        yield server
    finally:
        server.stop()


def deploy(server: Server, flow: str, pool: str) -> str:
    """Registers the slow form of a flow, with the environment that all deployed runs have; the deployment's id."""
    return server.post(
        "deployments/",
        name="slow",
        flow_id=server.post("flows/", name=flow)["id"],
        entrypoint=f"{FLOWS}:{flow.replace('-', '_')}",
        work_pool_name=pool,
        tags=[TAG],
        pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}],
        job_variables={"env": JOB_ENVIRONMENT},
        enforce_parameter_schema=False,
    )["id"]


@contextmanager
def registered(server: Server, automations: Iterable[AutomationCore]) -> Iterator[None]:
    """Has the server act by these automations, for a while."""
    ids = [server.post("automations/", **automation.model_dump(mode="json"))["id"] for automation in automations]
    try:
        yield
    finally:
        for automation in ids:
            httpx.delete(f"{server.api}/automations/{automation}", timeout=60)


@dataclass
class Run:
    """A flow run on the server."""

    server: Server
    id: str

    @property
    def state(self) -> dict[str, Any]:
        return self.server.get(f"flow_runs/{self.id}")["state"]

    @property
    def states(self) -> list[str]:
        """The names of all states that it had."""
        return [state["name"] for state in self.server.get(f"flow_run_states/?flow_run_id={self.id}")]

    @property
    def logs(self) -> str:
        found = self.server.post("logs/filter", logs={"flow_run_id": {"any_": [self.id]}}, sort="TIMESTAMP_ASC")
        return "\n".join(line["message"] for line in found)

    def told(self) -> str:
        """What became of it, for the message of a test that fails."""
        return f"{self.states}\n{self.logs}"

    def set_state(self, kind: str, name: str | None = None) -> None:
        self.server.post(f"flow_runs/{self.id}/set_state", state={"type": kind, "name": name or kind.capitalize()})

    def until_over(self, seconds: float) -> str:
        """Waits until it has ended, and not for being scheduled again; the name of its state."""
        until(lambda: is_over(self.state), "the run ends", seconds, self.told)
        return self.state["name"]


def is_over(state: dict[str, Any]) -> bool:
    return state["type"] in FINAL and state["name"] != LOST


def start_run(server: Server, config: CurateConfig) -> Run:
    """A run of `curate/slow`; its worker's environment says how slow."""
    deployment = server.get("deployments/name/curate/slow")["id"]
    parameters = {"config": config.model_dump(mode="json")}
    return Run(server, server.post(f"deployments/{deployment}/create_flow_run", parameters=parameters)["id"])


@contextmanager
def running_worker(server: Server, pool: str, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of that pool; killed at the end, with all that it started."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--limit", "1"]
    with log.open("a") as printed:
        worker = subprocess.Popen(
            command, cwd=ROOT, env={**server.environment, **environment}, stdout=printed, stderr=subprocess.STDOUT
        )
    try:
        yield worker
    finally:
        kill(worker.pid)


@contextmanager
def listening() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A webhook: its URL, and what was posted to it."""
    posted = list[dict[str, str]]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as webhook:
        threading.Thread(target=webhook.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{webhook.server_address[1]}/", posted
        finally:
            webhook.shutdown()


def family(pid: int) -> list[psutil.Process]:
    try:
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill(pid: int) -> None:
    """Kills a process and all that it started, by SIGKILL."""
    processes = family(pid)
    for process in processes:
        process.kill()
    psutil.wait_procs(processes)


def until(
    happened: Callable[[], Any], what: str, seconds: float = 60, explained: Callable[[], str] | None = None
) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n{explained() if explained else ''}"
        time.sleep(0.2)


def small_run(config: CurateConfig) -> CurateConfig:
    """The config with a model that a judge's question fits into, and five shards."""
    settings = Path(config.model.path, "config.json")
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "max_position_embeddings": 512}))
    return config.model_copy(update={"embedding": config.embedding.model_copy(update={"shard_rows": 12})})


def claims(store: str, kind: str) -> list[Path]:
    """The claims of processes that make artifacts of that kind now."""
    return list(Path(store, ".claims").glob(f"{kind}-*.json"))


def computing_processes(store: str, kind: str) -> set[int]:
    """The processes that make artifacts of that kind now."""
    found = set[int]()
    for claim in claims(store, kind):
        try:
            found.add(json.loads(claim.read_text())["pid"])
        except (FileNotFoundError, json.JSONDecodeError):
            continue  # released or renewed meanwhile
    return found
