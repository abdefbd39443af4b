"""Training on the target sample itself: alone and repeated, or once beside what a method chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fishersft import baselines
from fishersft.config.compare import CompareConfig
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.numerics import Blocks
from fishersft.steps.corpus import load_index, target_config
from fishersft.steps.outcome import Outcome
from fishersft.steps.picks import load_picks
from fishersft.steps.saved_picks import save_picks
from fishersft.steps.tokens import tokenise_shard


@dataclass(frozen=True)
class Target:
    """The keys of a target: its corpus artifact, and the embeddings of each of its shards."""

    corpus: str
    embeddings: list[str]

    def size(self, store: Store, config: CompareConfig) -> int:
        """How much of a budget the target takes, in what `selection.budget_unit` counts."""
        return target_size(store, config, self.corpus)


def target_size(store: Store, config: CompareConfig, target: str) -> int:
    """The loss tokens of a target, or its examples that hold one, as `selection.budget_unit` counts.

    Args:
        target: the target's corpus artifact's key.
    """
    of_target = target_config(config.aiming())
    found = [tokenise_shard(store, of_target, shard).facts for shard in load_index(store, target).shards]
    if config.selection.budget_unit == "tokens":
        return sum(facts["tokens"] for facts in found)
    return sum(facts["rows"] - facts["without_loss"] for facts in found)


def check_target_fits(store: Store, config: CompareConfig, target: str) -> None:
    """Checks that every budget leaves a method something to choose beside the target.

    Raises:
        InputError: the target alone is as large as a budget.
    """
    beside = [method.name for method in config.methods if method.with_target]
    size, unit = target_size(store, config, target), config.selection.budget_unit
    if beside and size >= min(config.budgets):
        raise InputError(
            f"the target has {size:,} {unit}, so a budget of {min(config.budgets):,} leaves {', '.join(beside)} "
            "nothing to choose; raise budgets, or give a smaller target"
        )


def repeat_target(store: Store, config: CompareConfig, budget: int, seed: int, target: Target) -> Outcome:
    """The target's examples again and again until the budget is spent: an artifact of kind "selection"."""
    unit = config.selection.budget_unit

    def pick(blocks: Blocks) -> tuple[np.ndarray, dict[str, Any]]:
        return baselines.repeated(blocks.lengths.numpy(), budget, budget_unit=unit, seed=seed), {}

    params = {"method": "target-alone", "budget": budget, "budget_unit": unit, "seed": seed}
    return save_picks(store, config, target.corpus, target.embeddings, params, pick)


def add_target(
    store: Store, config: CompareConfig, chosen: Outcome, corpus: str, embeddings: Sequence[str], target: Target
) -> Outcome:
    """The target's examples, each once, and then a selection's picks: an artifact of kind "selection".

    Args:
        chosen: the selection.
        corpus, embeddings: the keys of what it chose from, as of `save_selection`.
    """
    pool, sample = load_index(store, corpus), load_index(store, target.corpus)
    rows = [*sample.rows[:-1], *pool.rows[:-1]]  # without the held-out ones, which come last

    def pick(blocks: Blocks) -> tuple[np.ndarray, dict[str, Any]]:
        of_target, *begins = np.cumsum([0, *rows])[len(sample.shards) :].tolist()
        begin_of = dict(zip(pool.shards, [of_target, *begins], strict=False))
        picks = load_picks(store, chosen.key)
        added = [begin_of[shard] + row for shard, row in zip(picks.shards, picks.rows, strict=True)]
        once = np.flatnonzero(blocks.lengths.numpy()[:of_target])
        facts = {"exhausted": True} if chosen.facts.get("exhausted") else {}
        return np.array([*once, *added], dtype=np.int64), facts

    both, shards = [*target.embeddings, *embeddings], [*sample.shards, *pool.shards]
    sources = [f"selection/{chosen.key}", f"corpus/{target.corpus}"]
    by: dict[str, Any] = {"method": "with target"}
    return save_picks(store, config, corpus, both, by, pick, {"chosen": chosen.key}, sources, shards)
