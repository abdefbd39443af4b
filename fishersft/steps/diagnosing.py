"""Whether selecting is likely to pay: a look at a sample of the pool and at the target, before a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fishersft import baselines
from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.numerics import TokenBlocks
from fishersft.numerics.likeness import effective_rank, share_like_target
from fishersft.steps.corpus import load_index, read_corpus, read_target, target_config
from fishersft.steps.embedding import embed_shard
from fishersft.steps.outcome import OnProgress
from fishersft.steps.picks import shard_blocks
from fishersft.steps.row_scores import find_near_copies
from fishersft.steps.tokens import check_rows

MOST_ROWS = 2000
# What docs/results.md has: the pools that selecting was measured on, and what it gained there.
_MOSTLY_ON_TARGET, _MANY_COPIES, _FEW_TARGETS = 0.8, 0.2, 10


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        sampled, rows: how many distinct examples were looked at, and how many there are.
        near_copies: the share of them that nearly repeat another.
        rank, dim: the effective rank of their token embeddings, and the embeddings' dimension.
        target_examples, target_tokens: of the target; 0 without one.
        like_target: the estimated share of the pool that is like the target; None without one.
        budget: in tokens; None where it is in sentences.
        prompts: whether the pool is of prompts without answers.
    """

    sampled: int
    rows: int
    near_copies: float
    rank: float
    dim: int
    target_examples: int
    target_tokens: int
    like_target: float | None
    budget: int | None
    prompts: bool = False

    @property
    def forecast(self) -> list[str]:
        """What the measured experiments let expect, a sentence a line."""
        lines = []
        if self.near_copies >= _MANY_COPIES:
            lines.append(
                f"{self.near_copies:.0%} of the pool are near copies. Remove them first: selection was not shown to "
                "help against them."
            )
        return [*lines, *self._of_target()]

    def _of_target(self) -> list[str]:
        if self.prompts:
            return [
                "A uniform choice will do: these are prompts without answers, which are chosen by information gain; in "
                "the measured experiment that was worse than a uniform choice of as many prompts."
            ]
        if self.like_target is None:
            return [
                "A uniform choice will do: without a target no method was shown to beat it at equal tokens. Name a "
                "target if you have examples of what the model is for."
            ]
        lines = []
        if self.target_examples < _FEW_TARGETS:
            lines.append(f"{self.target_examples} target examples are few: the share above is a rough guess.")
        if self.budget is not None and self.target_tokens >= self.budget:
            lines.append("The target has as many tokens as the budget: train on the target itself.")
        if self.like_target >= _MOSTLY_ON_TARGET:
            lines.append("A uniform choice will do: most of the pool is like the target already.")
        else:
            lines.append(
                "Selecting towards the target should pay: where 20% to 50% of the pool was on target, gradient "
                "matching was 0.09 to 0.18 nats a token better than a uniform choice. If a rule can tell the useful "
                "part, use the rule: a perfect filter gained as much or more."
            )
        return lines


def diagnose(store: Store, config: CurateConfig, on_progress: OnProgress | None = None) -> Diagnosis:
    """Looks at no more than 2,000 rows of the pool, drawn at random, and at the target.

    Args:
        on_progress: called with (shards embedded, in all).

    Raises:
        InputError: a corpus, a row or the model is not fit, as in a run.
    """
    config = _sampling(config)
    corpus = read_corpus(store, config)
    corpora = [(config, corpus.key)]
    if config.target is not None:
        corpora.append((target_config(config), read_target(store, config).key))
    check_rows(store, config, corpora)
    pool, *target = _embedded(store, corpora, on_progress)
    settings, copies = config.selection, find_near_copies(store, config, corpus.key).facts["near_copies"]
    return Diagnosis(
        sampled=len(pool),
        rows=len(pool) + corpus.facts["beyond_max_rows"],
        near_copies=copies / len(pool),
        rank=effective_rank(pool.values.float().numpy()),
        dim=pool.dim,
        target_examples=len(target[0]) if target else 0,
        target_tokens=len(target[0].values) if target else 0,
        like_target=share_like_target(_vectors(pool), _vectors(target[0])) if target else None,
        budget=settings.budget if settings.budget_unit == "tokens" else None,
        prompts=config.corpus.example == "prompt",
    )


def _sampling(config: CurateConfig) -> CurateConfig:
    """The settings that read and embed a sample of the pool, without held-out rows."""
    most = min(MOST_ROWS, config.corpus.max_rows or MOST_ROWS)
    corpus = config.corpus.model_copy(update={"max_rows": most, "held_out_fraction": 0.0})
    selection = config.selection.model_copy(update={"criterion": "information"})
    return config.model_copy(update={"corpus": corpus, "selection": selection})


def _embedded(
    store: Store, corpora: Sequence[tuple[CurateConfig, str]], on_progress: OnProgress | None
) -> list[TokenBlocks]:
    """The token blocks of some corpora, each given by the settings that embed it and its artifact's key."""
    shards = [load_index(store, key).shards for _, key in corpora]
    done, total, embedded = 0, sum(map(len, shards)), list[TokenBlocks]()
    for (config, _), of_corpus in zip(corpora, shards, strict=True):
        blocks = []
        for shard in of_corpus:
            blocks.append(shard_blocks(store, embed_shard(store, config, shard).key, "information"))
            done += 1
            if on_progress:
                on_progress(done, total)
        embedded.append(TokenBlocks.concatenate(blocks))
    return embedded


def _vectors(blocks: TokenBlocks) -> np.ndarray:
    """The mean embedding of each example that has a token."""
    return baselines.mean_embeddings(blocks)[blocks.lengths.numpy() > 0]
