"""A real Prefect server on loopback, with its own SQLite database, and what tests ask its API."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from tests.processes import kill

ROOT = Path(__file__).parents[1]
ANSWERS_WITHIN = 100.0  # seconds: on SQLite all of the server may stand still for the minute that it waits for a lock
BUSY_FOR = 240.0  # seconds that it may say that its database is busy


@dataclass
class PrefectServer:
    """A server and the environment of what talks to it; `home` is the folder of its database and its log."""

    home: Path
    port: int
    environment: dict[str, str]
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        return f"{self.url}/api"

    def with_environment(self, **added: str) -> PrefectServer:
        """The same server, for processes that are told more."""
        return replace(self, environment={**self.environment, **added})

    def start(self) -> None:
        """Starts it; it answers when this returns."""
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        with (self.home / "server.log").open("a") as log:
            self._process = process = subprocess.Popen(
                command, env=self.environment, cwd=self.home, stdout=log, stderr=subprocess.STDOUT
            )

        def answers() -> bool:
            assert process.poll() is None, (self.home / "server.log").read_text()
            try:
                return httpx.get(f"{self.api}/health", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        until(answers, "the server answers")

    def stop(self) -> None:
        """Ends it as a power cut would."""
        if self._process is not None:
            kill(self._process.pid)

    def get(self, path: str) -> Any:
        """What the API answers."""
        return self._ask("GET", path)

    def post(self, path: str, body: Any = None) -> Any:
        """What the API answers; None where it has nothing to say."""
        return self._ask("POST", path, {} if body is None else body)

    def patch(self, path: str, body: Any) -> None:
        self._ask("PATCH", path, body)

    def delete(self, path: str) -> None:
        self._ask("DELETE", path)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer of the API, asked again while its database is busy, as Prefect's own client does."""
        changes_nothing = method == "GET" or path.endswith(("/filter", "/count"))
        deadline = time.monotonic() + BUSY_FOR
        while True:
            try:
                answer = httpx.request(method, f"{self.api}/{path}", json=body, timeout=ANSWERS_WITHIN)
            except httpx.ReadTimeout:
                if not changes_nothing or time.monotonic() > deadline:
                    raise
                continue
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def deployment(self, name: str) -> dict[str, Any]:
        """A deployment such as curate/manual."""
        found: dict[str, Any] = self.get(f"deployments/name/{name}")
        return found

    def start_run(self, deployment: str, parameters: dict[str, Any]) -> str:
        """Starts a run of a deployment as the UI does; its id."""
        identifier = self.deployment(deployment)["id"]
        run = self.post(f"deployments/{identifier}/create_flow_run", {"parameters": parameters})
        return str(run["id"])

    def state(self, run: str) -> str:
        """The name of a run's state, such as Completed."""
        return str(self.get(f"flow_runs/{run}")["state_name"])

    def states(self, run: str) -> list[str]:
        """The names of all states that a run was in, in order."""
        return [state["name"] for state in self.get(f"flow_run_states/?flow_run_id={run}")]

    def artifacts(self, run: str) -> list[dict[str, Any]]:
        """What a run left for the UI."""
        found: list[dict[str, Any]] = self.post("artifacts/filter", {"flow_runs": {"id": {"any_": [run]}}})
        return found

    def log(self, run: str) -> str:
        """What a run logged, a line each."""
        wanted = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"}
        return "\n".join(line["message"] for line in self.post("logs/filter", wanted))

    def module(self, *words: str, cwd: Path | None = None) -> str:
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

    @contextmanager
    def worker(self, pool: str, log: Path, limit: int = 1, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """A worker of that pool, online, that prints into `log`; it is killed at the end, with all that it started."""
        name = "-".join(log.parts[-2:])
        options = ("--pool", pool, "--name", name, "--limit", str(limit))
        command = [sys.executable, "-m", "prefect", "worker", "start", *options]
        with log.open("w") as printed:
            worker = subprocess.Popen(
                command,
                cwd=log.parent,
                env={**self.environment, **environment},
                stdout=printed,
                stderr=subprocess.STDOUT,
            )

        def online() -> bool:
            found = self.post(f"work_pools/{pool}/workers/filter")
            return name in {worker["name"] for worker in found if worker["status"] == "ONLINE"}

        try:
            until(online, "the worker is online", told=log.read_text)
            yield worker
        finally:
            kill(worker.pid)


@contextmanager
def running_prefect(home: Path, **environment: str) -> Iterator[PrefectServer]:
    """A server on a free port, for what is told `environment` too; it is killed at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    own = {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # SQLite on a busy machine
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_WAIT_POLICY": "passive",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    server = PrefectServer(home, port, {**os.environ, **own, **environment})
    try:
        server.start()
        yield server
    finally:
        server.stop()


def until(
    happened: Callable[[], object], what: str, seconds: float = 240, told: Callable[[], str] = lambda: ""
) -> None:
    """Waits for something that has to happen within so many seconds; a failing test says what was `told`."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n{told()}"
        time.sleep(0.2)
