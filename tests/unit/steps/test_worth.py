"""What methods are worth beside uniform curves and perfect filters, by plain arithmetic."""

from __future__ import annotations

import math

import pytest

from fishersft.config.compare import MethodConfig
from fishersft.reporting.comparison import Versus
from fishersft.reporting.summary import Interval
from fishersft.steps.worth import target_alone_warning, with_filter_shares, worth
from tests.unit.reporting.test_comparison import against, arm

CURVE = [(2000.0, 4.6), (4000.0, 4.5), (16000.0, 4.3)]


@pytest.mark.parametrize(
    ("loss", "side", "tokens"),
    [
        (4.5, "about", 4000.0),
        (4.4, "about", 8000.0),  # the middle of 4.5 and 4.3 is the geometric middle of 4,000 and 16,000
        (4.7, "less than", 2000.0),
        (4.2, "more than", 16000.0),
    ],
)
def test_a_loss_is_worth_the_tokens_at_which_uniform_reaches_it(loss: float, side: str, tokens: float) -> None:
    found = worth(CURVE, loss)
    assert found.side == side
    assert math.isclose(found.tokens, tokens)


def difference(method: str, value: float, budget: int = 2000) -> Versus:
    interval = Interval(value=value, low=value, high=value)
    return against(method, value, 0.01, budget=budget).model_copy(update={"mean": interval})


def test_a_share_is_of_what_the_perfect_filter_gains_at_the_same_budget() -> None:
    items = [difference("filter", -0.2), difference("mine", -0.15), difference("bad", 0.1), difference("mine", -1, 9)]
    assert [item.filter_share for item in with_filter_shares(items, "filter")] == pytest.approx([1, 0.75, -0.5, None])


def test_a_filter_that_gains_nothing_is_no_measure() -> None:
    items = [difference("filter", 0.01), difference("mine", -0.15)]
    assert [item.filter_share for item in with_filter_shares(items, "filter")] == [None, None]


METHODS = [
    MethodConfig(method="gradient-matching"),
    MethodConfig(method="target-alone", label="just the target"),
    MethodConfig(method="perfect-filter", column="domain", keep="good"),
]


@pytest.mark.parametrize(("chosen", "warned"), [(4.55, False), (4.6, True), (4.7, True)])
def test_a_target_that_does_as_well_alone_is_told_whatever_a_perfect_filter_would_win(
    chosen: float, warned: bool
) -> None:
    means = {"uniform": 4.9, "gradient matching": chosen, "just the target": 4.6, "perfect-filter": 4.4}
    found = target_alone_warning(METHODS, [arm(method, mean=mean) for method, mean in means.items()])
    assert bool(found) == warned
    assert all("target alone did at least as well" in warning for warning in found)


def test_without_a_selection_or_the_target_alone_there_is_nothing_to_tell() -> None:
    assert target_alone_warning(METHODS[1:], [arm("just the target", mean=4.0), arm("perfect-filter", mean=4.5)]) == []
    assert target_alone_warning(METHODS[:1], [arm("gradient matching", mean=4.0)]) == []
