"""Questions whose answer is read off the next token: about hostile texts, in the chat template, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from fishersft.models.forward import hidden_states
from fishersft.models.tokenising import Tokenised


def without_special_tokens(tokenizer: Any, text: str) -> str:
    """The text with a space for each of the tokenizer's special tokens, which could end the asker's turn."""
    special = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    for token in sorted({*special, *tokenizer.all_special_tokens}, key=len, reverse=True):
        text = text.replace(token, " ")
    return text


def as_question(tokenizer: Any, prompt: str, cue: str) -> Tokenised:
    """The prompt as the user's turn, up to where the answer begins; without a chat template `cue` ends it."""
    if tokenizer.chat_template:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=True, return_dict=False
        )
    else:
        ids = tokenizer(prompt + cue)["input_ids"]
    return Tokenised(ids, [False] * len(ids), truncated=False)


@torch.inference_mode()
def answer_states(
    model: PreTrainedModel,
    questions: Sequence[Tokenised],
    batch_tokens: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """The states that predict the answers' first tokens, a batch at a time.

    Args:
        model: a causal LM in evaluation mode.
        questions: none empty.
        batch_tokens: tokens a forward pass, padding included; None: found by itself.
        on_progress: called with (questions done, questions in all) after a batch was used.

    Yields:
        Indices of questions, and their prelogit states (questions in the batch, dim).
    """
    done = 0
    for batch, states in hidden_states(model, questions, batch_tokens):
        last = torch.tensor([len(questions[i].input_ids) - 1 for i in batch])
        yield batch, states[torch.arange(len(batch)), last]
        done += len(batch)
        if on_progress:
            on_progress(done, len(questions))
