"""Token blocks: the prelogit embeddings of many sentences, one after the other in a single tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from fishersft.errors import InputError
from fishersft.numerics.row_cache import row_numbers

_CHUNK_ELEMENTS = 1 << 22  # values in one of the chunks of a pass over all rows
_MEMORY_TO_ELEMENT = 96  # bytes that are allowed for every value worked on: copies in float64, and what malloc keeps
_LARGEST = 1e100  # the square of anything larger may overflow float64 in a sum of many


class Blocks(Protocol):
    """What the algorithms need of token blocks, wherever these are kept (`TokenBlocks`, `stored.StoredBlocks`)."""

    @property
    def offsets(self) -> torch.Tensor:
        """(n + 1,), int64, on the CPU; the row at which each block starts, and the end."""

    @property
    def lengths(self) -> torch.Tensor:
        """(n,), int64, on the CPU; tokens in each block, which budgets count. A triangle has fewer rows than tokens."""

    @property
    def dim(self) -> int:
        """The length of one prelogit embedding."""

    @property
    def dtype(self) -> torch.dtype:
        """In which the values are kept."""

    @property
    def device(self) -> torch.device:
        """On which `rows_of` and `chunks` give them."""

    @property
    def memory_for_looks(self) -> float:
        """Bytes that a selection may keep of what it computes from them, at most."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> torch.Tensor:
        """(tokens, dim), one block."""

    def rows_of(self, indices: np.ndarray) -> torch.Tensor:
        """(sum of tokens, dim), the rows of some blocks one after another; several threads may call it at once."""

    def chunks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """All rows in order, in parts of bounded size: the number of the first, and (rows, dim)."""

    def check_finite(self) -> None:
        """Raise InputError that names the first block with NaN, infinity, or a value that is too large."""


def elements_at_once(blocks: Blocks, most: int) -> int:
    """How many values of a pool may be worked on at once: `most`, or fewer where its memory is bounded."""
    return int(min(most, max(blocks.dim, blocks.memory_for_looks / _MEMORY_TO_ELEMENT)))


