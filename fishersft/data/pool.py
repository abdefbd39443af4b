"""From rows to the pool: distinct, sampled, with a part held out; all by content, and the texts on local scratch."""

from __future__ import annotations

import hashlib
import heapq
import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fishersft.config import CorpusConfig
from fishersft.data.duplicates import kept_occurrences, numbered
from fishersft.data.formats import example_of, format_in_words
from fishersft.data.readers import ReadCounts, Row, read_rows
from fishersft.data.rows import encode_row
from fishersft.data.spool import Spool
from fishersft.errors import InputError

_LEAST_HELD_OUT = 2  # below, the evaluation has no interval
_DIGEST_BYTES = 32
_NOT_KEPT = -1


@dataclass(frozen=True)
class ReadRows:
    """The rows that hold an example, in the order read; what they say lies in a spool.

    Attributes:
        digests: (rows, 32), uint8; of their examples.
        files: (rows,), int32; of each row, the place in `names` of the file it came from.
        numbers: (rows,), int64; its 1-based line or row there.
        texts: (rows,), int64; where `encode_row` of it lies in the spool, -1 for one that `max_rows` rules out.
        names: of the files that hold an example.
    """

    digests: np.ndarray
    files: np.ndarray
    numbers: np.ndarray
    texts: np.ndarray
    names: list[str]


@dataclass(frozen=True)
class Pool:
    """What may be chosen, and what is held out for evaluation.

    Both are places in `rows`, int64, file by file in the order of `kept_occurrences`.
    """

    rows: ReadRows
    pool: np.ndarray
    held_out: np.ndarray
    counts: ReadCounts


def read_pool(config: CorpusConfig, seed: int, spool: Spool) -> Pool:
    """Reads the corpus and splits it; see `read_rows` and `split_pool`."""
    counts = ReadCounts()
    return split_pool(read_rows(config, counts), config, seed, counts, spool)


def split_pool(rows: Iterable[Row], config: CorpusConfig, seed: int, counts: ReadCounts, spool: Spool) -> Pool:
    """Keeps one of exact duplicates, samples at most `max_rows` of them, and holds a share out.

    Whether an example is sampled or held out depends on its content and the seed, not on its place: as the
    corpus grows, it stays on its side. (With `max_rows`, new examples replace a uniform share of the old, which makes
    many shards new.)

    Args:
        rows: of the corpus, read once.
        config: the kind of example, `max_rows` and `held_out_fraction`.
        seed: of the sample and the split.
        counts: what the reader counts in; takes up the counts from blank to pool, formats and bad_rows.
        spool: takes up the rows.

    Raises:
        InputError: a row is no example, too few are usable, the pool would be empty, or the held-out part, where one
            is wanted, would have fewer than 2 (an interval needs as many); or the disk is full.
    """
    read = _spooled(rows, config, seed, counts, spool)
    kept = _kept(read, config, seed, counts)
    if len(kept) <= _LEAST_HELD_OUT:
        raise InputError(_too_few(len(kept), counts))
    shares = _fractions(seed, "held-out", read.digests[kept])
    held_out, pool = kept[shares < config.held_out_fraction], kept[shares >= config.held_out_fraction]
    if config.held_out_fraction and len(held_out) < _LEAST_HELD_OUT:
        least = math.floor(np.sort(shares)[_LEAST_HELD_OUT - 1] * 1000 + 1) / 1000
        raise InputError(
            f"corpus.held_out_fraction {config.held_out_fraction} holds out {len(held_out) or 'none'} of the "
            f"{len(kept)} distinct examples, and intervals need {_LEAST_HELD_OUT}; set it to {least} or more, or add "
            "examples"
        )
    if not len(pool):
        most = math.floor(shares.max() * 1000) / 1000
        raise InputError(
            f"corpus.held_out_fraction {config.held_out_fraction} holds out all {len(kept)} distinct "
            f"examples and leaves none to choose from; set it to {most} or less, or add examples"
        )
    counts.held_out, counts.pool = len(held_out), len(pool)
    return Pool(read, pool, held_out, counts)


def read_whole(config: CorpusConfig, seed: int, spool: Spool) -> Pool:
    """Reads a corpus of which nothing is held out: distinct examples, at most `max_rows` of them.

    Raises:
        InputError: a row is no example, or none is usable; or the disk is full.
    """
    counts = ReadCounts()
    read = _spooled(read_rows(config, counts), config, seed, counts, spool)
    kept = _kept(read, config, seed, counts)
    if not len(kept):
        raise InputError(_too_few(0, counts))
    counts.pool = len(kept)
    return Pool(read, kept, kept[:0], counts)


