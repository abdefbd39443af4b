"""What is selected from: synthetic sentences, Gaussian vectors, and real sentences as SmolLM2 embeds them.

A pool is made anew, from its seed or its files, in every process that works on it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from fishersft.numerics import TokenBlocks

EXAMPLE = Path(__file__).parents[2] / "examples" / "shakespeare.yaml"
_HELD_OUT_SPARE = 1.12  # rows to read for each sentence wanted: about a tenth is held out
_SENTENCES_AT_ONCE = 10_000


def synthetic_blocks(
    sentences: int,
    dim: int,
    mean_tokens: float = 27.7,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TokenBlocks:
    """Blocks that imitate a language model's embeddings: log-normal lengths, mean norm 43.

    Half of the energy is in the mean direction, the rest in a decaying spectrum, partly shared within a sentence.

    Args:
        sentences: how many blocks.
        dim: of the embeddings.
        mean_tokens: a sentence, before lengths are clipped to [1, 2.3 * mean_tokens].
        device, dtype: where and as what the values are made.
    """
    generator = torch.Generator(device).manual_seed(0)
    normal = partial(torch.randn, generator=generator, device=device)
    logs = math.log(mean_tokens) - 0.8**2 / 2 + 0.8 * normal(sentences)
    lengths = logs.exp().round().clamp(1, round(2.3 * mean_tokens)).long()
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cpu().cumsum(0)])
    spectrum = torch.arange(1, dim + 1, device=device) ** -0.5
    spectrum *= 30 / spectrum.norm()
    mean = normal(dim) * 30 / dim**0.5

    values = torch.empty(int(offsets[-1]), dim, dtype=dtype, device=device)
    for start in range(0, sentences, _SENTENCES_AT_ONCE):
        part = lengths[start : start + _SENTENCES_AT_ONCE]
        first, last = int(offsets[start]), int(offsets[start + len(part)])
        topics = normal(len(part), dim).repeat_interleave(part, 0)
        values[first:last] = mean + spectrum * (0.8 * normal(last - first, dim) + 0.6 * topics)
    return TokenBlocks(values, offsets)


def gaussian_vectors(count: int, dim: int) -> np.ndarray:
    """Standard normal vectors: (count, dim), float32."""
    return np.random.default_rng(0).standard_normal((count, dim), dtype=np.float32)


def single_vectors(count: int, dim: int) -> TokenBlocks:
    """The same vectors as sentences of one token."""
    return TokenBlocks(torch.from_numpy(gaussian_vectors(count, dim)), torch.arange(count + 1))


def embed_speeches(store: str, sentences: int, dtype: str = "float32") -> list[Path]:
    """Files with the token blocks of Shakespeare's speeches by SmolLM2 in that precision, in the corpus' order.

    What the store has not is embedded: some minutes.
    Source: examples/shakespeare.yaml; at most 64 tokens a speech, dim 576.
    """
    from fishersft.config.files import load_config
    from fishersft.data.block_files import EMBEDDINGS_FILE
    from fishersft.steps.corpus import read_corpus
    from fishersft.steps.embedding import embed_shard
    from fishersft.steps.outcome import open_store

    rows = round(sentences * _HELD_OUT_SPARE)
    settings = load_config(EXAMPLE, [f"store={store}", f"corpus.max_rows={rows}", f"model.dtype={dtype}"])
    opened = open_store(settings.store)
    shards = read_corpus(opened, settings).facts["shard_keys"]
    keys = [embed_shard(opened, settings, shard).key for shard in shards]
    return [opened.fetch("embeddings", key) / EMBEDDINGS_FILE for key in keys]


def stored_blocks_of(files: Sequence[Path], sentences: int) -> TokenBlocks:
    """The first blocks of some files, in memory."""
    from fishersft.data.block_files import read_blocks

    blocks = first_blocks(TokenBlocks.concatenate([read_blocks(file) for file in files]), sentences)
    if len(blocks) < sentences:
        raise SystemExit(f"expected {sentences:,} sentences, the corpus gave {len(blocks):,}; read more rows")
    return blocks


def write_shards(sentences: int, dim: int, shards: int, folder: Path) -> list[Path]:
    """Synthetic blocks in `shards` files of equal numbers of sentences; flushed to the disk."""
    from fishersft.data.block_files import write_blocks

    blocks = synthetic_blocks(sentences, dim)
    files = []
    for number, part in enumerate(np.array_split(np.arange(sentences), shards)):
        start, end = int(blocks.offsets[part[0]]), int(blocks.offsets[part[-1] + 1])
        files.append(folder / f"{number:03}.safetensors")
        shard = TokenBlocks(blocks.values[start:end], blocks.offsets[part[0] : part[-1] + 2] - start)
        write_blocks(shard, files[-1])
        with files[-1].open("rb") as file:
            os.fsync(file.fileno())
    return files


def first_blocks(blocks: TokenBlocks, count: int) -> TokenBlocks:
    """The first `count` blocks, as views."""
    end = blocks.offsets[: count + 1]
    return TokenBlocks(blocks.values[: int(end[-1])], end)
