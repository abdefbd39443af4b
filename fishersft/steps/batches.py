"""Cutting shards into batches for workers that take the next one when they are free."""

from __future__ import annotations

from collections.abc import Sequence

MOST_SHARDS = 4096  # in a batch: their keys are a run's parameters, which Prefect's server limits to 512 KiB
_MOST_BATCHES = 256
_SHARE = 2  # a batch takes 1/(_SHARE * at_once) of what is left,
_LEAST = 8  # and at least 1/(_LEAST * at_once) of all


def guided_batches(sizes: Sequence[int], at_once: int) -> list[list[int]]:
    """Batches of shards by guided self-scheduling: the largest first, smaller ones towards the end.

    While much is left a batch is worth a worker's start; at the end none is large enough for the others to wait long
    for the worker that took it. The rule is that of Polychronopoulos and Kuck (1987), with half of a worker's share
    in the place of all of it, as workers come and go.

    Args:
        sizes: of each shard, such as the characters of its text.
        at_once: how many batches are worked at once.

    Returns:
        Places in `sizes`, each in one batch; at most 256 batches and one more for every 4,096 shards.

    Example:
        >>> guided_batches([3, 1, 1, 1, 1, 1], at_once=1)
        [[0, 1], [2, 3], [4], [5]]
    """
    assert at_once >= 1, "somebody works"
    weights = [max(size, 1) for size in sizes]
    whole = left = sum(weights)
    least = max(whole / (_LEAST * at_once), whole / _MOST_BATCHES)
    batches, taken, wanted = list[list[int]](), 0, 0.0
    for place in sorted(range(len(weights)), key=lambda place: -weights[place]):
        if taken >= wanted or len(batches[-1]) == MOST_SHARDS:
            left, taken = left - taken, 0
            wanted = max(left / (_SHARE * at_once), least)
            batches.append([])
        batches[-1].append(place)
        taken += weights[place]
    return sorted(batches, key=lambda batch: -sum(weights[place] for place in batch))
