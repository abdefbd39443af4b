"""Timing `fishersft.select`, on the CPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.selection.measure import Measured, measure
from benchmarks.selection.pools import first_blocks, synthetic_blocks
from fishersft.numerics import TokenBlocks, select

_WARM_UP_BLOCKS, _WARM_UP_PICKS = 64, 4


def select_from(pool: Callable[[], TokenBlocks], picks: int) -> Measured:
    """Selection from a pool in memory, lambda 1; data and imports are there before the clock starts."""
    blocks = pool()
    return _timed(blocks, first_blocks(blocks, _WARM_UP_BLOCKS), picks)


def select_from_files(files: Sequence[Path], sentences: int, memory: int, picks: int) -> Measured:
    """Selection from files of which at most `memory` bytes are kept in memory.

    The files are dropped from the system's cache first; what it keeps of them during the run is up to the system.
    """
    from fishersft.numerics.stored import StoredBlocks

    stored = StoredBlocks(files, memory)
    if len(stored) != sentences:
        raise SystemExit(f"expected {sentences:,} stored sentences, found {len(stored):,}")
    for file in files:
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return _timed(stored, synthetic_blocks(_WARM_UP_BLOCKS, stored.dim), picks)


def _timed(blocks: Any, warm_up: TokenBlocks, picks: int) -> Measured:
    choose = partial(select, regularization=1.0, device="cpu")
    choose(warm_up, _WARM_UP_PICKS)
    selection, measured = measure(lambda: choose(blocks, picks))
    facts = {"evaluations": selection.evaluations}
    return replace(measured, picks=selection.indices.tolist(), facts=facts)
