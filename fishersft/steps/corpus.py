"""Reading a corpus into content-addressed shards, and reading rows back out of them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fishersft.config import CorpusConfig, CurateConfig
from fishersft.config.corpus import OF_AN_EXAMPLE
from fishersft.data.examples import Example
from fishersft.data.formats import example_of
from fishersft.data.keys import digest_of
from fishersft.data.pool import Pool, ReadRows, read_pool, read_whole
from fishersft.data.readers import Row
from fishersft.data.rows import decode_row
from fishersft.data.shards import pool_shards
from fishersft.data.spool import Spool
from fishersft.data.store import Draft, Store
from fishersft.errors import InputError
from fishersft.steps.listing import found_or_read
from fishersft.steps.outcome import Outcome, find_or_make

# Raise it too when a file is read into other rows: what was read is found again without reading (see listing.py).
CORPUS_VERSION = 3
SHARD_VERSION = 1

_VERSIONS = {"corpus_version": CORPUS_VERSION, "shard_version": SHARD_VERSION}
_WRITERS = 8  # a remote store answers one in tens of milliseconds, whatever the machine


@dataclass(frozen=True)
class CorpusIndex:
    """What a corpus artifact says.

    Attributes:
        shards: the shards' keys in order.
        held_out: the held-out shard's.
        rows: how many rows each shard has, and then the held-out one.
        counts: what became of the rows read, see `ReadCounts`.
        folder: the artifact's; `sources.parquet` there says where each row came from.
    """

    shards: list[str]
    held_out: str
    rows: list[int]
    counts: dict[str, Any]
    folder: Path

    def source_of(self, shard: str, row: int) -> tuple[str, int]:
        """The file and the row or line number there of a row of a shard."""
        before = [*self.shards, self.held_out].index(shard)
        place = sum(self.rows[:before]) + row
        return self._sources["file"][place].as_py(), self._sources["number"][place].as_py()

    @cached_property
    def _sources(self) -> pa.Table:
        return pq.read_table(self.folder / "sources.parquet", read_dictionary=["file"])


def read_corpus(store: Store, config: CurateConfig) -> Outcome:
    """Reads the corpus, sets held-out examples aside and saves the rest as shards: an artifact of kind "corpus".

    A corpus whose files are listed as at an earlier run is not read, see `found_or_read`.

    Raises:
        InputError: the corpus is missing, empty or malformed; or the disk is full.
    """
    return found_or_read(store, config, {**_VERSIONS, "split": True}, lambda: _read(store, config, read_pool))


def target_config(config: CurateConfig) -> CurateConfig:
    """The config with its target in the place of the corpus: so it is read and embedded alike."""
    assert config.target is not None
    return _with_corpus(config, config.target)


def read_target(store: Store, config: CurateConfig) -> Outcome:
    """Reads the target and saves all of it as shards, none held out: an artifact of kind "corpus".

    Raises:
        InputError: the target is missing, empty or malformed; or the disk is full.
    """
    return read_whole_corpus(store, target_config(config), "target")


def evaluated_config(config: CurateConfig) -> CurateConfig:
    """The config with what is measured on in the place of the corpus, where that is another."""
    return config if config.evaluation.corpus is None else _with_corpus(config, config.evaluation.corpus)


def _with_corpus(config: CurateConfig, corpus: CorpusConfig) -> CurateConfig:
    """The config with another corpus, whose conversations go through the same chat template if it names none."""
    template = corpus.chat_template or config.corpus.chat_template
    return config.model_copy(update={"corpus": corpus.model_copy(update={"chat_template": template})})


def read_whole_corpus(store: Store, config: CurateConfig, setting: str) -> Outcome:
    """Reads a config's corpus with none held out; errors name the setting that it came from."""
    try:
        return found_or_read(store, config, {**_VERSIONS, "split": False}, lambda: _read(store, config, read_whole))
    except InputError as error:
        raise InputError(f"{setting}, read as a corpus: {error}") from error


