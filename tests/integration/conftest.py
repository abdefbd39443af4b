"""A real Prefect server on loopback, and one whole run of the flow against it with the real model and corpus."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.prefect_server import ROOT, PrefectServer, running_prefect

EXAMPLE = ROOT / "examples" / "shakespeare.yaml"
SMALL = (
    "corpus.max_rows=60",
    "corpus.held_out_fraction=0.3",
    "model.max_tokens=24",
    "embedding.shard_rows=16",
    "selection.budget=8 examples",
    "finetune.batch_tokens=128",
    "evaluation.prompts=4",
    "evaluation.prompt_tokens=4",
    "evaluation.new_tokens=6",
)


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A Prefect server for this test session."""
    with running_prefect(tmp_path_factory.mktemp("prefect")) as server:
        yield server


@dataclass(frozen=True)
class CurationRun:
    """A finished run from the command line: what it printed, and where its artifacts and output are."""

    server: PrefectServer
    store: Path
    output: Path
    printed: str

    @property
    def flow_run(self) -> dict[str, Any]:
        """What the server knows of it."""
        name = {"flow_runs": {"name": {"any_": ["curate-shakespeare-8-sentences"]}}}
        (run,) = self.server.post("flow_runs/filter", {**name, "sort": "START_TIME_ASC", "limit": 1})
        return run


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
