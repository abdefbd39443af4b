"""Two ways of training compared over seeds and held-out sentences at once: both were drawn, both are uncertain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest, t

from fishersft.errors import InputError
from fishersft.numerics.intervals import wilson_interval

_LEVEL = 0.95
_RESAMPLES = 2000
_LEAST_P = 1e-12
_CHUNK_ELEMENTS = 1 << 22  # resampled values held at once: 32 MiB


class Tested(NamedTuple):
    """A figure with its 95% interval, the p-value of what it is compared with, and its one-sided 95% lower bound.

    The bound is what two one-sided tests go by: a difference under it is excluded at 5%.
    """

    value: float
    low: float
    high: float
    p: float
    bound: float


def mean_difference(
    nll: np.ndarray,
    other: np.ndarray,
    tokens: np.ndarray,
    groups: Sequence[str] | None = None,
    clusters: Sequence[str] | None = None,
) -> Tested:
    """How many nats a token one way of training is above another on held-out text; under 0 it is better.

        D = mean over groups g of D_g,  D_g = sum_{i in g} d_i / sum_{i in g} t_i,  d_i = mean over seeds of nll - other

    Without `groups` there is one, and D is the mean over all tokens; with them it is the macro mean. Seeds (of draws
    and trainings) and sentences are crossed: every model of every seed reads the same sentences. Both vary, so the
    variance of D is that over sentences plus that over seeds,

        sum_c (sum_g sqrt((m_g - 1) / m_g) (D_g(-c) - D_g) / G)^2  +  sum_s (D_s - D)^2 / (k (k - 1))

    The first is the jackknife: D_g(-c) is group g without cluster c, m_g the clusters in it, G the groups. Without
    `clusters` each sentence is one. Groups are taken as given: only the sentences within them were drawn. With one
    group and sentences of equal length the interval of one seed is that of the paired t-test.

    The interval reaches sqrt((t_f a)^2 + (t_{k-1} b)^2) to either side, a^2 and b^2 being the two terms and t the
    quantiles of Student's distribution: what little k seeds say of their luck counts as little, so 2 seeds that
    happen to agree prove nothing, where Satterthwaite's rule would take their agreement at its word. f is the number of
    clusters less 1; with several groups at most Satterthwaite's (sum_g v_g)^2 / sum_g (v_g^2 / (m_g - 1)), v_g being
    what group g by itself adds to a^2. p is the level at which the interval would just reach 0. With one seed only the
    sentences count.

    Args:
        nll, other: (seeds, sentences); summed negative log-likelihoods of each sentence, in nats.
        tokens: (sentences,); the loss positions they are summed over, >= 1.
        groups: (sentences,); the group of each, such as its task. None: all are one group.
        clusters: (sentences,); the cluster of each, such as the play it is from. None: each is its own.

    Raises:
        InputError: shapes that do not fit, fewer than 2 sentences (or clusters) in a group, or values that are not
            finite.

    Cost: seeds times sentences.
    Source: Cochran (1977), Sampling Techniques, chapters 5 (groups) and 6 (ratio estimates and their jackknife); Wolter
        (2007), Introduction to Variance Estimation, chapter 4 (the jackknife over clusters, in strata); Owen (2007),
        "The pigeonhole bootstrap" (the variance of a mean over two crossed samples). The sum of the two reaches is
        this project's; how often it errs is tested.

    Example:
        >>> a, b, tokens = np.array([[1.0, 2.0, 4.0, 4.0]]), np.array([[2.0, 4.0, 5.0, 4.0]]), np.array([1, 2, 1, 1])
        >>> round(mean_difference(a, b, tokens).value, 4)  # 4 nats less over 5 tokens
        -0.8
        >>> round(mean_difference(a, b, tokens, groups=["x", "x", "y", "y"]).value, 4)  # the mean of -3 / 3 and -1 / 2
        -0.75
    """
    differences, counts = _checked(nll, tokens) - _checked(other, tokens), np.asarray(tokens, dtype=np.float64)
    if np.shape(nll) != np.shape(other):
        raise InputError(f"expected figures of the same seeds and sentences, not {np.shape(nll)} and {np.shape(other)}")
    by_seed = mean_nll(differences, counts, groups)
    variance, freedom = _over_sentences(differences.mean(axis=0), counts, groups, clusters)
    return _crossed(float(by_seed.mean()), variance, freedom, by_seed)


def mean_nll(nll: np.ndarray, tokens: np.ndarray, groups: Sequence[str] | None = None) -> np.ndarray:
    """The mean over all tokens of each model's nats, or the mean over groups of theirs.

    Args:
        nll: (models, sentences); summed over each sentence's tokens, in nats.
        tokens: (sentences,), >= 1.
        groups: (sentences,), as of `mean_difference`.

    Returns:
        float64 (models,), nats a token.

    Cost: models times sentences.

    Example:
        >>> mean_nll(np.array([[1.0, 2.0, 6.0]]), np.array([1, 2, 3]), groups=["x", "x", "y"])  # the mean of 1 and 2
        array([1.5])
    """
    if groups is None:
        return np.asarray(nll, dtype=np.float64).sum(axis=1) / np.sum(tokens)
    of = _numbered("groups", groups, len(tokens))
    totals = np.bincount(of, weights=tokens)
    return np.array([(np.bincount(of, weights=row) / totals).mean() for row in nll])


def worst_tenth(nll: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """The tenth of the sentences that a model predicts worst, in nats a token; at least 2, as an interval needs.

    Two trainings are compared on the worst tenth of a third model, the one before training: the same sentences for
    both. On each one's own worst tenth both would be judged by the sentences on which they were unlucky.

    Args:
        nll: (sentences,); summed over each sentence's tokens, in nats.
        tokens: (sentences,), >= 1.

    Returns:
        int64, the places of `sentences // 10` of them in rising order; of equally bad ones the first count.

    Cost: a sort.

    Example:
        >>> worst_tenth(np.array([2.0, 9.0, 4.0, 6.0]), np.array([1, 3, 1, 2])).tolist()  # 2, 3, 4 and 3 nats a token
        [1, 2]
    """
    order = np.argsort(-np.asarray(nll) / np.asarray(tokens), kind="stable")
    return np.sort(order[: max(2, len(order) // 10)])


def worst_difference(nll: np.ndarray, other: np.ndarray, tokens: np.ndarray) -> Tested:
    """How far apart two ways of training are on the sentence that each predicts worst, in nats a token.

    Of two models of one seed the difference of what each has on its own worst sentence; the mean over seeds is told,
    under 0 the first is better. Its variance is that over seeds, and over sentences by bootstrap, of which a maximum
    lets one say little, the models' figures of one sentence staying together; the interval and p are as of
    `mean_difference`.

    Args:
        nll, other: (seeds, sentences), in nats, as of `mean_difference`.
        tokens: (sentences,).

    Raises:
        InputError: as `mean_difference`.

    Cost: 2,000 times seeds times sentences.
    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 6; Owen (2007), as above.
    """
    mine, others = (_checked(array, tokens) / np.asarray(tokens) for array in (nll, other))
    if mine.shape != others.shape:
        raise InputError(f"expected figures of the same seeds and sentences, not {mine.shape} and {others.shape}")
    seeds, sentences = mine.shape
    rng = np.random.default_rng(0)
    resampled = []
    at_once = max(1, _CHUNK_ELEMENTS // (seeds * sentences))
    for start in range(0, _RESAMPLES, at_once):
        drawn = rng.integers(sentences, size=(min(at_once, _RESAMPLES - start), sentences))
        resampled.append((mine[:, drawn].max(axis=-1) - others[:, drawn].max(axis=-1)).mean(axis=0))
    by_seed = mine.max(axis=1) - others.max(axis=1)
    over_sentences = float(np.concatenate(resampled).var(ddof=1))
    return _crossed(float(by_seed.mean()), over_sentences, sentences - 1, by_seed)


def win_share(scores: np.ndarray) -> Tested:
    """How often one way of training was preferred, over seeds and prompts; 0.5 is no preference.

    Seeds and prompts are crossed, so the interval and p are as of `mean_difference`, of the mean score less 0.5: luck
    that a training has with all prompts is no evidence. Neither is narrower, or smaller, than those of prompts alone:
    Wilson's interval and the exact sign test, which hold where all prompts agree.

    Args:
        scores: (seeds, prompts), 1 for a win, 0 for a loss, 0.5 for a tie; NaN where there was nothing to judge.

    Raises:
        InputError: nothing was judged.

    Source: Wilson (1927); Dixon and Mood (1946), "The statistical sign test".

    Example:
        >>> win_share(np.array([[1.0, 1.0, 1.0, 0.5]])).p  # three of three
        0.25
    """
    judged = scores[:, ~np.isnan(scores).all(axis=0)]
    judged = np.where(np.isnan(judged), 0.5, judged)  # the same text for one seed shows no preference
    of_prompts = judged.mean(axis=0)
    rate = wilson_interval(float(of_prompts.sum()), len(of_prompts))
    wins, losses = int((of_prompts > 0.5).sum()), int((of_prompts < 0.5).sum())
    p = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    if len(of_prompts) < 2:
        return Tested(*rate, p, rate.low)
    over_prompts = float(of_prompts.var(ddof=1) / len(of_prompts))
    crossed = _crossed(rate.value - 0.5, over_prompts, len(of_prompts) - 1, judged.mean(axis=1) - 0.5)
    low, high = (min(max(bound + 0.5, 0.0), 1.0) for bound in (crossed.low, crossed.high))
    low = min(low, rate.low)
    return Tested(rate.value, low, max(high, rate.high), max(p, crossed.p), max(low, crossed.bound + 0.5))


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


def _over_sentences(
    nll: np.ndarray, tokens: np.ndarray, groups: Sequence[str] | None, clusters: Sequence[str] | None
) -> tuple[float, float]:
    """The variance of a mean over sentences, see `mean_difference`, and its degrees of freedom.

    Args:
        nll, tokens: (sentences,), float64.
        groups, clusters: (sentences,).
    """
    sentences = len(tokens)
    group = np.zeros(sentences, dtype=np.int64) if groups is None else _numbered("groups", groups, sentences)
    cluster = np.arange(sentences) if clusters is None else _numbered("clusters", clusters, sentences)
    totals = np.bincount(group, weights=tokens)
    errors = nll - (np.bincount(group, weights=nll) / totals)[group] * tokens
    met, place = np.unique(cluster * len(totals) + group, return_inverse=True)
    of_cluster, of_group = np.divmod(met, len(totals))
    clusters_in = np.bincount(of_group)
    if (clusters_in < 2).any():
        raise InputError("an interval needs at least 2 sentences, of 2 clusters, in every group")
    rest = totals[of_group] - np.bincount(place, weights=tokens)
    scale = np.sqrt((clusters_in - 1) / clusters_in) / len(totals)
    summed = np.bincount(place, weights=errors) / rest * scale[of_group]
    variance = float((np.bincount(of_cluster, weights=summed) ** 2).sum())
    by_group = np.bincount(of_group, weights=summed**2)
    freedom = float(cluster.max())
    if len(totals) == 1 or not by_group.any():
        return variance, freedom
    return variance, min(freedom, float(by_group.sum() ** 2 / (by_group**2 / (clusters_in - 1)).sum()))


def _numbered(name: str, labels: Sequence[str], sentences: int) -> np.ndarray:
    """int64 (sentences,): the place of each label among the different ones."""
    if len(labels) != sentences:
        raise InputError(f"expected {name} of {sentences} sentences, not of {len(labels)}")
    return np.unique(np.asarray(labels), return_inverse=True)[1]


def _crossed(value: float, over_items: float, freedom_of_items: float, by_seed: np.ndarray) -> Tested:
    """A mean over crossed items and seeds: its interval, and the level at which that would just reach 0.

    Args:
        value: the mean.
        over_items: its variance over items, with
        freedom_of_items: so many degrees of freedom.
        by_seed: (seeds,), the mean of each seed.
    """
    variances, degrees = [over_items], [freedom_of_items]
    if len(by_seed) > 1:
        variances.append(float(by_seed.var(ddof=1) / len(by_seed)))
        degrees.append(len(by_seed) - 1)
    errors, freedom = np.sqrt(variances), np.array(degrees)

    def reach(p: float) -> float:
        return float(np.sqrt(((t.isf(p / 2, freedom) * errors) ** 2).sum()))

    width = reach(1 - _LEVEL)
    if abs(value) >= reach(_LEAST_P):
        p = 0.0 if value else 1.0
    else:
        p = float(brentq(lambda p: reach(p) - abs(value), _LEAST_P, 1.0))
    return Tested(value, value - width, value + width, p, value - reach(2 * (1 - _LEVEL)))


def _checked(nll: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    array, counts = np.asarray(nll, dtype=np.float64), np.asarray(tokens)
    if array.ndim != 2 or array.shape[1:] != counts.shape or not len(array):
        raise InputError(f"expected figures of shape (seeds, {counts.size} sentences), not {array.shape}")
    if counts.size < 2 or (counts < 1).any():
        raise InputError("an interval needs at least 2 sentences, each with a token")
    if not np.isfinite(array).all():
        raise InputError("a likelihood is NaN or infinite: the training diverged; lower finetune.learning_rate")
    return array
