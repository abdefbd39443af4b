"""What the greedy algorithms share: the budget, the conditions, the rule for ties, and the record of the picks."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fishersft.errors import InputError

BudgetUnit = Literal["sentences", "tokens"]
Rule = Literal["gain", "gain per token"]

_TIE_RELATIVE = 1e-9  # gains as close as this are equal, so that picks do not hang on the order of a sum
_TIE_ABSOLUTE = 1e-15  # times dim and the information gain: the rounding of a log determinant


@dataclass(frozen=True)
class Progress:
    """How far a greedy run is.

    Attributes:
        spent, spendable: of the budget, and all that can be spent of it.
        picks: how many blocks are chosen.
        gain: of them together, in nats.
        upper_bound: proven so far on the gain of any selection within the budget; None where there is none.
    """

    spent: int
    spendable: int
    picks: int
    gain: float
    upper_bound: float | None


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Conditions:
    """What a selection must hold and must not, and when it is enough.

    Args:
        include: blocks that are chosen in any case, before all others; they count against the budget.
        exclude: blocks that are never chosen.
        groups: (n,), the group of each block (any labels), where there are quotas.
        quotas: of a group, at most so many blocks; a group that is not named here is not limited.
        stop_below: nats; a pick that would add less than this ends the run (not one of `include`).
    """

    include: Sequence[int] | np.ndarray = ()
    exclude: Sequence[int] | np.ndarray = ()
    groups: Sequence[object] | np.ndarray | None = None
    quotas: Mapping[object, int] = field(default_factory=dict)
    stop_below: float = 0.0


class Picks:
    """What a greedy run has chosen so far, and what it may still choose.

    A block may be chosen while it holds a token, no condition forbids it, and its cost (1, or its tokens) fits
    what remains of the budget; as the budget only shrinks, a block that once did not fit is out for good.

    Args:
        lengths: (n,), int64; tokens in each block.
        dim: of the information matrix.
        budget: > 0, sentences or tokens.
        budget_unit: which of the two.
        rule: what the best block has most of.
        conditions: what must be chosen, and what must not.
        on_progress: called after each pick.

    Raises:
        InputError: conditions that name blocks that do not exist, contradict each other, or exceed the budget.

    Attributes:
        open: (n,), bool; may be chosen next. While blocks that must be included are left, only those.
        indices, gains: the picks in order, and their marginal gains.
        gain: their sum.
        weights: (n,), float64; what a block's gain is divided by before it is compared, by the rule.
        evaluations: gains computed, kept by the algorithm.
        impossible: (n,), bool; in no selection that meets budget and conditions.
        excludes: conditions exclude blocks.
        budget_unit, rule, on_progress: as given.
        free_budget: what the blocks that must be included leave of the budget.
        stopped: a pick would have added less than `stop_below`.
        upper_bound: on the gain of any selection of this kind, where the algorithm proved one.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        dim: int,
        budget: int,
        budget_unit: BudgetUnit = "sentences",
        rule: Rule = "gain",
        conditions: Conditions | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        conditions = conditions or Conditions()
        self.indices: list[int] = []
        self.gains: list[float] = []
        self.gain = 0.0
        self.evaluations = 0
        self.stopped = False
        self.upper_bound: float | None = None
        self.rule = rule
        self.budget_unit = budget_unit
        self.weights = np.maximum(lengths, 1.0) if rule == "gain per token" else np.ones(len(lengths))
        self._dim = dim
        self._costs = lengths if budget_unit == "tokens" else np.ones_like(lengths)
        self._highest_cost = int(self._costs.max(initial=0))
        self._spent, self._budget = 0, budget
        self.on_progress = on_progress
        self._stop_below = conditions.stop_below

        excluded = _mask(conditions.exclude, lengths, "exclude")
        self._required = _mask(conditions.include, lengths, "include")
        self._group, self._group_room = room_of_groups(conditions.groups, conditions.quotas, len(lengths))
        self._check_required(lengths, excluded, budget_unit)
        self.free_budget = budget - int(self._costs[self._required].sum())
        self._allowed = (lengths > 0) & ~excluded & (self._required | (self._costs <= self.free_budget))
        room_for_others = self._group_room - np.bincount(self._group[self._required], minlength=len(self._group_room))
        self._allowed[~self._required & (room_for_others[self._group] == 0)] = False
        self.impossible = ~self._allowed
        self.excludes = bool(excluded.any())
        self._spendable = min(budget, int(self._costs[self._allowed].sum()))
        self.open = self._choosable()

    @property
    def required_left(self) -> bool:
        """Whether blocks that must be included are still to be chosen."""
        return bool(self._required.any())

    def take(self, index: int, gain: float) -> bool:
        """Record the next pick and spend its cost; or stop, where it adds too little. Returns whether it is taken."""
        assert self.open[index], f"block {index} is not a candidate"
        if gain < self._stop_below and not self._required[index]:
            self.stopped = True
            self.open = np.zeros_like(self.open)
            return False
        self.indices.append(index)
        self.gains.append(gain)
        self.gain += gain
        self._spent += int(self._costs[index])
        self._required[index] = self._allowed[index] = False
        left = self._budget - self._spent
        if left < self._highest_cost:
            self._allowed[~self._required & (self._costs > left)] = False
        group = self._group[index]
        self._group_room[group] -= 1
        if self._group_room[group] == 0:
            self._allowed[self._group == group] = False
        self.open = self._choosable()
        if self.on_progress is not None:
            self.on_progress(Progress(self._spent, self._spendable, len(self.indices), self.gain, self.upper_bound))
        return True

    def beats(self, gain: float, best: float) -> bool:
        """Whether one (weighted) gain exceeds another by more than rounding; if not, the lower index stays."""
        rounding = _TIE_ABSOLUTE * (self._dim + self.gain)
        return gain * (1 - _TIE_RELATIVE) > best + rounding

    def _choosable(self) -> np.ndarray:
        return self._required.copy() if self._required.any() else self._allowed

    def _check_required(self, lengths: np.ndarray, excluded: np.ndarray, budget_unit: BudgetUnit) -> None:
        required = np.flatnonzero(self._required)
        for index in required:
            if excluded[index] or lengths[index] == 0:
                reason = "is among those to exclude" if excluded[index] else "holds no token"
                raise InputError(f"block {index} must be included but {reason}; leave it out of one of the two")
        cost = int(self._costs[required].sum())
        if cost > self._budget:
            raise InputError(
                f"the blocks that must be included cost {cost} {budget_unit}, more than the budget of "
                f"{self._budget}; raise it or include fewer"
            )
        wanted = np.bincount(self._group[required], minlength=len(self._group_room))
        if (wanted > self._group_room).any():
            group = int(np.flatnonzero(wanted > self._group_room)[0])
            first = int(np.flatnonzero(self._group == group)[0])
            raise InputError(
                f"{wanted[group]} blocks of the group of block {first} must be included, its quota is "
                f"{self._group_room[group]}; raise it or include fewer"
            )


