"""Drawing the next token, so that a prompt's completion hangs on the seed and the prompt, not on its batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Every prompt has random numbers of its own, which the seed and its tokens determine: the same in every batch, and
    the same for every model, so that two models' completions differ by the models rather than by luck.

    Attributes:
        temperature: what logits are divided by, > 0.
        top_p: only the likeliest tokens that together have this probability are drawn, in (0, 1].
        seed: another gives other completions.
    """

    temperature: float
    top_p: float
    seed: int


class SampledLogits:
    """Makes the greatest logit a draw: called by `generate` as a logits processor, a step at a time.

    The Gumbel-max trick: argmax of log p + g, with g independent standard Gumbel numbers, is a draw from p.

    Args:
        sampling: temperature, top p and seed.
        prompts: the batch's token ids, in the order of its rows.

    Source: Gumbel (1954), Statistical Theory of Extreme Values; Holtzman et al. (2020), "The Curious Case of Neural
    Text Degeneration", for top p.
    """

    def __init__(self, sampling: Sampling, prompts: Sequence[Sequence[int]]):
        self._sampling = sampling
        # On the CPU, for the same numbers on every device.
        self._generators = [torch.Generator().manual_seed(_seed(sampling.seed, prompt)) for prompt in prompts]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The logits, float (batch, vocabulary), with noise, and minus infinity beyond top p; in float64."""
        log_p = within_top_p((scores.double() / self._sampling.temperature).log_softmax(-1), self._sampling.top_p)
        noise = [_gumbel(scores.shape[-1], generator) for generator in self._generators]
        return log_p + torch.stack(noise).to(scores.device)


def within_top_p(log_p: torch.Tensor, top_p: float) -> torch.Tensor:
    """Log-probabilities (batch, vocabulary), minus infinity but for the likeliest that together have `top_p`.

    The likeliest always stays, and so does the one with which the sum reaches `top_p`.
    """
    if top_p == 1:
        return log_p
    ordered, order = log_p.sort(dim=-1, descending=True)
    p = ordered.exp()
    beyond = p.cumsum(-1) - p >= top_p
    return log_p.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -torch.inf)


def _gumbel(size: int, generator: torch.Generator) -> torch.Tensor:
    return -torch.empty(size, dtype=torch.float64).exponential_(generator=generator).log()


def _seed(seed: int, prompt: Sequence[int]) -> int:
    digest = hashlib.sha256(f"{seed}:{','.join(map(str, prompt))}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
