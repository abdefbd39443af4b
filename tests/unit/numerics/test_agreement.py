"""Scores of pairs judged in both orders, and the agreement of judges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fishersft.errors import InputError
from fishersft.numerics import cohen_kappa, pair_scores


def test_only_a_preference_that_keeps_to_the_text_is_a_win_or_a_loss() -> None:
    choices = [1, 2, 1, 2, 0, 1, 0]
    swapped = [2, 1, 1, 2, 2, 0, 0]
    assert pair_scores(choices, swapped).tolist() == [1.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.5]


def test_naming_the_methods_the_other_way_round_turns_every_score_over() -> None:
    choices, swapped = np.random.default_rng(0).integers(0, 3, (2, 50))
    assert (pair_scores(choices, swapped) == 1 - pair_scores(swapped, choices)).all()


def test_kappa_is_as_computed_by_hand_for_three_categories() -> None:
    """10 pairs. Same: 3 wins, 2 losses, 1 tie. First judge's shares 0.5, 0.3, 0.2; the second's 0.4, 0.3, 0.3."""
    first = [1, 1, 1, 1, 1, 0, 0, 0, 0.5, 0.5]
    second = [1, 1, 1, 0, 0.5, 0, 0, 0.5, 0.5, 1]
    # p_o = 0.6, p_e = 0.5 * 0.4 + 0.3 * 0.3 + 0.2 * 0.3 = 0.35
    assert cohen_kappa(first, second) == pytest.approx(0.25 / 0.65)
    assert cohen_kappa(second, first) == pytest.approx(0.25 / 0.65)


def test_kappa_is_1_in_full_agreement_0_by_chance_and_below_0_in_disagreement() -> None:
    assert cohen_kappa([1, 0, 0.5, 1], [1, 0, 0.5, 1]) == 1
    assert cohen_kappa([1, 1, 0, 0], [1, 0, 1, 0]) == 0
    assert cohen_kappa([1, 1, 0, 0], [0, 0, 1, 1]) == -1


def test_two_judges_who_always_say_the_same_one_thing_have_shown_nothing() -> None:
    assert math.isnan(cohen_kappa([0.5] * 4, [0.5] * 4))


@pytest.mark.parametrize(("first", "second"), [([], []), ([1], [1, 0])])
def test_ratings_of_other_items_are_refused(first: list[float], second: list[float]) -> None:
    with pytest.raises(InputError, match="two raters' ratings of the same items"):
        cohen_kappa(first, second)
