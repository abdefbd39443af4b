"""Choosing by gradient matching: from the gradient sketches of embeddings artifacts to a selection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fishersft import baselines
from fishersft.config import SelectionConfig
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.models.gradients import SKETCH
from fishersft.numerics import Blocks
from fishersft.numerics.prior import absolute_regularization
from fishersft.steps.choosing import gains_of
from fishersft.steps.conditions import Earlier, allowed_lengths, why_nothing_fits
from fishersft.steps.outcome import OnProgress
from fishersft.steps.picks import picked_gradients, shard_gradients


def match_gradients(
    store: Store,
    settings: SelectionConfig,
    embeddings: Sequence[str],
    target: Sequence[str],
    blocks: Blocks,
    earlier: Earlier,
    on_progress: OnProgress | None,
    groups: Sequence[str] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Sentences whose gradients sum up to what the target's do, or the pool's: columns and facts of a selection.

    Args:
        embeddings, target: keys of embeddings artifacts with gradient sketches.
        blocks: of the pool, for information gains.
        earlier: what is not to be chosen.
        groups: the group of each sentence, where there are quotas.

    Raises:
        InputError: nothing may be chosen, a quota is of no group, or the budget is less than the shortest sentence.
    """
    gradients, lengths = _gradients(store, embeddings), blocks.lengths.numpy()
    mean = _target_mean(store, target) if target else gradients.sum(axis=0) / lengths.sum()
    allowed = allowed_lengths(lengths, earlier)
    if reason := why_nothing_fits(settings, allowed):
        raise InputError(reason)
    candidates = int(np.count_nonzero(allowed))
    already = _already_chosen(store, earlier, mean)

    def report(picks: int, tokens: int) -> None:
        if on_progress is not None:
            spent = tokens if settings.budget_unit == "tokens" else picks
            on_progress(min(spent, settings.budget), settings.budget, f"{picks:,} picks")

    indices = baselines.herding(
        gradients,
        allowed,
        settings.budget,
        mean=mean,
        already_chosen=already,
        groups=groups,
        quotas=settings.quotas,
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
    """(sentences, dim), float64; filled shard by shard, for they may take most of the memory."""
    sentences = sum(len(store.get("embeddings", key).facts["lengths"]) for key in embeddings)
    gradients, end = np.empty((sentences, SKETCH)), 0
    for key in embeddings:
        of_shard = shard_gradients(store, key)
        gradients[end : end + len(of_shard)] = of_shard
        end += len(of_shard)
    return gradients


def _target_mean(store: Store, target: Sequence[str]) -> np.ndarray:
    """The mean gradient of a token of the target: (dim,)."""
    tokens = sum(sum(store.get("embeddings", key).facts["lengths"]) for key in target)
    return sum(shard_gradients(store, key).sum(axis=0) for key in target) / tokens


def _already_chosen(store: Store, earlier: Earlier, mean: np.ndarray) -> tuple[np.ndarray, int]:
    """The sum of the gradients of what earlier selections chose, and its tokens."""
    total = np.zeros_like(mean)
    for selection, places in earlier.picks.items():
        total += picked_gradients(store, selection)[places].sum(axis=0)
    return total, 0 if earlier.blocks is None else int(earlier.blocks.lengths.sum())
