"""Exact greedy selection across processes: blocks stay where they are, only each step's winner travels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.distributed as dist

from fishersft.errors import InputError
from fishersft.numerics.arguments import BlocksLike, as_blocks, check_arguments, problem
from fishersft.numerics.blocks import Blocks, TokenBlocks
from fishersft.numerics.certificates import Certificate, PrefixBound
from fishersft.numerics.device import resolve_device
from fishersft.numerics.greedy import BudgetUnit, Conditions, OnProgress, Picks, Rule
from fishersft.numerics.lazy import LazySearch, lazy_search
from fishersft.numerics.local_picks import LocalPicks
from fishersft.numerics.prior import absolute_regularization, start_factor
from fishersft.numerics.ranks import Ranks
from fishersft.numerics.selection import RULE_MARGIN, Selection, part_of

_DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
_BOUND_UPDATES = 20  # times in a run that all bounds are gathered for the certificate


def select_distributed(
    local_blocks: BlocksLike,
    budget: int,
    *,
    budget_unit: BudgetUnit = "sentences",
    regularization: float = 1.0,
    already_selected: BlocksLike | None = None,
    initial_information: np.ndarray | torch.Tensor | None = None,
    include: Sequence[int] | np.ndarray = (),
    exclude: Sequence[int] | np.ndarray = (),
    groups: Sequence[object] | np.ndarray | None = None,
    quotas: Mapping[object, int] | None = None,
    stop_below: float = 0.0,
    device: torch.device | str | None = None,
    group: dist.ProcessGroup | None = None,
    on_progress: OnProgress | None = None,
) -> Selection:
    """`select` by information gain over the blocks of all processes of a `torch.distributed` group.

    Every process calls this with its own blocks and the same other arguments. Blocks are numbered through: first
    those of rank 0, then those of rank 1, and so on; all indices are of this numbering. Each process keeps the
    dim x dim state and finds its best block; the best of these is every process's next pick, among equals that of
    the lowest rank, so the picks are those of one process. (Gains within 1e-9 of each other count as equal, which
    three gains need not agree on; in such a chain, spread over ranks, another of them may be picked.)

    Sent in each step: a record of 24 bytes from each of the W processes to the W - 1 others, and the winner's
    block, tokens * dim * (bytes of its dtype), to W - 1. At the start 8 bytes for each block, and again about 20
    times in each run for the certificate, to W - 1 each (padded to the process that has most blocks).

    When a process fails: bad blocks, or arguments that differ, end all processes with an InputError at the start.
    Later the others wait for it as long as the process group's timeout says (`init_process_group(timeout=...)`;
    torch's default is 30 minutes with gloo, 10 with NCCL), at once only where the backend sees that it is gone, and
    then raise torch's error (with NCCL, torch ends the process). So a timeout must be longer than the longest step,
    a look at all blocks of the process that has most.

    Args:
        local_blocks: of this process, as `select` takes them; an empty list where it has none.
        budget, budget_unit, regularization, already_selected, initial_information, stop_below: see `select`.
        include, exclude, groups, quotas: see `select`; of the blocks of all processes.
        device: where this process computes; None: a GPU if there is one. Where a machine has several, name another
            for each of its processes. With NCCL, what is sent goes through it.
        group: None: all processes.
        on_progress: called after each pick, in this process.

    Returns:
        The same `Selection` in every process, with the prefix certificate of the whole pool.

    Raises:
        InputError: as `select`; no process group; blocks or arguments that do not fit those of the others.

    Cost: of `select` on this process's blocks, and what is sent. Each process looks for its own best block, so
        together they look at more blocks than one process would.
    Source: Algorithm 1 of Deb et al. (2025), arXiv:2505.14826; that it is done in parallel like this is
        straightforward.

    Example:
        >>> torch.distributed.init_process_group("gloo", timeout=timedelta(minutes=10))  # doctest: +SKIP
        >>> selection = select_distributed(blocks_of_this_process, budget=1000)  # doctest: +SKIP
    """
    check_arguments(budget, budget_unit, "lazy", "information", "prefix", stop_below, seed=0)
    on = resolve_device(device)
    ranks = Ranks(group, on)
    conditions = Conditions(include, exclude, groups, quotas or {}, stop_below)
    earlier = None if already_selected is None else as_blocks(already_selected)
    digest = _digest((int(budget), budget_unit, regularization), earlier, initial_information, conditions)
    pool = _Pool(ranks, local_blocks, digest, on)
    if not pool.lengths.any():
        raise InputError("no token block of any process holds a token, so there is nothing to choose from")
    lam = absolute_regularization(pool.local, regularization, "absolute")
    cholesky = start_factor(pool.dim, lam, earlier, initial_information)

    rules: tuple[Rule, ...] = ("gain", "gain per token") if budget_unit == "tokens" else ("gain",)
    runs = [Picks(pool.lengths, pool.dim, int(budget), budget_unit, rule, conditions) for rule in rules]
    for part, picks in enumerate(runs):
        picks.on_progress = part_of(on_progress, part, len(runs))
        _greedy(pool, picks, lam, cholesky, on)
    best = runs[int(runs[-1].gain > runs[0].gain * (1 + RULE_MARGIN))]
    bounds = [run.upper_bound for run in runs if run.upper_bound is not None]
    indices = np.array(best.indices, dtype=np.int64)
    information = math.fsum(best.gains)
    return Selection(
        indices=indices,
        gains=np.array(best.gains, dtype=np.float64),
        tokens=pool.lengths[indices],
        information_gain=information,
        criterion="information",
        algorithm="lazy",
        regularization=lam,
        budget=int(budget),
        budget_unit=budget_unit,
        rule=best.rule,
        evaluations=sum(run.evaluations for run in runs),
        exhausted=len(indices) == len(np.setdiff1d(np.flatnonzero(pool.lengths), exclude)),
        stopped=best.stopped,
        certificate=Certificate(information, min(bounds, default=math.inf), "prefix"),
        projection_loss=None,
    )


class _Pool:
    """This process's blocks, and what every process knows of all of them.

    Attributes:
        local: this process's blocks; `first` is the number of the first of them.
        lengths: (n,), int64; tokens of all blocks.
        dim: of all.
    """

    def __init__(self, ranks: Ranks, local_blocks: BlocksLike, digest: int, device: torch.device) -> None:
        self.ranks = ranks
        try:
            local = _checked(local_blocks, device)
        except InputError:
            ranks.gather(np.array([0, 0, 0, 0, digest]))  # so that no other process waits for this one
            raise
        n, dim, dtype = (0, 0, torch.float64) if local is None else (len(local), local.dim, local.dtype)
        told = ranks.gather(np.array([1, n, dim, _DTYPES.index(dtype), digest]))
        _check_agreement(told)
        counts, self.dim = told[:, 1], int(told[:, 2].max())
        self._counts = counts
        self._dtypes = [_DTYPES[code] for code in told[:, 3]]
        self._starts = np.concatenate([[0], counts.cumsum()])
        self.first = int(self._starts[ranks.rank])
        self.local = _none(self.dim) if local is None else local
        self.lengths = ranks.concatenate(self.local.lengths.numpy(), counts)

    def best_of(self, picks: Picks, index: int, gain: float) -> tuple[int, float]:
        """The best of all processes' best blocks; each gives its own index, -1 for none, and marginal gain."""
        score = gain / picks.weights[self.first + index] if index >= 0 else -math.inf
        records = self.ranks.gather(np.array([score, gain, self.first + index if index >= 0 else -1]))
        best, best_gain, best_score = -1, 0.0, -math.inf
        for its_score, its_gain, number in records:
            if number >= 0 and picks.beats(its_score, best_score):
                best, best_gain, best_score = int(number), float(its_gain), its_score
        return best, best_gain

    def block(self, index: int) -> torch.Tensor:
        """Block `index` of all, sent by the process that has it."""
        owner = int(np.searchsorted(self._starts, index, side="right")) - 1
        own = self.local[index - self.first] if owner == self.ranks.rank else None
        return self.ranks.block_of(owner, own, (int(self.lengths[index]), self.dim), self._dtypes[owner])

    def gather(self, of_local_blocks: np.ndarray) -> np.ndarray:
        """(n,) of each process's values for its own blocks."""
        return self.ranks.concatenate(of_local_blocks, self._counts)


