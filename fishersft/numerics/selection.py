"""The public entry: choose the most informative token blocks under a budget."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import torch

from fishersft.errors import InputError
from fishersft.numerics.blocks import Blocks, TokenBlocks
from fishersft.numerics.certificates import Certificate
from fishersft.numerics.certify import CertificateMethod, certify
from fishersft.numerics.checkpoint import Checkpoint
from fishersft.numerics.device import resolve_device
from fishersft.numerics.greedy import BudgetUnit, Conditions, OnProgress, Picks, Progress, Rule
from fishersft.numerics.lazy import lazy_greedy
from fishersft.numerics.prior import RegularizationUnit, absolute_regularization, start_factor
from fishersft.numerics.reference import naive_greedy, paper_greedy
from fishersft.numerics.twins import fingerprints

Algorithm = Literal["lazy", "paper", "naive"]
BlocksLike = Blocks | Sequence[np.ndarray | torch.Tensor | list[list[float]]]
_RULE_MARGIN = 1e-6  # relative


@dataclass(frozen=True, eq=False)
class Selection:
    """What was chosen, in the order chosen.

    Attributes:
        indices: (n,), int64; positions in the sequence of blocks.
        gains: (n,), float64; marginal gain of each pick, in nats.
        tokens: (n,), int64; tokens in each chosen block.
        information_gain: log det A_S - log det A_0 of the whole selection, in nats.
        algorithm, budget, budget_unit: as asked for.
        regularization: lambda, in the units of the squared embeddings.
        rule: what each pick had most of; with a token budget the rule that gave the higher information gain.
        evaluations: how many marginal gains were computed.
        exhausted: the budget covered all there was; every block that holds a token and is allowed is chosen.
        stopped: a further pick would have added less than `stop_below`.
        certificate: how near this is to the best possible selection of the budget, under the same conditions.
    """

    indices: np.ndarray
    gains: np.ndarray
    tokens: np.ndarray
    information_gain: float
    algorithm: Algorithm
    regularization: float
    budget: int
    budget_unit: BudgetUnit
    rule: Rule
    evaluations: int
    exhausted: bool
    stopped: bool
    certificate: Certificate

    def __len__(self) -> int:
        return len(self.indices)


def select(
    blocks: BlocksLike,
    budget: int,
    *,
    budget_unit: BudgetUnit = "sentences",
    regularization: float = 1.0,
    regularization_unit: RegularizationUnit = "absolute",
    already_selected: BlocksLike | None = None,
    initial_information: np.ndarray | torch.Tensor | None = None,
    include: Sequence[int] | np.ndarray = (),
    exclude: Sequence[int] | np.ndarray = (),
    groups: Sequence[object] | np.ndarray | None = None,
    quotas: Mapping[object, int] | None = None,
    stop_below: float = 0.0,
    certificate: CertificateMethod = "prefix",
    certificate_seconds: float = 60.0,
    algorithm: Algorithm = "lazy",
    device: torch.device | str | None = None,
    seed: int = 0,
    checkpoint: Path | str | None = None,
    on_progress: OnProgress | None = None,
) -> Selection:
    """Choose token blocks greedily by information gain (D-optimal design).

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
        already_selected: blocks of an earlier selection, to be extended: gains are conditioned on them. If they are
            in the pool too, `exclude` them.
        initial_information: (dim, dim), positive semidefinite; added to lambda I, beside `already_selected`.
        include: blocks that are chosen first in any case, and count against the budget.
        exclude: blocks that are never chosen.
        groups, quotas: the group of each block, and for some groups how many blocks of it may be chosen at most.
        stop_below: nats; a pick that would add less ends the run.
        certificate: "prefix", at no cost, or "frank-wolfe", tighter, computed for up to
        certificate_seconds: after the selection is made.
        algorithm: "lazy" (batched lazy greedy), or one of the slow references: "paper" (Algorithm 2 as
            published) and "naive" (Algorithm 1). All give the same picks.
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
    _check_arguments(budget, budget_unit, algorithm, certificate, stop_below, seed)
    pool = as_blocks(blocks)
    lengths = pool.lengths.numpy()
    if not lengths.any():
        raise InputError("no token block holds a token, so there is nothing to choose from")
    pool.check_finite()
    lam = absolute_regularization(pool, regularization, regularization_unit)
    earlier = None if already_selected is None else as_blocks(already_selected)
    cholesky = start_factor(pool.dim, lam, earlier, initial_information)
    conditions = Conditions(include, exclude, groups, quotas or {}, stop_below)
    saved = None
    if checkpoint is not None:
        saved = Checkpoint(Path(checkpoint), _problem(pool, budget, budget_unit, lam, cholesky, conditions))

    on = resolve_device(device)
    if algorithm == "lazy" and isinstance(pool, TokenBlocks):
        pool = pool.to(on)
    algorithms: dict[Algorithm, Callable[..., None]] = {
        "lazy": partial(lazy_greedy, device=on),
        "paper": paper_greedy,
        "naive": naive_greedy,
    }
    rules: tuple[Rule, ...] = ("gain", "gain per token") if budget_unit == "tokens" else ("gain",)
    runs: list[Picks] = []
    for part, rule in enumerate(rules):
        report = _part_of(on_progress, part, len(rules))
        picks = Picks(lengths, pool.dim, int(budget), budget_unit, rule, conditions)
        picks.on_progress = report
        run = partial(algorithms[algorithm], pool, picks, regularization=lam, cholesky=cholesky)
        if saved is None:
            run()
        else:
            _resumably(run, picks, saved, report)
        runs.append(picks)

    # Both rules often choose the same blocks in another order: no more than rounding decides then.
    best = runs[int(runs[-1].gain > runs[0].gain * (1 + _RULE_MARGIN))]
    bounds = [run.upper_bound for run in runs if run.upper_bound is not None]
    proof = Certificate(math.fsum(best.gains), min(bounds), "prefix") if bounds else None
    if proof is None or certificate == "frank-wolfe":
        tight = certify(
            pool,
            best,
            len(np.unique(np.asarray(include))),
            regularization=lam,
            cholesky=cholesky,
            method=certificate,
            time_limit=certificate_seconds,
        )
        proof = tight if proof is None or tight.upper_bound < proof.upper_bound else proof
    if saved is not None:
        saved.remove()
    indices = np.array(best.indices, dtype=np.int64)
    allowed = np.setdiff1d(np.flatnonzero(lengths), exclude)
    return Selection(
        indices=indices,
        gains=np.array(best.gains, dtype=np.float64),
        tokens=lengths[indices],
        information_gain=math.fsum(best.gains),
        algorithm=algorithm,
        regularization=lam,
        budget=int(budget),
        budget_unit=budget_unit,
        rule=best.rule,
        evaluations=sum(run.evaluations for run in runs),
        exhausted=len(indices) == len(allowed),
        stopped=best.stopped,
        certificate=proof,
    )


