"""DSIR: drawing from the pool so that its words look like those of a target."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np

from fishersft.baselines.budgets import Array, Budgeted
from fishersft.errors import InputError
from fishersft.numerics.greedy import BudgetUnit

BUCKETS = 10_000
_TOKEN = re.compile(r"\w+|[^\w\s]+")


def dsir(
    log_ratios: Array, lengths: Array, budget: int, *, budget_unit: BudgetUnit = "sentences", seed: int = 0
) -> np.ndarray:
    """Importance resampling: sentences drawn one by one, without replacement, by their importance weights.

        order by log_ratios_i + g_i, the largest first, with g_i ~ Gumbel(0, 1)

    which is the order of a draw in which each next sentence comes with probability in proportion to
    exp(log_ratios_i) among those left.

    Args:
        log_ratios: (n,), numbers, nats; log of target over pool probability, as `ngram_log_ratios` computes it.
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. More than there are: all sentences.
        budget_unit: "sentences" or "tokens".
        seed: of the draw, >= 0.

    Returns:
        (k,), int64; positions in `log_ratios`, in the order drawn.

    Raises:
        InputError: an argument out of its range, shapes that differ, a value that is not finite, or no sentence
            holds a token.

    Cost: O(n log n), beside the log ratios.
    Source: Xie et al. (2023), "Data Selection for Language Models via Importance Resampling", arXiv:2302.03169. Its
        filter of short and odd web pages is left out.

    Example:
        >>> dsir(np.array([-90.0, 30.0, -40.0]), np.array([5, 5, 5]), 2).tolist()
        [1, 2]
    """
    budgeted = Budgeted.checked(lengths, budget, budget_unit, seed)
    weights = budgeted.values_of_candidates(log_ratios, "log_ratios")
    drawn = weights + np.random.default_rng(seed).gumbel(size=len(weights))
    return budgeted.prefix(budgeted.ranked(-drawn))


def ngram_log_ratios(texts: Sequence[str], target: Sequence[str]) -> np.ndarray:
    """How much likelier each text of a pool is under the target's bag of n-grams than under the pool's.

        log_ratio_i = sum over b of z_ib (log p_b - log q_b)
        p_b = (1 + n-grams of the target in bucket b) / (10,000 + n-grams of the target),  q_b: the same of the pool

    z_ib counts the unigrams and bigrams of text i that hash to bucket b of 10,000. Tokens are runs of word characters
    or of punctuation, in lower case, as NLTK's wordpunct_tokenize gives them; the hash is SHA-256, as in the authors'
    code. There counts are not smoothed, but 1e-8 is added to each probability. With a handful of target texts most
    buckets are empty, each of which would then count about -9 nats or more against a text: so both sides are smoothed
    by adding one.

    Args:
        texts: of the pool, n of them.
        target: a sample of what the selection is for.

    Returns:
        (n,), float64, nats; 0 for a text without a token.

    Raises:
        InputError: no text of the target holds a token.

    Cost: a hash an n-gram (frequent ones are kept), and 8 bytes an n-gram of memory.
    Source: Xie et al. (2023), arXiv:2302.03169, section 4 and appendix.

    Example:
        >>> ngram_log_ratios(["to be", "import numpy"], ["to be or not to be"]).round(2)  # 3 log 3/2, 3 log 1/2
        array([ 1.21, -2.08])
    """
    buckets = [_buckets(text) for text in texts]
    of_target = _counts(_buckets(text) for text in target)
    if not of_target.any():
        raise InputError(f"none of the {len(target):,} texts of the target holds a word; dsir needs some to aim at")
    log_ratio = _log_probabilities(of_target) - _log_probabilities(_counts(buckets))
    return np.array([log_ratio[of_text].sum() for of_text in buckets])


def _buckets(text: str) -> np.ndarray:
    """The bucket of each unigram and bigram of a text: (n-grams,), int64."""
    tokens = _TOKEN.findall(text.lower())
    bigrams = (f"{first} {second}" for first, second in pairwise(tokens))
    return np.array([_bucket(ngram) for ngram in (*tokens, *bigrams)], dtype=np.int64)


@lru_cache(maxsize=1_000_000)
def _bucket(ngram: str) -> int:
    return int.from_bytes(hashlib.sha256(ngram.encode("utf-8", "surrogatepass")).digest()) % BUCKETS


def _counts(buckets: Iterable[np.ndarray]) -> np.ndarray:
    counts = np.zeros(BUCKETS)
    for of_text in buckets:
        counts += np.bincount(of_text, minlength=BUCKETS)
    return counts


def _log_probabilities(counts: np.ndarray) -> np.ndarray:
    return np.log(counts + 1) - np.log(counts.sum() + BUCKETS)