def _greedy(pool: _Pool, picks: Picks, regularization: float, cholesky: torch.Tensor | None, on: torch.device) -> None:
    """One greedy run; fills `picks`, alike in every process."""
    local = LocalPicks(picks, pool.first, pool.first + len(pool.local))
    bound = PrefixBound(picks.free_budget, picks.budget_unit, pool.lengths)
    every = max(1, picks.free_budget // _BOUND_UPDATES)
    bound_at = -every
    with lazy_search(pool.local, local, regularization=regularization, cholesky=cholesky, device=on) as search:
        while picks.open.any():
            index, gain = search.best() if local.open.any() else (-1, 0.0)
            index, gain = pool.best_of(picks, index, gain)
            if not picks.required_left and len(picks.indices) - bound_at >= every:
                _update_bound(bound, pool, picks, search)
                bound_at = len(picks.indices)
            if local.take(index, gain):
                search.add(pool.block(index))
        _update_bound(bound, pool, picks, search)
    picks.evaluations = int(pool.ranks.gather(np.array([local.evaluations])).sum())


def _update_bound(bound: PrefixBound, pool: _Pool, picks: Picks, search: LazySearch) -> None:
    bound.update(picks.gain, pool.gather(search.gain_bounds()), search.factor_norm)
    picks.upper_bound = bound.value


def _checked(local_blocks: BlocksLike, device: torch.device) -> Blocks | None:
    """This process's blocks, on its device if they are in memory; None for an empty list."""
    if len(local_blocks) == 0 and not hasattr(local_blocks, "rows_of"):
        return None
    blocks = as_blocks(local_blocks)
    blocks.check_finite()
    return blocks.to(device) if isinstance(blocks, TokenBlocks) else blocks


def _check_agreement(told: np.ndarray) -> None:
    """InputError, in every process alike, where what they told of their blocks and arguments does not fit."""
    refused = np.flatnonzero(told[:, 0] == 0)
    if len(refused):
        raise InputError(f"rank {refused[0]} refused its blocks; its own error says why")
    differ = np.flatnonzero(told[:, 4] != told[0, 4])
    if len(differ):
        raise InputError(f"rank {differ[0]} was called with other arguments than rank 0; all but the blocks must agree")
    dims = told[told[:, 2] > 0, 2]
    if not len(dims):
        raise InputError("no process has any token blocks, so there is nothing to choose from")
    if len(np.unique(dims)) > 1:
        raise InputError(
            f"the processes' blocks have dims {sorted(set(dims.tolist()))}; were all embedded with the same model?"
        )


def _digest(
    settings: tuple[object, ...],
    earlier: Blocks | None,
    information: np.ndarray | torch.Tensor | None,
    conditions: Conditions,
) -> int:
    """A number, of 63 bits, of all arguments that must be the same in every process."""
    matrix = None if information is None else torch.as_tensor(information)
    digest = hashlib.blake2b(digest_size=8)
    for part in problem(earlier or _none(1), (settings, earlier is None), matrix, None, conditions):
        digest.update(part)
    return int.from_bytes(digest.digest()) >> 1


def _none(dim: int) -> TokenBlocks:
    return TokenBlocks(torch.empty(0, dim), torch.zeros(1, dtype=torch.int64))
