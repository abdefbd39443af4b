"""Two ways of training compared over seeds and held-out sentences at once: both were drawn, both are uncertain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest, t

from fishersft.errors import InputError
from fishersft.numerics.intervals import Estimate, wilson_interval

_LEVEL = 0.95
_RESAMPLES = 2000
_LEAST_P = 1e-12
_CHUNK_ELEMENTS = 1 << 22  # resampled values held at once: 32 MiB


class Tested(NamedTuple):
    """A figure with its 95% interval, and the p-value of what it is compared with."""

    value: float
    low: float
    high: float
    p: float


def mean_difference(nll: np.ndarray, other: np.ndarray, tokens: np.ndarray) -> Tested:
    """How many nats a token one way of training is above another, over all held-out tokens; under 0 it is better.

        D = sum_i d_i / sum_i t_i,  d_i = mean over seeds of (nll_si - other_si)

    Seeds (of draws and trainings) and sentences are crossed: every model of every seed reads the same sentences. Both
    vary, so the variance of D is that over sentences plus that over seeds,

        n / (n - 1) sum_i (d_i - D t_i)^2 / (sum t)^2  +  sum_s (D_s - D)^2 / (k (k - 1))

    The interval reaches sqrt((t_{n-1} a)^2 + (t_{k-1} b)^2) to either side, a^2 and b^2 being the two terms and t the
    quantiles of Student's distribution: what little k seeds say of their luck counts as little, so 2 seeds that
    happen to agree prove nothing, where Satterthwaite's rule would take their agreement at its word. p is the level
    at which the interval would just reach 0. With one seed only the sentences count.

    Args:
        nll, other: (seeds, sentences); summed negative log-likelihoods of each sentence, in nats.
        tokens: (sentences,); the loss positions they are summed over, >= 1.

    Raises:
        InputError: shapes that do not fit, fewer than 2 sentences, or values that are not finite.

    Cost: seeds times sentences.
    Source: Cochran (1977), Sampling Techniques, chapter 6 (ratio estimates); Owen (2007), "The pigeonhole bootstrap"
        (the variance of a mean over two crossed samples). The sum of the two reaches is this project's; how often it
        errs is tested.

    Example:
        >>> a, b = np.array([[1.0, 2.0, 4.0]]), np.array([[2.0, 4.0, 5.0]])
        >>> round(mean_difference(a, b, np.array([1, 2, 1])).value, 4)  # 4 nats less over 4 tokens
        -1.0
    """
    differences, counts = _checked(nll, tokens) - _checked(other, tokens), np.asarray(tokens, dtype=np.float64)
    if np.shape(nll) != np.shape(other):
        raise InputError(f"expected figures of the same seeds and sentences, not {np.shape(nll)} and {np.shape(other)}")
    seeds, sentences = differences.shape
    total = counts.sum()
    value = float(differences.mean(axis=0).sum() / total)
    errors = differences.mean(axis=0) - value * counts
    variances = [float(sentences / (sentences - 1) * (errors**2).sum() / total**2)]
    degrees = [sentences - 1]
    if seeds > 1:
        variances.append(float((differences.sum(axis=1) / total).var(ddof=1) / seeds))
        degrees.append(seeds - 1)
    return _student(value, variances, degrees)


def tail_difference(nll: np.ndarray, other: np.ndarray, tokens: np.ndarray, share: float) -> Estimate:
    """How far apart two ways of training are on the sentences that each predicts worst, in nats a token.

    Of every model the mean over its worst sentences by nats a token, of all seeds the mean, and of the two the
    difference; under 0 the first is better. The interval is the pigeonhole bootstrap's: sentences and seeds are each
    drawn anew, so that what belongs together stays together. With few seeds it tells less of their luck than there is.

    Args:
        nll, other: (seeds, sentences), in nats, as of `mean_difference`.
        tokens: (sentences,).
        share: of the sentences that count as worst; at least one is taken, so 0 is the worst sentence alone.

    Raises:
        InputError: as `mean_difference`.

    Cost: 2,000 times seeds times sentences.
    Source: Owen (2007), "The pigeonhole bootstrap", Annals of Applied Statistics 1.
    """
    mine, others = (_checked(array, tokens) / np.asarray(tokens) for array in (nll, other))
    if mine.shape != others.shape:
        raise InputError(f"expected figures of the same seeds and sentences, not {mine.shape} and {others.shape}")
    seeds, sentences = mine.shape
    worst = max(1, int(share * sentences))
    rng = np.random.default_rng(0)
    found = []
    at_once = max(1, _CHUNK_ELEMENTS // (seeds * sentences))
    for start in range(0, _RESAMPLES, at_once):
        size = min(at_once, _RESAMPLES - start)
        drawn = rng.integers(sentences, size=(size, sentences))
        of_seeds = rng.integers(seeds, size=(size, seeds))
        by_seed = _worst_mean(mine[:, drawn], worst) - _worst_mean(others[:, drawn], worst)  # (seeds, size)
        found.append(np.take_along_axis(by_seed.T, of_seeds, axis=1).mean(axis=1))
    low, high = np.quantile(np.concatenate(found), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    value = float((_worst_mean(mine, worst) - _worst_mean(others, worst)).mean())
    return Estimate(value, float(low), float(high))


def win_share(scores: np.ndarray) -> Tested:
    """How often one way of training was preferred, over seeds and prompts; 0.5 is no preference.

    A prompt's score is the mean over its seeds, as those are not independent of each other; Wilson's interval is over
    prompts, the p-value that of the exact sign test on those with a score other than 0.5.

    Args:
        scores: (seeds, prompts), 1 for a win, 0 for a loss, 0.5 for a tie; NaN where there was nothing to judge.

    Raises:
        InputError: nothing was judged.

    Source: Wilson (1927); Dixon and Mood (1946), "The statistical sign test".

    Example:
        >>> win_share(np.array([[1.0, 1.0, 1.0, 0.5]])).p  # three of three
        0.25
    """
    judged = ~np.isnan(scores)
    of_prompts = np.where(judged, scores, 0.0).sum(axis=0)[judged.any(axis=0)] / judged.sum(axis=0)[judged.any(axis=0)]
    rate = wilson_interval(float(of_prompts.sum()), len(of_prompts))
    wins, losses = int((of_prompts > 0.5).sum()), int((of_prompts < 0.5).sum())
    p = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    return Tested(*rate, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, so that all of them together err with the level of one.

    The i-th smallest of m is multiplied by m - i (i from 0), none is below the one before it, and none above 1.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure".

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def _student(value: float, variances: list[float], degrees: list[int]) -> Tested:
    """An interval with the half-width sqrt(sum of (t_k se_k)^2), and the level at which it would just reach 0."""
    errors, freedom = np.sqrt(variances), np.array(degrees)

    def reach(p: float) -> float:
        return float(np.sqrt(((t.isf(p / 2, freedom) * errors) ** 2).sum()))

    width = reach(1 - _LEVEL)
    if abs(value) >= reach(_LEAST_P):
        p = 0.0 if value else 1.0
    else:
        p = float(brentq(lambda p: reach(p) - abs(value), _LEAST_P, 1.0))
    return Tested(value, value - width, value + width, p)


def _worst_mean(per_token: np.ndarray, worst: int) -> np.ndarray:
    """The mean of the `worst` largest along the last axis."""
    return np.partition(per_token, -worst, axis=-1)[..., -worst:].mean(axis=-1)


def _checked(nll: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    array, counts = np.asarray(nll, dtype=np.float64), np.asarray(tokens)
    if array.ndim != 2 or array.shape[1:] != counts.shape or not len(array):
        raise InputError(f"expected figures of shape (seeds, {counts.size} sentences), not {array.shape}")
    if counts.size < 2 or (counts < 1).any():
        raise InputError("an interval needs at least 2 sentences, each with a token")
    if not np.isfinite(array).all():
        raise InputError("a likelihood is NaN or infinite: the training diverged; lower finetune.learning_rate")
    return array
