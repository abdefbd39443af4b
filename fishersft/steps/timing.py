"""Timing the forms of the greedy on a corpus's embeddings; no artifact, as each machine has its own figures."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from fishersft.config.speed import SpeedConfig
from fishersft.data.block_files import EMBEDDINGS_FILE, read_blocks
from fishersft.data.store import Store, put_folder
from fishersft.experiments.speed import Timing, timings
from fishersft.numerics import TokenBlocks
from fishersft.numerics.prior import absolute_regularization
from fishersft.numerics.selection import Algorithm
from fishersft.reporting.speed import write_speed
from fishersft.steps.publishing import output_folder


def time_algorithm(store: Store, config: SpeedConfig, embeddings: Sequence[str], algorithm: Algorithm) -> list[Timing]:
    """The seconds of an algorithm for every budget, with all blocks in memory.

    Args:
        embeddings: the keys of the pool's embeddings.
    """
    files = [store.fetch("embeddings", key) / EMBEDDINGS_FILE for key in embeddings]
    blocks = TokenBlocks.concatenate([read_blocks(file) for file in files])
    lam = absolute_regularization(blocks, config.selection.regularization, config.selection.regularization_unit)
    return timings(blocks, algorithm, config.budgets, lam, config.seconds)


def publish_speed(config: SpeedConfig, found: Sequence[Timing]) -> None:
    """Writes the table to `speed/` in the config's output."""
    with tempfile.TemporaryDirectory() as scratch:
        write_speed(found, Path(scratch))
        put_folder(Path(scratch), output_folder(config, "speed"))
