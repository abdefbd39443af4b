"""Optimiser steps of equal tokens: which sentences a step takes, and how its passes and processes share them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch


class TokenBatches:
    """Batches of indices, in another order each epoch, that hold nearly equal numbers of loss tokens.

    An epoch's order hangs on the seed and its number alone, so that a training goes on in the middle as it would have.

    Args:
        lengths: loss tokens of each sentence.
        count: how many batches; at most one a sentence.
        seed: of the order.
    """

    def __init__(self, lengths: Sequence[int], count: int, seed: int):
        self._lengths = list(lengths)
        self._count = max(1, min(len(lengths), count))
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch, counted from 0, is drawn next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[int]]:
        remaining = sum(self._lengths)
        batch: list[int] = []
        filled = 0
        batches_left = self._count
        for place, index in enumerate(self._order()):
            batch.append(index)
            filled += self._lengths[index]
            sentences_left = len(self._lengths) - place - 1
            full = filled >= remaining / batches_left or sentences_left < batches_left
            if batches_left > 1 and full:
                yield batch
                remaining -= filled
                batches_left -= 1
                batch, filled = [], 0
        yield batch

    def _order(self) -> list[int]:
        generator = torch.Generator().manual_seed(self._seed)
        orders = (torch.randperm(len(self._lengths), generator=generator) for _ in range(self._epoch + 1))
        *_, order = orders
        return order.tolist()


def passes_of_a_step(
    examples: Sequence[dict[str, Any]], passes: int, rank: int = 0, ranks: int = 1
) -> list[list[dict[str, Any]]]:
    """The examples of each forward and backward pass that a process makes for one optimiser step.

    All passes of all processes together hold every example once, long and short ones in each. Every process makes as
    many passes, as they wait for each other in each, and none more than there are sentences for: who has no sentence
    left makes its pass on one whose tokens the loss does not count.

    Args:
        examples: of the step, each with `input_ids` and `labels`.
        passes: at most so many a process.
        rank: the process's number, from 0.
        ranks: how many processes there are.
    """
    passes = min(passes, -(-len(examples) // ranks))
    by_length = sorted(examples, key=lambda example: -len(example["input_ids"]))
    uncounted = {**by_length[-1], "labels": [-100] * len(by_length[-1]["labels"])}
    return [by_length[part :: passes * ranks] or [uncounted] for part in range(rank, passes * ranks, ranks)]
