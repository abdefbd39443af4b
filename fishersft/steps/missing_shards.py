"""Which shards of a corpus are not embedded yet, and how much text each holds."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.steps.corpus import shard_examples
from fishersft.steps.embedding import embeddings_key
from fishersft.steps.models import most_tokens, prepare_model

_LOOKERS = 8  # a remote store answers one in tens of milliseconds
_CHARACTERS_A_TOKEN = 4  # about, in English; a longer text than the most tokens is cut


@dataclass(frozen=True)
class ShardToEmbed:
    """A shard, the key that its embeddings have or will have, and about how many characters the model reads of it."""

    shard: str
    embeddings: str
    characters: int


def shards_to_embed(store: Store, config: CurateConfig, shards: list[str]) -> list[ShardToEmbed]:
    """What embedding each of these shards means.

    Raises:
        InputError: a shard or the model is missing.
    """
    model = prepare_model(store, config.model)
    longest = _CHARACTERS_A_TOKEN * most_tokens(model, config.model)

    def look(shard: str) -> ShardToEmbed:
        examples = shard_examples(store, config.corpus, shard)
        characters = sum(min(len(example.canonical()), longest) for example in examples)
        return ShardToEmbed(shard, embeddings_key(model, config, examples), characters)

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
