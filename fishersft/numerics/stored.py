"""Token blocks that stay on disk: read by ranges; the blocks used last are kept, within a memory bound."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from fishersft.errors import InputError
from fishersft.numerics.blocks import _LARGEST, elements_at_once
from fishersft.numerics.row_cache import RowCache, lengths_of

_CHUNK_ELEMENTS = 1 << 19  # in a chunk: 2 MiB in float32; of larger ones malloc keeps many times as much
_SHARE_OF_ROWS, _SHARE_OF_LOOKS = 0.3, 0.1  # of the memory
_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


class StoredBlocks:
    """The token blocks of safetensors files, used as `TokenBlocks` are, without ever holding all of them.

    Files are read by ranges, not mapped, so that what is resident is what this object holds: the offsets, and
    the blocks used last. A file has `values` (tokens, dim) and `offsets` (sentences + 1,), as an embeddings
    artifact has. Threads may share one object.

    Args:
        files: the shards, whose blocks are numbered one after the other; of one dim and one dtype: float16,
            bfloat16, float32 or float64. They must not change while the object is in use.
        memory: bytes for a whole selection from these blocks, beyond the interpreter and its libraries. A third is for
            cached blocks, the offsets and the cache's records (16 bytes a block, 4 a token, 4 more a cached token), a
            tenth bounds what is worked on at once, and the rest is for copies of that, and for what the memory
            allocator does not give back.

    Raises:
        InputError: a file is missing, damaged, cut short, or of other shapes or dtypes than expected; or
            `memory` does not even hold offsets and records. Values are not looked at: see `check_finite`.

    Example:
        >>> blocks = StoredBlocks([Path("embeddings.safetensors")], memory=2 << 30)  # doctest: +SKIP
        >>> blocks.rows_of(np.array([7, 3])).shape  # doctest: +SKIP
        torch.Size([61, 576])
    """

    def __init__(self, files: Sequence[Path], memory: int) -> None:
        if not files:
            raise InputError("there are no files of token blocks; give at least one")
        opened = [_open_shard(Path(file)) for file in files]
        self._shards = [shard for shard, _ in opened]
        for shard in self._shards[1:]:
            _check_alike(shard, self._shards[0])
        self._first_rows = np.cumsum([0] + [shard.tokens for shard in self._shards])
        self._first_blocks = np.cumsum([0] + [len(offsets) - 1 for _, offsets in opened])
        rising = [offsets[1:] + int(first) for (_, offsets), first in zip(opened, self._first_rows[:-1], strict=True)]
        self.offsets = torch.cat([torch.zeros(1, dtype=torch.int64), *rising])
        self._starts = self.offsets.numpy()
        records = RowCache.records(self._starts)
        if _SHARE_OF_ROWS * memory < records:
            raise InputError(
                f"a memory of {memory:,} bytes is too little for {len(self):,} token blocks: offsets and records alone "
                f"take {records:,}; allow at least {math.ceil(records / _SHARE_OF_ROWS):,}, and as much more as you can"
            )
        self._cache = RowCache(self._starts, self.dim, self.dtype, int(_SHARE_OF_ROWS * memory))
        self.memory_for_looks = _SHARE_OF_LOOKS * memory
        self._lock = threading.Lock()
        self.bytes_read = 0  # from the files so far, by all threads

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> torch.Tensor:
        """A copy of block `index`, (tokens_i, dim)."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no token block {index}; there are {len(self)}")
        return self.rows_of(np.array([index % len(self)]))

    @property
    def dim(self) -> int:
        """The length of one prelogit embedding."""
        return self._shards[0].dim

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the values, in the files and in what is returned."""
        return self._shards[0].dtype

    @property
    def device(self) -> torch.device:
        """Where rows are returned: the CPU."""
        return torch.device("cpu")

    @property
    def lengths(self) -> torch.Tensor:
        """Tokens in each block: (n,), int64, on the CPU."""
        return self.offsets.diff()

    def rows_of(self, indices: np.ndarray) -> torch.Tensor:
        """The rows of some blocks, one block after another in the order given: (sum of tokens, dim), a copy.

        Args:
            indices: (m,), integers from 0 to n - 1, in any order; a block may come twice.

        Raises:
            IndexError: there is no such block.
            InputError: a file is gone, or was changed since this object was made.

        Cost: a copy of the rows; those that are not in the cache are read, neighbours on disk in one go.
        """
        indices = np.asarray(indices, dtype=np.int64)
        wrong = indices[(indices < 0) | (indices >= len(self))]
        if wrong.size:
            raise IndexError(f"token blocks are numbered from 0 to {len(self) - 1}; there is no {wrong[0]}")
        with self._lock:
            cached = self._cache.holds(indices)
            hits = self._cache.take(indices[cached])
        if cached.all():
            return hits
        missing, place = np.unique(indices[~cached], return_inverse=True)
        fresh = self._read_blocks(missing)
        with self._lock:
            self._cache.put(missing, fresh)
        if np.array_equal(missing, indices):
            return fresh
        from_cache = iter(hits.split(lengths_of(self._starts, indices[cached]).tolist()))
        from_disk = fresh.split(lengths_of(self._starts, missing).tolist())
        places = iter(place.tolist())
        return torch.cat([next(from_cache) if hit else from_disk[next(places)] for hit in cached.tolist()])

    def chunks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """All rows in order, a few at a time: the number of the first row, and rows (some, dim). Not cached."""
        step = max(1, elements_at_once(self, _CHUNK_ELEMENTS) // self.dim)
        tokens = int(self._starts[-1])
        for first in range(0, tokens, step):
            rows = torch.empty(min(step, tokens - first), self.dim, dtype=self.dtype)
            self._read_rows(first, _as_bytes(rows))
            yield first, rows

    def check_finite(self) -> None:
        """Raise InputError that names the first block with NaN, infinity, or a value beyond 1e100, and its file."""
        limit = min(_LARGEST, torch.finfo(self.dtype).max)
        for first, rows in self.chunks():
            low, high = rows.aminmax()
            if not (low >= -limit and high <= limit):  # NaN compares as False
                bad = ~(rows.abs() <= limit).all(dim=1)
                row = first + int(bad.nonzero()[0])
                block = int(np.searchsorted(self._starts, row, side="right")) - 1
                shard = self._shard_of(row)
                raise InputError(
                    f"{self._shards[shard].path}: token block {block} (number {block - self._first_blocks[shard]} of "
                    f"this file) holds NaN or infinity, or a value beyond {limit:.0e} (its token "
                    f"{row - self._starts[block]}); embed that sentence again in float32, or leave it out"
                )

    def _read_blocks(self, indices: np.ndarray) -> torch.Tensor:
        """The rows of rising, different block indices, from the files; neighbours are read together."""
        starts, lengths = self._starts[indices], lengths_of(self._starts, indices)
        ends = starts + lengths
        rows = torch.empty(int(lengths.sum()), self.dim, dtype=self.dtype)
        destination, done = _as_bytes(rows), 0
        runs = np.concatenate([[0], np.flatnonzero(starts[1:] != ends[:-1]) + 1, [len(indices)]])
        for begin, end in pairwise(runs.tolist()):
            count = int(ends[end - 1] - starts[begin])
            self._read_rows(int(starts[begin]), destination[done : done + count])
            done += count
        return rows

    def _read_rows(self, first: int, destination: np.ndarray) -> None:
        """Fills `destination`, (rows, bytes a row), with the rows from number `first` on, over all their shards."""
        done = 0
        while done < len(destination):
            shard = self._shard_of(first + done)
            part = destination[done : done + int(self._first_rows[shard + 1]) - first - done]
            self._shards[shard].read(first + done - int(self._first_rows[shard]), part)
            done += len(part)
        with self._lock:
            self.bytes_read += destination.nbytes

    def _shard_of(self, row: int) -> int:
        return int(np.searchsorted(self._first_rows, row, side="right")) - 1


@dataclass(frozen=True)
class _Shard:
    """Where the values of one file lie: `tokens` rows of `dim`, from byte `data_start`."""

    path: Path
    dtype: torch.dtype
    tokens: int
    dim: int
    data_start: int
    stamp: tuple[int, int, int]

    def read(self, first: int, destination: np.ndarray) -> None:
        """Fills `destination`, (rows, bytes a row), with the file's rows from `first` on."""
        buffer = destination.reshape(-1).data
        filled = 0
        try:
            # Opened for each read: shards by the thousand need no thousand open files, and a replaced file is seen.
            with open(self.path, "rb", buffering=0) as file:
                file.seek(self.data_start + first * destination.shape[1])
                while filled < len(buffer) and (count := file.readinto(buffer[filled:])):
                    filled += count
                stamp = _stamp(file.fileno())
        except OSError as error:
            raise InputError(f"{self.path}: can no longer be read: {error}") from error
        if filled < len(buffer) or stamp != self.stamp:
            raise InputError(
                f"{self.path}: the file was changed or cut short while its token blocks were in use; "
                "leave it as it is and start again"
            )


