"""By how much one choice differs from another, paired over held-out sentences and seeds, from the artifacts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow.parquet as pq

from fishersft.data.store import Store
from fishersft.numerics.crossed import Tested, holm, mean_difference, tail_difference, win_share
from fishersft.reporting.comparison import Basis, Versus
from fishersft.reporting.summary import Interval
from fishersft.steps.comparison_keys import CellKeys, DuelKeys, TrainedKeys
from fishersft.steps.findings import scores_of

WORST_SHARE = 0.1


def against_uniform(store: Store, groups: Iterable[Sequence[CellKeys]], basis: Basis) -> list[Versus]:
    """Every method at every budget against its uniform controls of a basis; nothing where there are none.

    Args:
        groups: the cells of a method at a budget, one a seed, for each.
    """
    return _corrected([_versus(store, cells, basis) for cells in groups])


def _versus(store: Store, cells: Sequence[CellKeys], basis: Basis) -> Versus:
    """A method against its uniform controls of a basis, over the seeds."""
    pairs = [(cell.chosen, *cell.control("tokens" if basis == "tokens and steps" else "sentences")) for cell in cells]
    return _difference(store, cells[0].method, "uniform", cells[0].budget, basis, pairs)


def head_to_head(store: Store, method: str, keys: Sequence[DuelKeys], basis: Basis) -> list[Versus]:
    """The first method against each other choice at each budget, over the seeds."""
    groups: dict[tuple[str, int], list[DuelKeys]] = {}
    for duel in keys:
        groups.setdefault((duel.other, duel.budget), []).append(duel)
    return _corrected(
        [
            _difference(store, method, other, budget, basis, [(duel.first, duel.second, duel.judged) for duel in of])
            for (other, budget), of in groups.items()
        ]
    )


def _difference(
    store: Store,
    method: str,
    other_method: str,
    budget: int,
    basis: Basis,
    pairs: Sequence[tuple[TrainedKeys, TrainedKeys, list[str]]],
) -> Versus:
    """A choice against another, by pairs of trainings with the judges' verdicts on them, a pair a seed."""
    mine, others = [one for one, _, _ in pairs], [other for _, other, _ in pairs]
    nll, tokens = held_out_nll(store, [of.evaluation for of in mine])
    other, _ = held_out_nll(store, [of.evaluation for of in others])
    difference, tail = mean_difference(nll, other, tokens), tail_difference(nll, other, tokens, WORST_SHARE)
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
        p=difference.p,
        p_corrected=difference.p,
        worst_tenth=Interval.of(tail),
        worst_tenth_p=tail.p,
        worst_tenth_p_corrected=tail.p,
        worst=Interval.of(tail_difference(nll, other, tokens, 0.0)),
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


def held_out_nll(store: Store, evaluations: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(seeds, sentences) summed negative log-likelihoods in nats, and (sentences,) loss tokens."""
    tables = [pq.read_table(store.fetch("evaluation", key) / "nll.parquet") for key in evaluations]
    assert all(table["tokens"].equals(tables[0]["tokens"]) for table in tables), "all measured on the same sentences"
    return np.stack([table["nll"].to_numpy() for table in tables]), tables[0]["tokens"].to_numpy()


def mean_fact(store: Store, trained: Sequence[TrainedKeys], name: str) -> float:
    return float(np.mean([store.get("training", of.trained).facts[name] for of in trained]))
