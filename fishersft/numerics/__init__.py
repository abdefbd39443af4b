"""Arrays in, arrays out: information gain, greedy selection, baselines and intervals."""

from fishersft.numerics.baselines import uniform
from fishersft.numerics.blocks import TokenBlocks
from fishersft.numerics.device import resolve_device
from fishersft.numerics.information import block_gain, information_gains_along, updated_cholesky
from fishersft.numerics.intervals import (
    Estimate,
    perplexity_interval,
    perplexity_ratio_interval,
    wilson_interval,
)
from fishersft.numerics.selection import Selection, select

__all__ = [
    "Estimate",
    "Selection",
    "TokenBlocks",
    "block_gain",
    "information_gains_along",
    "perplexity_interval",
    "perplexity_ratio_interval",
    "resolve_device",
    "select",
    "uniform",
    "updated_cholesky",
    "wilson_interval",
]
