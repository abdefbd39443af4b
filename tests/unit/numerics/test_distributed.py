from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks, prefix_bound, select
from fishersft.numerics.distributed import select_distributed
from tests.unit.numerics.distributed_cases import cases

ROOT = Path(__file__).parents[3]
WORKER = Path(__file__).with_name("distributed_worker.py")
SECONDS = 150  # after which a group of processes is given up


def run_processes(mode: str, size: int, folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if sys.platform == "linux":
        environment["GLOO_SOCKET_IFNAME"] = "lo"  # whatever the machine's name resolves to
    processes = [
        subprocess.Popen(
            [sys.executable, str(WORKER), mode, str(rank), str(size), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module", params=[1, 2, 4])
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """What groups of 1, 2 and 4 processes made of all cases."""
    folder = tmp_path_factory.mktemp("processes")
    run_processes("select", request.param, folder)
    return folder, request.param


@pytest.mark.parametrize("name", cases())
def test_any_number_of_processes_gives_the_selection_of_one(results: tuple[Path, int], name: str) -> None:
    folder, size = results
    case = cases()[name]
    told: list[tuple[int, int]] = []
    expected = select(
        case.tensors(),
        device="cpu",
        on_progress=lambda progress: told.append((progress.spent, progress.spendable)),
        **case.arguments,
    )
    for rank in range(size):
        came = np.load(folder / f"{name} {rank}.npz")
        assert came["indices"].tolist() == expected.indices.tolist()
        np.testing.assert_allclose(came["gains"], expected.gains, rtol=1e-12)
        assert came["tokens"].tolist() == expected.tokens.tolist()
        assert came["rule"] == expected.rule
        assert (came["exhausted"], came["stopped"]) == (expected.exhausted, expected.stopped)
        assert came["evaluations"] > 0 or not len(expected)
        assert [tuple(step) for step in came["progress"].tolist()] == told


@pytest.mark.parametrize("name", ["sentences", "token budget", "the same blocks in every process"])
def test_the_certificate_is_of_the_whole_pool(results: tuple[Path, int], name: str) -> None:
    folder, size = results
    case = cases()[name]
    pool = TokenBlocks.from_sequence(case.tensors())
    bounds = {float(np.load(folder / f"{name} {rank}.npz")["upper_bound"]) for rank in range(size)}
    assert len(bounds) == 1
    chosen = np.load(folder / f"{name} 0.npz")
    independent = prefix_bound(pool, chosen["indices"], **case.arguments)
    assert chosen["gains"].sum() <= bounds.pop() * (1 + 1e-9) < independent.upper_bound * 1.1


def test_a_failing_process_ends_the_others_too(tmp_path: Path) -> None:
    run_processes("fail", 2, tmp_path)
    told = {path.name: path.read_text() for path in tmp_path.iterdir() if path.name != "store"}
    assert "rank 1 refused its blocks" in told["bad blocks 0"]
    assert "token block 0 holds NaN" in told["bad blocks 1"]
    for rank in range(2):
        assert "dims [3, 6]" in told[f"another dim {rank}"]
        assert "rank 1 was called with other arguments" in told[f"another budget {rank}"]
        assert "nothing to choose from" in told[f"no blocks at all {rank}"]
    assert told["breakdown 1"] == "OSError: the disk is gone"
    assert re.search("timed out|timeout", told["breakdown 0"], re.IGNORECASE)  # gloo words it in more than one way


def test_without_a_process_group_it_says_what_to_do() -> None:
    with pytest.raises(InputError, match="init_process_group"):
        select_distributed([[[1.0]]], budget=1, device="cpu")
