"""Gradient sketches: where a sentence's loss would pull the LM head, in few numbers."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

RESIDUALS, STATES = 32, 64  # numbers that are kept of a token's residual, and of the state that predicts it
SKETCH = RESIDUALS * STATES


def sentence_gradients(
    prelogits: torch.Tensor, residuals: torch.Tensor, sentence_of: torch.Tensor, sentences: int
) -> torch.Tensor:
    """The sketch of each sentence's gradient: (sentences, 2048), float32, on the prelogits' device.

        sum over its tokens of (R^T r) kron (P^T x),  P of random signs over sqrt(64), R likewise

    The gradient of a token's negative log-likelihood in the LM head's weights W is r x^T, with x the state and r the
    derivative in W x + b: p - e_y, the model's probabilities less the target's unit vector, times the slopes of the
    model's scale and soft cap where it has them. Inner products of sketches are, in expectation over the signs, those
    of the gradients.

    Args:
        prelogits: (tokens, dim), the states.
        residuals: (tokens, 32), R^T r, see `head.token_scores`.
        sentence_of: int64 (tokens,), the number of each token's sentence.
        sentences: how many there are.

    Source: Achlioptas (2003), random signs; Park et al. (2023), "TRAK", arXiv:2303.14186, for sketched gradients.
    """
    states = prelogits.float() @ (signs(prelogits.shape[1], STATES) / STATES**0.5).to(prelogits.device)
    of_tokens = (residuals[:, :, None] * states[:, None, :]).flatten(1)
    total = torch.zeros(sentences, SKETCH, device=prelogits.device)
    return total.index_add_(0, sentence_of.to(prelogits.device), of_tokens)


@lru_cache(maxsize=4)
def signs(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Pseudo-random signs: (rows, columns), float32 of 1 and -1, the same everywhere and for every number of rows.

    Args:
        columns: at most 64.
        seed: in [0, 2^64), the state that the generator starts from; other seeds give other, uncorrelated signs.

    Source: Steele, Lea and Flood (2014), the finaliser of SplitMix64, whose bits these are.

    Example:
        >>> torch.equal(signs(3, 8), signs(9, 8)[:3])
        True
    """
    assert columns <= 64, "a sign is a bit of 64"
    numbers = random_words(rows, seed=seed).astype("<u8")
    bits = np.unpackbits(numbers.view(np.uint8).reshape(rows, 8), axis=1, count=columns, bitorder="little")
    return torch.from_numpy(2 * bits.astype(np.float32) - 1)


def random_words(count: int, first: int = 1, seed: int = 0) -> np.ndarray:
    """Pseudo-random numbers of 64 bits: uint64 (count,), those of SplitMix64 from a seed, the first being number 1.

    Source: Steele, Lea and Flood (2014), "Fast Splittable Pseudorandom Number Generators", OOPSLA.

    Example:
        >>> hex(random_words(1)[0])
        '0xe220a8397b1dcdaf'
    """
    with np.errstate(over="ignore"):
        state = np.uint64(seed) + np.arange(first, first + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
