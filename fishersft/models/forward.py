"""Length-sorted batches through a causal LM: its last hidden states, and what the LM head makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from fishersft.errors import InputError
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
    pieces = [
        torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
        for logits, wanted in zip(_logits_by_rows(model, prelogits), targets.split(_HEAD_ROWS), strict=True)
    ]
    return torch.cat(pieces)


@torch.inference_mode()
def fisher_weights(model: PreTrainedModel, prelogits: torch.Tensor) -> torch.Tensor:
    """How uncertain the model is about each next token: float32 (tokens,), in [0, 1].

        w = 1 - sum_v p(v)^2 = tr(diag(p) - p p^T)

    the trace of the first factor of a token's Fisher information, (diag(p) - p p^T) kron x x^T: 0 where the model
    is certain, 1 - 1/vocabulary where it knows nothing. Exact to about 1e-6.

    Args:
        model: the causal LM whose head is applied, soft-capped where its config says so.
        prelogits: (tokens, dim), the states that predict.

    Cost: the LM head, dim x vocabulary a token.
    Source: the Hessian in Deb et al. (2025), arXiv:2505.14826, section 3.
    """
    pieces = [1 - (2 * logits.log_softmax(dim=-1)).exp_().sum(dim=-1) for logits in _logits_by_rows(model, prelogits)]
    return torch.cat(pieces).clamp_(0, 1)  # rounding may pass either end


def _logits_by_rows(model: PreTrainedModel, prelogits: torch.Tensor) -> Iterator[torch.Tensor]:
    """The float32 logits of `_HEAD_ROWS` rows after the other, soft-capped where the model's config says so."""
    head: Any = model.get_output_embeddings()
    cap = getattr(model.config, "final_logit_softcapping", None)
    for states in prelogits.split(_HEAD_ROWS):
        logits = head(states).float()
        yield logits if cap is None else torch.tanh(logits / cap) * cap


@torch.inference_mode()
def check_logits(model: PreTrainedModel, sentence: Tokenised) -> None:
    """Raise InputError where the head alone does not give the model's logits, as some architectures scale them.

    Probabilities without that would be silently wrong. Raises it too where the logits are NaN or infinite.
    """
    beginning = Tokenised(sentence.input_ids[:_HEAD_ROWS], sentence.loss_mask[:_HEAD_ROWS], truncated=True)
    ids = torch.tensor([beginning.input_ids], device=model.device)
    with_model = torch.nn.functional.cross_entropy(
        model(input_ids=ids).logits[0, :-1].float(), ids[0, 1:], reduction="none"
    )
    if not with_model.isfinite().all():
        raise InputError(f"{type(model).__name__} gives NaN or infinity for a sentence; try the other model.dtype")
    with_head = token_nll(model, last_hidden_states(model, [beginning])[0, :-1], ids[0, 1:])
    if not torch.allclose(with_model, with_head, rtol=0.05, atol=0.05):
        raise InputError(
            f"{type(model).__name__} changes its logits after the LM head in a way that FisherSFT does not know, so "
            "its probabilities cannot be computed; use another model"
        )
