"""What a selection has to heed beside its budget: quotas by a column, and an earlier selection that it extends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fishersft.config import CurateConfig
from fishersft.data.manifest import Manifest
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks
from fishersft.steps.corpus import CorpusIndex, shard_examples, shard_rows
from fishersft.steps.picks import load_picks, picked_blocks, picked_examples


@dataclass(frozen=True)
class Earlier:
    """What earlier selections chose.

    Attributes:
        blocks: of all their picks; None where nothing is extended.
        indices: (n,), int64; where their examples are in the pool now, in the order of the pool.
    """

    blocks: TokenBlocks | None
    indices: np.ndarray


def earlier_selections(store: Store, config: CurateConfig, index: CorpusIndex, embeddings: Sequence[str]) -> Earlier:
    """The selection that `selection.extends` names, and those that it extends itself.

    Examples are found again by their content, so the corpus may have grown or moved since.

    Args:
        index: of the pool.
        embeddings: the keys of the pool's embeddings.

    Raises:
        InputError: there is no such selection, it was embedded otherwise, or it chose the whole pool.
    """
    settings = config.selection
    keys = _chain(store, settings.extends)
    if not keys:
        return Earlier(None, np.empty(0, dtype=np.int64))
    now = _embedded_by(store.get("embeddings", embeddings[0]))
    for key in keys:
        first = store.get("selection", key).inputs["embeddings"][0]
        if _embedded_by(store.get("embeddings", first)) != now:
            raise InputError(
                f"selection.extends: the selection {key} was embedded otherwise (another model, model.max_tokens, "
                "model.dtype or criterion), so what it tells cannot be counted here; embed alike, or leave it out"
            )
    blocks = TokenBlocks.concatenate([picked_blocks(store, key, settings.criterion) for key in keys])
    chosen = {
        example.digest for key in keys for example in picked_examples(store, config.corpus, load_picks(store, key))
    }
    pool = [example.digest for shard in index.shards for example in shard_examples(store, config.corpus, shard)]
    indices = np.array([i for i, digest in enumerate(pool) if digest in chosen], dtype=np.int64)
    if len(indices) == len(pool):
        raise InputError(
            f"selection.extends: the selection {keys[0]} holds every example of the pool; add examples, or leave it out"
        )
    return Earlier(blocks, indices)


def quota_groups(store: Store, index: CorpusIndex, column: str) -> list[str]:
    """The value of a column as text, of each row of the pool.

    Raises:
        InputError: a row lacks the column, or holds null there.
    """
    groups = []
    for shard in index.shards:
        for number, row in enumerate(shard_rows(store, shard)):
            if row.get(column) is None:
                source, line = index.source_of(shard, number)
                raise InputError(
                    f"{source}:{line} has no {column!r}, which selection.quota_column names; its columns are: "
                    f"{', '.join(row)}"
                )
            groups.append(str(row[column]))
    return groups


def _chain(store: Store, selection: str | None) -> list[str]:
    keys = []
    while selection is not None:
        keys.append(selection)
        selection = store.get("selection", selection).params.get("extends")
    return keys


def _embedded_by(embeddings: Manifest) -> tuple[object, object]:
    return embeddings.params, embeddings.inputs["model"]
