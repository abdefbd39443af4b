"""A Prefect server that acts by automations, runs of slow deployments on it, and a webhook that it may tell."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from prefect.events.schemas.automations import AutomationCore

from deployments.automations import TAG
from deployments.environment import JOB_ENVIRONMENT
from fishersft.config import CurateConfig
from tasks.guard import LOST, STOPPED
from tests.prefect_server import ROOT, PrefectServer, running_prefect, until

FLOWS = "tests/e2e/slow_flows.py"
POOL, GPU_POOL = "fishersft", "fishersft-gpu"
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@contextmanager
def running_server(home: Path, **settings: str) -> Iterator[PrefectServer]:
    """A server with both pools, and the slow deployments `curate/slow` and `embed-shards/slow`."""
    with running_prefect(home, OMP_NUM_THREADS="1", **settings) as server:
        for pool in (POOL, GPU_POOL):
            server.post("work_pools/", {"name": pool, "type": "process", "concurrency_limit": 2})
        deploy(server, "curate", POOL)
        deploy(server, "embed-shards", GPU_POOL)
        yield server


def deploy(server: PrefectServer, flow: str, pool: str) -> None:
    """Registers the slow form of a flow, with the environment that all deployed runs have."""
    deployment = {
        "name": "slow",
        "flow_id": server.post("flows/", {"name": flow})["id"],
        "entrypoint": f"{FLOWS}:{flow.replace('-', '_')}",
        "work_pool_name": pool,
        "tags": [TAG],
        "pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}],
        "job_variables": {"env": JOB_ENVIRONMENT},
        "enforce_parameter_schema": False,
    }
    server.post("deployments/", deployment)


@contextmanager
def registered(server: PrefectServer, automations: Iterable[AutomationCore]) -> Iterator[None]:
    """Has the server act by these automations, for a while."""
    ids = [server.post("automations/", automation.model_dump(mode="json"))["id"] for automation in automations]
    try:
        yield
    finally:
        for automation in ids:
            server.delete(f"automations/{automation}")


@dataclass
class Run:
    """A flow run on the server."""

    server: PrefectServer
    id: str

    @property
    def state(self) -> dict[str, Any]:
        return self.server.get(f"flow_runs/{self.id}")["state"]

    @property
    def states(self) -> list[str]:
        """The names of all states that it had."""
        return self.server.states(self.id)

    def told(self) -> str:
        """What became of it, for the message of a test that fails."""
        return f"{self.states}\n{self.server.log(self.id)}"

    def set_state(self, kind: str, name: str | None = None) -> None:
        state = {"type": kind, "name": name or kind.capitalize()}
        self.server.post(f"flow_runs/{self.id}/set_state", {"state": state})

    def until_over(self, seconds: float) -> str:
        """Waits until it has ended, and not for being scheduled again; the name of its state."""
        until(lambda: is_over(self.state), "the run ends", seconds, self.told)
        return self.state["name"]


def is_over(state: dict[str, Any]) -> bool:
    return state["type"] in FINAL and state["name"] not in (LOST, STOPPED)


def start_run(server: PrefectServer, config: CurateConfig) -> Run:
    """A run of `curate/slow`; its worker's environment says how slow."""
    return Run(server, server.start_run("curate/slow", {"config": config.model_dump(mode="json")}))


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
