"""Finding a corpus again by the listing of its files, so that an unchanged one is not read."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fishersft.config import CurateConfig
from fishersft.data.keys import artifact_key, digest_of
from fishersft.data.readers import file_signatures
from fishersft.data.store import Manifest, Store
from fishersft.steps.outcome import Outcome, find_or_make, used

LISTING_VERSION = 1

_LOOKERS = 8  # a remote store answers one in tens of milliseconds


def found_or_read(store: Store, config: CurateConfig, further: dict[str, Any], read: Callable[[], Outcome]) -> Outcome:
    """The corpus artifact that an earlier run made of the same files, or what `read` gives.

    What a run read is noted as an artifact of kind "listing": its key holds the files' names and signatures and all
    settings that reading heeds, its fact `corpus` is the corpus artifact's key. Files that changed while they were
    read are not noted.

    Args:
        further: what the corpus depends on beside files and settings.
        read: reads the corpus and saves it.

    Raises:
        InputError: a path of the corpus matches nothing, or as `read` does.
    """
    files = file_signatures(config.corpus)
    if files is None:
        return read()
    params = {
        **further,
        "corpus": config.corpus.model_dump(exclude={"path", "chat_template"}),
        "seed": config.seed,
        "shard_rows": config.embedding.shard_rows,
    }
    inputs = {"files": digest_of(files)}
    known = store.find("listing", artifact_key("listing", LISTING_VERSION, params, inputs))
    found = None if known is None else _whole(store, known.facts["corpus"])
    if known is not None and found is not None:
        used(store, known, hit=True)
        return used(store, found, hit=True)
    outcome = read()
    if file_signatures(config.corpus) == files:
        made_from = [f"corpus/{outcome.key}"]
        note = {"corpus": outcome.key}
        find_or_make(
            store, "listing", LISTING_VERSION, params, inputs, lambda draft: draft.facts.update(note), made_from
        )
    return outcome


def _whole(store: Store, corpus: str) -> Manifest | None:
    """A corpus artifact of which the store still has every shard."""
    found = store.find("corpus", corpus)
    if found is None:
        return None
    shards = [*found.facts["shard_keys"], found.facts["held_out_key"]]
    with ThreadPoolExecutor(_LOOKERS) as lookers:
        if None in lookers.map(lambda shard: store.find("shard", shard), shards):
            return None
    return found
