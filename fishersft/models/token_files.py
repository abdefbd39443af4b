"""Tokenised examples as a safetensors file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from fishersft.models.tokenising import Tokenised


def tokens_digest(sentences: Sequence[Tokenised]) -> str:
    """The sha256 of what a model sees of examples in their order: token ids, loss positions, whether they were cut."""
    return _digest(_tensors(sentences))


def write_tokens(sentences: Sequence[Tokenised], path: Path) -> str:
    """Writes flat `input_ids` (tokens,) int32, `loss_mask` (tokens,) uint8, `offsets` (n + 1,) and `truncated` (n,).

    Returns:
        Their `tokens_digest`.
    """
    tensors = _tensors(sentences)
    save_file(tensors, path)
    return _digest(tensors)


def read_tokens(path: Path) -> list[Tokenised]:
    """What `write_tokens` wrote."""
    tensors = load_file(path)
    ids, mask = tensors["input_ids"].tolist(), tensors["loss_mask"].astype(bool).tolist()
    offsets = tensors["offsets"].tolist()
    return [
        Tokenised(ids[begin:end], mask[begin:end], bool(cut))
        for begin, end, cut in zip(offsets, offsets[1:], tensors["truncated"].tolist(), strict=False)
    ]


def _digest(tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in ("offsets", "input_ids", "loss_mask", "truncated"):
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def _tensors(sentences: Sequence[Tokenised]) -> dict[str, np.ndarray]:
    ids = [sentence.input_ids for sentence in sentences]
    masks = [sentence.loss_mask for sentence in sentences]
    return {
        "offsets": np.cumsum([0, *map(len, ids)], dtype="<i8"),
        "input_ids": np.fromiter(chain.from_iterable(ids), dtype="<i4"),
        "loss_mask": np.fromiter(chain.from_iterable(masks), dtype=np.uint8),
        "truncated": np.fromiter((sentence.truncated for sentence in sentences), dtype=np.uint8),
    }
