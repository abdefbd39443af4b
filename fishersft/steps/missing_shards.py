"""Which shards of a corpus are not embedded yet, and how much each holds."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.steps.embedding import embeddings_key
from fishersft.steps.models import prepare_model
from fishersft.steps.tokens import tokenise_shard

_LOOKERS = 8  # a remote store answers one in tens of milliseconds


@dataclass(frozen=True)
class ShardToEmbed:
    """A shard, the key that its embeddings have or will have, and how many tokens the model reads of it."""

    shard: str
    embeddings: str
    tokens: int


def shards_to_embed(store: Store, config: CurateConfig, shards: list[str]) -> list[ShardToEmbed]:
    """What embedding each of these shards means.

    Raises:
        InputError: a shard or the model is missing.
    """
    model = prepare_model(store, config.model)

    def look(shard: str) -> ShardToEmbed:
        tokens = tokenise_shard(store, config, shard)
        return ShardToEmbed(shard, embeddings_key(model, config, tokens), tokens.facts["read"])

    with ThreadPoolExecutor(_LOOKERS) as lookers:
        return list(lookers.map(look, shards))


def missing_shards(store: Store, shards: Iterable[ShardToEmbed]) -> list[ShardToEmbed]:
    """Those whose embeddings the store does not hold.

    Raises:
        InputError: the store fails, or has a damaged manifest there.
    """
    with ThreadPoolExecutor(_LOOKERS) as lookers:
        found = lookers.map(lambda shard: (shard, store.find("embeddings", shard.embeddings)), shards)
        return [shard for shard, manifest in found if manifest is None]
