"""Token blocks as files: safetensors or npz with flat `values` (tokens, dim) and `offsets` (sentences + 1,).

Beside them there may be `weights` (tokens,), the tokens' Fisher weights.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from fishersft.data.faults import clear_storage_errors
from fishersft.errors import InputError
from fishersft.numerics import Selection, TokenBlocks

EMBEDDINGS_FILE = "embeddings.safetensors"
GRADIENTS_FILE = "gradients.safetensors"  # beside it, or in an artifact of its own, where gradients were asked for
SPECTRUM = "spectrum"  # an entry a token, see `fishersft.numerics.spectra`
SCORES = ("weights", "nll")  # of tokens, beside their blocks: Fisher weights and negative log-likelihoods
_DTYPE_NAMES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64"}


def write_blocks(blocks: TokenBlocks, path: Path, weights: torch.Tensor | None = None) -> None:
    """Writes token blocks as safetensors, in their own dtype, and weights (tokens,), if there are, in float32."""
    tensors = {"values": blocks.values.contiguous(), "offsets": blocks.offsets.contiguous()}
    if weights is not None:
        assert len(weights) == len(blocks.values), "one weight a token"
        tensors["weights"] = weights.to(torch.float32).contiguous()
    save_file(tensors, path)


class BlockWriter:
    """Writes token blocks as safetensors, some rows after the other: no more than those is ever in memory.

    Use as a context manager; leaving it without an error ends the file. It holds `offsets`, the columns, `values`.

    Args:
        path: of the file.
        lengths: tokens of each block.
        dim: of the values.
        dtype: of the values in the file.
        columns: names of float32 (tokens,) tensors beside them.

    """

    def __init__(
        self, path: Path, lengths: Sequence[int], dim: int, dtype: torch.dtype, columns: Sequence[str] = ()
    ) -> None:
        self._path = path
        self._tokens, self._dim, self._dtype = sum(lengths), dim, dtype
        self._offsets = torch.tensor([0, *lengths]).cumsum(0)
        self._columns = {name: torch.empty(self._tokens) for name in columns}
        self._done = 0

    def __enter__(self) -> BlockWriter:
        self._file = self._path.open("wb")
        header, self._file_begin = self._header()
        self._file.write(header + self._offsets.numpy().tobytes())
        self._file.seek(4 * self._tokens * len(self._columns), os.SEEK_CUR)
        return self

    def as_stored(self, values: torch.Tensor) -> torch.Tensor:
        """Values of any float dtype in that of the file.

        Raises:
            InputError: a value is beyond what that holds.
        """
        rows = values.to(self._dtype)
        if not bool(rows.isfinite().all()) and bool(values.isfinite().all()):
            raise InputError(
                f"embeddings reach {float(values.abs().max()):,.0f}, more than {_DTYPE_NAMES[self._dtype]} holds; set "
                "embedding.storage to bfloat16 or float32"
            )
        return rows

    def write(self, rows: torch.Tensor, **columns: torch.Tensor) -> None:
        """The next rows: (some, dim) in the file's dtype, and as many entries of each column."""
        assert rows.dtype == self._dtype, f"{rows.dtype} for a file of {self._dtype}"
        self._file.write(rows.contiguous().view(torch.uint8).numpy().data)
        for name, column in self._columns.items():
            column[self._done : self._done + len(rows)] = columns[name]
        self._done += len(rows)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._file:
            if kind is None:
                assert self._done == self._tokens, f"{self._done} of {self._tokens} rows were written"
                self._file.seek(self._file_begin + self._offsets.nbytes)
                for column in self._columns.values():
                    self._file.write(column.numpy().data)

    def _header(self) -> tuple[bytes, int]:
        """The file's first bytes, and how many they are. Tensors of wider types come first, so that all are aligned."""
        entries: dict[str, dict[str, object]] = {}
        begin = 0
        shapes = {"offsets": ("I64", [len(self._offsets)], 8)}
        shapes |= {name: ("F32", [self._tokens], 4) for name in self._columns}
        shapes["values"] = (_DTYPE_NAMES[self._dtype], [self._tokens, self._dim], self._dtype.itemsize)
        for name, (dtype, shape, size) in shapes.items():
            end = begin + size * math.prod(shape)
            entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
            begin = end
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text, 8 + len(text)


def read_blocks(path: Path) -> TokenBlocks:
    """Reads token blocks from a `.safetensors` or `.npz` file, or from an embeddings artifact's folder.

    Args:
        path: the file; or STORE/embeddings/KEY; or the folder with the artifact's files inside it.

    Raises:
        InputError: the file is missing, of another kind, lacks `values` or `offsets`, or its offsets are no integers.
    """
    path = blocks_file(path)
    arrays = _arrays(path, ("values", "offsets"), "arrays values (tokens, dim) and offsets (sentences + 1,)")
    offsets = arrays["offsets"]
    if offsets.is_floating_point() or offsets.is_complex() or offsets.dtype == torch.bool:
        raise InputError(f"{path}: expected offsets of an integer dtype such as int64, found {offsets.dtype}")
    return TokenBlocks(arrays["values"], offsets.to(torch.int64))


