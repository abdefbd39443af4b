"""Selection in two rounds: in each shard on its own, then among what the shards chose (GreeDi, RandGreeDi)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from fishersft.errors import InputError
from fishersft.numerics.arguments import BlocksLike, as_blocks, check_arguments
from fishersft.numerics.blocks import Blocks, TokenBlocks
from fishersft.numerics.certificates import prefix_bound
from fishersft.numerics.certify import CertificateMethod
from fishersft.numerics.greedy import BudgetUnit, OnProgress
from fishersft.numerics.mapped import MappedBlocks
from fishersft.numerics.relaxation import frank_wolfe_bound
from fishersft.numerics.selection import Selection, part_of, select
from fishersft.numerics.sharded import ShardedBlocks

_MARGIN = 1e-6  # relative; what is nearer than this is the same selection in another order


def select_two_rounds(
    shards: Sequence[BlocksLike],
    budget: int,
    *,
    budget_unit: BudgetUnit = "sentences",
    regularization: float = 1.0,
    randomised: bool = False,
    seed: int = 0,
    certificate: CertificateMethod = "prefix",
    certificate_seconds: float = 60.0,
    device: torch.device | str | None = None,
    on_progress: OnProgress | None = None,
) -> Selection:
    """Choose from a pool in shards, one shard at a time: `choose_in_shard` for each, then `merge_choices`.

    What is proven beforehand, with m shards and a budget of k sentences, in terms of the best possible selection:
    at least (1 - 1/e) / min(m, k) of it, whatever the shards hold (GreeDi); and, where each block is in a shard
    drawn at random, at least (1 - 1/e) / 2 of it in expectation over the draw (RandGreeDi). With a token budget,
    at least (1 - 1/e) / (2 m): of the optimum's parts in the shards one is worth an m-th of it, and that shard's
    own selection is at least (1 - 1/e) / 2 of the best there. The certificate is mostly far better than these, and
    is of the whole pool. Nothing is claimed about the distance to greedy over the whole pool.

    Args:
        shards: of token blocks, as `select` takes them; they may stay on disk. Some may hold no token.
        budget: how many sentences or tokens to choose, >= 1: in each shard, and in the end.
        budget_unit: "sentences" or "tokens".
        regularization: lambda > 0.
        randomised: deal all blocks anew to as many shards, by `deal`, before the first round. Where blocks stay in
            the shards, a shard that was dealt is read from all of them.
        seed: of the deal.
        certificate: "prefix" or "frank-wolfe", both by passes over all shards; the latter for up to
        certificate_seconds: after the selection is made.
        device: where gains are computed; None: a GPU if there is one.
        on_progress: called after each pick of every round.

    Returns:
        A `Selection` whose indices are of the concatenation of the shards.

    Raises:
        InputError: as `select`; or shards that differ in dim or device.

    Cost: of `select` in each shard and among m k blocks, which are held in memory; and of the certificate.
    Source: Mirzasoleiman, Karbasi, Sarkar and Krause (2013), "Distributed submodular maximization: identifying
        representative elements in massive data", and (2016) in JMLR 17; Barbosa, Ene, Nguyen and Ward (2015), "The
        power of randomization: distributed submodular maximization on massive datasets", arXiv:1502.02606.

    Example:
        >>> shards = [[[[2.0, 0.0]], [[3.0, 0.0]]], [[[0.0, 1.0]]]]
        >>> select_two_rounds(shards, budget=2).indices
        array([1, 2])
    """
    check_arguments(budget, budget_unit, "lazy", "information", certificate, 0.0, seed)
    pools: list[Blocks] = [as_blocks(shard) for shard in shards]
    dealt = None
    if randomised:
        whole = ShardedBlocks(pools)
        dealt = deal(len(whole), len(pools), seed)
        pools = [MappedBlocks(whole, indices) for indices in dealt]
    rounds = len(pools) + 1
    choices = [
        choose_in_shard(
            pool,
            budget,
            budget_unit=budget_unit,
            regularization=regularization,
            device=device,
            on_progress=part_of(on_progress, k, rounds),
        )
        for k, pool in enumerate(pools)
    ]
    merged = merge_choices(
        pools,
        choices,
        budget,
        budget_unit=budget_unit,
        regularization=regularization,
        certificate=certificate,
        certificate_seconds=certificate_seconds,
        device=device,
        on_progress=part_of(on_progress, rounds - 1, rounds),
    )
    return merged if dealt is None else replace(merged, indices=np.concatenate(dealt)[merged.indices])


def deal(n: int, shards: int, seed: int) -> list[np.ndarray]:
    """Blocks 0 .. n - 1 dealt to shards, each independently to one drawn uniformly, as RandGreeDi's proof asks for.

    Returns:
        As many arrays as shards, int64, ascending; some may be empty.

    Example:
        >>> sorted(np.concatenate(deal(5, shards=2, seed=0)).tolist())
        [0, 1, 2, 3, 4]
    """
    drawn = np.random.default_rng(seed).integers(shards, size=n)
    return [np.flatnonzero(drawn == shard) for shard in range(shards)]


def choose_in_shard(
    blocks: BlocksLike,
    budget: int,
    *,
    budget_unit: BudgetUnit = "sentences",
    regularization: float = 1.0,
    device: torch.device | str | None = None,
    on_progress: OnProgress | None = None,
) -> Selection | None:
    """The first round in one shard: `select` with the whole budget.

    Returns:
        A `Selection` whose indices and certificate are of the shard; None where the shard holds no token.

    Raises:
        InputError: as `select`.

    Cost: of `select`.
    Source: as of `select_two_rounds`.

    Example:
        >>> choose_in_shard([[[2.0, 0.0]], [[3.0, 0.0]]], budget=1).indices
        array([1])
    """
    pool = as_blocks(blocks)
    if not pool.lengths.any():
        return None
    return select(
        pool,
        budget,
        budget_unit=budget_unit,
        regularization=regularization,
        device=device,
        on_progress=on_progress,
    )


def merge_choices(
    shards: Sequence[BlocksLike],
    choices: Sequence[Selection | None],
    budget: int,
    *,
    budget_unit: BudgetUnit = "sentences",
    regularization: float = 1.0,
    certificate: CertificateMethod = "prefix",
    certificate_seconds: float = 60.0,
    device: torch.device | str | None = None,
    on_progress: OnProgress | None = None,
) -> Selection:
    """The second round: choose among what the shards chose; the better of that and the best shard's own choice.

    Args:
        shards: all of them, for the blocks that were chosen and for the certificate.
        choices: of `choose_in_shard`, one for each shard, with the same budget and regularization.
        budget, budget_unit, regularization, certificate, certificate_seconds, device: see `select_two_rounds`.
        on_progress: called after each pick of this round.

    Returns:
        A `Selection` whose indices are of the concatenation of the shards, `evaluations` of both rounds, and
        the certificate of the whole pool.

    Raises:
        InputError: another number of choices than of shards, no block with a token, or shards that differ in dim.

    Cost: `select` among the chosen blocks, held in memory; and the certificate.
    Source: as of `select_two_rounds`.

    Example:
        >>> shards = [[[[2.0, 0.0]], [[3.0, 0.0]]], [[[0.0, 1.0]]]]
        >>> merge_choices(shards, [choose_in_shard(shard, 1) for shard in shards], 1).indices
        array([1])
    """
    check_arguments(budget, budget_unit, "lazy", "information", certificate, 0.0, seed=0)
    pool = ShardedBlocks(shards)
    if len(choices) != len(shards):
        raise InputError(f"there are {len(choices)} choices for {len(shards)} shards; give one for each")
    made = [
        replace(choice, indices=choice.indices + first)
        for first, choice in zip(pool.starts, choices, strict=False)
        if choice is not None
    ]
    if not made:
        raise InputError("no token block holds a token, so there is nothing to choose from")
    best = max(made, key=lambda choice: choice.information_gain)
    evaluations = sum(choice.evaluations for choice in made)
    candidates = np.sort(np.concatenate([choice.indices for choice in made]))
    if len(candidates) > len(best):
        lengths = pool.lengths[torch.from_numpy(candidates)]
        chosen = TokenBlocks(
            pool.rows_of(candidates), torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        )
        second = select(
            chosen,
            budget,
            budget_unit=budget_unit,
            regularization=regularization,
            device=device,
            on_progress=on_progress,
        )
        evaluations += second.evaluations
        if second.information_gain > best.information_gain * (1 + _MARGIN):
            best = replace(second, indices=candidates[second.indices])
    if certificate == "prefix":
        proof = prefix_bound(pool, best.indices, budget, budget_unit=budget_unit, regularization=regularization)
    else:
        proof = frank_wolfe_bound(
            pool,
            best.indices,
            budget,
            budget_unit=budget_unit,
            regularization=regularization,
            time_limit=certificate_seconds,
        )
    return replace(
        best,
        evaluations=evaluations,
        exhausted=len(best) == int((pool.lengths > 0).sum()),
        certificate=proof,
    )
