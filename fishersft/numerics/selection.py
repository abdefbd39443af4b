"""The public entry: choose the most informative token blocks under a budget."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch

from fishersft.errors import InputError
from fishersft.numerics.blocks import TokenBlocks
from fishersft.numerics.certificates import Certificate, prefix_bound
from fishersft.numerics.device import resolve_device
from fishersft.numerics.greedy import BudgetUnit, Picks, Progress, Rule
from fishersft.numerics.lazy import lazy_greedy
from fishersft.numerics.reference import naive_greedy, paper_greedy

Algorithm = Literal["lazy", "paper", "naive"]
_RULE_MARGIN = 1e-6  # relative


@dataclass(frozen=True, eq=False)
class Selection:
    """What was chosen, in the order chosen.

    Attributes:
        indices: (n,), int64; positions in the sequence of blocks.
        gains: (n,), float64; marginal gain of each pick, in nats.
        tokens: (n,), int64; tokens in each chosen block.
        information_gain: log det A_S - log det A_0 of the whole selection, in nats.
        algorithm, regularization, budget, budget_unit: as asked for.
        rule: what each pick had most of; with a token budget the rule that gave the higher information gain.
        evaluations: how many marginal gains were computed.
        exhausted: the budget covered all there was; every block that holds a token is chosen.
        certificate: how near this is to the best possible selection of the budget, proven by the prefix bound.
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
    certificate: Certificate

    def __len__(self) -> int:
        return len(self.indices)


def select(
    blocks: TokenBlocks | Sequence[np.ndarray | torch.Tensor | list[list[float]]],
    budget: int,
    *,
    budget_unit: BudgetUnit = "sentences",
    regularization: float = 1.0,
    algorithm: Algorithm = "lazy",
    device: torch.device | str | None = None,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> Selection:
    """Choose token blocks greedily by information gain (D-optimal design).

        maximise log det(lambda I + sum over chosen i of X_i^T X_i)

    one block at a time, each time the one that adds most; among equals the lower index. With a budget in
    sentences the result is at least 1 - 1/e of the best possible. With a budget in tokens only blocks that
    still fit are candidates, and it ends when none fits; it runs twice, by gain and by gain per token, and the
    better of the two is at least (1 - 1/e) / 2 of the best possible.

    Args:
        blocks: a sequence of n blocks of shape (tokens_i, dim), or `TokenBlocks`; float16, bfloat16, float32
            or float64 (gains are computed in float64). Blocks without tokens are never chosen.
        budget: how many sentences or tokens to choose, >= 1. More than there are: all, in greedy order.
        budget_unit: "sentences" or "tokens".
        regularization: lambda > 0, the prior's weight, in the units of the squared embeddings.
        algorithm: "lazy" (batched lazy greedy), or one of the slow references: "paper" (Algorithm 2 as
            published) and "naive" (Algorithm 1). All give the same picks.
        device: where "lazy" computes, as torch names it; None: a GPU if there is one. The references use
            the CPU.
        seed: has no effect today: all three algorithms are deterministic. It is part of the signature so that
            calls need not change when a randomised algorithm joins them.
        on_progress: called after each pick as on_progress(done, total), in the unit of the budget; with a token
            budget the total is of both runs.

    Returns:
        A `Selection`. A token budget smaller than every block gives an empty one.

    Raises:
        InputError: an argument out of its range, no block with a token, blocks that disagree in dim, or NaN
            or infinity in a block.

    Cost: see the algorithms, and `benchmarks/selection.py`.
    Source: Deb et al. (2025), arXiv:2505.14826, algorithms 1 and 2; Nemhauser, Wolsey and Fisher (1978);
        Leskovec et al. (2007), "Cost-effective outbreak detection in networks" (the better of two rules).

    Example:
        >>> blocks = [np.array([[2.0, 0.0]]), np.array([[3.0, 0.0]]), np.array([[0.0, 1.0]])]
        >>> selection = select(blocks, budget=2)
        >>> selection.indices, selection.gains.round(4)  # log 10, then log 2
        (array([1, 2]), array([2.3026, 0.6931]))
    """
    _check_arguments(budget, budget_unit, regularization, algorithm, seed)
    pool = blocks if isinstance(blocks, TokenBlocks) else TokenBlocks.from_sequence(blocks)
    lengths = pool.lengths.numpy()
    if not lengths.any():
        raise InputError("no token block holds a token, so there is nothing to choose from")
    pool.check_finite()

    algorithms: dict[Algorithm, Callable[..., Picks]] = {
        "lazy": partial(lazy_greedy, device=resolve_device(device)),
        "paper": paper_greedy,
        "naive": naive_greedy,
    }
    rules: tuple[Rule, ...] = ("gain", "gain per token") if budget_unit == "tokens" else ("gain",)
    runs: list[Picks] = [
        algorithms[algorithm](
            pool,
            int(budget),
            budget_unit=budget_unit,
            rule=rule,
            regularization=regularization,
            on_progress=_part_of(on_progress, part, len(rules)),
        )
        for part, rule in enumerate(rules)
    ]
    # Both rules often choose the same blocks in another order: no more than rounding decides then.
    best = int(runs[-1].information_gain > runs[0].information_gain * (1 + _RULE_MARGIN))
    picks = runs[best]
    indices = np.array(picks.indices, dtype=np.int64)
    information_gain = math.fsum(picks.gains)
    bounds = [run.upper_bound for run in runs if run.upper_bound is not None]
    if bounds:
        certificate = Certificate(information_gain, min(bounds), "prefix")
    else:
        certificate = prefix_bound(
            pool, indices, int(budget), budget_unit=budget_unit, regularization=float(regularization)
        )
    return Selection(
        indices=indices,
        gains=np.array(picks.gains, dtype=np.float64),
        tokens=lengths[indices],
        information_gain=information_gain,
        algorithm=algorithm,
        regularization=float(regularization),
        budget=int(budget),
        budget_unit=budget_unit,
        rule=rules[best],
        evaluations=sum(run.evaluations for run in runs),
        exhausted=bool(len(indices) == np.count_nonzero(lengths)),
        certificate=certificate,
    )


def _part_of(on_progress: Progress | None, part: int, parts: int) -> Progress | None:
    """Progress of one of several runs of the same size, as progress of all of them."""
    if on_progress is None:
        return None
    return lambda done, total: on_progress(part * total + done, parts * total)


def _check_arguments(
    budget: int, budget_unit: BudgetUnit, regularization: float, algorithm: Algorithm, seed: int
) -> None:
    if isinstance(budget, bool) or not isinstance(budget, numbers.Integral) or budget < 1:
        raise InputError(f"budget must be a whole number of at least 1, not {budget!r}")
    if budget_unit not in get_args(BudgetUnit):
        raise InputError(f"budget_unit must be one of {', '.join(get_args(BudgetUnit))}, not {budget_unit!r}")
    if algorithm not in get_args(Algorithm):
        raise InputError(f"algorithm must be one of {', '.join(get_args(Algorithm))}, not {algorithm!r}")
    is_number = isinstance(regularization, numbers.Real) and not isinstance(regularization, bool)
    if not is_number or not math.isfinite(regularization) or regularization <= 0:
        raise InputError(f"regularization must be a finite number above 0, not {regularization!r}")
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise InputError(f"seed must be a whole number, not {seed!r}")
