"""Token blocks as files: safetensors or npz with flat `values` (tokens, dim) and `offsets` (sentences + 1,)."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fishersft.errors import InputError
from fishersft.numerics import Selection, TokenBlocks

EMBEDDINGS_FILE = "embeddings.safetensors"


def write_blocks(blocks: TokenBlocks, path: Path) -> None:
    """Writes token blocks as safetensors, in their own dtype."""
    save_file({"values": blocks.values.contiguous(), "offsets": blocks.offsets.contiguous()}, path)


def read_blocks(path: Path) -> TokenBlocks:
    """Reads token blocks from a `.safetensors` or `.npz` file, or from an embeddings artifact's folder.

    Args:
        path: the file; or STORE/embeddings/KEY; or the folder with the artifact's files inside it.

    Raises:
        InputError: the file is missing, of another kind, lacks `values` or `offsets`, or its offsets are no integers.
    """
    if path.is_dir():
        path = _content_folder(path) / EMBEDDINGS_FILE
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected token blocks as .safetensors or .npz")
    arrays = _arrays(path)
    missing = {"values", "offsets"} - arrays.keys()
    if missing:
        raise InputError(
            f"{path}: expected arrays values (tokens, dim) and offsets (sentences + 1,), found {sorted(arrays)}"
        )
    offsets = arrays["offsets"]
    if offsets.is_floating_point() or offsets.is_complex() or offsets.dtype == torch.bool:
        raise InputError(f"{path}: expected offsets of an integer dtype such as int64, found {offsets.dtype}")
    return TokenBlocks(arrays["values"], offsets.to(torch.int64))


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


def _arrays(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: torch.from_numpy(file[name]) for name in file.files}
    except (SafetensorError, zipfile.BadZipFile, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a readable {path.suffix} file of arrays: {error}") from error
    raise InputError(f"{path}: expected a .safetensors or .npz file of token blocks")


def write_picks(selection: Selection, path: Path) -> None:
    """Writes a selection as Parquet, a row a pick: rank (from 1), block, gain (nats), tokens. Makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ranks = np.arange(1, len(selection) + 1)
    table = {"rank": ranks, "block": selection.indices, "gain": selection.gains, "tokens": selection.tokens}
    pq.write_table(pa.table(table), path)
