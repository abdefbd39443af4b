"""Reading back what a selection artifact holds: its picks, and their rows, examples and token blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from fishersft.config import CorpusConfig
from fishersft.data.block_files import EMBEDDINGS_FILE, GRADIENTS_FILE, read_blocks, read_gradients, read_weights
from fishersft.data.examples import Example
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks
from fishersft.steps.corpus import shard_examples, shard_rows


@dataclass(frozen=True)
class SavedSelection:
    """A selection as saved: one entry a pick, in the order chosen."""

    shards: list[str]
    rows: list[int]
    gains: list[float]
    tokens: list[int]

    def first(self, most: int) -> SavedSelection:
        """The first picks, at most so many."""
        return SavedSelection(self.shards[:most], self.rows[:most], self.gains[:most], self.tokens[:most])


def load_picks(store: Store, selection: str) -> SavedSelection:
    """The picks of a selection artifact."""
    columns = pq.read_table(store.fetch("selection", selection) / "selection.parquet").to_pydict()
    return SavedSelection(columns["shard"], columns["row"], columns["gain"], columns["tokens"])


def picked_rows(store: Store, picks: SavedSelection) -> list[dict[str, Any]]:
    """The chosen rows, exactly as they came in, in the order chosen."""
    return _gather(picks, lambda shard: shard_rows(store, shard))


def picked_examples(store: Store, config: CorpusConfig, picks: SavedSelection) -> list[Example]:
    """The chosen examples, in the order chosen."""
    return _gather(picks, lambda shard: shard_examples(store, config, shard))


def picked_blocks(store: Store, selection: str, criterion: str) -> TokenBlocks:
    """The chosen sentences' token blocks, in the order chosen."""
    embeddings = _embeddings_of_shards(store, selection)
    chosen = _gather(load_picks(store, selection), lambda shard: shard_blocks(store, embeddings[shard], criterion))
    return TokenBlocks.from_sequence(chosen)


def picked_gradients(store: Store, selection: str, kind: str) -> np.ndarray:
    """The chosen sentences' gradient sketches, in the order chosen: (picks, dim), float64.

    Args:
        kind: of the artifacts that have them, "embeddings" (the last layer's) or "gradients" (those of all layers).

    Raises:
        InputError: the selection was made without gradients of all layers.
    """
    inputs = store.get("selection", selection).inputs
    if kind not in inputs:
        raise InputError(
            f"selection.extends: the selection {selection} was made without gradients of all layers, so what it chose "
            "cannot be counted here; extend one with selection.gradients: all layers, or take last layer"
        )
    names = {shard: f"{kind}/{key}" for shard, key in zip(inputs["shards"], inputs[kind], strict=True)}
    return np.stack(_gather(load_picks(store, selection), lambda shard: shard_gradients(store, names[shard])))


def shard_blocks(store: Store, embeddings: str, criterion: str) -> TokenBlocks:
    """The token blocks of an embeddings artifact, weighted where the criterion weighs them."""
    file = store.fetch("embeddings", embeddings) / EMBEDDINGS_FILE
    blocks = read_blocks(file)
    return blocks.weighted(read_weights(file)) if criterion == "fisher-weighted" else blocks


def shard_gradients(store: Store, artifact: str) -> np.ndarray:
    """The gradient sketches of an artifact, "embeddings/KEY" or "gradients/KEY": (sentences, dim), float64."""
    return read_gradients(store.fetch(*artifact.split("/")) / GRADIENTS_FILE).double().numpy()


def _embeddings_of_shards(store: Store, selection: str) -> dict[str, str]:
    """By shard, the key of its embeddings under which a selection was made."""
    inputs = store.get("selection", selection).inputs
    return dict(zip(inputs["shards"], inputs["embeddings"], strict=True))


def _gather(picks: SavedSelection, read: Callable[[str], Any]) -> list[Any]:
    shards = {shard: read(shard) for shard in sorted(set(picks.shards))}
    return [shards[shard][row] for shard, row in zip(picks.shards, picks.rows, strict=True)]