def _open_shard(path: Path) -> tuple[_Shard, torch.Tensor]:
    """What the file's header says, checked, and its offsets (blocks + 1,), int64."""
    try:
        with open(path, "rb") as file:
            stamp = _stamp(file.fileno())
            # The library checks the file, but its slices map all of it ("mmap") or read all of it ("pread").
            with safe_open(path, framework="pt", backend="pread") as tensors:
                missing = {"values", "offsets"} - set(tensors.keys())
                if missing:
                    raise InputError(
                        f"{path}: expected tensors values (tokens, dim) and offsets (sentences + 1,), "
                        f"found {sorted(tensors.keys())}"
                    )
                values = tensors.get_slice("values")
                dtype, shape = values.get_dtype(), values.get_shape()
                offsets = tensors.get_tensor("offsets")
            header_length = int.from_bytes(file.read(8), "little")
            begin, _ = json.loads(file.read(header_length))["values"]["data_offsets"]
    except SafetensorError as error:
        raise InputError(f"{path}: no safetensors file, or one that was cut short: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}; expected a safetensors file of token blocks") from error
    if len(shape) != 2 or shape[1] == 0:
        raise InputError(f"{path}: expected values of shape (tokens, dim), found {tuple(shape)}")
    if dtype not in _DTYPES:
        raise InputError(f"{path}: expected values in one of {', '.join(_DTYPES)}, found {dtype}")
    tokens, dim = shape
    return _Shard(path, _DTYPES[dtype], tokens, dim, 8 + header_length + begin, stamp), _checked(offsets, tokens, path)


