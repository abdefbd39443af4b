from __future__ import annotations

import numpy as np
import pytest

from fishersft.errors import InputError
from fishersft.numerics import (
    perplexity_interval,
    perplexity_ratio_interval,
    wilson_interval,
    worst_sentence_interval,
)


def test_wilson_gives_the_textbook_value() -> None:
    """81 of 263: Newcombe (1998), Statistics in Medicine 17, table I, method 3."""
    rate, low, high = wilson_interval(81, 263)
    assert (round(rate, 4), round(low, 4), round(high, 4)) == (0.3080, 0.2553, 0.3662)


def test_wilson_stays_within_0_and_1() -> None:
    assert wilson_interval(0, 20).low == 0.0
    assert round(wilson_interval(0, 20).high, 4) == 0.1611
    assert wilson_interval(20, 20).high == pytest.approx(1.0)
    assert wilson_interval(9.5, 10).value == 0.95


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_impossible_counts(successes: float, trials: int) -> None:
    with pytest.raises(InputError):
        wilson_interval(successes, trials)


def test_perplexity_weighs_sentences_by_their_tokens() -> None:
    value, low, high = perplexity_interval([1.0, 30.0], [1, 10])
    assert value == pytest.approx(np.exp(31 / 11))
    assert (low, high) == (pytest.approx(np.exp(1)), pytest.approx(np.exp(3)))


def test_the_bootstrap_is_seeded_and_chunked_without_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 40, size=50)
    nll = tokens * rng.normal(4, 0.5, size=50)
    first = perplexity_interval(nll, tokens, seed=1)
    assert perplexity_interval(nll, tokens, seed=1) == first
    assert perplexity_interval(nll, tokens, seed=2) != first
    monkeypatch.setattr("fishersft.numerics.intervals._CHUNK_ELEMENTS", 7 * 50)
    assert perplexity_interval(nll, tokens, seed=1) == first


def test_the_perplexity_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        tokens = rng.integers(5, 40, size=100)
        nll = tokens * rng.normal(4, 0.5, size=100)  # independent of length: the true perplexity is exp(4)
        _, low, high = perplexity_interval(nll, tokens, seed=trial)
        covered += low <= np.exp(4) <= high
    assert 0.90 <= covered / 200 <= 0.985


def test_the_ratio_is_paired_so_shared_difficulty_cancels() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 40, size=100)
    nll_b = tokens * rng.normal(4, 1.0, size=100)
    nll_a = nll_b - 0.1 * tokens
    value, low, high = perplexity_ratio_interval(nll_a, nll_b, tokens)
    assert (value, low, high) == pytest.approx((np.exp(-0.1),) * 3)
    single = perplexity_interval(nll_a, tokens)
    assert single.high / single.low > 1.1


@pytest.mark.parametrize(
    ("nll", "tokens", "message"),
    [
        ([1.0], [1], "at least 2 sentences"),
        ([1.0, 2.0], [1], "one figure a sentence"),
        ([1.0, float("inf")], [1, 1], "sentence 1 has a value that is not finite"),
        ([1.0, 0.0], [1, 0], "sentence 1 has no tokens"),
    ],
)
def test_bad_figures_are_refused(nll: list[float], tokens: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        perplexity_interval(nll, tokens)


def test_of_two_sentences_every_resample_is_known() -> None:
    """A quarter of the resamples holds the better one twice, so the interval reaches from one to the other."""
    assert worst_sentence_interval([2.0, 5.0]) == (5.0, 2.0, 5.0)


def test_the_worst_sentence_is_the_largest_figure_of_every_resample() -> None:
    figures = np.random.default_rng(0).normal(size=47)
    drawn = np.random.default_rng(3).multinomial(47, np.full(47, 1 / 47), size=2000)
    by_hand = [np.repeat(figures, counts).max() for counts in drawn]
    value, low, high = worst_sentence_interval(figures, seed=3)
    assert value == figures.max()
    assert (low, high) == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])))


def test_the_interval_of_the_worst_sentence_ends_at_the_worst_seen() -> None:
    figures = np.random.default_rng(0).normal(4, 1, size=200)
    value, low, high = worst_sentence_interval(figures)
    assert low < value == high == figures.max()


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ([1.0], "at least 2 sentences"),
        ([[1.0], [2.0]], "one figure a sentence"),
        ([1.0, float("nan")], "sentence 1 has a value that is not finite"),
    ],
)
def test_worst_sentences_of_bad_figures_are_refused(figures: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        worst_sentence_interval(figures)
