"""One process of a group: `python distributed_worker.py select|fail RANK SIZE FOLDER`; writes what came out there."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from fishersft.errors import InputError
from fishersft.numerics.distributed import select_distributed
from fishersft.numerics.greedy import Progress
from tests.unit.numerics.distributed_cases import cases

TIMEOUT = timedelta(seconds=100)
SHORT_TIMEOUT = timedelta(seconds=5)


def main(mode: str, rank: int, size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(str(folder / "store"), size),
        rank=rank,
        world_size=size,
        timeout=TIMEOUT,
    )
    if mode == "select":
        run_all_cases(rank, size, folder)
        dist.destroy_process_group()
    else:
        fail(rank, size, folder)


def run_all_cases(rank: int, size: int, folder: Path) -> None:
    for name, case in cases().items():
        told: list[Progress] = []
        selection = select_distributed(case.part(rank, size), device="cpu", on_progress=told.append, **case.arguments)
        assert selection.certificate is not None
        np.savez(
            folder / f"{name} {rank}.npz",
            indices=selection.indices,
            gains=selection.gains,
            tokens=selection.tokens,
            rule=selection.rule,
            exhausted=selection.exhausted,
            stopped=selection.stopped,
            evaluations=selection.evaluations,
            upper_bound=selection.certificate.upper_bound,
            progress=[(step.spent, step.spendable) for step in told],
        )


def fail(rank: int, size: int, folder: Path) -> None:
    """Errors at the start, of the last rank's making; then one in the middle, after which it lives on."""
    own = cases()["sentences"].part(rank, size)
    last = rank == size - 1
    attempts: dict[str, dict[str, Any]] = {
        "bad blocks": {"local_blocks": [torch.full((1, 6), torch.nan)] if last else own, "budget": 5},
        "another dim": {"local_blocks": [torch.ones(1, 3)] if last else own, "budget": 5},
        "another budget": {"local_blocks": own, "budget": 6 if last else 5},
        "no blocks at all": {"local_blocks": [], "budget": 5},
    }
    for name, arguments in attempts.items():
        try:
            select_distributed(device="cpu", **arguments)
        except InputError as error:
            (folder / f"{name} {rank}").write_text(str(error))

    impatient = dist.new_group(timeout=SHORT_TIMEOUT)

    def break_down(progress: Progress) -> None:
        if last and progress.picks == 3:
            raise OSError("the disk is gone")

    try:
        select_distributed(own, 10, device="cpu", group=impatient, on_progress=break_down)
    except (OSError, RuntimeError) as error:
        (folder / f"breakdown {rank}").write_text(f"{type(error).__name__}: {error}")
    ended = time.monotonic() + 60
    while last and len(list(folder.glob("breakdown *"))) < size and time.monotonic() < ended:
        time.sleep(0.05)  # alive, so that only the timeout can end the others


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
