"""Choosing by the methods that compare every example with a target through a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fishersft import baselines
from fishersft.data.store import Store
from fishersft.steps.features import mean_feature, read_features
from fishersft.steps.row_scores import read_scores


@dataclass(frozen=True)
class Evidence:
    """The keys of what such a method goes by.

    Attributes:
        pool: of each checkpoint the pool's artifacts, in the order of its shards. RDS+ and cross-entropy difference
            have one checkpoint. They are of kind "scores" for cross-entropy difference, else "features".
        target: likewise the target's; none for cross-entropy difference.
        warm_up: the "warm-up" that they were made with; None for RDS+.
    """

    pool: list[list[str]]
    target: list[list[str]]
    warm_up: str | None

    def sources(self, method: str) -> list[str]:
        """All of them as "kind/key"."""
        kind = "scores" if method == "cross-entropy-difference" else "features"
        keys = [key for checkpoint in (*self.pool, *self.target) for key in checkpoint]
        return [*(f"{kind}/{key}" for key in keys), *([f"warm-up/{self.warm_up}"] if self.warm_up else [])]

    def inputs(self) -> dict[str, Any]:
        """What a selection's key holds of it."""
        return {"evidence": asdict(self)}


def pick_towards_target(
    store: Store,
    method: str,
    evidence: Evidence,
    nats_before: np.ndarray,
    lengths: np.ndarray,
    budget: int,
    **settings: Any,
) -> np.ndarray:
    """The places in the pool that the method chooses, in its order.

    Args:
        nats_before: (n,), nats per token under the model as it is, for cross-entropy difference.
        settings: `budget_unit` and `seed`, as the baselines have them.
    """
    if method == "cross-entropy-difference":
        after = read_scores(store, evidence.pool[0])
        return baselines.cross_entropy_difference(nats_before, after, lengths, budget, **settings)
    if method == "rds+":
        pool, target = read_features(store, evidence.pool[0]), read_features(store, evidence.target[0])
        return baselines.rds_plus(pool, target, lengths, budget, **settings)
    if method == "less":
        means = [mean_feature(store, keys) for keys in evidence.target]
        return baselines.less(_influences(store, evidence, means), lengths, budget, **settings)
    each = [read_features(store, keys) for keys in evidence.target]
    return baselines.round_robin(_influences(store, evidence, each), lengths, budget, **settings)


def _influences(store: Store, evidence: Evidence, target: Sequence[np.ndarray]) -> np.ndarray:
    """(targets, n), float64; a shard after the other, for the features of all may take most of the memory."""
    assert evidence.warm_up is not None, "LESS has a warm-up"
    rates = store.get("warm-up", evidence.warm_up).facts["learning_rates"]
    by_shard = [
        baselines.influences([read_features(store, [key]) for key in checkpoints], target, rates)
        for checkpoints in zip(*evidence.pool, strict=True)
    ]
    return np.concatenate(by_shard, axis=1)
