"""Saving what a method of a comparison chose, with the information gain of each pick beside those before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.numerics import Blocks
from fishersft.numerics.prior import absolute_regularization
from fishersft.steps.choosing import gains_of
from fishersft.steps.conditions import Earlier
from fishersft.steps.outcome import Outcome
from fishersft.steps.selection import save_selection

BASELINE_VERSION = 1


def save_picks(
    store: Store,
    config: CurateConfig,
    corpus: str,
    embeddings: Sequence[str],
    params: dict[str, Any],
    pick: Callable[[Blocks], tuple[np.ndarray, dict[str, Any]]],
    further_inputs: dict[str, Any] | None = None,
    sources: Sequence[str] = (),
    shards: Sequence[str] | None = None,
) -> Outcome:
    """The picks as an artifact of kind "selection".

    Args:
        corpus, embeddings, further_inputs, sources, shards: as of `save_selection`.
        params: all settings that change the picks.
        pick: gives the places of the picks in the blocks of `embeddings`, in order, and facts to save with them.
    """
    settings = config.selection
    lam_is = {"regularization": settings.regularization, "regularization_unit": settings.regularization_unit}

    def write(blocks: Blocks, earlier: Earlier, _: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        indices, facts = pick(blocks)
        lam = absolute_regularization(blocks, settings.regularization, settings.regularization_unit)
        return {"index": indices, "gain": gains_of(blocks, indices, lam, earlier.blocks)}, facts

    by, read = {**params, **lam_is}, further_inputs or {}
    return save_selection(store, config, corpus, embeddings, BASELINE_VERSION, by, read, write, sources, shards)
