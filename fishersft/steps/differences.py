"""By how much one choice differs from another, paired over held-out sentences and seeds, from the artifacts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from fishersft.data.store import Store
from fishersft.numerics.crossed import Tested, holm, win_share, worst_difference
from fishersft.numerics.greedy import BudgetUnit
from fishersft.reporting.comparison import Basis, GroupOutcome, Versus
from fishersft.reporting.summary import Interval
from fishersft.steps.comparison_keys import CellKeys, DuelKeys, TrainedKeys
from fishersft.steps.findings import scores_of
from fishersft.steps.measured import Measured, trained_nll


def against_uniform(
    store: Store, measured: Measured, choices: Iterable[Sequence[CellKeys]], basis: Basis
) -> list[Versus]:
    """Every method at every budget against its uniform controls of a basis; nothing where there are none.

    Args:
        choices: the cells of a method at a budget, one a seed, for each.
    """
    return _corrected([_versus(store, measured, cells, basis) for cells in choices])


def in_groups(
    store: Store, measured: Measured, choices: Iterable[Sequence[CellKeys]], unit: BudgetUnit
) -> list[GroupOutcome]:
    """Every method at every budget against its uniform controls, a group of sentences at a time.

    The groups that the base model predicts worst come first; none where sentences have no groups.

    Args:
        choices: as of `against_uniform`.
        unit: what the budget counts, and so what the uniform controls have as much of.
    """
    if measured.groups is None:
        return []
    parts = {group: measured.of_group(group) for group in sorted(set(measured.groups))}
    base = {group: float(measured.only(places).mean(measured.base[None, places])[0]) for group, places in parts.items()}
    found = []
    for cells in choices:
        nll = trained_nll(store, [cell.chosen for cell in cells]).mean(axis=1)
        uniform = trained_nll(store, [cell.control(unit)[0] for cell in cells]).mean(axis=1)
        for group in sorted(parts, key=lambda group: -base[group]):
            places, part = parts[group], measured.only(parts[group])
            found.append(
                GroupOutcome(
                    method=cells[0].method,
                    budget=cells[0].budget,
                    group=group,
                    sentences=len(places),
                    tokens=int(part.tokens.sum()),
                    base=base[group],
                    uniform=float(part.mean(uniform[:, places]).mean()),
                    mean=float(part.mean(nll[:, places]).mean()),
                    difference=Interval.of(part.difference(nll[:, places], uniform[:, places])),
                )
            )
    return found


def _versus(store: Store, measured: Measured, cells: Sequence[CellKeys], basis: Basis) -> Versus:
    """A method against its uniform controls of a basis, over the seeds."""
    pairs = [(cell.chosen, *cell.control("tokens" if basis == "tokens and steps" else "sentences")) for cell in cells]
    return _difference(store, measured, cells[0].method, "uniform", cells[0].budget, basis, pairs)


def head_to_head(store: Store, measured: Measured, method: str, keys: Sequence[DuelKeys], basis: Basis) -> list[Versus]:
    """The first method against each other choice at each budget, over the seeds."""
    groups: dict[tuple[str, int], list[DuelKeys]] = {}
    for duel in keys:
        groups.setdefault((duel.other, duel.budget), []).append(duel)
    return _corrected(
        [
            _difference(
                store,
                measured,
                method,
                other,
                budget,
                basis,
                [(duel.first, duel.second, duel.judged) for duel in of],
            )
            for (other, budget), of in groups.items()
        ]
    )


def _difference(
    store: Store,
    measured: Measured,
    method: str,
    other_method: str,
    budget: int,
    basis: Basis,
    pairs: Sequence[tuple[TrainedKeys, TrainedKeys, list[str]]],
) -> Versus:
    """A choice against another, by pairs of trainings with the judges' verdicts on them, a pair a seed."""
    mine, others = [one for one, _, _ in pairs], [other for _, other, _ in pairs]
    in_orders, others_in_orders = trained_nll(store, mine), trained_nll(store, others)
    nll, other = in_orders.mean(axis=1), others_in_orders.mean(axis=1)
    difference, tail = measured.difference(nll, other), measured.difference_on_worst(nll, other)
    won = _won(store, [judged[0] for _, _, judged in pairs if judged])
    return Versus(
        method=method,
        other=other_method,
        budget=budget,
        basis=basis,
        sentences=mean_fact(store, mine, "sentences"),
        other_sentences=mean_fact(store, others, "sentences"),
        tokens=mean_fact(store, mine, "tokens_per_epoch"),
        other_tokens=mean_fact(store, others, "tokens_per_epoch"),
        steps=mean_fact(store, mine, "steps"),
        other_steps=mean_fact(store, others, "steps"),
        mean=Interval.of(difference),
        excluded_gain=max(0.0, -difference.bound),
        deviation_over_orders=measured.deviation_over_orders(in_orders, others_in_orders),
        p=difference.p,
        p_corrected=difference.p,
        worst_tenth=None if tail is None else Interval.of(tail),
        worst_tenth_p=None if tail is None else tail.p,
        worst_tenth_p_corrected=None if tail is None else tail.p,
        worst=Interval.of(worst_difference(nll, other, measured.tokens)),
        win_rate=None if won is None else Interval.of(won),
        win_p=None if won is None else won.p,
        win_p_corrected=None if won is None else won.p,
    )


def _corrected(versus: list[Versus]) -> list[Versus]:
    """The same with p-values corrected for how many there are, of each kind."""
    for name in ("p", "worst_tenth_p", "win_p"):
        known = [item for item in versus if getattr(item, name) is not None]
        corrected = dict(zip(map(id, known), holm([getattr(item, name) for item in known]), strict=True))
        versus = [item.model_copy(update={f"{name}_corrected": corrected.get(id(item))}) for item in versus]
    return versus


def _won(store: Store, judgements: Sequence[str]) -> Tested | None:
    """The judge's verdicts over seeds and prompts; None where there are none, or all pairs were the same text."""
    if not judgements:
        return None
    scores = np.stack([scores_of(store, key) for key in judgements])
    return None if np.isnan(scores).all() else win_share(scores)


def mean_fact(store: Store, trained: Sequence[TrainedKeys], name: str) -> float:
    return float(np.mean([store.get("training", of.trained).facts[name] for of in trained]))
