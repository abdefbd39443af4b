"""Sentences as one vector each: the position-weighted means of their last hidden states that RDS+ compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel

from fishersft.models.forward import hidden_states
from fishersft.models.output_layer import prelogit_dim
from fishersft.models.tokenising import Tokenised


def weighted_means(
    model: PreTrainedModel,
    sentences: Sequence[Tokenised],
    batch_tokens: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """The mean of each sentence's last hidden states, later ones weighing more: float32 (sentences, dim), on the CPU.

        e = sum over t = 1 .. T of t / (1 + ... + T) h_t

    over all T tokens of the sentence itself, its prompt included, and no padding.

    Args:
        model: a causal LM in evaluation mode.
        sentences: one without a token, as for a row that cannot be tokenised, gets zeros.
        batch_tokens: tokens a forward pass, padding included; None: found by itself, see `hidden_states`.
        on_progress: called with (tokens done, tokens in all).

    Raises:
        InputError: as `hidden_states` says.

    Cost: one forward pass over each sentence, without the LM head.
    Source: Ivison et al. (2025), "Large-Scale Data Selection for Instruction Tuning", arXiv:2503.01807, section 3
        (RDS+); Muennighoff (2022), "SGPT", arXiv:2202.08904, for the weights.
    """
    with_tokens = [i for i, sentence in enumerate(sentences) if sentence.input_ids]
    means = torch.zeros(len(sentences), prelogit_dim(model))
    total, done = sum(len(sentence.input_ids) for sentence in sentences), 0
    for batch, states in hidden_states(model, [sentences[i] for i in with_tokens], batch_tokens):
        for row, place in enumerate(batch):
            tokens = len(sentences[with_tokens[place]].input_ids)
            weights = torch.arange(1, tokens + 1, dtype=torch.float32, device=states.device)
            means[with_tokens[place]] = (weights @ states[row, :tokens].float() / weights.sum()).cpu()
            done += tokens
        if on_progress:
            on_progress(done, total)
    return means
