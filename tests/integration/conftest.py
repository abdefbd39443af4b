"""A real Prefect server on loopback, and one whole run of the flow against it with the real model and corpus."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "shakespeare.yaml"
SMALL = (
    "corpus.max_rows=60",
    "corpus.held_out_fraction=0.3",
    "model.max_tokens=24",
    "embedding.shard_rows=16",
    "selection.budget=8",
    "finetune.batch_tokens=128",
    "evaluation.prompts=4",
    "evaluation.prompt_tokens=4",
    "evaluation.new_tokens=6",
)


@dataclass(frozen=True)
class PrefectServer:
    url: str
    environment: dict[str, str]


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A Prefect server with its own SQLite database, for this test session."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("prefect")
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_WAIT_POLICY": "passive",
    }
    log = (home / "server.log").open("w")
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_until_healthy(f"{url}/api/health", process, home / "server.log")
        yield PrefectServer(url, environment)
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(120):
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.ConnectError:
            pass
        time.sleep(0.5)
    pytest.fail(f"the Prefect server did not answer within 60 s:\n{log.read_text()}")


@dataclass(frozen=True)
class CurationRun:
    """A finished run from the command line: what it printed, and where its artifacts and output are."""

    server: PrefectServer
    store: Path
    output: Path
    printed: str


def curate(
    server: PrefectServer, store: Path | str, output: Path | str, *overrides: str
) -> subprocess.CompletedProcess[str]:
    """Runs `fishersft curate` on the small form of the example."""
    settings = [*SMALL, f"store={store}", f"output={output}", *overrides]
    command = [sys.executable, "-m", "fishersft.cli", "curate", str(EXAMPLE)]
    command += [word for setting in settings for word in ("--set", setting)]
    return subprocess.run(command, env=server.environment, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="session")
def first_run(
    prefect_server: PrefectServer, real_store: str, smollm2: object, tmp_path_factory: pytest.TempPathFactory
) -> CurationRun:
    """The first run; the store has the converted model already, for all tests share it."""
    output = tmp_path_factory.mktemp("output")
    done = curate(prefect_server, Path(real_store), output)
    assert done.returncode == 0, done.stdout + done.stderr
    return CurationRun(prefect_server, Path(real_store), output, done.stdout + done.stderr)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium to drive."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs Chromium (Debian's package chromium)")
    return path
