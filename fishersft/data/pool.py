"""From rows to the pool: distinct, sampled, with a part held out, cut into shards; all by content."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fishersft.config import CorpusConfig
from fishersft.data.examples import Example, example_of
from fishersft.data.readers import ReadCounts, Row, read_rows
from fishersft.data.rows import decode_row, encode_row
from fishersft.errors import InputError

_LEAST_HELD_OUT = 2  # below, the evaluation has no interval


@dataclass(frozen=True, slots=True)
class PoolRow:
    """A distinct example's row, packed: `encoded` is `encode_row` of it, `digest` its example's, 32 bytes."""

    encoded: str
    digest: bytes
    source: str
    number: int

    def row(self) -> Row:
        """The row as it was read."""
        return Row(decode_row(self.encoded), self.source, self.number)

    def example(self, config: CorpusConfig) -> Example:
        """The row's example, under the config that the pool was made with."""
        example = example_of(self.row(), config)
        assert example is not None
        assert example.digest == self.digest.hex()
        return example


@dataclass(frozen=True)
class Pool:
    """What may be chosen, and what is held out for evaluation; both in the order of the corpus."""

    pool: list[PoolRow]
    held_out: list[PoolRow]
    counts: ReadCounts


def read_pool(config: CorpusConfig, seed: int) -> Pool:
    """Reads the corpus and splits it; see `read_rows` and `split_pool`."""
    counts = ReadCounts()
    return split_pool(read_rows(config, counts), config, seed, counts)


def split_pool(rows: Iterable[Row], config: CorpusConfig, seed: int, counts: ReadCounts) -> Pool:
    """Keeps the first of exact duplicates, samples at most `max_rows` of them, and holds a share out.

    Whether an example is sampled or held out depends on its content and the seed, not on its place: as the
    corpus grows, it stays on its side. (With `max_rows`, new examples replace a uniform share of the old.)

    Args:
        rows: of the corpus, read once.
        config: the kind of example, `max_rows` and `held_out_fraction`.
        seed: of the sample and the split.
        counts: what the reader counts in; takes up the counts from blank to pool.

    Raises:
        InputError: a row is no example, too few are usable, the pool would be empty, or the held-out part would
            have fewer than 2 (an interval needs as many).
    """
    kept = _kept(rows, config, seed, counts)
    if len(kept) <= _LEAST_HELD_OUT:
        raise InputError(_too_few(len(kept), counts))
    shares = [_fraction(seed, "held-out", row.digest) for row in kept]
    held_out = [row for row, share in zip(kept, shares, strict=True) if share < config.held_out_fraction]
    pool = [row for row, share in zip(kept, shares, strict=True) if share >= config.held_out_fraction]
    if len(held_out) < _LEAST_HELD_OUT:
        least = math.floor(sorted(shares)[_LEAST_HELD_OUT - 1] * 1000 + 1) / 1000
        raise InputError(
            f"corpus.held_out_fraction {config.held_out_fraction} holds out {len(held_out) or 'none'} of the "
            f"{len(kept)} distinct examples, and intervals need {_LEAST_HELD_OUT}; set it to {least} or more, or add "
            "examples"
        )
    if not pool:
        most = math.floor(max(shares) * 1000) / 1000
        raise InputError(
            f"corpus.held_out_fraction {config.held_out_fraction} holds out all {len(kept)} distinct "
            f"examples and leaves none to choose from; set it to {most} or less, or add examples"
        )
    counts.held_out, counts.pool = len(held_out), len(pool)
    return Pool(pool, held_out, counts)


def read_whole(config: CorpusConfig, seed: int) -> Pool:
    """Reads a corpus of which nothing is held out: distinct examples, at most `max_rows` of them.

    Raises:
        InputError: a row is no example, or none is usable.
    """
    counts = ReadCounts()
    kept = _kept(read_rows(config, counts), config, seed, counts)
    if not kept:
        raise InputError(_too_few(0, counts))
    counts.pool = len(kept)
    return Pool(kept, [], counts)