@dataclass(frozen=True, eq=False)
class TokenBlocks:
    """The token blocks X_0 .. X_(n-1) of n sentences; X_i is `values[offsets[i]:offsets[i + 1]]`.

    Args:
        values: (tokens, dim), float16, bfloat16, float32 or float64; the rows of all blocks. Integers
            become float64. NumPy arrays are taken as tensors that share their memory.
        offsets: (n + 1,), int64; where each block starts, and the end: from 0 to `tokens`, never falling.
            A block of zero tokens is allowed (a sentence without a loss position).
        tokens: (n,), int64; how many tokens each block stands for, where that is more than its rows, see
            `triangles.triangular`. None: a row is a token.

    Raises:
        InputError: shapes, dtypes or offsets do not fit. Values are not looked at: see `check_finite`.

    Example:
        >>> blocks = TokenBlocks(torch.eye(3), torch.tensor([0, 2, 3]))
        >>> len(blocks), blocks.dim, blocks.lengths.tolist()
        (2, 3, [2, 1])
    """

    values: torch.Tensor
    offsets: torch.Tensor
    tokens: torch.Tensor | None = None

    def __post_init__(self) -> None:
        values = _as_float_tensor(self.values, "the values")
        if values.ndim != 2 or values.shape[1] == 0:
            raise InputError(f"token blocks need values of shape (tokens, dim), not {tuple(values.shape)}")
        offsets = torch.as_tensor(self.offsets)
        if offsets.ndim != 1 or offsets.numel() == 0 or offsets.dtype not in (torch.int32, torch.int64):
            raise InputError(
                "token blocks need int64 offsets of shape (blocks + 1,), "
                f"not {offsets.dtype} of shape {tuple(offsets.shape)}"
            )
        offsets = offsets.to("cpu", torch.int64)
        first, last = int(offsets[0]), int(offsets[-1])
        if first != 0 or last != len(values) or bool((offsets.diff() < 0).any()):
            raise InputError(
                f"the offsets must rise from 0 to the number of tokens, {len(values)}; they go from {first} "
                f"to {last}" + (" and fall in between" if bool((offsets.diff() < 0).any()) else "")
            )
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "offsets", offsets)
        tokens = offsets.diff() if self.tokens is None else self.tokens
        if tokens.shape != (len(self),) or bool((tokens < offsets.diff()).any()):
            raise InputError(
                f"tokens must be {len(self)} numbers, none under the rows of its block; they have shape "
                f"{tuple(tokens.shape)}"
            )

    @classmethod
    def from_sequence(cls, blocks: Sequence[np.ndarray | torch.Tensor | list[list[float]]]) -> TokenBlocks:
        """Stack blocks of shape (tokens_i, dim); dtypes are promoted to the widest.

        Raises:
            InputError: no blocks, a block that is not two-dimensional, or dims that differ.
        """
        tensors = [_as_float_tensor(block, f"token block {i}") for i, block in enumerate(blocks)]
        if not tensors:
            raise InputError("there are no token blocks; give at least one of shape (tokens, dim)")
        for i, tensor in enumerate(tensors):
            if tensor.ndim == 1:
                raise InputError(
                    f"token block {i} has shape ({len(tensor)},), expected (tokens, dim); "
                    f"if it is the one vector of a sentence, reshape it to (1, {len(tensor)})"
                )
            if tensor.ndim != 2 or tensor.shape[1] == 0:
                raise InputError(f"token block {i} has shape {tuple(tensor.shape)}, expected (tokens, dim)")
            if tensor.shape[1] != tensors[0].shape[1]:
                raise InputError(
                    f"token block {i} has dim {tensor.shape[1]}, block 0 has {tensors[0].shape[1]}; "
                    "were both embedded with the same model?"
                )
        lengths = torch.tensor([0] + [len(tensor) for tensor in tensors])
        return cls(torch.cat(tensors), lengths.cumsum(0))

    @classmethod
    def concatenate(cls, parts: Sequence[TokenBlocks]) -> TokenBlocks:
        """All blocks of the first part, then all of the second, and so on."""
        if not parts:
            raise InputError("there are no token blocks to concatenate; give at least one part")
        for i, part in enumerate(parts):
            if part.dim != parts[0].dim:
                raise InputError(
                    f"part {i} has dim {part.dim}, part 0 has {parts[0].dim}; "
                    + "were both embedded with the same model?"
                )
        rows = torch.cat([torch.zeros(1, dtype=torch.int64)] + [part.offsets.diff() for part in parts])
        tokens = None if all(part.tokens is None for part in parts) else torch.cat([part.lengths for part in parts])
        return cls(torch.cat([part.values for part in parts]), rows.cumsum(0), tokens)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> torch.Tensor:
        """Block `index` as a view of shape (tokens_i, dim)."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no token block {index}; there are {len(self)}")
        index %= len(self)
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @property
    def dim(self) -> int:
        """The length of one prelogit embedding."""
        return self.values.shape[1]

    @property
    def lengths(self) -> torch.Tensor:
        """Tokens in each block: (n,), int64, on the CPU."""
        return self.offsets.diff() if self.tokens is None else self.tokens

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """Of the values."""
        return self.values.device

    @property
    def memory_for_looks(self) -> float:
        """No bound: a pool that is in memory needs none."""
        return math.inf

    def to(self, device: torch.device | str) -> TokenBlocks:
        """The same blocks with their values on a device."""
        return TokenBlocks(self.values.to(device), self.offsets, self.tokens)

    def rows_of(self, indices: np.ndarray) -> torch.Tensor:
        """(sum of tokens, dim); the rows of some blocks one after another, in the order given."""
        rows = row_numbers(self.offsets.numpy(), indices)
        return self.values.index_select(0, torch.from_numpy(rows).to(self.values.device))

    def chunks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """All rows in order, in parts of bounded size: the number of the first, and (rows, dim) as a view."""
        rows = max(1, _CHUNK_ELEMENTS // self.dim)
        for start in range(0, len(self.values), rows):
            yield start, self.values[start : start + rows]

    def weighted(self, weights: torch.Tensor) -> TokenBlocks:
        """The blocks with each row scaled by the square root of its token's weight.

            sum of w x x^T = sum of (sqrt(w) x) (sqrt(w) x)^T

        so that everything that takes token blocks then measures log det(lambda I + sum of w x x^T).

        Args:
            weights: (tokens,), finite and >= 0, of any real dtype.

        Returns:
            New blocks, float32 or float64: half precisions would lose small weights.

        Raises:
            InputError: another shape, or a weight that is negative, NaN or infinite.

        Example:
            >>> TokenBlocks(torch.eye(2), torch.tensor([0, 2])).weighted(torch.tensor([4.0, 0.0])).values
            tensor([[2., 0.],
                    [0., 0.]])
        """
        dtype = torch.promote_types(self.values.dtype, torch.float32)
        scales = checked_scales(weights, self.offsets).to(self.values.device, dtype)
        return TokenBlocks(self.values * scales[:, None], self.offsets)

    def check_finite(self) -> None:
        """Raise InputError that names the first block with NaN, infinity, or a value beyond 1e100.

        Runs over chunks of rows, so that it needs little memory beside the blocks themselves.
        """
        limit = min(_LARGEST, torch.finfo(self.dtype).max)
        for start, rows in self.chunks():
            low, high = rows.aminmax()
            if not (low >= -limit and high <= limit):  # NaN compares as False
                row = start + int((~(rows.abs() <= limit).all(dim=1)).nonzero()[0])
                block, token = _place(self.offsets, row)
                raise InputError(
                    f"token block {block} holds NaN or infinity, or a value beyond {limit:.0e} (its token {token}); "
                    "embed that sentence again in float32, or leave it out"
                )


def checked_scales(weights: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """(tokens,), float64; the square roots of tokens' weights, of the blocks with these offsets.

    Raises:
        InputError: another shape, or a weight that is negative, NaN or infinite.
    """
    weights = _as_float_tensor(weights, "the weights")
    tokens = int(offsets[-1])
    if weights.shape != (tokens,):
        raise InputError(
            f"expected a weight a token, shape ({tokens},), not {tuple(weights.shape)}; "
            "do blocks and weights come from the same sentences?"
        )
    bad = ~((weights >= 0) & weights.isfinite())  # NaN compares as False
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        block, token = _place(offsets, row)
        raise InputError(
            f"token block {block} has the weight {float(weights[row])} (its token {token}); "
            "weights must be finite and at least 0"
        )
    return weights.double().sqrt()


def _place(offsets: torch.Tensor, row: int) -> tuple[int, int]:
    """The block that a row of the values belongs to, and which of its tokens it is."""
    block = int(torch.searchsorted(offsets, row, right=True)) - 1
    return block, row - int(offsets[block])


def _as_float_tensor(array: np.ndarray | torch.Tensor | list[list[float]], name: str) -> torch.Tensor:
    try:
        if not isinstance(array, torch.Tensor):
            array = torch.from_numpy(np.require(array, requirements=["C", "W"]))  # what torch can share
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be an array of numbers: {error}") from error
    tensor = array.detach()
    if tensor.dtype == torch.bool or tensor.is_complex():
        raise InputError(f"{name} must hold real numbers, not {tensor.dtype}")
    return tensor if tensor.is_floating_point() else tensor.to(torch.float64)
