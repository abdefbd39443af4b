"""Peers and controls that need no model, each against its paper's formula in plain Python."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from fractions import Fraction
from itertools import permutations
from math import log

import numpy as np
import pytest
from scipy.stats import chisquare

from fishersft import baselines

WORDS = ["shall", "compare", "thee", "summer", "day", "thou", "art", "lovely", "temperate", "rough", "winds", "shake"]


def random_text(rng: np.random.Generator, words: int) -> str:
    return " ".join(rng.choice(WORDS, size=words))


def hashed_ngrams(text: str) -> Counter[int]:
    """The features of the authors' code: unigrams and bigrams of wordpunct tokens, by SHA-256 modulo 10,000."""
    tokens = [token for token in re.split(r"(\w+|[^\w\s]+)|\s+", text.lower()) if token]
    ngrams = tokens + [" ".join(tokens[place : place + 2]) for place in range(len(tokens) - 1)]
    return Counter(int(hashlib.sha256(ngram.encode()).hexdigest(), 16) % 10_000 for ngram in ngrams)


def test_log_ratios_are_those_of_smoothed_bags_of_hashed_ngrams() -> None:
    rng = np.random.default_rng(0)
    pool = [random_text(rng, words) for words in (30, 4, 12)] + ["", "Don't stop -- now!", "Où? “Là-bas”…"]
    target = ["Rough winds do shake!", "don't, don't"]
    of_pool, of_target = (sum(map(hashed_ngrams, texts), Counter()) for texts in (pool, target))
    expected = [
        sum(
            count * log(Fraction(of_target[bucket] + 1, of_target.total() + 10_000))
            - count * log(Fraction(of_pool[bucket] + 1, of_pool.total() + 10_000))
            for bucket, count in hashed_ngrams(text).items()
        )
        for text in pool
    ]
    np.testing.assert_allclose(baselines.ngram_log_ratios(pool, target), expected, rtol=1e-9, atol=1e-12)
    assert expected[3] == 0 and len(set(expected)) == 6


def test_dsir_draws_without_replacement_by_importance_weights() -> None:
    weights = np.array([1.0, 2.0, 5.0])
    drawn = Counter(
        tuple(baselines.dsir(np.log(weights), np.ones(3, int), 3, seed=seed).tolist()) for seed in range(4000)
    )
    orders = list(permutations(range(3)))
    expected = [weights[a] / 8 * weights[b] / (8 - weights[a]) * 4000 for a, b, _ in orders]
    assert chisquare([drawn[order] for order in orders], expected).pvalue > 1e-4


def test_every_prefix_gives_the_strata_their_seats_by_sainte_lague() -> None:
    sizes = {"a": 50, "b": 30, "c": 20}
    strata = np.random.default_rng(1).permutation(np.repeat(list(sizes), list(sizes.values())))
    seats = dict.fromkeys(sizes, 0)
    picks = baselines.stratified(strata, np.ones(100, int), 100, seed=2)
    for picked in range(1, 101):
        quotients = {name: Fraction(size, 2 * seats[name] + 1) for name, size in sizes.items()}
        got = Counter(strata[picks[:picked]].tolist())
        (taken,) = [name for name in sizes if got[name] > seats[name]]
        assert quotients[taken] == max(quotients.values())
        seats[taken] += 1


def test_a_token_budget_gives_the_strata_their_share_of_the_tokens() -> None:
    lengths = np.random.default_rng(2).integers(1, 60, size=900)
    strata = np.repeat(["short", "long"], 450)
    lengths[450:] *= 3
    shares = [
        lengths[picks[picks >= 450]].sum() / lengths[picks].sum()
        for picks in (baselines.stratified(strata, lengths, 4000, budget_unit="tokens", seed=s) for s in range(100))
    ]
    error = np.std(shares) / 10
    assert abs(np.mean(shares) - lengths[450:].sum() / lengths.sum()) < 4 * error
    assert error < 0.01


def test_within_a_stratum_every_sentence_is_as_likely_as_any_other() -> None:
    counts = np.zeros(12)
    for seed in range(1200):
        counts[baselines.stratified([0] * 8 + [1] * 4, np.ones(12, int), 3, seed=seed)] += 1
    assert counts[:8].sum() == 2 * 1200
    assert chisquare(counts[:8]).pvalue > 1e-4 and chisquare(counts[8:]).pvalue > 1e-4


def test_groups_take_turns_until_they_run_out_and_no_group_is_ahead_of_another_in_the_mean() -> None:
    sizes = {"a": 60, "b": 25, "c": 4}
    groups = np.random.default_rng(3).permutation(np.repeat(list(sizes), list(sizes.values())))
    lengths = np.random.default_rng(4).integers(1, 9, size=89)
    firsts: Counter[str] = Counter()
    for seed in range(300):
        picks = baselines.balanced(groups, lengths, 89, seed=seed)
        names = groups[picks]
        for picked in (1, 7, 12, 30, 54, 89):
            got = Counter(names[:picked].tolist())
            unspent = [name for name in sizes if got[name] < sizes[name]]
            assert max(got.values()) - min((got[name] for name in unspent), default=max(got.values())) <= 1
        firsts[names[0]] += 1
        spent = baselines.balanced(groups, lengths, 100, budget_unit="tokens", seed=seed)
        assert spent.tolist() == picks[: len(spent)].tolist() and abs(lengths[spent].sum() - 100) <= 4
    assert chisquare(list(firsts.values())).pvalue > 1e-4 and len(firsts) == 3