def shard_boundaries(digests: Sequence[bytes], target_rows: int) -> list[slice]:
    """Cuts rows into shards of about `target_rows` by content: an edit changes only the shards it touches.

    A row whose digest is 0 modulo 3/4 of the target may end a shard, and does unless another such row is
    among the target/4 before it. As only these neighbours count, a row inserted, deleted or edited moves at
    most one end: at most 2 shards are new; and when rows are appended, only the last old shard changes.
    Runs over 4 targets (about 1 shard in 150) are cut at their least digest; an edit inside one may, very
    rarely, change a shard more.

    Args:
        digests: of distinct examples, at least 8 bytes each, in the order of the corpus.
        target_rows: about the mean size, in rows. Shards hold at most 4 times as many, and over a quarter,
            but for the first, the last and the pieces of a long run.

    Returns:
        list[slice]: contiguous, covering all rows in order.
    """
    least, most = target_rows // 4, 4 * target_rows
    cuts, last_candidate = [0], -1
    for i, digest in enumerate(digests):
        if int.from_bytes(digest[:8], "big") % (target_rows - least):
            continue
        if i - last_candidate > least:
            cuts.append(i + 1)
        last_candidate = i
    if cuts[-1] != len(digests):
        cuts.append(len(digests))
    return [piece for begin, end in pairwise(cuts) for piece in _pieces(digests, begin, end, least, most)]


def _pieces(digests: Sequence[bytes], begin: int, end: int, least: int, most: int) -> Iterator[slice]:
    while end - begin > most:
        cut = min(range(begin + least, begin + most), key=lambda i: digests[i]) + 1
        yield slice(begin, cut)
        begin = cut
    yield slice(begin, end)


def _kept(rows: Iterable[Row], config: CorpusConfig, seed: int, counts: ReadCounts) -> list[PoolRow]:
    distinct = _distinct(rows, config, counts)
    return list(distinct) if config.max_rows is None else _sample(distinct, config.max_rows, seed, counts)


def _distinct(rows: Iterable[Row], config: CorpusConfig, counts: ReadCounts) -> Iterator[PoolRow]:
    seen = set[bytes]()
    for row in rows:
        example = example_of(row, config)
        if example is None:
            counts.blank += 1
            continue
        digest = bytes.fromhex(example.digest)
        if digest in seen:
            counts.duplicates += 1
            continue
        seen.add(digest)
        try:
            encoded = encode_row(row.data)
        except InputError as error:
            raise InputError(f"{row.place}: {error}") from error
        yield PoolRow(encoded, digest, row.source, row.number)


def _sample(rows: Iterable[PoolRow], size: int, seed: int, counts: ReadCounts) -> list[PoolRow]:
    """The `size` rows whose hashes are least: uniform, independent of order, stable as the corpus grows."""
    heap = list[tuple[float, int, PoolRow]]()
    for position, row in enumerate(rows):
        # heapq keeps the least at the top; the greatest hash is the one to go.
        entry = (-_fraction(seed, "sample", row.digest), position, row)
        if len(heap) < size:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)
            counts.beyond_max_rows += 1
    return [row for _, _, row in sorted(heap, key=lambda entry: entry[1])]


def _fraction(seed: int, purpose: str, digest: bytes) -> float:
    """A uniform number in [0, 1) that only these three determine."""
    hashed = hashlib.sha256(f"{seed}:{purpose}:".encode() + digest).digest()
    return int.from_bytes(hashed[:8], "big") / 2**64


def _too_few(distinct: int, counts: ReadCounts) -> str:
    read = f"{counts.rows_read} rows read from {', '.join(counts.sources[:3]) or 'no file'}"
    if distinct:
        return (
            f"the corpus leaves too few distinct examples, {distinct} ({read}, {counts.duplicates} duplicates, "
            f"{counts.blank} blank, {counts.unmatched} that do not match corpus.pattern); at least "
            f"{_LEAST_HELD_OUT + 1} are needed, {_LEAST_HELD_OUT} to hold out and one to choose from"
        )
    if not counts.rows_read:
        return f"the corpus is empty: {read}; check corpus.path"
    if counts.blank == counts.rows_read:
        return f"the corpus is empty: {read}, all blank; check corpus.path and the field names"
    return (
        f"the corpus is empty: {read}, {counts.blank} blank, {counts.unmatched} that do not match "
        "corpus.pattern; the pattern must match a row from its start to its end"
    )
