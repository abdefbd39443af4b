"""Length-sorted batches through a causal LM: its last hidden states, and log-probabilities from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from fishersft.models.tokenising import Tokenised

_HEAD_ROWS = 256  # rows of the LM head at once: bounds memory to rows x vocabulary


def batches_by_tokens(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of sentences in batches of like length, longest first.

    A batch holds at most `batch_tokens` tokens, padding included, or one sentence.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@torch.inference_mode()
def last_hidden_states(model: PreTrainedModel, sentences: Sequence[Tokenised]) -> torch.Tensor:
    """The states after the final norm and before the LM head: (sentences, longest, dim), in the model's dtype.

    Sentences are padded on the right; a causal model's states before the padding do not depend on it.
    """
    device = model.device
    longest = max(len(sentence.input_ids) for sentence in sentences)
    ids = torch.zeros(len(sentences), longest, dtype=torch.long)
    attention = torch.zeros_like(ids)
    for row, sentence in enumerate(sentences):
        ids[row, : len(sentence.input_ids)] = torch.tensor(sentence.input_ids)
        attention[row, : len(sentence.input_ids)] = 1
    decoder: Any = model.base_model
    output = decoder(input_ids=ids.to(device), attention_mask=attention.to(device), use_cache=False)
    return output.last_hidden_state


@torch.inference_mode()
def token_nll(model: PreTrainedModel, prelogits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of target tokens: float32 (tokens,), in nats.

    Args:
        model: the causal LM whose head is applied, soft-capped where its config says so.
        prelogits: (tokens, dim), the states that predict the targets.
        targets: int64 (tokens,).
    """
    head: Any = model.get_output_embeddings()
    cap = getattr(model.config, "final_logit_softcapping", None)
    pieces = []
    for states, wanted in zip(prelogits.split(_HEAD_ROWS), targets.split(_HEAD_ROWS), strict=True):
        logits = head(states).float()
        if cap is not None:
            logits = torch.tanh(logits / cap) * cap
        pieces.append(torch.nn.functional.cross_entropy(logits, wanted, reduction="none"))
    return torch.cat(pieces) if pieces else torch.zeros(0)
