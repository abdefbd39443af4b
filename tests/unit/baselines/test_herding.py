"""Herding: the definition in plain numpy, what it is for, and what it does not hang on."""

from __future__ import annotations

import numpy as np
import pytest

from fishersft.baselines import herding, mismatch, uniform
from fishersft.errors import InputError
from fishersft.numerics.greedy import BudgetUnit


def pool(seed: int, n: int = 60, dim: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, size=n)
    return rng.normal(size=(n, dim)) * np.sqrt(lengths)[:, None] + 0.5 * lengths[:, None], lengths


def by_definition(
    features: np.ndarray, lengths: np.ndarray, budget: int, kinds: str = "", most: dict[str, int] | None = None
) -> list[int]:
    mu, picks = features.sum(axis=0) / lengths.sum(), list[int]()

    def may_be_chosen(i: int) -> bool:
        full = most is not None and sum(kinds[pick] == kinds[i] for pick in picks) >= most.get(kinds[i], len(kinds))
        return i not in picks and not full

    while len(picks) < budget and any(map(may_be_chosen, range(len(lengths)))):

        def astray(i: int) -> float:
            chosen = [*picks, i]
            tokens = lengths[chosen].sum()
            return float(((features[chosen].sum(axis=0) - tokens * mu) ** 2).sum() / tokens)

        picks.append(min(filter(may_be_chosen, range(len(lengths))), key=astray))
    return picks


@pytest.mark.parametrize("seed", range(3))
def test_it_is_its_definition(seed: int) -> None:
    features, lengths = pool(seed)
    assert herding(features, lengths, 12).tolist() == by_definition(features, lengths, 12)


@pytest.mark.parametrize("quotas", [{"a": 2}, {"a": 0, "b": 3}, {"a": 1, "b": 1, "c": 2}])
def test_quotas_bind_every_pick_and_may_end_it_before_the_budget(quotas: dict[str, int]) -> None:
    features, lengths = pool(0)
    kinds = "".join("abc"[i % 3] for i in range(60))
    free = herding(features, lengths, 12).tolist()
    chosen = herding(features, lengths, 12, groups=list(kinds), quotas=quotas).tolist()
    assert chosen == by_definition(features, lengths, 12, kinds, quotas) != free
    assert all(sum(kinds[pick] == kind for pick in chosen) <= most for kind, most in quotas.items())
    in_tokens = herding(features, lengths, 40, groups=list(kinds), quotas=quotas, budget_unit="tokens").tolist()
    longer, shorter = sorted([chosen, in_tokens], key=len, reverse=True)
    assert longer[: len(shorter)] == shorter


def test_quotas_that_leave_nothing_or_name_no_group_are_refused() -> None:
    features, lengths = pool(0)
    with pytest.raises(InputError, match="quotas leave no sentence that holds a token; loosen them"):
        herding(features, lengths, 3, groups=["a"] * 60, quotas={"a": 0})
    with pytest.raises(InputError, match="there is a quota for group 'b', but no block is of it"):
        herding(features, lengths, 3, groups=["a"] * 60, quotas={"b": 1})


@pytest.mark.parametrize("seed", range(5))
def test_its_choice_strays_far_less_than_one_by_chance_which_strays_by_about_one(seed: int) -> None:
    features, lengths = pool(seed, n=400)
    mean = features.sum(axis=0) / lengths.sum()
    chosen = herding(features, lengths, 200, budget_unit="tokens")
    assert mismatch(features, lengths, chosen, mean) < 0.05
    drawn = [uniform(lengths, 200, budget_unit="tokens", seed=draw) for draw in range(30)]
    assert 0.6 < np.mean([mismatch(features, lengths, of, mean) for of in drawn]) < 1.4
    everything = np.arange(400)
    assert mismatch(features, lengths, everything, mean) == pytest.approx(0, abs=1e-12)


def test_another_aim_draws_the_choice_towards_it() -> None:
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(3, 1, (50, 4)), rng.normal(-3, 1, (50, 4))])
    chosen = herding(features, np.ones(100, dtype=int), 20, mean=np.full(4, 3.0))
    assert (chosen < 50).all()


def test_sentences_without_tokens_are_passed_over_and_equals_go_by_place() -> None:
    features = np.array([[1.0], [2.0], [2.0], [3.0]])
    assert herding(features, np.array([0, 1, 1, 1]), 2, mean=np.array([2.0])).tolist() == [1, 2]


def test_picks_are_told_as_they_are_made() -> None:
    features, lengths = pool(0)
    told = list[tuple[int, int]]()
    chosen = herding(features, lengths, 5, on_pick=lambda picks, tokens: told.append((picks, tokens)))
    assert told == [(k + 1, int(lengths[chosen[: k + 1]].sum())) for k in range(5)]


@pytest.mark.parametrize("wrong", [(np.zeros(3), 1), (np.full(8, np.nan), 1), (np.zeros(8), -1)])
def test_what_was_chosen_before_must_fit(wrong: tuple[np.ndarray, int]) -> None:
    features, lengths = pool(0)
    with pytest.raises(InputError, match="already_chosen must be 8 finite numbers"):
        herding(features, lengths, 5, already_chosen=wrong)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e101])
def test_a_feature_that_is_not_finite_is_named(value: float) -> None:
    features, lengths = pool(0)
    features[7, 2] = value
    with pytest.raises(InputError, match="of sentence 7 holds NaN, infinity"):
        herding(features, lengths, 5)


def test_a_mean_of_another_dimension_is_refused() -> None:
    features, lengths = pool(0)
    with pytest.raises(InputError, match=r"mean has shape \(3,\), the features have 8 dimensions"):
        herding(features, lengths, 5, mean=np.zeros(3))


@pytest.mark.parametrize("unit", ["sentences", "tokens"])
def test_what_was_chosen_before_counts_so_that_two_choices_are_one(unit: BudgetUnit) -> None:
    features, lengths = pool(1)
    mean = features.sum(axis=0) / lengths.sum()
    whole = herding(features, lengths, 14)
    first, budget = whole[:6], 8 if unit == "sentences" else int(lengths[whole[6:]].sum())
    others = lengths.copy()
    others[first] = 0
    before = features[first].sum(axis=0), int(lengths[first].sum())
    second = herding(features, others, budget, mean=mean, already_chosen=before, budget_unit=unit)
    assert second.tolist() == whole[6:].tolist()
    together = mismatch(features, lengths, second, mean, before)
    assert together == pytest.approx(mismatch(features, lengths, whole, mean))