def as_blocks(blocks: BlocksLike) -> Blocks:
    """Blocks as they are, or a sequence of arrays stacked."""
    if hasattr(blocks, "rows_of"):
        return cast(Blocks, blocks)
    return TokenBlocks.from_sequence(cast(Sequence[np.ndarray], blocks))


def _resumably(run: Callable[[], None], picks: Picks, saved: Checkpoint, report: OnProgress | None) -> None:
    """Run with what was chosen before, keeping the file up to date; also when it ends by Ctrl-C or an error."""
    picks.on_progress = None
    saved.restore(picks)

    def save_and_report(progress: Progress) -> None:
        saved.save(picks)
        if report is not None:
            report(progress)

    picks.on_progress = save_and_report
    try:
        run()
    finally:
        saved.save(picks, now=True)


def _problem(
    blocks: Blocks,
    budget: int,
    budget_unit: BudgetUnit,
    regularization: float,
    cholesky: torch.Tensor | None,
    conditions: Conditions,
) -> list[bytes]:
    """What determines the picks, as bytes."""
    sets = [np.unique(np.asarray(given, dtype=np.int64)) for given in (conditions.include, conditions.exclude)]
    groups = [] if conditions.groups is None else list(conditions.groups)
    plain = repr(
        (
            budget,
            budget_unit,
            regularization,
            conditions.stop_below,
            groups,
            sorted(map(repr, conditions.quotas.items())),
        )
    )
    start = b"" if cholesky is None else cholesky.numpy().tobytes()
    return [fingerprints(blocks).tobytes(), plain.encode(), *(part.tobytes() for part in sets), start]


def _part_of(on_progress: OnProgress | None, part: int, parts: int) -> OnProgress | None:
    """Progress of one of several runs of the same size, as progress of all of them."""
    if on_progress is None:
        return None

    def report(progress: Progress) -> None:
        total = progress.spendable
        on_progress(replace(progress, spent=part * total + progress.spent, spendable=parts * total))

    return report


def _check_arguments(
    budget: int,
    budget_unit: BudgetUnit,
    algorithm: Algorithm,
    certificate: CertificateMethod,
    stop_below: float,
    seed: int,
) -> None:
    if isinstance(budget, bool) or not isinstance(budget, numbers.Integral) or budget < 1:
        raise InputError(f"budget must be a whole number of at least 1, not {budget!r}")
    for name, value, known in (
        ("budget_unit", budget_unit, BudgetUnit),
        ("algorithm", algorithm, Algorithm),
        ("certificate", certificate, CertificateMethod),
    ):
        if value not in get_args(known):
            raise InputError(f"{name} must be one of {', '.join(get_args(known))}, not {value!r}")
    if not isinstance(stop_below, numbers.Real) or isinstance(stop_below, bool) or not stop_below >= 0:
        raise InputError(f"stop_below must be a number of nats of at least 0, not {stop_below!r}")
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise InputError(f"seed must be a whole number, not {seed!r}")
