"""The held-out sentences that a comparison's models are measured on, and how they count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.numerics.crossed import Tested, mean_difference, mean_nll, worst_tenth
from fishersft.steps.comparison_keys import TrainedKeys
from fishersft.steps.evaluation import measured_places
from fishersft.steps.held_out import evaluated_values


@dataclass(frozen=True)
class Measured:
    """The sentences that all models of a comparison are measured on, in the order of an evaluation's table.

    Attributes:
        tokens: int64 (sentences,); loss positions.
        base: float64 (sentences,); summed negative log-likelihoods under the model before training, in nats.
        groups: (sentences,); each one's value of `evaluation.macro_column`; None without.
        clusters: (sentences,); each one's value of `evaluation.cluster_column`; None without.
    """

    tokens: np.ndarray
    base: np.ndarray
    groups: list[str] | None = None
    clusters: list[str] | None = None

    def mean(self, nll: np.ndarray) -> np.ndarray:
        """(models,), each one's nats a token, of summed likelihoods (models, sentences); the macro mean with groups."""
        return mean_nll(nll, self.tokens, self.groups)

    def difference(self, nll: np.ndarray, other: np.ndarray) -> Tested:
        """`mean_difference` of summed likelihoods (seeds, sentences)."""
        return mean_difference(nll, other, self.tokens, self.groups, self.clusters)

    def of_group(self, group: str) -> np.ndarray:
        """int64, the places of a group's sentences."""
        assert self.groups is not None
        return np.flatnonzero(np.array(self.groups) == group)

    def deviation_over_orders(self, nll: np.ndarray, other: np.ndarray) -> float | None:
        """The standard deviation of the difference over orders of training, pooled over seeds; None with one order.

        Args:
            nll, other: (seeds, orders, sentences).
        """
        if nll.shape[1] < 2:
            return None
        by_order = np.array([self.mean(of_seed) for of_seed in nll - other])
        return float(np.sqrt(by_order.var(axis=1, ddof=1).mean()))

    def worst(self) -> np.ndarray:
        """int64, the places of the tenth of the sentences that the base model predicts worst."""
        return worst_tenth(self.base, self.tokens)

    def difference_on_worst(self, nll: np.ndarray, other: np.ndarray) -> Tested | None:
        """That on the worst tenth alone, over all of its tokens; None where one cluster holds all of it."""
        places = self.worst()
        part = self.only(places)
        if part.clusters is not None and len(set(part.clusters)) < 2:
            return None
        return part.difference(nll[:, places], other[:, places])

    def only(self, places: np.ndarray) -> Measured:
        """Some of the sentences, as one group."""
        clusters = None if self.clusters is None else [self.clusters[place] for place in places]
        return Measured(self.tokens[places], self.base[places], clusters=clusters)


def measured_sentences(store: Store, config: CurateConfig, corpus: str, base: str) -> Measured:
    """The sentences that a config measures on.

    Args:
        corpus: the corpus artifact's key.
        base: the key of the base model's evaluation.
    """
    nll, tokens = held_out_nll(store, [base])
    return Measured(tokens, nll[0], *_columns(store, config, corpus))


def check_measured(store: Store, config: CurateConfig, corpus: str) -> None:
    """Looks at the columns that the outcome goes by, before anything is computed.

    Raises:
        InputError: a row to measure on lacks a column; or there are fewer than 2 clusters, or than 2 sentences or
            clusters of a group.
    """
    groups, clusters = _columns(store, config, corpus)
    if clusters is not None and len(set(clusters)) < 2:
        raise InputError(
            f"evaluation.cluster_column {config.evaluation.cluster_column!r}: all that is measured has the value "
            f"{clusters[0]!r}, and an interval needs 2 clusters; name another column, or leave it out"
        )
    if groups is None:
        return
    what = "sentence" if clusters is None else "cluster"
    found = set(zip(groups, range(len(groups)) if clusters is None else clusters, strict=True))
    few = sorted(group for group, members in Counter(group for group, _ in found).items() if members < 2)
    if few:
        raise InputError(
            f"evaluation.macro_column {config.evaluation.macro_column!r}: of {few[0]!r} 1 {what} is measured, and an "
            f"interval needs 2 of every value; raise evaluation.sentences ({config.evaluation.sentences}) or "
            "corpus.held_out_fraction, or leave rows of that value out of what is measured on"
        )


def held_out_nll(store: Store, evaluations: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(models, sentences) summed negative log-likelihoods in nats, and (sentences,) loss tokens."""
    tables = [pq.read_table(store.fetch("evaluation", key) / "nll.parquet") for key in evaluations]
    assert all(table["tokens"].equals(tables[0]["tokens"]) for table in tables), "all measured on the same sentences"
    return np.stack([table["nll"].to_numpy() for table in tables]), tables[0]["tokens"].to_numpy()


def trained_nll(store: Store, trained: Sequence[TrainedKeys]) -> np.ndarray:
    """(seeds, orders, sentences) summed negative log-likelihoods in nats, of choices trained in as many orders."""
    return np.stack([held_out_nll(store, [training.evaluation for training in of.orders])[0] for of in trained])


def _columns(store: Store, config: CurateConfig, corpus: str) -> tuple[list[str] | None, list[str] | None]:
    """The group and the cluster of each sentence that is measured."""
    settings = config.evaluation
    if settings.macro_column is None and settings.cluster_column is None:
        return None, None
    places = measured_places(store, config, corpus)

    def values(setting: str, column: str | None) -> list[str] | None:
        if column is None:
            return None
        return evaluated_values(store, config, corpus, column, f"evaluation.{setting}", places)

    return values("macro_column", settings.macro_column), values("cluster_column", settings.cluster_column)
