"""Reading a corpus into content-addressed shards, and reading rows back out of them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fishersft.config import CorpusConfig, CurateConfig
from fishersft.data.examples import Example, example_of
from fishersft.data.keys import digest_of
from fishersft.data.pool import Pool, PoolRow, read_pool, read_whole, shard_boundaries
from fishersft.data.readers import Row
from fishersft.data.rows import decode_row
from fishersft.data.store import Draft, Store
from fishersft.errors import InputError
from fishersft.steps.outcome import Outcome, find_or_make

CORPUS_VERSION = 1
SHARD_VERSION = 1


@dataclass(frozen=True)
class CorpusIndex:
    """What a corpus artifact says: its shards' keys in order, the held-out shard's, where rows came from, counts."""

    shards: list[str]
    held_out: str
    sources: dict[str, list[tuple[str, int]]]
    counts: dict[str, Any]

    def source_of(self, shard: str, row: int) -> tuple[str, int]:
        """The file and the row or line number there of a row of a shard."""
        name, number = self.sources[shard][row]
        return name, number


def read_corpus(store: Store, config: CurateConfig) -> Outcome:
    """Reads the corpus, sets held-out examples aside and saves the rest as shards: an artifact of kind "corpus".

    Raises:
        InputError: the corpus is missing, empty or malformed.
    """
    started = time.perf_counter()
    return _save_corpus(store, config, read_pool(config.corpus, config.seed), started)


def target_config(config: CurateConfig) -> CurateConfig:
    """The config with the selection's target in the place of the corpus: so it is read and embedded alike."""
    assert config.selection.target is not None
    return config.model_copy(update={"corpus": config.selection.target})


def read_target(store: Store, config: CurateConfig) -> Outcome:
    """Reads the selection's target and saves all of it as shards, none held out: an artifact of kind "corpus".

    Raises:
        InputError: the target is missing, empty or malformed.
    """
    started = time.perf_counter()
    config = target_config(config)
    try:
        whole = read_whole(config.corpus, config.seed)
    except InputError as error:
        raise InputError(f"selection.target, read as a corpus: {error}") from error
    return _save_corpus(store, config, whole, started)


def load_index(store: Store, corpus: str) -> CorpusIndex:
    """What the corpus artifact of that key says."""
    text = (store.fetch("corpus", corpus) / "corpus.json").read_text(encoding="utf-8")
    return CorpusIndex(**json.loads(text))


def shard_rows(store: Store, shard: str) -> list[dict[str, Any]]:
    """The rows of a shard, exactly as they came in."""
    table = pq.read_table(store.fetch("shard", shard) / "rows.parquet")
    return [decode_row(text) for text in table.column("row").to_pylist()]


def shard_examples(store: Store, config: CorpusConfig, shard: str) -> list[Example]:
    """The examples that the rows of a shard hold."""
    rows = (Row(data, f"shard {shard}", number) for number, data in enumerate(shard_rows(store, shard), start=1))
    examples = [example_of(row, config) for row in rows]
    assert all(example is not None for example in examples), "blank rows never enter a shard"
    return [example for example in examples if example is not None]


def _save_corpus(store: Store, config: CurateConfig, split: Pool, started: float) -> Outcome:
    slices = shard_boundaries([row.digest for row in split.pool], config.embedding.shard_rows)
    pieces = [split.pool[piece] for piece in slices]
    shards = [_save_shard(store, piece) for piece in pieces]
    held_out = _save_shard(store, split.held_out)
    index = CorpusIndex(
        shards,
        held_out,
        {
            key: [(row.source, row.number) for row in piece]
            for key, piece in zip([*shards, held_out], [*pieces, split.held_out], strict=True)
        },
        asdict(split.counts),
    )

    def write(draft: Draft) -> None:
        (draft.folder / "corpus.json").write_text(json.dumps(asdict(index)), encoding="utf-8")
        draft.started = started
        draft.facts.update(index.counts, shard_keys=shards)

    sources = [f"shard/{key}" for key in (*shards, held_out)]
    return find_or_make(store, "corpus", CORPUS_VERSION, {}, {"index": digest_of(asdict(index))}, write, sources)


def _save_shard(store: Store, rows: Sequence[PoolRow]) -> str:
    encoded = [row.encoded for row in rows]

    def write(draft: Draft) -> None:
        pq.write_table(pa.table({"row": pa.array(encoded, pa.string())}), draft.folder / "rows.parquet")
        draft.facts["rows"] = len(rows)

    return find_or_make(store, "shard", SHARD_VERSION, {}, {"rows": digest_of(encoded)}, write).key
