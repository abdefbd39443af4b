"""What the methods of a comparison are worth: in tokens of a uniform choice, and beside a perfect filter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fishersft.config.compare import CONTROLS, MethodConfig
from fishersft.data.store import Store
from fishersft.numerics.uniform_curve import equivalent_tokens
from fishersft.reporting.comparison import Arm, Versus, Worth
from fishersft.steps.comparison_keys import CurveKeys
from fishersft.steps.differences import mean_fact
from fishersft.steps.measured import Measured, trained_nll


def with_worth(store: Store, measured: Measured, arms: Sequence[Arm], curve: Sequence[CurveKeys]) -> list[Arm]:
    """The arms with how many tokens of a uniform choice do as well, where that was trained at larger budgets too."""
    uniform = {arm.budget: arm for arm in arms if arm.method == "uniform"}
    curves = {
        budget: _curve(store, measured, arm, [of for of in curve if of.budget == budget])
        for budget, arm in uniform.items()
    }
    return [
        arm if len(curves[arm.budget]) < 2 else arm.model_copy(update={"worth": worth(curves[arm.budget], arm.mean)})
        for arm in arms
    ]


def worth(curve: Sequence[tuple[float, float]], loss: float) -> Worth:
    """How many tokens of a uniform choice reach a held-out loss.

    Args:
        curve: of the uniform choice, (tokens, nats a token), tokens rising.
        loss: nats a token.
    """
    tokens, losses = (np.array(column) for column in zip(*curve, strict=True))
    found = equivalent_tokens(tokens, losses, loss)
    if found == 0:
        return Worth(side="less than", tokens=float(tokens[0]))
    if np.isinf(found):
        return Worth(side="more than", tokens=float(tokens[-1]))
    return Worth(side="about", tokens=found)


def with_filter_shares(versus: Sequence[Versus], perfect_filter: str) -> list[Versus]:
    """The same with each method's share of what the perfect filter gains at that budget, where it gains."""
    gains = {(item.budget, item.basis): -item.mean.value for item in versus if item.method == perfect_filter}
    return [
        item.model_copy(update={"filter_share": -item.mean.value / gain})
        if (gain := gains.get((item.budget, item.basis), 0.0)) > 0
        else item
        for item in versus
    ]


def target_alone_warning(methods: Sequence[MethodConfig], arms: Sequence[Arm]) -> list[str]:
    """A warning where training on the target alone did at least as well as every selection from the pool.

    Controls are no selections: a perfect filter is not to be had.
    """
    alone_named = {method.name for method in methods if method.method == "target-alone"}
    chosen_named = {method.name for method in methods if method.method not in CONTROLS}
    alone = {arm.budget: arm.mean for arm in arms if arm.method in alone_named}
    chosen = [arm for arm in arms if arm.budget in alone and arm.method in chosen_named]
    if not chosen or any(arm.mean < alone[arm.budget] for arm in chosen):
        return []
    return [
        "Training on the target alone did at least as well as every selection from the pool: train on it, or on it and "
        "a selection (`with_target: true`)."
    ]


def _curve(store: Store, measured: Measured, uniform: Arm, points: Sequence[CurveKeys]) -> list[tuple[float, float]]:
    """(tokens, nats a token) of the uniform choice at a budget and its multiples, while the pool has more tokens."""
    curve = [(uniform.tokens, uniform.mean)]
    for multiple in sorted({point.multiple for point in points}):
        trained = [point.trained for point in points if point.multiple == multiple]
        nll = trained_nll(store, trained).mean(axis=1)
        drawn = mean_fact(store, trained, "tokens_per_epoch")
        if drawn > curve[-1][0]:
            curve.append((drawn, float(measured.mean(nll).mean())))
    return curve
