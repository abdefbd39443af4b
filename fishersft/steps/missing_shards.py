"""Which shards of a corpus are not embedded or sketched yet, and how much each holds."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.steps.embedding import embeddings_key
from fishersft.steps.models import prepare_model
from fishersft.steps.sketching import gradients_key
from fishersft.steps.tokens import tokenise_shard

MadeOfShards = Literal["embeddings", "gradients"]  # the kinds of artifact that workers make of a shard
_LOOKERS = 8  # a remote store answers one in tens of milliseconds


@dataclass(frozen=True)
class ShardToEmbed:
    """A shard, the kind and key of what is or will be made of it, and how many tokens the model reads of it."""

    shard: str
    kind: MadeOfShards
    key: str
    tokens: int


def shards_to_embed(
    store: Store, config: CurateConfig, shards: list[str], kind: MadeOfShards = "embeddings"
) -> list[ShardToEmbed]:
    """What embedding each of these shards means, or sketching its gradients.

    Raises:
        InputError: a shard or the model is missing.
    """
    model = prepare_model(store, config.model)

    def look(shard: str) -> ShardToEmbed:
        tokens = tokenise_shard(store, config, shard)
        key = embeddings_key if kind == "embeddings" else gradients_key
        return ShardToEmbed(shard, kind, key(model, config, tokens), tokens.facts["read"])

    with ThreadPoolExecutor(_LOOKERS) as lookers:
        return list(lookers.map(look, shards))


def missing_shards(store: Store, shards: Iterable[ShardToEmbed]) -> list[ShardToEmbed]:
    """Those of which the store does not hold what is to be made.

    Raises:
        InputError: the store fails, or has a damaged manifest there.
    """
    with ThreadPoolExecutor(_LOOKERS) as lookers:
        found = lookers.map(lambda shard: (shard, store.find(shard.kind, shard.key)), shards)
        return [shard for shard, manifest in found if manifest is None]
