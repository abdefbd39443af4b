"""What repeated trials say, each with a seed of its own: means, ratios and slopes with 95% intervals over the seeds."""

from __future__ import annotations

import numpy as np
from scipy.stats import t

from fishersft.errors import InputError
from fishersft.numerics.crossed import Tested

_LEVEL = 0.95


def mean_over_seeds(values: np.ndarray, shared: float = 0.0) -> Tested:
    """The mean of one value a seed with Student's interval, and the p-value of a mean of 0.

        variance of the mean = (1 / seeds + shared) s^2

    Args:
        values: (seeds,), finite.
        shared: 0 where seeds have nothing in common. Where each splits the same examples anew, how many are held out
            for each that is not: such splits resemble each other, and without it the interval would be too narrow.

    Raises:
        InputError: fewer than 2 seeds, or a value that is not finite.

    Source: Student (1908), "The probable error of a mean"; Nadeau and Bengio (2003), "Inference for the generalization
        error", Machine Learning 52, for `shared` (the corrected resampled t-test).

    Example:
        >>> [round(x, 2) for x in mean_over_seeds(np.array([1.0, 2.0, 3.0]))]
        [2.0, -0.48, 4.48, 0.07, 0.31]
    """
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise InputError(f"an interval over seeds needs one finite value each of at least 2, not {values!r}")
    mean, freedom = float(values.mean()), len(values) - 1
    error = float(values.std(ddof=1) * np.sqrt(1 / len(values) + shared))
    reach = float(t.isf((1 - _LEVEL) / 2, freedom)) * error
    if not error:
        return Tested(mean, mean, mean, float(mean == 0), mean)
    bound = mean - float(t.isf(1 - _LEVEL, freedom)) * error
    return Tested(mean, mean - reach, mean + reach, 2 * float(t.sf(abs(mean) / error, freedom)), bound)


def ratio_over_seeds(values: np.ndarray, others: np.ndarray) -> Tested:
    """The geometric mean over seeds of value / other, paired by seed, and the p-value of a ratio of 1.

    Args:
        values, others: (seeds,), above 0.

    Raises:
        InputError: as `mean_over_seeds`.

    Example:
        >>> ratio_over_seeds(np.array([2.0, 8.0]), np.array([1.0, 2.0])).value.__round__(4)
        2.8284
    """
    logs = mean_over_seeds(np.log(values) - np.log(others))
    value, low, high, bound = (float(np.exp(log)) for log in (logs.value, logs.low, logs.high, logs.bound))
    return Tested(value, low, high, logs.p, bound)


def log_log_slope(sizes: np.ndarray, values: np.ndarray) -> Tested:
    """How fast values fall with size: the least-squares slope of log value over log size of each seed, and their mean.

    Args:
        sizes: (k,), above 0, at least 2 of them different.
        values: (seeds, k), above 0.

    Raises:
        InputError: as `mean_over_seeds`.

    Example:
        >>> slope = log_log_slope(np.array([1.0, 4.0]), np.array([[8.0, 4.0], [6.0, 3.0]]))
        >>> round(slope.value, 4)  # halved while the size grew four times
        -0.5
    """
    logs = np.log(sizes) - np.log(sizes).mean()
    return mean_over_seeds(np.log(values) @ logs / (logs @ logs))
