"""Prelogit embeddings: for every loss position the state that predicts it, and what the LM head says of the token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from fishersft.models.forward import hidden_states
from fishersft.models.gradients import SKETCH, sentence_gradients
from fishersft.models.head import TokenScores, check_logits, token_scores
from fishersft.models.output_layer import prelogit_dim
from fishersft.models.tokenising import Tokenised
from fishersft.numerics import TokenBlocks

_WINDOW_VALUES = 1 << 25  # of the embeddings held at once: 128 MiB in float32


@dataclass(frozen=True, eq=False)
class Embedded:
    """Some sentences as token blocks on the CPU, in the model's dtype; beside them, if asked for, what the head says.

    Attributes:
        blocks: a block a sentence, in their order.
        scores: of the tokens, float32 (tokens,) each, on the CPU.
        gradients: of the sentences, float32 (sentences, 2048), on the CPU; see `sentence_gradients`.
    """

    blocks: TokenBlocks
    scores: TokenScores | None
    gradients: torch.Tensor | None


def embed(
    model: PreTrainedModel,
    sentences: Sequence[Tokenised],
    batch_tokens: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    with_scores: bool = False,
    with_gradients: bool = False,
) -> Iterator[Embedded]:
    """The token blocks of tokenised sentences, in their order, in windows of bounded size.

    Block i holds x_ij for every loss position j of sentence i: what enters the model's output projection at position
    j - 1, mostly its last hidden state after the final norm (arXiv:2505.14826, section 3); of a prompt without an
    answer one for every position, see `Tokenised.is_prompt`. Within a window sentences of similar length are
    computed together.

    Args:
        model: a causal LM in evaluation mode.
        sentences: a sentence without a loss position gets an empty block.
        batch_tokens: tokens a forward pass, padding included; None: found by itself, see `hidden_states`.
        on_progress: called with (loss tokens done, loss tokens in all).
        with_scores: apply the LM head to the same states too, for every token's likelihood and Fisher weight.
        with_gradients: with scores, for every sentence's gradient sketch as well.

    Raises:
        InputError: as `output_layer` says, before any other work; scores are asked for and `check_logits` finds the
            head's logits unlike the model's; or a sentence is too much for the memory.
    """
    total, dim = sum(sentence.loss_tokens for sentence in sentences), prelogit_dim(model)
    if with_scores and (first := next((sentence for sentence in sentences if sentence.loss_tokens), None)):
        check_logits(model, first)
    done = 0

    def report(tokens: int) -> None:
        if on_progress:
            on_progress(done + tokens, total)

    for window in _windows(sentences, _WINDOW_VALUES // dim):
        embedded = _embed_window(model, window, batch_tokens, report, with_scores, with_gradients)
        yield embedded
        done += len(embedded.blocks.values)


def _embed_window(
    model: PreTrainedModel,
    sentences: Sequence[Tokenised],
    batch_tokens: int | None,
    on_progress: Callable[[int], None],
    with_scores: bool,
    with_gradients: bool,
) -> Embedded:
    offsets = torch.tensor([0] + [sentence.loss_tokens for sentence in sentences]).cumsum(0)
    total, dim = int(offsets[-1]), prelogit_dim(model)
    values = torch.empty(total, dim, dtype=model.dtype)
    scores = TokenScores(torch.empty(total), torch.empty(total)) if with_scores else None
    gradients = torch.zeros(len(sentences), SKETCH) if with_gradients else None
    with_loss = [i for i, sentence in enumerate(sentences) if sentence.loss_tokens]
    done = 0
    for batch, states in hidden_states(model, [sentences[i] for i in with_loss], batch_tokens):
        members = [with_loss[place] for place in batch]
        rows = torch.repeat_interleave(torch.arange(len(members)), offsets.diff()[members])
        positions = torch.tensor([position for i in members for position in sentences[i].predicting_positions])
        prelogits = states[rows.to(states.device), positions.to(states.device)]
        places = torch.cat([torch.arange(int(offsets[i]), int(offsets[i + 1])) for i in members])
        values[places] = prelogits.to(values)
        if scores is not None:
            targets = torch.tensor([target for i in members for target in sentences[i].targets])
            found = token_scores(model, prelogits, targets, with_gradients)
            scores.nll[places], scores.fisher_weights[places] = found.nll.cpu(), found.fisher_weights.cpu()
            if gradients is not None and found.residuals is not None:
                gradients[members] = sentence_gradients(prelogits, found.residuals, rows, len(members)).cpu()
        done += len(places)
        on_progress(done)
    return Embedded(TokenBlocks(values, offsets), scores, gradients)


def _windows(sentences: Sequence[Tokenised], most_tokens: int) -> Iterator[Sequence[Tokenised]]:
    """Neighbouring sentences of at most so many loss tokens together, or one."""
    start, tokens = 0, 0
    for number, sentence in enumerate(sentences):
        if number > start and tokens + sentence.loss_tokens > most_tokens:
            yield sentences[start:number]
            start, tokens = number, 0
        tokens += sentence.loss_tokens
    if start < len(sentences):
        yield sentences[start:]
