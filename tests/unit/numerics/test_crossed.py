"""Comparisons over seeds and sentences at once: what they find, how wide they are, and how often they err."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from fishersft.errors import InputError
from fishersft.numerics.crossed import holm, mean_difference, mean_nll, win_share, worst_difference, worst_tenth


def drawn(
    rng: np.random.Generator, seeds: int, sentences: int, between_seeds: float, effect: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two methods' likelihoods that differ by `effect` nats a token, by the luck of a seed, and by each sentence's."""
    tokens = rng.integers(5, 40, sentences)
    base = rng.normal(3, 1, sentences)
    of_seed = rng.normal(0, between_seeds, (seeds, 1))
    other = base + rng.normal(0, 0.05, (seeds, sentences))
    mine = base + effect + of_seed + rng.normal(0, 0.2, sentences) + rng.normal(0, 0.05, (seeds, sentences))
    return mine * tokens, other * tokens, tokens


def test_with_one_seed_and_equal_lengths_it_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 1, 30))
    found = mean_difference(a, b, np.ones(30, dtype=int))
    paired = ttest_1samp((a - b)[0], 0)
    assert found.p == pytest.approx(paired.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(paired.confidence_interval()))
    one_sided = ttest_1samp((a - b)[0], 0, alternative="greater").confidence_interval(0.95)
    assert found.bound == pytest.approx(one_sided.low)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("between_seeds", [0.0, 0.05, 0.5])
def test_no_difference_is_called_one_no_more_often_than_it_says(seeds: int, between_seeds: float) -> None:
    rng = np.random.default_rng(1)
    p = np.array([mean_difference(*drawn(rng, seeds, 60, between_seeds)).p for _ in range(1000)])
    assert np.mean(p < 0.05) <= 0.07
    assert np.mean(p < 0.005) <= 0.012


def test_a_real_difference_is_found_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(2)
    found = [mean_difference(*drawn(rng, 3, 200, 0.01, effect=-0.1)) for _ in range(200)]
    assert np.mean([of.p < 0.05 and of.value < 0 for of in found]) > 0.8
    assert np.mean([of.low <= -0.1 <= of.high for of in found]) > 0.9


TASKS = ["add", "add", "sort", "add", "sort", "sort", "chess", "chess", "add", "chess"]
PLAYS = ["a", "b", "a", "a", "c", "b", "c", "a", "c", "b"]


