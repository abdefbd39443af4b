"""What a result is worth in tokens: how many a uniform choice needs for the same held-out loss."""

from __future__ import annotations

import numpy as np

from fishersft.errors import InputError


def equivalent_tokens(tokens: np.ndarray, losses: np.ndarray, loss: float) -> float:
    """How many tokens of a uniform choice reach a held-out loss: by linear interpolation of loss over log tokens.

    Where the measured losses do not fall all the way, each counts as the lowest up to there: more tokens never hurt.

    Args:
        tokens: (k,), rising, above 0; the budgets at which the uniform choice was measured, k >= 2.
        losses: (k,), its held-out losses there, nats a token.
        loss: the one to reach.

    Returns:
        Tokens; infinity where the loss is below all of the curve, 0 where it is above.

    Raises:
        InputError: fewer than 2 points, tokens that do not rise, or values that are not finite.

    Source: Kaplan et al. (2020), "Scaling Laws for Neural Language Models", arXiv:2001.08361: over short stretches loss
        falls about linearly in the logarithm of the data.

    Example:
        >>> round(equivalent_tokens(np.array([1000, 4000]), np.array([5.0, 4.0]), 4.5))
        2000
    """
    sizes, values = np.asarray(tokens, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if sizes.shape != values.shape or sizes.ndim != 1 or len(sizes) < 2:
        raise InputError(f"expected a loss for each of at least 2 budgets, not {values.shape} for {sizes.shape}")
    if not np.isfinite([*values, loss]).all() or sizes[0] <= 0 or (np.diff(sizes) <= 0).any():
        raise InputError("the budgets must rise from above 0, and the losses be finite")
    falling = np.minimum.accumulate(values)
    if loss < falling[-1]:
        return float("inf")
    if loss > falling[0]:
        return 0.0
    return float(np.exp(np.interp(-loss, -falling, np.log(sizes))))
