"""Each baseline on a case with a known answer, and the rules that all of them keep."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from scipy.stats import chisquare

import fishersft
from fishersft import baselines
from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks

try:
    import submodlib  # noqa: F401
except ModuleNotFoundError:
    needs_submodlib = pytest.mark.skip(reason="submodlib is not installed: pip install 'fishersft[baselines]'")
else:
    needs_submodlib = pytest.mark.filterwarnings("default")

Baseline = Callable[..., np.ndarray]


def by_embeddings(baseline: Baseline) -> Baseline:
    def call(lengths: np.ndarray, budget: int, **options: Any) -> np.ndarray:
        embeddings = np.random.default_rng(5).normal(size=(len(lengths), 4))
        embeddings[np.asarray(lengths) == 0] = np.nan  # nothing may be asked of empty sentences
        return baseline(embeddings, lengths, budget, **options)

    return call


def by_scores(baseline: Baseline, **fixed: Any) -> Baseline:
    def call(lengths: np.ndarray, budget: int, **options: Any) -> np.ndarray:
        scores = np.random.default_rng(6).normal(size=len(lengths))
        scores[np.asarray(lengths) == 0] = np.nan
        return baseline(scores, lengths, budget, **fixed, **options)

    return call


def by_values(baseline: Baseline, value_of: Callable[[int], Any]) -> Baseline:
    def call(lengths: np.ndarray, budget: int, **options: Any) -> np.ndarray:
        return baseline(np.array([value_of(place) for place in range(len(lengths))]), lengths, budget, **options)

    return call


def by_turns(lengths: np.ndarray, budget: int, **options: Any) -> np.ndarray:
    scores = np.random.default_rng(7).normal(size=(3, len(lengths)))
    scores[:, np.asarray(lengths) == 0] = np.nan
    return baselines.round_robin(scores, lengths, budget, **options)


DRAWN = {
    "uniform": baselines.uniform,
    "density": by_embeddings(baselines.density),
    "clustering": by_embeddings(baselines.clustering),
    "stratified": by_values(baselines.stratified, lambda place: "ab"[place % 3 == 0]),
    "balanced": by_values(baselines.balanced, lambda place: "ab"[place % 3 == 0]),
    "dedup": by_values(baselines.deduplicated, lambda place: place),
    "dsir": by_scores(baselines.dsir),
    "perfect filter": by_values(baselines.perfect_filter, lambda place: True),
}
FIXED = {
    "longest": baselines.longest,
    "sentence design": by_embeddings(baselines.sentence_d_optimal),
    "ask-llm": by_scores(baselines.ask_llm),
    "low perplexity": by_scores(baselines.perplexity, part="low"),
    "middle perplexity": by_scores(baselines.perplexity, part="middle"),
    "high perplexity": by_scores(baselines.perplexity, part="high"),
    "facility location": by_embeddings(baselines.facility_location),
    "round robin": by_turns,
}
ALL = [
    pytest.param(baseline, id=name, marks=[needs_submodlib] if name == "facility location" else [])
    for name, baseline in (DRAWN | FIXED).items()
]


@pytest.mark.parametrize("baseline", ALL)
def test_a_larger_budget_extends_a_smaller_one(baseline: Baseline) -> None:
    lengths = np.random.default_rng(0).integers(1, 30, size=60)
    few, more = baseline(lengths, 10, seed=3), baseline(lengths, 20, seed=3)
    assert few.dtype == np.int64
    assert len(few) == 10 and len(set(more.tolist())) == 20
    assert few.tolist() == more[:10].tolist()


@pytest.mark.parametrize("baseline", ALL)
def test_blocks_without_tokens_are_skipped_and_a_large_budget_takes_the_rest(baseline: Baseline) -> None:
    lengths = torch.tensor([3, 0, 2, 0, 1])
    for unit in ("sentences", "tokens"):
        assert sorted(baseline(lengths, 99, budget_unit=unit).tolist()) == [0, 2, 4]


@pytest.mark.parametrize("baseline", ALL)
def test_a_token_budget_ends_at_the_nearest_total(baseline: Baseline) -> None:
    lengths = np.random.default_rng(1).integers(1, 30, size=60)
    whole = baseline(lengths, 60)
    assert sorted(whole.tolist()) == list(range(60))
    totals = lengths[whole].cumsum()
    for budget in (1, 40, 111, 400, int(lengths.sum()) - 1):
        picks = baseline(lengths, budget, budget_unit="tokens")
        assert picks.tolist() == whole[: len(picks)].tolist()
        assert len(picks) == np.abs(totals - budget).argmin() + 1


@pytest.mark.parametrize("baseline", ALL)
def test_at_least_one_sentence_is_chosen(baseline: Baseline) -> None:
    assert baseline(np.array([50]), 1, budget_unit="tokens").tolist() == [0]


@pytest.mark.parametrize("baseline", ALL)
@pytest.mark.parametrize(
    ("lengths", "budget", "options", "message"),
    [
        ([1], 0, {}, "budget must be a whole number of at least 1, not 0"),
        ([1], 1.5, {}, "budget must"),
        ([1], 1, {"budget_unit": "words"}, "budget_unit must be one of sentences, tokens"),
        ([1], 1, {"seed": -1}, "seed must"),
        ([0, 0], 1, {}, "no sentence holds a token"),
        ([1, -2], 1, {}, "sentence 1 has -2 tokens"),
        ([1.0], 1, {}, "lengths must be whole numbers"),
    ],
)
def test_bad_budgets_and_lengths_are_refused(
    baseline: Baseline, lengths: list[Any], budget: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        baseline(np.array(lengths), budget, **options)


@pytest.mark.parametrize("name", DRAWN)
def test_a_seed_fixes_the_draw(name: str) -> None:
    lengths = np.ones(50, dtype=int)
    assert DRAWN[name](lengths, 10, seed=3).tolist() == DRAWN[name](lengths, 10, seed=3).tolist()
    assert DRAWN[name](lengths, 10, seed=3).tolist() != DRAWN[name](lengths, 10, seed=4).tolist()


def test_bad_scores_and_embeddings_are_refused() -> None:
    lengths = np.array([1, 2, 3])
    with pytest.raises(InputError, match="sentence 1 holds NaN"):
        baselines.ask_llm(np.array([0.1, np.nan, 0.3]), lengths, 1)
    with pytest.raises(InputError, match=r"scores has shape \(2,\)"):
        baselines.ask_llm(np.array([0.1, 0.3]), lengths, 1)
    with pytest.raises(InputError, match="part must be one of low, middle, high"):
        baselines.perplexity(np.ones(3), lengths, 1, part="top")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"shape \(sentences, dim\) with 3 sentences"):
        baselines.clustering(np.ones((2, 4)), lengths, 1)
    with pytest.raises(InputError, match="sentence 2 holds"):
        baselines.density(np.array([[1.0], [2.0], [np.inf]]), lengths, 1)
    with pytest.raises(InputError, match="clusters must"):
        baselines.clustering(np.ones((3, 1)), lengths, 1, clusters=0)
    with pytest.raises(InputError, match=r"strata has shape \(2,\)"):
        baselines.stratified(["a", "b"], lengths, 1)
    with pytest.raises(InputError, match=r"copy_of has shape \(2,\)"):
        baselines.deduplicated(np.array([0, 1]), lengths, 1)
    with pytest.raises(InputError, match=r"good must be bool of shape \(3,\)"):
        baselines.perfect_filter(np.array([0, 1, 1]), lengths, 1)
    with pytest.raises(InputError, match="no good sentence holds a token"):
        baselines.perfect_filter(np.array([True, False]), np.array([0, 5]), 1)
    with pytest.raises(InputError, match=r"shape \(targets, sentences\) with a target, not \(3,\)"):
        baselines.round_robin(np.ones(3), lengths, 1)
    with pytest.raises(InputError, match="sentence 1 holds NaN"):
        baselines.round_robin(np.array([[1, np.nan, 2]]), lengths, 1)
    with pytest.raises(InputError, match="none of the 1 texts of the target holds a word"):
        baselines.ngram_log_ratios(["some words"], [" "])
    with pytest.raises(InputError, match="bandwidth must"):
        baselines.density(np.ones((3, 1)), lengths, 1, bandwidth=0.0)


def test_uniform_strays_from_a_token_budget_without_a_bias() -> None:
    lengths = np.random.default_rng(0).integers(1, 61, size=400)
    strays = [
        int(lengths[baselines.uniform(lengths, 3000, budget_unit="tokens", seed=s)].sum()) - 3000 for s in range(400)
    ]
    assert max(map(abs, strays)) <= 30
    assert abs(np.mean(strays)) < 3 * np.std(strays) / np.sqrt(len(strays))
    assert np.std(strays) > 1


def test_uniform_chooses_every_sentence_as_likely_as_any_other() -> None:
    counts = np.zeros(10)
    for seed in range(2000):
        counts[baselines.uniform(np.ones(10, dtype=int), 3, seed=seed)] += 1
    assert np.abs(counts / 2000 - 0.3).max() < 4 * np.sqrt(0.3 * 0.7 / 2000)


def test_ranks_put_equals_in_the_order_of_the_corpus() -> None:
    assert baselines.longest(np.array([3, 9, 9, 0, 5]), 3).tolist() == [1, 2, 4]
    assert baselines.ask_llm(np.array([0.5, 0.9, 0.5, 0.1]), np.ones(4, int), 3).tolist() == [1, 0, 2]


def test_perplexity_takes_its_part_of_the_ranking() -> None:
    nats, lengths = np.array([5.0, 1.0, 3.0, 2.0, 4.0]), np.ones(5, int)
    assert baselines.perplexity(nats, lengths, 2, part="low").tolist() == [1, 3]
    assert baselines.perplexity(nats, lengths, 3, part="middle").tolist() == [2, 3, 4]
    assert baselines.perplexity(nats, lengths, 2, part="high").tolist() == [0, 4]


def test_the_sentence_design_is_select_on_the_mean_embeddings() -> None:
    rng = np.random.default_rng(2)
    parts = [rng.normal(size=(tokens, 6)) * scale for tokens, scale in zip(rng.integers(0, 9, 40), range(40))]  # noqa: B905
    blocks = TokenBlocks.from_sequence(parts)
    means = baselines.mean_embeddings(blocks)
    filled = np.flatnonzero(blocks.lengths)
    assert 0 < len(filled) < 40
    np.testing.assert_allclose(means[filled], [parts[i].mean(axis=0) for i in filled], rtol=1e-6)
    wanted = fishersft.select([means[i : i + 1] for i in filled], 12, regularization=0.5)
    picks = baselines.sentence_d_optimal(means, blocks.lengths, 12, regularization=0.5)
    assert picks.tolist() == filled[wanted.indices].tolist()


def test_hashed_density_is_the_density_under_the_hashs_kernel() -> None:
    points = np.random.default_rng(3).normal(size=(30, 5)) + 100
    width = 1.7
    apart = np.linalg.norm(points[:, None] - points[None], axis=2) / width
    with np.errstate(divide="ignore", invalid="ignore"):
        kernel = 1 - 2 * ndtr(-1 / apart) - 2 * apart / np.sqrt(2 * np.pi) * (1 - np.exp(-1 / (2 * apart**2)))
    kernel[np.eye(30, dtype=bool)] = 1
    scores = baselines.density_scores(points, bandwidth=width, rows=20_000, rng=np.random.default_rng(0))
    np.testing.assert_allclose(scores, kernel.mean(axis=1), rtol=0.02)


def test_density_draws_by_inverse_propensity() -> None:
    """Copies of two points, so far apart that they never share a hash: densities 8/10 and 2/10, weights 1 and 4."""
    embeddings = np.array([[0.0]] * 8 + [[1e4]] * 2)
    firsts = [
        int(baselines.density(embeddings, np.ones(10, int), 1, bandwidth=1.0, seed=seed)[0] >= 8) for seed in range(400)
    ]
    assert chisquare([sum(firsts), 400 - sum(firsts)], [200, 200]).pvalue > 1e-4  # 2 x 4 against 8 x 1


def test_density_oversamples_scattered_outliers() -> None:
    rng = np.random.default_rng(4)
    embeddings = np.concatenate([rng.normal(size=(900, 16)) * 0.01, rng.normal(size=(100, 16)) * 5])
    shares = [np.mean(baselines.density(embeddings, np.ones(1000, int), 100, seed=seed) >= 900) for seed in range(5)]
    assert min(shares) > 0.6  # they are a tenth of the pool


def test_clustering_takes_from_separated_clusters_in_proportion() -> None:
    rng = np.random.default_rng(7)
    label = rng.permutation(np.repeat(np.arange(4), [40, 30, 20, 10]))
    embeddings = np.eye(4)[label] * 100 + rng.normal(size=(100, 4))
    for seed in range(5):
        picks = baselines.clustering(embeddings, np.ones(100, int), 20, clusters=4, seed=seed)
        assert np.bincount(label[picks[:10]]).tolist() == [4, 3, 2, 1]
        assert np.bincount(label[picks]).tolist() == [8, 6, 4, 2]


def test_clustering_draws_at_random_within_a_cluster() -> None:
    counts = np.zeros(10)
    for seed in range(500):
        counts[baselines.clustering(np.ones((10, 2)), np.ones(10, int), 3, clusters=4, seed=seed)] += 1
    assert np.abs(counts / 500 - 0.3).max() < 4.5 * np.sqrt(0.3 * 0.7 / 500)


def cosines(embeddings: np.ndarray) -> np.ndarray:
    directions = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return (1 + directions @ directions.T) / 2


@needs_submodlib
def test_facility_location_finds_the_middles_of_separate_groups_which_are_the_optimum() -> None:
    middles, sideways = np.eye(6)[:3], 0.2 * np.eye(6)[3:]
    embeddings = np.stack([middles - sideways, middles, middles + sideways], axis=1).reshape(9, 6)
    embeddings *= np.arange(1, 10)[:, None]  # lengths do not count, directions do
    similarity = cosines(embeddings)
    best = max(combinations(range(9), 3), key=lambda chosen: similarity[:, list(chosen)].max(axis=1).sum())
    assert best == (1, 4, 7)
    assert sorted(baselines.facility_location(embeddings, np.ones(9, int), 3).tolist()) == [1, 4, 7]


@needs_submodlib
def test_facility_location_is_the_greedy_maximiser() -> None:
    embeddings = np.random.default_rng(8).normal(size=(40, 5))
    similarity = cosines(embeddings)
    chosen: list[int] = []
    covered = np.zeros(40)
    for _ in range(10):
        chosen.append(int(np.maximum(similarity, covered[:, None]).sum(axis=0).argmax()))
        covered = np.maximum(covered, similarity[:, chosen[-1]])
    assert baselines.facility_location(embeddings, np.ones(40, int), 10).tolist() == chosen


def test_without_submodlib_facility_location_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submodlib", None)
    with pytest.raises(InputError, match=r"pip install 'fishersft\[baselines\]'"):
        baselines.facility_location(np.ones((2, 2)), np.array([1, 1]), 1)
