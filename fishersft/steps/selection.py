"""Merging the shards' embeddings and choosing sentences: selections as artifacts, by information gain or at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fishersft import baselines
from fishersft.config import CorpusConfig, CurateConfig
from fishersft.data.block_files import EMBEDDINGS_FILE, read_blocks, read_weights
from fishersft.data.examples import Example
from fishersft.data.store import Draft, Store
from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks, information_gains_along, select
from fishersft.steps.corpus import load_index, shard_examples, shard_rows
from fishersft.steps.outcome import OnProgress, Outcome, find_or_make

SELECTION_VERSION = 3
UNIFORM_VERSION = 1

T = TypeVar("T")


@dataclass(frozen=True)
class SavedSelection:
    """A selection as saved: one entry a pick, in the order chosen."""

    shards: list[str]
    rows: list[int]
    gains: list[float]
    tokens: list[int]


def select_informative(
    store: Store, config: CurateConfig, corpus: str, embeddings: Sequence[str], on_progress: OnProgress = None
) -> Outcome:
    """Greedy selection by information gain over all shards: an artifact of kind "selection".

    With the criterion "fisher-weighted" the gain is that of the weighted tokens.

    Args:
        corpus: the corpus artifact's key.
        embeddings: the embeddings artifacts' keys, in the order of the corpus's shards.
        on_progress: called with (budget spent, budget).
    """
    settings = config.selection

    def choose(blocks: TokenBlocks) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        selection = select(
            blocks,
            settings.budget,
            budget_unit=settings.budget_unit,
            regularization=settings.regularization,
            algorithm=settings.algorithm,
            device=config.device,
            on_progress=on_progress,
        )
        if not len(selection):
            shortest = int(blocks.lengths[blocks.lengths > 0].min())
            raise InputError(
                f"selection.budget {settings.budget} tokens is less than the shortest sentence of the pool has "
                f"({shortest}); raise it"
            )
        facts = {
            "exhausted": selection.exhausted,
            "evaluations": selection.evaluations,
            "rule": selection.rule,
            "certificate": str(selection.certificate),
            "upper_bound": selection.certificate.upper_bound,
        }
        return selection.indices, selection.gains, facts

    return _save_selection(
        store, corpus, embeddings, settings.criterion, SELECTION_VERSION, settings.model_dump(), choose
    )


def select_uniform(store: Store, config: CurateConfig, corpus: str, embeddings: Sequence[str], tokens: int) -> Outcome:
    """A seeded uniform selection of about `tokens` loss tokens, with its gains: an artifact of kind "selection".

    The gains are by the config's criterion, so that they compare with those of the informative selection.
    """
    settings = config.selection

    def choose(blocks: TokenBlocks) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        indices = baselines.uniform(blocks.lengths, tokens, budget_unit="tokens", seed=config.seed)
        return indices, information_gains_along(blocks, indices, settings.regularization), {}

    params = {
        "method": "uniform",
        "tokens": tokens,
        "seed": config.seed,
        "regularization": settings.regularization,
        "criterion": settings.criterion,
    }
    return _save_selection(store, corpus, embeddings, settings.criterion, UNIFORM_VERSION, params, choose)


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


def _gather(picks: SavedSelection, read: Callable[[str], list[T]]) -> list[T]:
    shards = {shard: read(shard) for shard in sorted(set(picks.shards))}
    return [shards[shard][row] for shard, row in zip(picks.shards, picks.rows, strict=True)]


def _shard_blocks(store: Store, embeddings: str, criterion: str) -> TokenBlocks:
    file = store.fetch("embeddings", embeddings) / EMBEDDINGS_FILE
    blocks = read_blocks(file)
    return blocks.weighted(read_weights(file)) if criterion == "fisher-weighted" else blocks


def _save_selection(
    store: Store,
    corpus: str,
    embeddings: Sequence[str],
    criterion: str,
    version: int,
    params: dict[str, Any],
    choose: Callable[[TokenBlocks], tuple[np.ndarray, np.ndarray, dict[str, Any]]],
) -> Outcome:
    shards = load_index(store, corpus).shards
    assert len(shards) == len(embeddings), "one embeddings artifact a shard"

    def write(draft: Draft) -> None:
        pieces = [_shard_blocks(store, key, criterion) for key in embeddings]
        blocks = TokenBlocks.concatenate(pieces)
        indices, gains, facts = choose(blocks)
        sizes = [len(piece) for piece in pieces]
        shard_of = np.repeat(np.arange(len(shards)), sizes)
        row_of = np.concatenate([np.arange(size) for size in sizes])
        tokens = blocks.lengths.numpy()[indices]
        table = pa.table(
            {
                "rank": pa.array(range(1, len(indices) + 1), pa.int64()),
                "shard": pa.array([shards[place] for place in shard_of[indices]], pa.string()),
                "row": pa.array(row_of[indices], pa.int64()),
                "gain": pa.array(gains, pa.float64()),
                "tokens": pa.array(tokens, pa.int64()),
            }
        )
        pq.write_table(table, draft.folder / "selection.parquet")
        draft.facts.update(
            facts, sentences=len(indices), tokens=int(tokens.sum()), information_gain=float(np.sum(gains))
        )

    inputs = {"shards": shards, "embeddings": list(embeddings)}
    return find_or_make(store, "selection", version, params, inputs, write)
