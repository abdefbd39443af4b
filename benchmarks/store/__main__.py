"""Throughput of the store beside s3fs alone, with the same bytes and the same server: `make bench-store`.

python -m benchmarks.store --mebibytes 64 --rounds 1     # small, in half a minute: does it work?
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.selection.measure import Measured, in_fresh_process
from benchmarks.store.transfers import fetch, publish, raw_get, raw_put
from tests.seaweed import running_s3

RATIO_TARGET, MEMORY_TARGET = 0.8, 1 << 30


def main(
    mebibytes: Annotated[int, typer.Option(help="Size of the artifact's one file.")] = 512,
    rounds: Annotated[int, typer.Option(help="How often each is timed; the median counts.")] = 5,
    output: Annotated[Path, typer.Option(help="The table as text.")] = Path("build/bench-store.txt"),
) -> None:
    """Time Store.publish and Store.fetch beside put_file and get_file of s3fs, in turns, and print the table."""
    with tempfile.TemporaryDirectory() as scratch, running_s3(Path(tempfile.mkdtemp(dir=scratch))) as server:
        os.environ.update(server.environment, XDG_CACHE_HOME=f"{scratch}/cache")
        server.filesystem().mkdir("bench")
        source = Path(scratch, "blocks")
        with source.open("wb") as file:
            for _ in range(mebibytes):
                file.write(os.urandom(1 << 20))
        jobs: list[Callable[[Path, int], Measured]] = [raw_put, publish, raw_get, fetch]
        turns = [[in_fresh_process(job, source, number) for job in jobs] for number in range(rounds)]
    console = Console(record=True, width=120)
    console.print(_table(mebibytes, rounds, [list(runs) for runs in zip(*turns, strict=True)]))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(console.export_text(), encoding="utf-8")


def _table(mebibytes: int, rounds: int, runs: list[list[Measured]]) -> Table:
    table = Table(title=f"{mebibytes} MiB, SeaweedFS on loopback, {os.cpu_count()} cores, median of {rounds}")
    for column in ("", "s3fs, MiB/s", "store, MiB/s", "ratio (target 0.80)", "store's peak memory (target < 1 GiB)"):
        table.add_column(column, justify="right")
    for name, raw, ours in (("up", runs[0], runs[1]), ("down", runs[2], runs[3])):
        rates = [mebibytes / statistics.median(run.seconds for run in some) for some in (raw, ours)]
        peak = max(run.memory or 0 for run in ours)
        table.add_row(
            name,
            *(f"{rate:.0f}" for rate in rates),
            f"{rates[1] / rates[0]:.2f} {_met(rates[1] / rates[0] >= RATIO_TARGET)}",
            f"{peak / 2**20:.0f} MiB {_met(peak < MEMORY_TARGET)}",
        )
    return table


def _met(target: bool) -> str:
    return "met" if target else "missed"


if __name__ == "__main__":
    typer.run(main)
