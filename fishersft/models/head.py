"""What the LM head makes of hidden states: likelihoods and Fisher weights, a part of the vocabulary at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from fishersft.errors import InputError
from fishersft.models.forward import last_hidden_states
from fishersft.models.gradients import RESIDUALS, signs
from fishersft.models.output_layer import output_layer
from fishersft.models.rope import forget_lengths
from fishersft.models.tokenising import Tokenised

_ROWS, _COLUMNS = 1024, 8192  # states and entries of the vocabulary at once: 32 MiB of logits in float32
_CHECKED_TOKENS = 256


@dataclass(frozen=True, eq=False)
class TokenScores:
    """What the head says of each token, float32 (tokens,) on the states' device.

    Attributes:
        nll: the negative log-likelihood of the target, in nats; NaN where it is not known.
        fisher_weights: 1 - sum_v p(v)^2, in [0, 1]; see `token_scores`.
        residuals: (tokens, 32), R^T r with r the derivative of nll in W x + b and R of random signs over sqrt(32); None
            where not asked for. See `token_scores`.
    """

    nll: torch.Tensor
    fisher_weights: torch.Tensor
    residuals: torch.Tensor | None = None


@torch.inference_mode()
def token_scores(
    model: PreTrainedModel, prelogits: torch.Tensor, targets: torch.Tensor, with_residuals: bool = False
) -> TokenScores:
    """How likely each target is, and how uncertain the model is about it.

        nll = log sum_v exp(z_v) - z_target,  w = 1 - sum_v p(v)^2 = tr(diag(p) - p p^T)

    w is the trace of the first factor of a token's Fisher information in its logits, (diag(p) - p p^T) kron x x^T: 0
    where the model is certain, 1 - 1/vocabulary where it knows nothing. z are the model's own logits, with its scale
    and soft cap. Exact to about 1e-6. Sums over the vocabulary are taken part by part, each relative to the largest
    logit so far, so that no (tokens, vocabulary) tensor is ever there. Where residuals are asked for,

        r_v = (p(v) - [v is the target]) * scale * (1 - (z_v / cap)^2)

    is sketched, the derivative of nll in the projection W x + b; without scale and cap it is p - e_target.

    Args:
        model: the causal LM whose head is applied.
        prelogits: (tokens, dim), the states that predict the targets.
        targets: int64 (tokens,); -1 where a target is not known, which residuals need.
        with_residuals: sketch r too, see `gradients.sentence_gradients`.

    Cost: the LM head, dim x vocabulary a token; with residuals 32 x vocabulary more.
    Source: the Hessian in Deb et al. (2025), arXiv:2505.14826, section 3; the running sums, Milakov and Gimelshein
        (2018), "Online normalizer calculation for softmax", arXiv:1805.02867.
    """
    head: Any = model.get_output_embeddings()
    sketch = (signs(len(head.weight), RESIDUALS) / RESIDUALS**0.5).to(prelogits.device) if with_residuals else None
    pieces = [
        _scores(model, rows, wanted, sketch)
        for rows, wanted in zip(prelogits.split(_ROWS), targets.to(prelogits.device).split(_ROWS), strict=True)
    ]
    empty = torch.empty(0, device=prelogits.device)
    none = torch.empty(0, RESIDUALS, device=prelogits.device)
    return TokenScores(
        torch.cat([empty, *(piece.nll for piece in pieces)]),
        torch.cat([empty, *(piece.fisher_weights for piece in pieces)]),
        torch.cat([none, *(piece.residuals for piece in pieces if piece.residuals is not None)])
        if sketch is not None
        else None,
    )


def _scores(
    model: PreTrainedModel, rows: torch.Tensor, targets: torch.Tensor, sketch: torch.Tensor | None
) -> TokenScores:
    layer = output_layer(model)
    residuals = torch.zeros(len(rows), RESIDUALS if sketch is not None else 0, device=rows.device)
    largest = torch.full((len(rows), 1), -torch.inf, device=rows.device)
    total, squares = torch.zeros(2, len(rows), 1, device=rows.device)
    of_targets = torch.full((len(rows),), torch.nan, device=rows.device)
    for start, logits in _logits_by_columns(model, rows):
        before, largest = largest, torch.maximum(largest, logits.amax(dim=1, keepdim=True))
        shrunk = (before - largest).exp()
        here = (targets >= start) & (targets < start + logits.shape[1])
        of_targets[here] = logits[here, targets[here] - start]
        slopes = None if sketch is None else layer.cap_slopes(logits)
        parts = logits.sub_(largest).exp_()
        total = total * shrunk + parts.sum(dim=1, keepdim=True)
        if sketch is not None:
            columns = sketch[start : start + parts.shape[1]]
            residuals = residuals * shrunk + (parts if slopes is None else parts * slopes) @ columns
        squares = squares * shrunk.square() + parts.square_().sum(dim=1, keepdim=True)
    nll = (largest + total.log()).squeeze(1) - of_targets
    weights = (1 - squares / total.square()).squeeze(1).clamp_(0, 1)  # rounding may pass either end
    if sketch is None:
        return TokenScores(nll, weights)
    slopes, of_target = layer.cap_slopes(of_targets[:, None]), sketch[targets]
    residuals = residuals / total - (of_target if slopes is None else of_target * slopes)
    return TokenScores(nll, weights, residuals * layer.scale)


def _logits_by_columns(model: PreTrainedModel, rows: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """The float32 logits of a part of the vocabulary after the other, and where it begins.

    A head of another kind than a linear layer is applied as a whole.
    """
    head: Any = model.get_output_embeddings()
    columns = _COLUMNS if type(head) is torch.nn.Linear else len(head.weight)
    for start in range(0, len(head.weight), columns):
        yield start, logits_of(model, rows, slice(start, start + columns))


def logits_of(model: PreTrainedModel, prelogits: torch.Tensor, tokens: slice | torch.Tensor) -> torch.Tensor:
    """The model's own logits of some tokens: float32 (states, tokens).

    Args:
        model: a causal LM.
        prelogits: (states, dim), as `last_hidden_states` gives them.
        tokens: a part of the vocabulary, or int64 ids on the model's device.
    """
    head: Any = model.get_output_embeddings()
    if type(head) is torch.nn.Linear:
        bias = None if head.bias is None else head.bias[tokens]
        projected = functional.linear(prelogits, head.weight[tokens], bias)
    else:
        projected = head(prelogits)[:, tokens]
    return output_layer(model).logits(projected.float())


@torch.inference_mode()
def check_logits(model: PreTrainedModel, sentence: Tokenised) -> None:
    """Raise InputError where the head alone does not give the model's logits.

    `output_layer` knows scales and soft caps; probabilities without what else a model does would be silently wrong.
    Raises it too where the logits are NaN or infinite.
    """
    ids = torch.tensor([sentence.input_ids[:_CHECKED_TOKENS]], device=model.device)
    beginning = Tokenised(ids[0].tolist(), sentence.loss_mask[:_CHECKED_TOKENS], truncated=True)
    forget_lengths(model)
    with_model = functional.cross_entropy(model(input_ids=ids).logits[0, :-1].float(), ids[0, 1:], reduction="none")
    if not with_model.isfinite().all():
        raise InputError(f"{type(model).__name__} gives NaN or infinity for a sentence; try the other model.dtype")
    with_head = token_scores(model, last_hidden_states(model, [beginning])[0, :-1], ids[0, 1:]).nll
    if not torch.allclose(with_model, with_head, rtol=0.05, atol=0.05):
        raise InputError(
            f"{type(model).__name__} changes its logits after the LM head in a way that FisherSFT does not know, so "
            "its probabilities cannot be computed; use another model"
        )
