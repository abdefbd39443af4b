"""How long each form of the greedy takes, budget by budget."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from fishersft.numerics.blocks import Blocks
from fishersft.numerics.greedy import Progress
from fishersft.numerics.selection import Algorithm, select


class Timing(NamedTuple):
    """The seconds that an algorithm takes for a budget; `measured`, or from the time of one look and their number."""

    algorithm: str
    budget: int
    seconds: float | None
    measured: bool


class _Enough(Exception):
    """The time is over."""


def timings(
    blocks: Blocks, algorithm: Algorithm, budgets: Sequence[int], regularization: float, at_most: float
) -> list[Timing]:
    """The seconds for each budget, from one run: the picks of a smaller budget are the first of a larger one's.

    A run that takes too long is stopped. Of Algorithm 1 the rest is known then: every pick looks at all sentences that
    are left, each look costs the same. Of Algorithm 2 nothing is known of budgets that it did not reach.

    Args:
        budgets: in sentences.
        at_most: seconds.
    """
    largest = max(budgets)
    taken = dict[int, float]()
    began = time.perf_counter()

    def watch(progress: Progress) -> None:
        taken[progress.picks] = time.perf_counter() - began
        if taken[progress.picks] > at_most and progress.picks < largest:
            raise _Enough

    with suppress(_Enough):
        select(blocks, largest, regularization=regularization, algorithm=algorithm, on_progress=watch)
    return [_timing(algorithm, budget, taken, len(blocks)) for budget in sorted(budgets)]


def _timing(algorithm: str, budget: int, taken: dict[int, float], sentences: int) -> Timing:
    if budget in taken:
        return Timing(algorithm, budget, taken[budget], True)
    if algorithm != "naive":
        return Timing(algorithm, budget, None, False)
    reached = max(taken)
    looks = {picks: int(np.arange(sentences, sentences - picks, -1).sum()) for picks in (reached, budget)}
    return Timing(algorithm, budget, taken[reached] * looks[budget] / looks[reached], False)
