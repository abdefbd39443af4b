"""95% intervals: bootstrap over sentences for perplexity and for the worst sentence, Wilson's for rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from fishersft.errors import InputError

_LEVEL = 0.95
_RESAMPLES = 2000
_CHUNK_ELEMENTS = 1 << 22  # resampled counts held at once: 32 MiB

Column = Sequence[float] | np.ndarray


class Estimate(NamedTuple):
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float


def bootstrap_interval(
    columns: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    seed: int = 0,
    resamples: int = _RESAMPLES,
) -> Estimate:
    """The percentile bootstrap interval of a statistic of sums over sentences.

    Sentences, not tokens, are drawn anew with replacement: the tokens of one sentence are not independent.
    Columns of one sentence stay together: comparing two models on the same sentences is a paired comparison.

    Args:
        columns: (sentences, k), float64; what is summed.
        statistic: maps sums of shape (..., k) to figures of shape (...).
        seed: of the resampling.
        resamples: how many bootstrap samples.

    Returns:
        The statistic of the sums as observed, and the 2.5% and 97.5% quantiles of those resampled. With few
        sentences (under about 30) the interval is too narrow.

    Raises:
        InputError: fewer than 2 sentences, or values that are not finite.

    Cost: resamples * sentences.
    Source: Efron (1979), "Bootstrap methods: another look at the jackknife"; Efron and Tibshirani (1993), An
    Introduction to the Bootstrap, chapter 13.
    """
    _check(columns)
    figures = [statistic(counts @ columns) for counts in _drawn_anew(len(columns), seed, resamples)]
    low, high = _limits(figures)
    return Estimate(float(statistic(columns.sum(axis=0))), low, high)


def perplexity_interval(nll: Column, tokens: Column, *, seed: int = 0) -> Estimate:
    """Perplexity, exp(sum of nll / sum of tokens), with its bootstrap interval over sentences.

    Args:
        nll: (sentences,); each sentence's summed negative log-likelihood, in nats.
        tokens: (sentences,); the loss positions it is summed over, >= 1.
        seed: of the resampling.

    Raises:
        InputError: as `bootstrap_interval`; or lengths differ; or a sentence has no tokens.

    Example:
        >>> perplexity_interval([2.0, 4.0], [1, 2])  # 2 nats per token in each: nothing to be unsure of
        Estimate(value=7.38905609893065, low=7.38905609893065, high=7.38905609893065)
    """
    return bootstrap_interval(_columns(nll, tokens), lambda sums: np.exp(sums[..., 0] / sums[..., 1]), seed=seed)


def perplexity_ratio_interval(nll_a: Column, nll_b: Column, tokens: Column, *, seed: int = 0) -> Estimate:
    """Perplexity of model a over that of model b on the same sentences; under 1 where a is better.

        exp((sum of nll_a - sum of nll_b) / sum of tokens)

    Args:
        nll_a, nll_b: (sentences,); summed negative log-likelihoods, in nats, of the same sentences in order.
        tokens: (sentences,); the loss positions they are summed over, >= 1.
        seed: of the resampling.

    Raises:
        InputError: as `perplexity_interval`.

    Example:
        >>> perplexity_ratio_interval([2.0, 4.0], [1.0, 2.0], [1, 2]).value  # exp(2 - 1)
        2.718281828459045
    """
    return bootstrap_interval(
        _columns(nll_a, nll_b, tokens),
        lambda sums: np.exp((sums[..., 0] - sums[..., 1]) / sums[..., 2]),
        seed=seed,
    )


def worst_sentence_interval(per_token: Column, *, seed: int = 0) -> Estimate:
    """The worst sentence, with its bootstrap interval over sentences, which is good for its lower end only.

    No resample holds a sentence worse than the worst, so the interval never reaches above the value, however much worse
    other sentences would be: of a maximum the bootstrap is not consistent.

    Args:
        per_token: (sentences,); each sentence's mean negative log-likelihood, in nats per token.
        seed: of the resampling.

    Returns:
        In nats per token.

    Raises:
        InputError: as `bootstrap_interval`; or the figures are not one a sentence.

    Cost: resamples * sentences.
    Source: Bickel and Freedman (1981), "Some asymptotic theory for the bootstrap", Annals of Statistics 9, section 6.

    Example:
        >>> worst_sentence_interval([3.0] * 18 + [5.0, 7.0])[::2]  # the worst, and the most that a resample has
        (7.0, 7.0)
    """
    figures = _per_sentence(per_token)
    worst = [np.where(counts, figures, -np.inf).max(axis=1) for counts in _drawn_anew(len(figures), seed, _RESAMPLES)]
    return Estimate(float(figures.max()), *_limits(worst))


def wilson_interval(successes: float, trials: int) -> Estimate:
    """A rate with Wilson's score interval, which stays within 0 and 1 and holds for few trials.

        (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n),  p = successes / n, z = 1.96

    Args:
        successes: from 0 to `trials`; a tie may count one half, which makes the interval a little too wide.
        trials: n >= 1.

    Raises:
        InputError: no trials, or successes out of range.

    Source: Wilson (1927), "Probable inference, the law of succession, and statistical inference", JASA 22.

    Example:
        >>> [round(figure, 4) for figure in wilson_interval(81, 263)]
        [0.308, 0.2553, 0.3662]
    """
    if trials < 1:
        raise InputError(f"a rate needs at least 1 trial, not {trials}")
    if not 0 <= successes <= trials:
        raise InputError(f"successes must be from 0 to the {trials} trials, not {successes}")
    z = float(norm.ppf((1 + _LEVEL) / 2))
    rate = successes / trials
    centre = rate + z * z / (2 * trials)
    reach = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return Estimate(rate, max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale))


def _drawn_anew(sentences: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each sentence is in each bootstrap sample: int64 (some of the resamples, sentences) at a time."""
    rng = np.random.default_rng(seed)
    equal_shares = np.full(sentences, 1 / sentences)
    chunk = max(1, _CHUNK_ELEMENTS // sentences)
    for start in range(0, resamples, chunk):
        yield rng.multinomial(sentences, equal_shares, size=min(chunk, resamples - start))


def _limits(figures: Sequence[np.ndarray]) -> tuple[float, float]:
    low, high = np.quantile(np.concatenate(figures), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def _per_sentence(figures: Column) -> np.ndarray:
    array = np.asarray(figures, dtype=np.float64)
    if array.ndim != 1:
        raise InputError(f"expected one figure a sentence; the shape is {array.shape}")
    _check(array[:, None])
    return array


def _check(columns: np.ndarray) -> None:
    """Columns of (sentences, k) that an interval can be made of."""
    if len(columns) < 2:
        raise InputError(f"an interval needs at least 2 sentences, not {len(columns)}")
    finite = np.isfinite(columns).all(axis=1)
    if not finite.all():
        raise InputError(f"sentence {int(finite.argmin())} has a value that is not finite: {columns[finite.argmin()]}")


def _columns(*columns: Column) -> np.ndarray:
    """Per-sentence figures side by side; the last column counts tokens."""
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    if any(array.shape != (arrays[-1].size,) for array in arrays):
        raise InputError(f"expected one figure a sentence; the shapes are {[array.shape for array in arrays]}")
    if bool((arrays[-1] < 1).any()):
        raise InputError(f"sentence {int((arrays[-1] < 1).argmax())} has no tokens; leave it out")
    return np.stack(arrays, axis=1)