def some_figures(seeds: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    return rng.normal(9, 3, (seeds, 10)), rng.normal(9, 3, (seeds, 10)), rng.integers(1, 9, 10)


def macro(d: np.ndarray, tokens: np.ndarray, groups: list[str], kept: list[bool]) -> dict[str, float]:
    """By group the difference a token, of the sentences that are kept, a sentence at a time."""
    found = {}
    for group in dict.fromkeys(groups):
        of = [i for i in range(len(d)) if kept[i] and groups[i] == group]
        found[group] = sum(d[i] for i in of) / sum(tokens[i] for i in of)
    return found


def test_the_macro_mean_counts_every_group_alike() -> None:
    a, b, tokens = some_figures(3)
    by_group = macro((a - b).mean(axis=0), tokens, TASKS, [True] * 10)
    assert mean_difference(a, b, tokens, TASKS).value == pytest.approx(sum(by_group.values()) / 3)
    assert mean_nll(a, tokens, TASKS) == pytest.approx(
        [np.mean(list(macro(nll, tokens, TASKS, [True] * 10).values())) for nll in a]
    )
    assert mean_nll(a, tokens) == pytest.approx(a.sum(axis=1) / tokens.sum())


@pytest.mark.parametrize("groups", [["all"] * 10, TASKS])
@pytest.mark.parametrize("clusters", [list("abcdefghij"), PLAYS])
def test_the_interval_over_sentences_is_the_jackknifes(groups: list[str], clusters: list[str]) -> None:
    a, b, tokens = some_figures(1)
    d, names = (a - b)[0], sorted(set(groups))
    whole, variance, freedom = macro(d, tokens, groups, [True] * 10), 0.0, 0.0
    members = {g: {c for c, of in zip(clusters, groups, strict=True) if of == g} for g in names}
    of_group = dict.fromkeys(names, 0.0)
    for left_out in sorted(set(clusters)):
        moved = 0.0
        without = macro_or_whole(d, tokens, groups, [c != left_out for c in clusters], whole)
        for g in names:
            m = len(members[g])
            part = math.sqrt((m - 1) / m) * (without[g] - whole[g]) / len(names)
            of_group[g] += part**2
            moved += part
        variance += moved**2
    freedom = len(set(clusters)) - 1
    if len(names) > 1:
        by_satterthwaite = sum(of_group.values()) ** 2 / sum(v**2 / (len(members[g]) - 1) for g, v in of_group.items())
        freedom = min(freedom, by_satterthwaite)
    found = mean_difference(a, b, tokens, groups, clusters)
    reach = t.ppf(0.975, freedom) * math.sqrt(variance)
    assert (found.high - found.value, found.value - found.low) == pytest.approx((reach, reach))
    assert found.p == pytest.approx(2 * t.sf(abs(found.value) / math.sqrt(variance), freedom))


def macro_or_whole(
    d: np.ndarray, tokens: np.ndarray, groups: list[str], kept: list[bool], whole: dict[str, float]
) -> dict[str, float]:
    """`macro`, which a group that loses nothing keeps as it is."""
    return {**whole, **macro(d, tokens, groups, kept)}


def test_without_groups_and_clusters_every_sentence_is_a_cluster_of_one_group() -> None:
    a, b, tokens = some_figures(3)
    assert mean_difference(a, b, tokens) == pytest.approx(
        mean_difference(a, b, tokens, ["all"] * 10, list("abcdefghij"))
    )


@pytest.mark.parametrize(
    ("sentences", "clusters", "shared"), [((60, 20, 8, 5), None, 0.0), ((300,), 8, 0.3), ((60, 40, 20), 12, 0.2)]
)
def test_intervals_of_rare_groups_and_few_clusters_hold_the_truth(
    sentences: tuple[int, ...], clusters: int | None, shared: float
) -> None:
    rng = np.random.default_rng(8)
    groups = np.repeat(np.arange(len(sentences)), sentences)
    effects, spread = rng.normal(0, 0.5, len(sentences)), rng.uniform(0.1, 0.4, len(sentences))
    held = []
    for _ in range(150):
        tokens = rng.integers(3, 30, len(groups))
        cluster = None if clusters is None else rng.integers(clusters, size=len(groups))
        luck = 0.0 if cluster is None else rng.normal(0, shared, clusters)[cluster]
        d = (effects[groups] + luck + rng.normal(0, spread[groups])) * tokens
        found = mean_difference(d[None], np.zeros((1, len(d))), tokens, groups, cluster)
        held.append(found.low <= effects.mean() <= found.high)
    assert np.mean(held) >= 0.89  # 95%, less three standard errors of 150 trials


@pytest.mark.parametrize("clusters", [None, PLAYS])
def test_a_group_of_one_sentence_or_one_cluster_has_no_interval(clusters: list[str] | None) -> None:
    a, b, tokens = some_figures(2)
    groups = ["alone", *["others"] * 9] if clusters is None else clusters
    with pytest.raises(InputError, match="at least 2 sentences, of 2 clusters, in every group"):
        mean_difference(a, b, tokens, groups, clusters)


def test_equal_models_differ_by_nothing_with_p_1() -> None:
    nll = np.arange(1.0, 13.0).reshape(2, 6)
    assert mean_difference(nll, nll, np.ones(6, dtype=int)) == (0.0, 0.0, 0.0, 1.0, 0.0)
    assert worst_difference(nll, nll, np.ones(6, dtype=int)) == (0.0, 0.0, 0.0, 1.0, 0.0)


def test_the_worst_tenth_is_that_of_one_model_by_nats_a_token() -> None:
    rng = np.random.default_rng(3)
    tokens = rng.integers(1, 40, 57)
    nll = rng.normal(4, 1, 57) * tokens
    by_hand = sorted(range(57), key=lambda i: nll[i] / tokens[i])[-5:]
    assert worst_tenth(nll, tokens).tolist() == sorted(by_hand)
    assert worst_tenth(np.array([3.0, 1.0, 9.0, 2.0]), np.array([1, 1, 9, 1])).tolist() == [0, 3]  # never fewer than 2
    assert worst_tenth(np.ones(30), np.ones(30)).tolist() == [0, 1, 2]


def test_trainings_that_differ_by_luck_alone_do_not_differ_on_the_worst_tenth_of_a_third_model() -> None:
    rng = np.random.default_rng(4)
    shown = []
    for _ in range(200):
        tokens = rng.integers(5, 40, 300)
        base = rng.normal(3, 1, 300)
        steady, unsteady = base + rng.normal(0, 0.05, 300), base + rng.normal(0, 0.8, 300)
        places = worst_tenth(base * tokens, tokens)
        mine, other = ((model * tokens)[None, places] for model in (unsteady, steady))
        shown.append(mean_difference(mine, other, tokens[places]).p < 0.05)
    assert np.mean(shown) <= 0.1  # 5%, and three standard errors; on each one's own tenth it is nearly all


def test_the_worst_sentence_is_each_models_own() -> None:
    mine, other = np.array([[1.0, 2.0, 9.0, 3.0]]), np.array([[8.0, 2.0, 1.0, 3.0]])
    assert worst_difference(mine, other, np.ones(4, dtype=int)).value == 1.0  # 9 beside 8
    halves = worst_difference(mine, other, np.full(4, 2))
    assert halves.value == 0.5 and halves.low <= 0.5 <= halves.high


@pytest.mark.parametrize("luck", [0.0, 0.5, 1.0])
def test_luck_that_a_training_has_with_all_prompts_is_no_evidence(luck: float) -> None:
    rng = np.random.default_rng(5)

    def judged() -> np.ndarray:
        liking = luck * rng.normal(size=(3, 1)) + rng.normal(size=100) + rng.normal(size=(3, 100))
        return np.where(liking > 0.3, 1.0, np.where(liking < -0.3, 0.0, 0.5))

    assert np.mean([win_share(judged()).p < 0.05 for _ in range(300)]) <= 0.07


def test_a_win_share_counts_a_prompt_once_however_many_seeds() -> None:
    once = win_share(np.array([[1.0, 1.0, 1.0, 0.5, 0.0]]))
    thrice = win_share(np.repeat([[1.0, 1.0, 1.0, 0.5, 0.0]], 3, axis=0))
    assert once == thrice
    assert once.value == pytest.approx(0.7) and once.p == pytest.approx(0.625)  # 3 of 4 that are not ties


def test_what_was_never_judged_is_left_out_and_what_was_the_same_once_shows_no_preference() -> None:
    nan = np.nan
    with_gaps = np.array([[1.0, nan, 0.0], [1.0, nan, nan]])
    assert win_share(with_gaps) == win_share(np.array([[1.0, 0.0], [1.0, 0.5]]))
    with pytest.raises(InputError):
        win_share(np.array([[nan]]))


def test_holm_keeps_the_order_and_never_passes_1() -> None:
    assert holm([0.2, 0.001, 0.9]) == pytest.approx([0.4, 0.003, 0.9])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("nll", "other", "tokens"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), np.ones(3)),
        (np.ones((2, 3)), np.ones((1, 3)), np.ones(3)),
        (np.full((1, 3), np.nan), np.ones((1, 3)), np.ones(3)),
        (np.ones((1, 1)), np.ones((1, 1)), np.ones(1)),
    ],
)
def test_what_does_not_fit_is_refused(nll: np.ndarray, other: np.ndarray, tokens: np.ndarray) -> None:
    for compare in (mean_difference, worst_difference):
        with pytest.raises(InputError):
            compare(nll, other, tokens)
