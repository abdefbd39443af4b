"""The public entry: choose the most informative token blocks under a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from fishersft.errors import InputError
from fishersft.numerics.arguments import (
    Algorithm,
    BlocksLike,
    Criterion,
    as_blocks,
    check_arguments,
    checked_gains,
    principal_directions,
    problem,
    target_moment,
)
from fishersft.numerics.blocks import Blocks, TokenBlocks
from fishersft.numerics.certificates import Certificate
from fishersft.numerics.certify import CertificateMethod, certify
from fishersft.numerics.checkpoint import Checkpoint
from fishersft.numerics.device import resolve_device
from fishersft.numerics.greedy import BudgetUnit, Conditions, OnProgress, Picks, Progress, Rule
from fishersft.numerics.information import information_gains_along
from fishersft.numerics.lazy import lazy_greedy
from fishersft.numerics.prior import RegularizationUnit, absolute_regularization, start_factor
from fishersft.numerics.projection import (
    ProjectionLoss,
    optimum_loss_bound,
    projected,
    projection_loss,
)
from fishersft.numerics.reference import naive_greedy, paper_greedy
from fishersft.numerics.single_vectors import holds_single_vectors, vector_greedy
from fishersft.numerics.triangles import triangular
from fishersft.numerics.v_optimal import REFRESH, v_optimal_greedy

RULE_MARGIN = 1e-6  # relative
_DOUBTFUL = 0.3  # greedy reaches more of the best (with a token budget 0.316): a proof of less shows rounding


@dataclass(frozen=True, eq=False)
class Selection:
    """What was chosen, in the order chosen.

    Attributes:
        indices: (n,), int64; positions in the sequence of blocks.
        gains: (n,), float64; marginal gain of each pick, in nats; with "v-optimal" what each took off the mean
            prediction variance over the target.
        tokens: (n,), int64; tokens in each chosen block.
        information_gain: log det A_S - log det A_0 of the whole selection, in nats.
        criterion, algorithm, budget, budget_unit: as asked for.
        regularization: lambda, in the units of the squared embeddings.
        rule: what each pick had most of; with a token budget the rule that gave the higher information gain.
        evaluations: how many marginal gains were computed.
        exhausted: the budget covered all there was; every block that holds a token and is allowed is chosen.
        stopped: a further pick would have added less than `stop_below`.
        certificate: how near this is to the best possible selection of the budget, under the same conditions;
            None with "v-optimal", which has no such proof.
        projection_loss: what choosing in fewer dimensions can have cost in nats; None without a projection.
    """

    indices: np.ndarray
    gains: np.ndarray
    tokens: np.ndarray
    information_gain: float
    criterion: Criterion
    algorithm: Algorithm
    regularization: float
    budget: int
    budget_unit: BudgetUnit
    rule: Rule
    evaluations: int
    exhausted: bool
    stopped: bool
    certificate: Certificate | None
    projection_loss: ProjectionLoss | None

    def __len__(self) -> int:
        return len(self.indices)


def select(
    blocks: BlocksLike,
    budget: int,
    *,
    budget_unit: BudgetUnit = "sentences",
    regularization: float = 1.0,
    regularization_unit: RegularizationUnit = "absolute",
    criterion: Criterion = "information",
    target: BlocksLike | None = None,
    already_selected: BlocksLike | None = None,
    initial_information: np.ndarray | torch.Tensor | None = None,
    include: Sequence[int] | np.ndarray = (),
    exclude: Sequence[int] | np.ndarray = (),
    groups: Sequence[object] | np.ndarray | None = None,
    quotas: Mapping[object, int] | None = None,
    stop_below: float = 0.0,
    first_gains: np.ndarray | None = None,
    project_to: int | None = None,
    certificate: CertificateMethod = "prefix",
    certificate_seconds: float = 60.0,
    algorithm: Algorithm = "lazy",
    device: torch.device | str | None = None,
    seed: int = 0,
    checkpoint: Path | str | None = None,
    on_progress: OnProgress | None = None,
) -> Selection:
    """Choose token blocks greedily by information gain (D-optimal design), or by prediction variance (V-optimal).

        maximise log det(A_0 + sum over chosen i of X_i^T X_i),  A_0 = lambda I + what is known already

    one block at a time, each time the one that adds most; among equals the lower index. With a budget in
    sentences the result is at least 1 - 1/e of the best possible. With a budget in tokens only blocks that
    still fit are candidates, and it ends when none fits; it runs twice, by gain and by gain per token, and the
    better of the two is at least (1 - 1/e) / 2 of the best possible. With quotas it is at least 1/2.

    Args:
        blocks: a sequence of n blocks of shape (tokens_i, dim), `TokenBlocks`, or `StoredBlocks` that stay on
            disk; float16, bfloat16, float32 or float64. Blocks without tokens are never chosen. For weighted
            tokens, `TokenBlocks.weighted`.
        budget: how many sentences or tokens to choose, >= 1. More than there are: all, in greedy order.
        budget_unit: "sentences" or "tokens".
        regularization: lambda > 0, the prior's weight,
        regularization_unit: "absolute", in the units of the squared embeddings, or "mean token energy", as a share
            of the mean squared norm of a token's embedding in the pool.
        criterion: "information" maximises the log determinant; "v-optimal" minimises tr(A_S^-1 M), the mean
            prediction variance over the tokens of
        target: the blocks of what the model will be used on (for "v-optimal" only). That criterion is not
            submodular: there is no guarantee and no certificate, algorithm "naive" looks at every block in every
            step, and "lazy" takes old reductions as if they bounded today's, so it may miss the best block.
        already_selected: blocks of an earlier selection, to be extended: gains are conditioned on them. If they are
            in the pool too, `exclude` them.
        initial_information: (dim, dim), positive semidefinite; added to lambda I, beside `already_selected`.
        include: blocks that are chosen first in any case, and count against the budget.
        exclude: blocks that are never chosen.
        groups, quotas: the group of each block, and for some groups how many blocks of it may be chosen at most.
        stop_below: nats (or variance); a pick that would add less ends the run.
        first_gains: (n,), nats; at least log det(I + X_i X_i^T / lambda) of each block, where that is known, as by
            `spectra.first_gains`: spares "lazy" its first look at every block.
        project_to: choose in so many principal directions of the pool, which costs less. Gains and certificate are
            those of the blocks as they are; see `projection_loss`.
        certificate: "prefix", at no cost, or "frank-wolfe", tighter, computed for up to
        certificate_seconds: after the selection is made.
        algorithm: "lazy" (batched lazy greedy; for sentences of one vector, rank-one updates), or one of the
            slow references: "paper" (Algorithm 2 as published) and "naive" (Algorithm 1). All give the same picks.
        device: where "lazy" computes, as torch names it; None: a GPU if there is one. The references use
            the CPU.
        seed: has no effect today: all three algorithms are deterministic. It is part of the signature so that
            calls need not change when a randomised algorithm joins them.
        checkpoint: a file that holds the picks so far, renewed every few seconds. A call with the same arguments
            goes on from there and makes the same picks; the file is removed at the end.
        on_progress: called after each pick; with a token budget `spent` and `spendable` are of both runs.

    Returns:
        A `Selection`. A token budget smaller than every block gives an empty one.

    Raises:
        InputError: an argument out of its range, conditions that contradict each other, no block with a token,
            blocks that disagree in dim, or NaN or infinity in a block.

    Cost: see the algorithms, and `docs/benchmarks.md`.
    Source: Deb et al. (2025), arXiv:2505.14826, algorithms 1 and 2; Nemhauser, Wolsey and Fisher (1978);
        Leskovec et al. (2007), "Cost-effective outbreak detection in networks" (the better of two rules);
        Fisher, Nemhauser and Wolsey (1978) (quotas: a matroid).

    Example:
        >>> blocks = [np.array([[2.0, 0.0]]), np.array([[3.0, 0.0]]), np.array([[0.0, 1.0]])]
        >>> selection = select(blocks, budget=2)
        >>> selection.indices, selection.gains.round(4)  # log 10, then log 2
        (array([1, 2]), array([2.3026, 0.6931]))
    """
    check_arguments(budget, budget_unit, algorithm, criterion, certificate, stop_below, seed, certificate_seconds)
    pool = as_blocks(blocks)
    lengths = pool.lengths.numpy()
    if not lengths.any():
        raise InputError("no token block holds a token, so there is nothing to choose from")
    pool.check_finite()
    lam = absolute_regularization(pool, regularization, regularization_unit)
    earlier = None if already_selected is None else as_blocks(already_selected)
    cholesky = start_factor(pool.dim, lam, earlier, initial_information)
    conditions = Conditions(include, exclude, groups, quotas or {}, stop_below)
    moment = target_moment(criterion, algorithm, certificate, target, pool.dim, lam)
    on = resolve_device(device)
    if isinstance(pool, TokenBlocks) and algorithm == "lazy":
        pool = triangular(pool).to(on)
    directions = None if project_to is None else principal_directions(pool, project_to, criterion, cholesky)
    searched = pool if directions is None else projected(pool, directions)
    rules: tuple[Rule, ...] = ("gain", "gain per token") if budget_unit == "tokens" else ("gain",)
    runs = [Picks(lengths, searched.dim, int(budget), budget_unit, rule, conditions) for rule in rules]
    saved = None
    if checkpoint is not None:
        settings = (int(budget), budget_unit, lam, criterion, algorithm)
        saved = Checkpoint(Path(checkpoint), problem(searched, settings, cholesky, moment, conditions))

    known = None if first_gains is None or directions is not None else checked_gains(first_gains, len(pool))
    greedy = _algorithm(searched, algorithm, lam, moment, on, known)
    algorithm_ = partial(greedy, searched, regularization=lam, cholesky=cholesky)
    restart = REFRESH if moment is not None and algorithm == "lazy" else 1
    for part, picks in enumerate(runs):
        _run(algorithm_, picks, saved, restart, part_of(on_progress, part, len(rules)))
    # Both rules often choose the same blocks in another order: no more than rounding decides then.
    best = runs[int(runs[-1].gain > runs[0].gain * (1 + RULE_MARGIN))]

    indices = np.array(best.indices, dtype=np.int64)
    gains = np.array(best.gains, dtype=np.float64)
    proof = None
    if criterion == "information":
        included = len(np.unique(np.asarray(include)))
        proof = _proof(searched, runs, best, included, lam, cholesky, certificate, certificate_seconds)
    loss = None
    if directions is not None:
        gains = information_gains_along(pool, indices, lam)
        loss = projection_loss(pool, indices, directions, lam)
        if proof is not None:
            lost = optimum_loss_bound(pool, directions, int(budget), budget_unit, lam)
            proof = Certificate(math.fsum(gains), proof.upper_bound + lost, proof.method)
    information = gains if criterion == "information" else information_gains_along(pool, indices, lam, cholesky)
    if saved is not None:
        saved.remove()
    return Selection(
        indices=indices,
        gains=gains,
        tokens=lengths[indices],
        information_gain=math.fsum(information),
        criterion=criterion,
        algorithm=algorithm,
        regularization=lam,
        budget=int(budget),
        budget_unit=budget_unit,
        rule=best.rule,
        evaluations=sum(run.evaluations for run in runs),
        exhausted=len(indices) == int(np.count_nonzero(np.delete(lengths, np.asarray(exclude, dtype=np.int64)))),
        stopped=best.stopped,
        certificate=proof,
        projection_loss=loss,
    )


def _algorithm(
    blocks: Blocks,
    algorithm: Algorithm,
    regularization: float,
    moment: torch.Tensor | None,
    device: torch.device,
    first_gains: np.ndarray | None,
) -> Callable[..., None]:
    if moment is not None:
        return partial(v_optimal_greedy, target_moment=moment, every_block=algorithm == "naive", device=device)
    single = isinstance(blocks, TokenBlocks) and holds_single_vectors(blocks, regularization)
    fast = vector_greedy if single else partial(lazy_greedy, first_gains=first_gains)
    algorithms: dict[Algorithm, Callable[..., None]] = {
        "lazy": partial(fast, device=device),
        "paper": paper_greedy,
        "naive": naive_greedy,
    }
    return algorithms[algorithm]


def _run(
    algorithm: Callable[..., None],
    picks: Picks,
    saved: Checkpoint | None,
    restart: int,
    on_progress: OnProgress | None,
) -> None:
    """Run to the end; with a checkpoint from where it was left, saving also when Ctrl-C or an error ends it.

    `restart`: the algorithm can go on from a multiple of so many picks.
    """
    if saved is None:
        picks.on_progress = on_progress
        algorithm(picks=picks)
        return
    saved.restore(picks, restart)

    def save_and_report(progress: Progress) -> None:
        saved.save(picks)
        if on_progress is not None:
            on_progress(progress)

    picks.on_progress = save_and_report
    try:
        algorithm(picks=picks)
    finally:
        saved.save(picks, now=True)


def _proof(
    blocks: Blocks,
    runs: list[Picks],
    best: Picks,
    included: int,
    regularization: float,
    cholesky: torch.Tensor | None,
    method: CertificateMethod,
    time_limit: float,
) -> Certificate:
    """The least bound of those that the runs brought along and, where that is asked for or they say little, another."""
    bounds = [run.upper_bound for run in runs if run.upper_bound is not None]
    along = Certificate(math.fsum(best.gains), min(bounds), "prefix") if bounds else None
    if along is not None and method == "prefix" and along.ratio >= _DOUBTFUL:
        return along
    asked_for = certify(
        blocks,
        best,
        included,
        regularization=regularization,
        cholesky=cholesky,
        method=method,
        time_limit=time_limit,
    )
    return along if along is not None and along.upper_bound < asked_for.upper_bound else asked_for


def part_of(on_progress: OnProgress | None, part: int, parts: int) -> OnProgress | None:
    """Progress of one of several runs of the same size, as progress of all of them."""
    if on_progress is None:
        return None

    def report(progress: Progress) -> None:
        total = progress.spendable
        on_progress(replace(progress, spent=part * total + progress.spent, spendable=parts * total))

    return report
