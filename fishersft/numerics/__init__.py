"""Arrays in, arrays out: information gain, greedy selection, intervals and agreement."""

from fishersft.numerics.agreement import cohen_kappa, pair_scores
from fishersft.numerics.blocks import Blocks, TokenBlocks
from fishersft.numerics.certificates import Certificate, PrefixBound, prefix_bound
from fishersft.numerics.device import resolve_device
from fishersft.numerics.greedy import Progress
from fishersft.numerics.information import block_gain, information_gains_along, updated_cholesky
from fishersft.numerics.intervals import (
    Estimate,
    perplexity_interval,
    perplexity_ratio_interval,
    wilson_interval,
    worst_sentence_interval,
)
from fishersft.numerics.relaxation import frank_wolfe_bound
from fishersft.numerics.selection import Selection, select
from fishersft.numerics.stored import StoredBlocks

__all__ = [
    "Blocks",
    "Certificate",
    "Estimate",
    "PrefixBound",
    "Progress",
    "Selection",
    "StoredBlocks",
    "TokenBlocks",
    "block_gain",
    "cohen_kappa",
    "frank_wolfe_bound",
    "information_gains_along",
    "pair_scores",
    "perplexity_interval",
    "perplexity_ratio_interval",
    "prefix_bound",
    "resolve_device",
    "select",
    "updated_cholesky",
    "wilson_interval",
    "worst_sentence_interval",
]
