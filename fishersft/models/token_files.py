"""Tokenised examples as a safetensors file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from fishersft.models.tokenising import Tokenised


def tokens_digest(sentences: Sequence[Tokenised]) -> str:
    """The sha256 of what a model sees of examples in their order: token ids, loss positions, whether they were cut."""
    tensors = _tensors(sentences)
    digest = hashlib.sha256()
    for name in ("offsets", "input_ids", "loss_mask", "truncated"):
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def write_tokens(sentences: Sequence[Tokenised], path: Path) -> None:
    """Writes flat `input_ids` (tokens,) int32, `loss_mask` (tokens,) uint8, `offsets` (n + 1,) and `truncated` (n,)."""
    save_file(_tensors(sentences), path)


def read_tokens(path: Path) -> list[Tokenised]:
    """What `write_tokens` wrote."""
    tensors = load_file(path)
    ids, mask = tensors["input_ids"].tolist(), tensors["loss_mask"].astype(bool).tolist()
    offsets = tensors["offsets"].tolist()
    return [
        Tokenised(ids[begin:end], mask[begin:end], bool(cut))
        for begin, end, cut in zip(offsets, offsets[1:], tensors["truncated"].tolist(), strict=False)
    ]


def _tensors(sentences: Sequence[Tokenised]) -> dict[str, np.ndarray]:
    ids = [sentence.input_ids for sentence in sentences]
    return {
        "offsets": np.cumsum([0, *map(len, ids)], dtype="<i8"),
        "input_ids": np.fromiter((token for some in ids for token in some), dtype="<i4"),
        "loss_mask": np.fromiter((bit for sentence in sentences for bit in sentence.loss_mask), dtype=np.uint8),
        "truncated": np.fromiter((sentence.truncated for sentence in sentences), dtype=np.uint8),
    }