def _spooled(rows: Iterable[Row], config: CorpusConfig, seed: int, counts: ReadCounts, spool: Spool) -> ReadRows:
    """Blank rows are only counted, and bad ones too where the config skips them."""
    digests, files, numbers, texts = bytearray(), array("i"), array("q"), array("q")
    names = dict[str, int]()
    sample = None if config.max_rows is None else _Sample(config.max_rows)
    for row in rows:
        try:
            example, encoded = example_of(row, config), _encoded(row)
        except InputError as error:
            counts.skip_or_raise(error, config)
            continue
        if example is None:
            counts.blank += 1
            continue
        in_words = format_in_words(row, config)
        counts.formats[in_words] = counts.formats.get(in_words, 0) + 1
        digest = bytes.fromhex(example.digest)
        may_be_kept = sample is None or sample.may_hold(_fraction(seed, "sample", digest))
        digests += digest
        files.append(names.setdefault(row.source, len(names)))
        numbers.append(row.number)
        texts.append(spool.append(encoded) if may_be_kept else _NOT_KEPT)
    return ReadRows(
        np.frombuffer(digests, dtype=np.uint8).reshape(-1, _DIGEST_BYTES),
        np.frombuffer(files, dtype=np.int32),
        np.frombuffer(numbers, dtype=np.int64),
        np.frombuffer(texts, dtype=np.int64),
        list(names),
    )


def _encoded(row: Row) -> str:
    try:
        return encode_row(row.data)
    except InputError as error:
        raise InputError(f"{row.place}: {error}") from error


def _kept(read: ReadRows, config: CorpusConfig, seed: int, counts: ReadCounts) -> np.ndarray:
    """The places of distinct examples, at most `max_rows` of them: those whose hashes are least."""
    examples = numbered(read.digests)
    distinct = int(examples.max(initial=-1)) + 1
    counts.duplicates = len(examples) - distinct
    candidates = np.arange(len(examples))
    if config.max_rows is not None and distinct > config.max_rows:
        counts.beyond_max_rows = distinct - config.max_rows
        first = np.unique(examples, return_index=True)[1]
        least = np.argsort(_fractions(seed, "sample", read.digests[first]), kind="stable")[: config.max_rows]
        candidates = np.flatnonzero(np.isin(examples, least))
    return candidates[kept_occurrences(read.digests[candidates], read.files[candidates])]


class _Sample:
    """The least hashes so far, so that rows which can no longer be in the sample need no place on the disk."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held = set[float]()
        self._greatest_first = list[float]()  # negated, as heapq keeps the least at the top

    def may_hold(self, fraction: float) -> bool:
        """Whether an example with this hash is among the least so far; it counts from now on."""
        if fraction in self._held:
            return True
        heapq.heappush(self._greatest_first, -fraction)
        self._held.add(fraction)
        if len(self._held) > self._size:
            self._held.remove(-heapq.heappop(self._greatest_first))
        return fraction in self._held


def _fractions(seed: int, purpose: str, digests: np.ndarray) -> np.ndarray:
    return np.array([_fraction(seed, purpose, digest.tobytes()) for digest in digests])


def _fraction(seed: int, purpose: str, digest: bytes) -> float:
    """A uniform number in [0, 1) that only these three determine."""
    hashed = hashlib.sha256(f"{seed}:{purpose}:".encode() + digest).digest()
    return int.from_bytes(hashed[:8], "big") / 2**64


def _too_few(distinct: int, counts: ReadCounts) -> str:
    read = f"{counts.rows_read} rows read from {', '.join(counts.sources[:3]) or 'no file'}"
    bad = f", {counts.bad} bad, first: {counts.bad_rows[0]}" if counts.bad else ""
    if distinct:
        return (
            f"the corpus leaves too few distinct examples, {distinct} ({read}, {counts.duplicates} duplicates, "
            f"{counts.blank} blank, {counts.unmatched} that do not match corpus.pattern{bad}); at least "
            f"{_LEAST_HELD_OUT + 1} are needed, {_LEAST_HELD_OUT} to hold out and one to choose from"
        )
    if not counts.rows_read:
        return f"the corpus is empty: {read}; check corpus.path"
    if counts.blank == counts.rows_read:
        return (
            f"the corpus is empty: {read}, all blank or with nothing that the loss counts; check corpus.path, the "
            "field names, and weight and train of the messages"
        )
    if counts.bad:
        return f"the corpus is empty: {read}, {counts.blank} blank{bad}; correct the rows or corpus.example"
    return (
        f"the corpus is empty: {read}, {counts.blank} blank, {counts.unmatched} that do not match "
        "corpus.pattern; the pattern must match a row from its start to its end"
    )