def read_weights(path: Path) -> torch.Tensor:
    """Reads the Fisher weights that lie beside token blocks: (tokens,), float32 where FisherSFT wrote them.

    Args:
        path: as for `read_blocks`.

    Raises:
        InputError: the file is missing, of another kind, or holds no weights.
    """
    path = blocks_file(path)
    expected = "weights (tokens,) beside the blocks, from an embedding with selection.criterion: fisher-weighted"
    return _arrays(path, ("weights",), expected)["weights"]


def read_nll(path: Path) -> torch.Tensor:
    """Reads the tokens' negative log-likelihoods that lie beside Fisher weights: (tokens,), float32, in nats.

    Args:
        path: as for `read_blocks`.

    Raises:
        InputError: the file is missing, of another kind, or holds none.
    """
    expected = "nll (tokens,) beside the blocks, from an embedding with selection.criterion: fisher-weighted"
    return _arrays(blocks_file(path), ("nll",), expected)["nll"]


def write_gradients(gradients: torch.Tensor, path: Path) -> None:
    """Writes gradient sketches (sentences, dim) as safetensors, in float32."""
    save_file({"gradients": gradients.to(torch.float32).contiguous()}, path)


def read_gradients(path: Path) -> torch.Tensor:
    """Reads gradient sketches: (sentences, dim), float32.

    Raises:
        InputError: the file is missing, of another kind, or holds none.
    """
    expected = "gradients (sentences, dim), from an embedding with selection.criterion: gradient-matching"
    return _arrays(blocks_file(path), ("gradients",), expected)["gradients"]


def read_spectrum(path: Path) -> torch.Tensor:
    """Reads the spectra that lie beside token blocks that FisherSFT embedded: (tokens,), float32.

    Args:
        path: as for `read_blocks`.

    Raises:
        InputError: the file is missing, of another kind, or holds no spectra.
    """
    return _arrays(blocks_file(path), (SPECTRUM,), "spectrum (tokens,) beside the blocks")[SPECTRUM]


def blocks_file(path: Path) -> Path:
    """The file of token blocks that a path names, itself or as an embeddings artifact's folder.

    Raises:
        InputError: there is none, or it is of another kind.
    """
    if path.is_dir():
        path = _content_folder(path) / EMBEDDINGS_FILE
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected token blocks as .safetensors or .npz")
    if path.suffix not in (".safetensors", ".npz"):
        raise InputError(f"{path}: expected a .safetensors or .npz file of token blocks")
    return path


def holds_blocks(path: Path) -> bool:
    """Whether a path names token blocks, which `blocks_file` finds, rather than a corpus."""
    if path.is_dir():
        return (_content_folder(path) / EMBEDDINGS_FILE).is_file()
    return path.suffix in (".safetensors", ".npz")


def _content_folder(folder: Path) -> Path:
    """Where an artifact's files are: in the folder that its manifest names; without a manifest, right here."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return folder
    try:
        return folder / str(json.loads(manifest.read_bytes())["content"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{manifest}: expected the manifest of an embeddings artifact, which names its content"
        ) from error


def _arrays(path: Path, names: Sequence[str], expected: str) -> dict[str, torch.Tensor]:
    """The arrays of those names; others in the file, which may be large, are not read."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                found = list(file.files)
                arrays = {name: torch.from_numpy(file[name]) for name in names if name in found}
        else:
            with safe_open(path, framework="pt") as file:
                found = list(file.keys())
                arrays = {name: file.get_tensor(name) for name in names if name in found}
    except (SafetensorError, zipfile.BadZipFile, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a readable {path.suffix} file of arrays: {error}") from error
    if len(arrays) < len(names):
        raise InputError(f"{path}: expected {expected}, found {sorted(found)}")
    return arrays


def bytes_of(size: str) -> int:
    """A number of bytes from text such as "512M" (2^20 each) or "4G".

    Example:
        >>> bytes_of("1.5K"), bytes_of("100")
        (1536, 100)
    """
    number = size.removesuffix("B").rstrip("KMGT")
    return int(float(number) * 1024 ** " KMGT".index(size.removesuffix("B")[len(number) :] or " "))


def check_place(path: Path) -> None:
    """Makes the folder of a file that is to be written after long work.

    Raises:
        InputError: it cannot be written there.
    """
    with clear_storage_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def write_picks(selection: Selection, path: Path) -> None:
    """Writes a selection as Parquet, a row a pick: rank (from 1), block, gain, tokens. Makes the folder.

    Gains are in nats, of a V-optimal selection in variance, as in `Selection.gains`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    ranks = np.arange(1, len(selection) + 1)
    table = {"rank": ranks, "block": selection.indices, "gain": selection.gains, "tokens": selection.tokens}
    pq.write_table(pa.table(table), path)


def read_picks(path: Path) -> list[int]:
    """The numbers of the blocks that `write_picks` wrote.

    Raises:
        InputError: the file is missing, or holds no such picks.
    """
    try:
        return pq.read_table(path, columns=["block"])["block"].to_pylist()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected picks that `fishersft select --output` wrote") from error
    except (pa.ArrowException, KeyError) as error:
        raise InputError(f"{path}: expected picks that `fishersft select --output` wrote: {error}") from error