def example_settings(corpus: CorpusConfig) -> dict[str, Any]:
    """The settings that say what example a row holds."""
    return corpus.model_dump(include=set(OF_AN_EXAMPLE))


def load_index(store: Store, corpus: str) -> CorpusIndex:
    """What the corpus artifact of that key says."""
    folder = store.fetch("corpus", corpus)
    return CorpusIndex(**json.loads((folder / "corpus.json").read_text(encoding="utf-8")), folder=folder)


def shard_rows(store: Store, shard: str) -> list[dict[str, Any]]:
    """The rows of a shard, exactly as they came in."""
    return [decode_row(text) for text in shard_texts(store, shard)]


def shard_texts(store: Store, shard: str) -> list[str]:
    """The same rows as the shard holds them, each `encode_row` of one."""
    return pq.read_table(store.fetch("shard", shard) / "rows.parquet").column("row").to_pylist()


def shard_examples(store: Store, config: CorpusConfig, shard: str) -> list[Example]:
    """The examples that the rows of a shard hold."""
    rows = (Row(data, f"shard {shard}", number) for number, data in enumerate(shard_rows(store, shard), start=1))
    examples = [example_of(row, config) for row in rows]
    assert all(example is not None for example in examples), "blank rows never enter a shard"
    return [example for example in examples if example is not None]


def _read(store: Store, config: CurateConfig, read: Callable[[CorpusConfig, int, Spool], Pool]) -> Outcome:
    started = time.perf_counter()
    with Spool() as spool:
        return _save_corpus(store, config, read(config.corpus, config.seed, spool), spool, started)


def _save_corpus(store: Store, config: CurateConfig, split: Pool, spool: Spool, started: float) -> Outcome:
    rows = split.rows
    cut = pool_shards(rows.digests[split.pool], rows.files[split.pool], config.embedding.shard_rows)
    pieces = [*(split.pool[places] for places in cut), split.held_out]
    with ThreadPoolExecutor(_WRITERS) as writers:
        *shards, held_out = writers.map(lambda places: _save_shard(store, spool.read(rows.texts[places])), pieces)
    counts = asdict(split.counts)
    index = {"shards": shards, "held_out": held_out, "rows": [len(places) for places in pieces], "counts": counts}
    order = np.concatenate(pieces)
    sources = {"names": rows.names, "rows": _digest(rows.files[order], rows.numbers[order])}

    def write(draft: Draft) -> None:
        (draft.folder / "corpus.json").write_text(json.dumps(index), encoding="utf-8")
        pq.write_table(_sources(rows, order), draft.folder / "sources.parquet")
        draft.started = started
        draft.facts.update({**counts, "sources": len(split.counts.sources)}, shard_keys=shards, held_out_key=held_out)

    made_from = [f"shard/{key}" for key in (*shards, held_out)]
    return find_or_make(store, "corpus", CORPUS_VERSION, {}, {"index": digest_of([index, sources])}, write, made_from)


def _digest(files: np.ndarray, numbers: np.ndarray) -> str:
    return hashlib.sha256(files.astype("<i4").tobytes() + numbers.astype("<i8").tobytes()).hexdigest()


def _sources(rows: ReadRows, order: np.ndarray) -> pa.Table:
    files = pa.DictionaryArray.from_arrays(pa.array(rows.files[order]), pa.array(rows.names, pa.string()))
    return pa.table({"file": files, "number": pa.array(rows.numbers[order])})


def _save_shard(store: Store, encoded: list[str]) -> str:
    def write(draft: Draft) -> None:
        pq.write_table(pa.table({"row": pa.array(encoded, pa.string())}), draft.folder / "rows.parquet")
        draft.facts["rows"] = len(encoded)

    return find_or_make(store, "shard", SHARD_VERSION, {}, {"rows": digest_of(encoded)}, write).key
