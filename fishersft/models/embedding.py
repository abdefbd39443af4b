"""Prelogit embeddings: for every loss position the state that predicts it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel

from fishersft.models.forward import batches_by_tokens, last_hidden_states
from fishersft.models.tokenising import Tokenised
from fishersft.numerics import TokenBlocks


def embed(
    model: PreTrainedModel,
    sentences: Sequence[Tokenised],
    batch_tokens: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> TokenBlocks:
    """The token blocks of tokenised sentences, in their order.

    Block i holds x_ij for every loss position j of sentence i: the last hidden state at position j - 1, after the
    final norm and before the LM head (arXiv:2505.14826, section 3).

    Args:
        model: a causal LM in evaluation mode.
        sentences: a sentence without a loss position gets an empty block.
        batch_tokens: tokens a forward pass, padding included.
        on_progress: called with (loss tokens done, loss tokens in all).

    Returns:
        float32 values (tokens, dim) on the CPU.
    """
    lengths = torch.tensor([sentence.loss_tokens for sentence in sentences], dtype=torch.int64)
    offsets = torch.zeros(len(sentences) + 1, dtype=torch.int64)
    torch.cumsum(lengths, 0, out=offsets[1:])
    total = int(offsets[-1])
    values = torch.empty(total, model.config.get_text_config().hidden_size, dtype=torch.float32)
    done = 0
    with_loss = [i for i, sentence in enumerate(sentences) if sentence.loss_tokens]
    for batch in batches_by_tokens([len(sentences[i].input_ids) for i in with_loss], batch_tokens):
        indices = [with_loss[position] for position in batch]
        states = last_hidden_states(model, [sentences[i] for i in indices])
        for row, i in enumerate(indices):
            values[offsets[i] : offsets[i + 1]] = states[row, sentences[i].predicting_positions].float().cpu()
        done += int(lengths[indices].sum())
        if on_progress:
            on_progress(done, total)
    return TokenBlocks(values, offsets)
