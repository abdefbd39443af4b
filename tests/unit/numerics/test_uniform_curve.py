"""Equivalent uniform tokens against arithmetic by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fishersft.errors import InputError
from fishersft.numerics.uniform_curve import equivalent_tokens

TOKENS = np.array([2000, 4000, 8000, 16000])
LOSSES = np.array([4.6, 4.5, 4.45, 4.35])


@pytest.mark.parametrize(
    ("loss", "tokens"),
    [
        (4.6, 2000),
        (4.55, 2000 * math.sqrt(2)),  # halfway in loss is halfway in log tokens
        (4.5, 4000),
        (4.425, 8000 * 2**0.25),
        (4.35, 16000),
        (4.34, math.inf),
        (4.61, 0),
    ],
)
def test_a_loss_between_two_points_is_between_them_in_log_tokens(loss: float, tokens: float) -> None:
    assert equivalent_tokens(TOKENS, LOSSES, loss) == pytest.approx(tokens)


def test_a_rise_of_the_curve_counts_as_flat() -> None:
    bumpy = np.array([4.6, 4.4, 4.5, 4.3])
    assert equivalent_tokens(TOKENS, bumpy, 4.35) == pytest.approx(8000 * math.sqrt(2))
    assert equivalent_tokens(TOKENS, bumpy, 4.5) == pytest.approx(2000 * math.sqrt(2))


@pytest.mark.parametrize(
    ("tokens", "losses"),
    [([2000], [4.6]), ([2000, 4000], [4.6]), ([4000, 2000], [4.6, 4.5]), ([2000, 4000], [4.6, math.nan])],
)
def test_what_is_no_curve_is_refused(tokens: list[float], losses: list[float]) -> None:
    with pytest.raises(InputError):
        equivalent_tokens(np.array(tokens), np.array(losses), 4.5)
