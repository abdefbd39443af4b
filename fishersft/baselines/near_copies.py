"""Deduplication: of near copies one is kept, and the rest of the pool is drawn from at random."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np

from fishersft.baselines.budgets import Array, Budgeted
from fishersft.baselines.random_order import uniform
from fishersft.numerics.greedy import BudgetUnit

THRESHOLD = 0.7
_SHINGLE = 5  # words, or characters
_SHORT = 33  # words; a word changed in the middle of fewer takes the similarity of their word shingles below 0.7
_BANDS, _ROWS = 42, 6  # finds 99.5% of the pairs of similarity 0.7, and 0.3% of those of 0.2
_WORD = re.compile(r"\w+")


def deduplicated(
    copy_of: Array, lengths: Array, budget: int, *, budget_unit: BudgetUnit = "sentences", seed: int = 0
) -> np.ndarray:
    """A uniformly random selection among sentences of which none is a near copy of another.

    Of the sentences with the same entry in `copy_of` the first that holds a token may be chosen.

    Args:
        copy_of: (n,), integers; which sentences are copies of each other, as `near_copies` finds them.
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. More than there are: all sentences that are kept.
        budget_unit: "sentences" or "tokens".
        seed: of the draw, >= 0.

    Returns:
        (k,), int64; positions in `copy_of`, in the order drawn.

    Raises:
        InputError: an argument out of its range, shapes that differ, or no sentence holds a token.

    Cost: O(n log n).
    Source: Lee et al. (2022), "Deduplicating Training Data Makes Language Models Better", arXiv:2107.06499.

    Example:
        >>> sorted(deduplicated(np.array([0, 1, 0, 1]), np.array([5, 0, 5, 5]), 9).tolist())
        [0, 3]
    """
    budgeted = Budgeted.checked(lengths, budget, budget_unit, seed)
    _, first = np.unique(budgeted.labels_of_candidates(copy_of, "copy_of"), return_index=True)
    kept = np.zeros_like(budgeted.lengths)
    kept[budgeted.candidates[first]] = budgeted.lengths[budgeted.candidates[first]]
    return uniform(kept, budget, budget_unit=budget_unit, seed=seed)


def near_copies(texts: Sequence[str]) -> np.ndarray:
    """For each text the first kept text that it nearly repeats, or its own place if it is kept.

        J(a, b) = shingles that both have / shingles that either has >= 0.7

    Shingles are runs of 5 words in lower case. A text of fewer than 33 words, whose every change of a word would
    change most of them, has runs of 5 characters instead, so it is a near copy of other such texts only. Texts are
    taken in order; one is dropped if it is a near copy of one that is kept. Candidates come from MinHash signatures
    (252 permutations in 42 bands of 6 rows, which find 99.5% of the pairs with J = 0.7 and nearly all above), and J
    itself decides. 0.7 and 5 words are what the deduplication of The Stack uses (arXiv:2211.15533); Lee et al. use 0.8.

    Args:
        texts: n of them.

    Returns:
        (n,), int64; places in `texts`, none greater than its own.

    Cost: a hash a shingle and 252 permutations of it, about a millisecond a text; 4 bytes a shingle and 1 KB a text of
        memory.
    Source: Broder (1997) for shingles and MinHash; Leskovec et al., "Mining of Massive Datasets", chapter 3, for the
        bands; computed by the library datasketch.

    Example:
        >>> near_copies(["Rough winds do shake the buds", "Shall I compare thee?", "rough winds do shake the buds!"])
        array([0, 1, 0])
    """
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=_BANDS * _ROWS, params=(_BANDS, _ROWS))
    empty = MinHash(num_perm=_BANDS * _ROWS, hashfunc=int)
    shingles = [_shingles(text) for text in texts]
    copy_of = np.arange(len(texts))
    for place, own in enumerate(shingles):
        signature = empty.copy()
        signature.update_batch(own.tolist())
        found = sorted(kept for kept in index.query(signature) if _jaccard(shingles[kept], own) >= THRESHOLD)
        if found:
            copy_of[place] = found[0]
        else:
            index.insert(place, signature)
    return copy_of


def _shingles(text: str) -> np.ndarray:
    """The hashes of a text's distinct shingles: (shingles,), uint32, rising; one of a text with fewer than 5 units."""
    units: Sequence[str] = _WORD.findall(text.lower())
    between = " "
    if len(units) < _SHORT:
        units, between = " ".join(units) or text, ""
    runs = (between.join(units[place : place + _SHINGLE]) for place in range(max(1, len(units) - _SHINGLE + 1)))
    return np.unique(np.array([zlib.crc32(run.encode("utf-8", "surrogatepass")) for run in runs], dtype=np.uint32))


def _jaccard(one: np.ndarray, other: np.ndarray) -> float:
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / (len(one) + len(other) - both)
