"""What a model knows where it would answer: its last hidden state at the end of a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from fishersft.models.forward import hidden_states
from fishersft.models.output_layer import prelogit_dim
from fishersft.models.tokenising import Tokenised


def questions(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], question: str, text_tokens: int
) -> list[Tokenised]:
    """The prompts "TEXT QUESTION": token ids with no loss position.

    Args:
        tokenizer: a fast one. Special tokens come where it puts them by default.
        texts: each with at least one token.
        question: what follows each text, such as "\\nTopic:".
        text_tokens: a text is cut after so many tokens.
    """
    cut = []
    for text in texts:
        ends = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        cut.append(text[: ends[min(text_tokens, len(ends)) - 1][1]] + question)
    return [Tokenised(ids, [False] * len(ids), truncated=False) for ids in tokenizer(cut)["input_ids"]] if cut else []


def answer_states(
    model: PreTrainedModel,
    prompts: Sequence[Tokenised],
    batch_tokens: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Each prompt's last hidden state, which predicts the answer's first token: float32 (prompts, dim), on the CPU.

    Args:
        model: a causal LM in evaluation mode.
        prompts: at least one token each.
        batch_tokens: tokens a forward pass, padding included; None: found by itself, see `hidden_states`.
        on_progress: called with (tokens done, tokens in all).

    Raises:
        InputError: as `hidden_states` says.

    Cost: one forward pass over each prompt, without the LM head.
    """
    found = torch.zeros(len(prompts), prelogit_dim(model))
    total, done = sum(len(prompt.input_ids) for prompt in prompts), 0
    for batch, states in hidden_states(model, prompts, batch_tokens):
        for row, place in enumerate(batch):
            tokens = len(prompts[place].input_ids)
            found[place] = states[row, tokens - 1].float().cpu()
            done += tokens
        if on_progress:
            on_progress(done, total)
    return found
