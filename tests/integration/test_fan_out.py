"""A whole run whose shards are embedded by two workers of a process pool, and one of which a worker is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

from fishersft.config import CurateConfig
from tests.faults.whole_run import contents, small_config, start_run
from tests.prefect_server import ROOT, PrefectServer, until
from tests.processes import kill

pytestmark = pytest.mark.server

POOL = "fishersft-gpu"
# What runs in the parent: the command line, but with shorter patience.
PARENT = """
from fishersft.cli import main
from tasks import sub_runs
sub_runs.POLL_SECONDS, sub_runs.LOST_AFTER = 0.5, 15.0
main()
"""


@pytest.fixture(scope="module")
def server(prefect_server: PrefectServer) -> PrefectServer:
    """Prefect's server with the work pool and two deployments for it: the real one and a slow one."""
    # one thread, as the bytes may differ by how many add up
    server = prefect_server.with_environment(FISHERSFT_HOME=str(ROOT), OMP_NUM_THREADS="1")
    server.post("work_pools/", {"name": POOL, "type": "process", "concurrency_limit": 2})
    deploy = ("prefect", "--no-prompt", "deploy", "--prefect-file", "deployments/prefect.yaml")
    server.module(*deploy, "--name", "gpu", cwd=ROOT)
    slow = "tests/integration/slow_embedding.py:embed_shards"
    server.module(*deploy, slow, "--name", "slow", "--pool", POOL, cwd=ROOT)
    return server


@pytest.fixture
def config(tmp_path: Path, tiny_judge_folder: Path) -> CurateConfig:
    """A small run in some five shards; the model's context is such that a judge's question fits in."""
    config = small_config(tmp_path, tiny_judge_folder, str(tmp_path / "store"))
    return config.model_copy(update={"embedding": config.embedding.model_copy(update={"shard_rows": 12})})


@pytest.fixture
def expected(config: CurateConfig, tmp_path: Path) -> dict[str, str]:
    """The artifacts of the same run in one process, without workers and without Prefect."""
    alone = config.model_copy(update={"store": str(tmp_path / "alone"), "output": str(tmp_path / "alone-output")})
    process = start_run(alone, {}, tmp_path / "said")
    process.join()
    assert process.exitcode == 0
    return artifacts(alone.store)


@pytest.fixture
def workers(server: PrefectServer, tmp_path: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Two workers that do one sub-run at a time, by the names of their logs in `tmp_path`."""
    with (
        server.worker(POOL, tmp_path / "one") as one,
        server.worker(POOL, tmp_path / "other") as other,
    ):
        yield {"one": one, "other": other}


def artifacts(store: str) -> dict[str, str]:
    """Their contents' digests; but a listing is only made of a corpus file that has been there for two seconds."""
    return {key: content for key, content in contents(store).items() if not key.startswith("listing/")}


@contextmanager
def curating(
    server: PrefectServer, config: CurateConfig, deployment: str, log: Path
) -> Iterator[subprocess.Popen[str]]:
    """`fishersft curate` with that deployment; it prints into `log`."""
    settings = config.model_dump(mode="json", exclude_defaults=True)
    settings["embedding"]["deployment"] = deployment
    (log.parent / "run.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-c", PARENT, "curate", str(log.parent / "run.yaml")]
    with log.open("w") as printed:
        run = subprocess.Popen(
            command, cwd=log.parent, env=server.environment, stdout=printed, stderr=subprocess.STDOUT, text=True
        )
    try:
        yield run
    finally:
        kill(run.pid)


def sub_runs(server: PrefectServer, deployment: str) -> list[str]:
    """The states of all sub-runs of that deployment."""
    wanted = {"deployments": {"name": {"any_": [deployment.split("/")[1]]}}}
    return [run["state_name"] for run in server.post("flow_runs/filter", wanted)]


def claiming_processes(store: str) -> set[int]:
    """The processes that embed a shard now, by the claims in the store."""
    found = set[int]()
    for claim in Path(store, ".claims").glob("embeddings-*.json"):
        try:
            found.add(json.loads(claim.read_text())["pid"])
        except FileNotFoundError:
            continue  # released meanwhile
    return found


def family(pid: int) -> set[int]:
    return {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}


def test_two_workers_make_the_artifacts_of_one_process(
    server: PrefectServer, config: CurateConfig, expected: dict[str, str], workers: dict[str, object], tmp_path: Path
) -> None:
    with curating(server, config, "embed-shards/gpu", tmp_path / "log") as run:
        code = run.wait(timeout=180)
    log = (tmp_path / "log").read_text()
    assert code == 0, log
    assert artifacts(config.store) == expected
    assert set(sub_runs(server, "embed-shards/gpu")) == {"Completed"}
    for name in workers:
        assert "submitting" in (tmp_path / name).read_text(), f"{name} had nothing to do"


def test_what_a_killed_worker_leaves_is_embedded_by_the_other_and_the_artifacts_are_the_same(
    server: PrefectServer,
    config: CurateConfig,
    expected: dict[str, str],
    workers: dict[str, subprocess.Popen[bytes]],
    tmp_path: Path,
) -> None:
    with curating(server, config, "embed-shards/slow", tmp_path / "log") as run:
        until(lambda: claiming_processes(config.store), "a worker embeds")
        (busy, *_) = claiming_processes(config.store)
        (victim,) = [worker for worker in workers.values() if busy in family(worker.pid)]
        kill(victim.pid)
        left = [worker for worker in workers.values() if worker is not victim]
        code = run.wait(timeout=240)
    log = (tmp_path / "log").read_text()
    assert code == 0, log
    assert [worker.poll() for worker in left] == [None]
    assert artifacts(config.store) == expected
    states = sub_runs(server, "embed-shards/slow")
    assert states.count("Crashed") == 1 and set(states) == {"Crashed", "Completed"}
    assert "without a sign of life" in log and "the corpus, round 2" in log


def test_a_deployment_that_is_not_there_is_one_clear_error(
    server: PrefectServer, config: CurateConfig, tmp_path: Path
) -> None:
    with curating(server, config, "embed-shards/nowhere", tmp_path / "log") as run:
        assert run.wait(timeout=120) == 2
    log = (tmp_path / "log").read_text()
    assert "error: embedding.deployment is embed-shards/nowhere, but Prefect's server at" in log
    assert "Traceback" not in log
    assert not list(Path(config.store).glob("corpus/*"))
