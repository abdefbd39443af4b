"""Losses of sentences in a batch, with the graph that a backward pass needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from fishersft.models.rope import forget_lengths
from fishersft.models.tokenising import Tokenised


def padded(sentences: Sequence[Tokenised], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels, padded on the right: int64 (sentences, longest) each; the loss counts no padding."""
    shape = len(sentences), max(len(sentence.input_ids) for sentence in sentences)
    ids, labels = torch.zeros(shape, dtype=torch.long), torch.full(shape, -100)
    for row, sentence in enumerate(sentences):
        ids[row, : len(sentence.input_ids)] = torch.tensor(sentence.input_ids)
        labels[row, : len(sentence.input_ids)] = torch.tensor(sentence.labels)
    return ids.to(device), labels.to(device)


def token_nll(model: Any, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The negative log-likelihood of each label: (sentences, longest - 1), in nats; 0 where the loss counts none.

    No attention mask is given: what a causal model makes of the tokens before the padding does not depend on it.
    """
    forget_lengths(model)
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
    return functional.cross_entropy(logits.transpose(1, 2), labels[:, 1:], ignore_index=-100, reduction="none")
