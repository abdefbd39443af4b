"""Prelogit embeddings: for every loss position the state that predicts it, and its Fisher weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from fishersft.models.forward import batches_by_tokens, check_logits, fisher_weights, last_hidden_states
from fishersft.models.tokenising import Tokenised
from fishersft.numerics import TokenBlocks


@dataclass(frozen=True, eq=False)
class Embedded:
    """Sentences as token blocks, float32 (tokens, dim) on the CPU; beside them, if asked for, a weight a token.

    Attributes:
        blocks: a block a sentence, in their order.
        fisher_weights: float32 (tokens,) on the CPU, as `fishersft.models.forward.fisher_weights` gives them.
    """

    blocks: TokenBlocks
    fisher_weights: torch.Tensor | None


def embed(
    model: PreTrainedModel,
    sentences: Sequence[Tokenised],
    batch_tokens: int,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    with_fisher_weights: bool = False,
) -> Embedded:
    """The token blocks of tokenised sentences, in their order.

    Block i holds x_ij for every loss position j of sentence i: the last hidden state at position j - 1, after the
    final norm and before the LM head (arXiv:2505.14826, section 3).

    Args:
        model: a causal LM in evaluation mode.
        sentences: a sentence without a loss position gets an empty block.
        batch_tokens: tokens a forward pass, padding included.
        on_progress: called with (loss tokens done, loss tokens in all).
        with_fisher_weights: apply the LM head to the same states too, for the weight of each loss position.

    Raises:
        InputError: weights are asked for and `check_logits` finds the head's logits unlike the model's.
    """
    lengths = torch.tensor([sentence.loss_tokens for sentence in sentences], dtype=torch.int64)
    offsets = torch.zeros(len(sentences) + 1, dtype=torch.int64)
    torch.cumsum(lengths, 0, out=offsets[1:])
    total = int(offsets[-1])
    values = torch.empty(total, model.config.get_text_config().hidden_size, dtype=torch.float32)
    weights = torch.empty(total, dtype=torch.float32) if with_fisher_weights else None
    done = 0
    with_loss = [i for i, sentence in enumerate(sentences) if sentence.loss_tokens]
    if weights is not None and with_loss:
        check_logits(model, sentences[with_loss[0]])
    for batch in batches_by_tokens([len(sentences[i].input_ids) for i in with_loss], batch_tokens):
        indices = [with_loss[position] for position in batch]
        states = last_hidden_states(model, [sentences[i] for i in indices])
        prelogits = torch.cat([states[row, sentences[i].predicting_positions] for row, i in enumerate(indices)])
        places = torch.cat([torch.arange(int(offsets[i]), int(offsets[i + 1])) for i in indices])
        values[places] = prelogits.float().cpu()
        if weights is not None:
            weights[places] = fisher_weights(model, prelogits).cpu()
        done += int(lengths[indices].sum())
        if on_progress:
            on_progress(done, total)
    return Embedded(TokenBlocks(values, offsets), weights)
