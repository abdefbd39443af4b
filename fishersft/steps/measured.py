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
from fishersft.steps.evaluation import measured_places
from fishersft.steps.held_out import evaluated_values


@dataclass(frozen=True)
class Measured:
    """The sentences that all models of a comparison are measured on, in the order of an evaluation's table.

    Attributes:
        tokens: int64 (sentences,); loss positions.
        base: float64 (sentences,); summed negative log-likelihoods under the model before training, in nats.
        groups: (sentences,); each one's value of `evaluation.macro_column`; None without.
    """

    tokens: np.ndarray
    base: np.ndarray
    groups: list[str] | None = None

    def mean(self, nll: np.ndarray) -> np.ndarray:
        """(models,), each one's nats a token, of summed likelihoods (models, sentences); the macro mean with groups."""
        return mean_nll(nll, self.tokens, self.groups)

    def difference(self, nll: np.ndarray, other: np.ndarray) -> Tested:
        """`mean_difference` of summed likelihoods (seeds, sentences)."""
        return mean_difference(nll, other, self.tokens, self.groups)

    def of_group(self, group: str) -> np.ndarray:
        """int64, the places of a group's sentences."""
        assert self.groups is not None
        return np.flatnonzero(np.array(self.groups) == group)

    def worst(self) -> np.ndarray:
        """int64, the places of the tenth of the sentences that the base model predicts worst."""
        return worst_tenth(self.base, self.tokens)

    def only(self, places: np.ndarray) -> Measured:
        """Some of the sentences, as one group."""
        return Measured(self.tokens[places], self.base[places])


def measured_sentences(store: Store, config: CurateConfig, corpus: str, base: str) -> Measured:
    """The sentences that a config measures on.

    Args:
        corpus: the corpus artifact's key.
        base: the key of the base model's evaluation.
    """
    nll, tokens = held_out_nll(store, [base])
    return Measured(tokens, nll[0], _column(store, config, corpus, config.evaluation.macro_column, "macro_column"))


def check_measured(store: Store, config: CurateConfig, corpus: str) -> None:
    """Looks at the columns that the outcome goes by, before anything is computed.

    Raises:
        InputError: a row to measure on lacks the column, or fewer than 2 sentences that are measured hold a value.
    """
    groups = _column(store, config, corpus, config.evaluation.macro_column, "macro_column")
    few = sorted(group for group, sentences in Counter(groups).items() if sentences < 2)
    if few:
        raise InputError(
            f"evaluation.macro_column {config.evaluation.macro_column!r}: of {few[0]!r} 1 sentence is measured, and an "
            f"interval needs 2 of every value; raise evaluation.sentences ({config.evaluation.sentences}) or "
            "corpus.held_out_fraction, or leave rows of that value out of what is measured on"
        )


def held_out_nll(store: Store, evaluations: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(models, sentences) summed negative log-likelihoods in nats, and (sentences,) loss tokens."""
    tables = [pq.read_table(store.fetch("evaluation", key) / "nll.parquet") for key in evaluations]
    assert all(table["tokens"].equals(tables[0]["tokens"]) for table in tables), "all measured on the same sentences"
    return np.stack([table["nll"].to_numpy() for table in tables]), tables[0]["tokens"].to_numpy()


def _column(store: Store, config: CurateConfig, corpus: str, column: str | None, setting: str) -> list[str] | None:
    """The column's value of each sentence that is measured."""
    if column is None:
        return None
    places = measured_places(store, config, corpus)
    return evaluated_values(store, config, corpus, column, f"evaluation.{setting}", places)
