"""Choosing by gradient matching: from the gradient sketches of embeddings artifacts to a selection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fishersft import baselines
from fishersft.config import SelectionConfig
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.numerics import Blocks
from fishersft.numerics.prior import absolute_regularization
from fishersft.steps.choosing import gains_of
from fishersft.steps.conditions import Earlier
from fishersft.steps.outcome import OnProgress
from fishersft.steps.picks import shard_gradients


def match_gradients(
    store: Store,
    settings: SelectionConfig,
    embeddings: Sequence[str],
    target: Sequence[str],
    blocks: Blocks,
    earlier: Earlier,
    on_progress: OnProgress | None,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Sentences whose gradients sum up to what the target's do, or the pool's: columns and facts of a selection.

    Args:
        embeddings, target: keys of embeddings artifacts with gradient sketches.
        blocks: of the pool, for information gains.
        earlier: what is not to be chosen.

    Raises:
        InputError: nothing may be chosen, or the budget is less than the shortest sentence.
    """
    gradients, lengths = _gradients(store, embeddings), blocks.lengths.numpy()
    aim, aim_tokens = (_gradients(store, target), _tokens(store, target)) if target else (gradients, lengths)
    mean = aim.sum(axis=0) / aim_tokens.sum()
    allowed = lengths.copy()
    allowed[earlier.indices] = 0
    candidates = int(np.count_nonzero(allowed))
    if not candidates:
        raise InputError(
            "nothing may be chosen: selection.extends or exclude leave no sentence with a token; loosen it"
        )

    def report(picks: int, tokens: int) -> None:
        if on_progress is not None:
            spent = tokens if settings.budget_unit == "tokens" else picks
            on_progress(min(spent, settings.budget), settings.budget, f"{picks:,} picks")

    already = None
    if earlier.gradients is not None and earlier.blocks is not None:
        already = earlier.gradients.sum(axis=0), int(earlier.blocks.lengths.sum())
    indices = baselines.herding(
        gradients,
        allowed,
        settings.budget,
        mean=mean,
        already_chosen=already,
        budget_unit=settings.budget_unit,
        on_pick=report,
    )
    lam = absolute_regularization(blocks, settings.regularization, settings.regularization_unit)
    facts = {
        "criterion": settings.criterion,
        "regularization": lam,
        "rule": "how near the sum of gradients is to its aim's",
        "evaluations": len(indices) * candidates,
        "exhausted": len(indices) == candidates,
        "stopped": False,
        "certificate": None,
        "upper_bound": None,
        "method": None,
        "projection_loss_nats": None,
        "mismatch": baselines.mismatch(gradients, lengths, indices, mean, already),
    }
    return {"index": indices, "gain": gains_of(blocks, indices, lam, earlier.blocks)}, facts


def _gradients(store: Store, embeddings: Sequence[str]) -> np.ndarray:
    """(sentences, dim), float64."""
    return np.concatenate([shard_gradients(store, key) for key in embeddings])


def _tokens(store: Store, embeddings: Sequence[str]) -> np.ndarray:
    return np.concatenate([store.get("embeddings", key).facts["lengths"] for key in embeddings])