def _mask(indices: Sequence[int] | np.ndarray, lengths: np.ndarray, name: str) -> np.ndarray:
    chosen = np.asarray(indices)
    mask = np.zeros(len(lengths), dtype=bool)
    if chosen.size == 0:
        return mask
    if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer):
        raise InputError(f"{name} must be a list of block numbers, not {chosen.dtype} of shape {chosen.shape}")
    if chosen.min() < 0 or chosen.max() >= len(lengths):
        wrong = chosen[(chosen < 0) | (chosen >= len(lengths))][0]
        raise InputError(f"{name} names block {wrong}; there are {len(lengths)}, the first is 0")
    mask[chosen] = True
    return mask


def room_of_groups(
    groups: Sequence[object] | np.ndarray | None, quotas: Mapping[object, int], n: int
) -> tuple[np.ndarray, np.ndarray]:
    """The group number of each block, and how many of each group there is room for.

    Args:
        groups, quotas: as `select` has them.
        n: how many blocks there are.

    Returns:
        (n,), int64, and (groups,), int64; n + 1 where there is no quota.

    Raises:
        InputError: groups are missing or not one a block, or a quota is of no group or no whole number of at least 0.
    """
    if not quotas:
        return np.zeros(n, dtype=np.int64), np.array([n + 1])
    if groups is None or len(groups) != n:
        came = "none" if groups is None else f"{len(groups)}"
        raise InputError(f"quotas need the group of each of the {n} blocks, in `groups`; there are {came}")
    try:
        labels = list(dict.fromkeys(groups))
    except TypeError as error:
        raise InputError(f"groups must be labels such as numbers or texts, one a block: {error}") from error
    room = dict.fromkeys(labels, n + 1)
    for label, quota in quotas.items():
        if label not in room:
            known = ", ".join(repr(label) for label in labels[:8])
            raise InputError(f"there is a quota for group {label!r}, but no block is of it; groups are {known}")
        if isinstance(quota, bool) or not isinstance(quota, numbers.Integral) or quota < 0:
            raise InputError(f"the quota of group {label!r} must be a whole number of at least 0, not {quota!r}")
        room[label] = quota
    number_of = {label: k for k, label in enumerate(labels)}
    return np.array([number_of[label] for label in groups]), np.array([room[label] for label in labels])