def test_within_a_group_every_sentence_is_as_likely_as_any_other() -> None:
    counts = np.zeros(12)
    for seed in range(1200):
        counts[baselines.balanced([0] * 8 + [1] * 4, np.ones(12, int), 4, seed=seed)] += 1
    assert counts[:8].sum() == counts[8:].sum() == 2 * 1200
    assert chisquare(counts[:8]).pvalue > 1e-4 and chisquare(counts[8:]).pvalue > 1e-4


def shingles(text: str) -> set[str]:
    words = re.findall(r"\w+", text.lower())
    units = words if len(words) >= 33 else " ".join(words)
    return {str(units[place : place + 5]) for place in range(max(1, len(units) - 4))}


def kept_by_hand(texts: list[str]) -> list[int]:
    copy_of: list[int] = []
    for place, text in enumerate(texts):
        own = shingles(text)
        similarity = {kept: len(own & shingles(texts[kept])) / len(own | shingles(texts[kept])) for kept in copy_of}
        copy_of.append(min((kept for kept, jaccard in similarity.items() if jaccard >= 0.7), default=place))
    return copy_of


@pytest.mark.parametrize("words", [12, 80])
def test_near_copies_are_those_of_jaccard_similarity_from_0_7_to_a_kept_text(words: int) -> None:
    rng = np.random.default_rng(words)
    texts = [random_text(rng, words) for _ in range(20)]
    for _ in range(40):  # copies of copies: changed at random places, some too much to count as copies
        changed = texts[rng.integers(len(texts))].split()
        for place in rng.choice(words, size=rng.integers(1, 1 + words // 10), replace=False):
            changed[place] = str(rng.choice(WORDS)).upper()
        texts.append(" ".join(changed) + "!")
    expected = kept_by_hand(texts)
    assert baselines.near_copies(texts).tolist() == expected
    assert 10 < sum(kept != place for place, kept in enumerate(expected)) < 40


def test_texts_without_words_are_copies_only_of_the_same() -> None:
    assert baselines.near_copies(["", "→ →", "!!!", "→ →", "x"]).tolist() == [0, 1, 2, 1, 4]


def test_one_of_each_group_of_copies_is_drawn_as_likely_as_any_other() -> None:
    copy_of, lengths = np.array([0, 1, 0, 3, 1, 0]), np.array([0, 2, 2, 2, 2, 2])
    counts = np.zeros(6)
    for seed in range(900):
        counts[baselines.deduplicated(copy_of, lengths, 2, seed=seed)] += 1
    assert np.flatnonzero(counts).tolist() == [1, 2, 3]  # the first of each group with a token
    assert chisquare(counts[1:4]).pvalue > 1e-4


def test_a_perfect_filter_draws_good_sentences_alone_each_as_likely_as_any_other() -> None:
    good = np.arange(9) % 3 == 0
    counts = np.zeros(9)
    for seed in range(900):
        counts[baselines.perfect_filter(good, np.ones(9, int), 2, seed=seed)] += 1
    assert not counts[~good].any() and counts.sum() == 1800
    assert chisquare(counts[good]).pvalue > 1e-4


@pytest.mark.parametrize(("budget", "unit"), [(17, "sentences"), (5, "sentences"), (83, "tokens"), (88, "tokens")])
def test_passes_are_whole_and_in_other_orders_and_the_last_is_cut(budget: int, unit: str) -> None:
    lengths = np.array([4, 9, 0, 7, 1, 6])  # 27 tokens a pass
    picks = baselines.repeated(lengths, budget, budget_unit=unit, seed=1)  # type: ignore[arg-type]
    passes = [picks[begin : begin + 5].tolist() for begin in range(0, len(picks), 5)]
    assert all(sorted(a_pass) == [0, 1, 3, 4, 5] for a_pass in passes[:-1])
    assert len(set(passes[-1])) == len(passes[-1]) and 2 not in passes[-1]
    assert len({tuple(a_pass) for a_pass in passes}) == len(passes)
    if unit == "sentences":
        assert len(picks) == budget
    else:
        totals = lengths[baselines.repeated(lengths, 40, seed=1)].cumsum()
        assert len(picks) == np.abs(totals - budget).argmin() + 1 >= 15
    assert baselines.repeated(lengths, 50, seed=2).tolist() != baselines.repeated(lengths, 50, seed=1).tolist()


@pytest.mark.parametrize("targets", [1, 4, 50])
def test_the_targets_take_turns_each_with_its_best_that_is_left(targets: int) -> None:
    rng = np.random.default_rng(targets)
    scores = rng.integers(0, 12, size=(targets, 40)).astype(float)  # many equals
    lengths = rng.integers(0, 9, size=40)
    left, expected = np.where(lengths > 0, scores, -np.inf), []
    for turn in range(np.count_nonzero(lengths)):
        expected.append(int(np.argmax(left[turn % targets])))  # the first of equals
        left[:, expected[-1]] = -np.inf
    assert baselines.round_robin(scores, lengths, 99).tolist() == expected
    assert baselines.round_robin(scores, lengths, 7).tolist() == expected[:7]
    totals = lengths[expected].cumsum()
    for budget in (1, 30, 77):
        picks = baselines.round_robin(scores, lengths, budget, budget_unit="tokens")
        assert picks.tolist() == expected[: np.abs(totals - budget).argmin() + 1]
