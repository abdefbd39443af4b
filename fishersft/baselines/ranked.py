"""Baselines that rank sentences by one number each. All are deterministic; equals keep the order of the corpus."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from fishersft.baselines.budgets import Array, Budgeted
from fishersft.errors import InputError
from fishersft.numerics.greedy import BudgetUnit

Part = Literal["low", "middle", "high"]


def longest(lengths: Array, budget: int, *, budget_unit: BudgetUnit = "sentences", seed: int = 0) -> np.ndarray:
    """The sentences with the most tokens, longest first.

    It tells whether a method that picks long sentences does more than that, and is a strong baseline itself.

    Args:
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. More than there are: all sentences.
        budget_unit: "sentences" or "tokens".
        seed: has no effect; it is there so that all baselines are called alike.

    Returns:
        (k,), int64; positions in `lengths`, longest first.

    Raises:
        InputError: an argument out of its range, or no sentence holds a token.

    Cost: O(n log n).
    Source: Zhao et al. (2024), "Long Is More for Alignment", arXiv:2402.04833.

    Example:
        >>> longest(np.array([3, 7, 5]), 2).tolist()
        [1, 2]
    """
    budgeted = Budgeted.checked(lengths, budget, budget_unit, seed)
    return budgeted.prefix(budgeted.ranked(-budgeted.lengths[budgeted.candidates]))


def ask_llm(
    scores: Array, lengths: Array, budget: int, *, budget_unit: BudgetUnit = "sentences", seed: int = 0
) -> np.ndarray:
    """Ask-LLM: the sentences that a language model most probably calls informative.

        score_i = P("yes" | is sentence i informative for training?)

    Args:
        scores: (n,), numbers; higher is better. `fishersft.models.asking.yes_probabilities` computes them.
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. More than there are: all sentences.
        budget_unit: "sentences" or "tokens".
        seed: has no effect; it is there so that all baselines are called alike.

    Returns:
        (k,), int64; positions in `scores`, highest score first.

    Raises:
        InputError: an argument out of its range, shapes that differ, a score that is not finite, or no sentence
            holds a token.

    Cost: O(n log n), beside the forward passes for the scores.
    Source: Sachdeva et al. (2024), "How to Train Data-Efficient LLMs", arXiv:2402.09668.

    Example:
        >>> ask_llm(np.array([0.2, 0.9, 0.6]), np.array([5, 5, 5]), 2).tolist()
        [1, 2]
    """
    budgeted = Budgeted.checked(lengths, budget, budget_unit, seed)
    return budgeted.prefix(budgeted.ranked(-budgeted.values_of_candidates(scores, "scores")))


def perplexity(
    nats_per_token: Array,
    lengths: Array,
    budget: int,
    *,
    part: Part,
    budget_unit: BudgetUnit = "sentences",
    seed: int = 0,
) -> np.ndarray:
    """Sentences from the low end, the middle or the high end of the ranking by perplexity.

        perplexity_i = exp(nats_per_token_i), which ranks as nats_per_token_i does

    The middle is the middle of the ranking: sentences come by |rank - (m - 1) / 2| over the m candidates, the
    lower rank first.

    Args:
        nats_per_token: (n,), numbers; the mean negative log-likelihood of each sentence's loss positions.
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. More than there are: all sentences.
        part: "low", "middle" or "high".
        budget_unit: "sentences" or "tokens".
        seed: has no effect; it is there so that all baselines are called alike.

    Returns:
        (k,), int64; positions in `nats_per_token`: lowest, most central or highest first.

    Raises:
        InputError: an argument out of its range, shapes that differ, a value that is not finite, or no sentence
            holds a token.

    Cost: O(n log n), beside the forward passes for the likelihoods.
    Source: Marion et al. (2023), "When Less is More: Investigating Data Pruning for Pretraining LLMs at Scale",
        arXiv:2309.04564 (bottom, middle and top).

    Example:
        >>> perplexity(np.array([3.0, 1.0, 2.0]), np.array([5, 5, 5]), 1, part="middle").tolist()
        [2]
    """
    budgeted = Budgeted.checked(lengths, budget, budget_unit, seed)
    nats = budgeted.values_of_candidates(nats_per_token, "nats_per_token")
    if part not in get_args(Part):
        raise InputError(f"part must be one of {', '.join(get_args(Part))}, not {part!r}")
    if part == "high":
        return budgeted.prefix(budgeted.ranked(-nats))
    rising = budgeted.ranked(nats)
    if part == "low":
        return budgeted.prefix(rising)
    ranks = np.arange(len(rising))
    return budgeted.prefix(rising[np.argsort(np.abs(2 * ranks - (len(rising) - 1)), kind="stable")])


def cross_entropy_difference(
    nats_before: Array,
    nats_after: Array,
    lengths: Array,
    budget: int,
    *,
    budget_unit: BudgetUnit = "sentences",
    seed: int = 0,
) -> np.ndarray:
    """Cross-entropy difference: the sentences that a model of the target finds most likelier than a general one.

        score_i = nats_before_i - nats_after_i

    Args:
        nats_before: (n,), numbers; nats per token of each sentence under the model as it is.
        nats_after: (n,), likewise, after the model was briefly fine-tuned on the target.
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. More than there are: all sentences.
        budget_unit: "sentences" or "tokens".
        seed: has no effect; it is there so that all baselines are called alike.

    Returns:
        (k,), int64; positions in `nats_before`, highest score first.

    Raises:
        InputError: an argument out of its range, shapes that differ, a value that is not finite, or no sentence
            holds a token.

    Cost: O(n log n), beside the fine-tuning and two forward passes over the pool.
    Source: Moore and Lewis (2010), "Intelligent Selection of Language Model Training Data", ACL, whose n-gram models
        of the target and of the pool are here one language model after and before it saw the target.

    Example:
        >>> cross_entropy_difference(np.array([3.0, 5.0]), np.array([2.9, 4.0]), np.array([5, 5]), 1).tolist()
        [1]
    """
    budgeted = Budgeted.checked(lengths, budget, budget_unit, seed)
    before = budgeted.values_of_candidates(nats_before, "nats_before")
    after = budgeted.values_of_candidates(nats_after, "nats_after")
    return budgeted.prefix(budgeted.ranked(after - before))