def _checked(offsets: torch.Tensor, tokens: int, path: Path) -> torch.Tensor:
    if offsets.ndim != 1 or not len(offsets) or offsets.dtype not in (torch.int32, torch.int64):
        raise InputError(
            f"{path}: expected int64 offsets of shape (sentences + 1,), "
            f"found {offsets.dtype} of shape {tuple(offsets.shape)}"
        )
    offsets = offsets.to(torch.int64)
    if offsets[0] != 0 or offsets[-1] != tokens or bool((offsets.diff() < 0).any()):
        raise InputError(
            f"{path}: expected offsets that rise from 0 to the number of tokens, {tokens}; "
            f"they go from {offsets[0]} to {offsets[-1]}, or fall in between"
        )
    return offsets


def _check_alike(shard: _Shard, first: _Shard) -> None:
    if (shard.dim, shard.dtype) != (first.dim, first.dtype):
        raise InputError(
            f"{shard.path}: dim {shard.dim} and {shard.dtype}, but {first.path} has dim {first.dim} and "
            f"{first.dtype}; were both embedded with the same model and settings?"
        )


def _as_bytes(rows: torch.Tensor) -> np.ndarray:
    """The memory of `rows` as (rows, bytes a row), uint8."""
    return rows.view(torch.uint8).numpy()


def _stamp(file: int) -> tuple[int, int, int]:
    """What changes when a file is replaced, rewritten or cut short."""
    status = os.fstat(file)
    return status.st_ino, status.st_size, status.st_mtime_ns
