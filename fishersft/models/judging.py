"""A judge that compares two texts in both orders without knowing who wrote them.

The prompt is the protocol of the paper's rebuttal: two texts in tags and a question to be answered by 1 or 2. A tag
inside a text is made harmless, so no text can close its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fishersft.errors import InputError
from fishersft.models.questions import answer_states, as_question, without_special_tokens
from fishersft.models.tokenising import Tokenised

_TAG = re.compile(r"<(?=\s*/?\s*text_?[12])", re.IGNORECASE)
_SPARE = 16  # tokens: cut texts may take a few more when they are put together


def judge_prompt(first: str, second: str, task: str) -> str:
    """What the judge is asked about two texts; `task` names the kind of text, such as "Shakespeare"."""
    first, second = (_TAG.sub("‹", text) for text in (first, second))
    return (
        f"Here are two texts.\n<text_1>{first}</text_1>\n<text_2>{second}</text_2>\n"
        f"Respond 2 if the text in the second is more fluent {task} text than the first, respond 1 otherwise. "
        "Respond with a single digit."
    )


class LocalJudge:
    """A causal LM as judge: the more probable of "1" and "2" as the next token is its answer.

    Args:
        model: in evaluation mode.
        tokenizer: the model's; its chat template is used where it has one.
        task: what the texts should be fluent examples of.
        max_tokens: the judge's context. Texts that do not fit lose their beginning, both at the same length.

    Attributes:
        tokens_read: tokens of all prompts so far.

    Raises:
        InputError: the tokenizer does not end "1" and "2" with different tokens, or the context is too short.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: str, max_tokens: int):
        self._model = model
        self._tokenizer: Any = tokenizer
        self._task = task
        self.tokens_read = 0
        one, two = (self._tokenizer(digit, add_special_tokens=False)["input_ids"] for digit in "12")
        if one[:-1] != two[:-1] or one[-1] == two[-1]:
            raise InputError('this judge\'s tokenizer does not tell "1" from "2" by one token; name another judge')
        self._answers = torch.tensor([one[-1], two[-1]])
        spare = max_tokens - len(self._tokens(judge_prompt("", "", task)).input_ids) - _SPARE
        self._text_tokens = spare // 2
        if self._text_tokens < 1:
            raise InputError(f"the judge's context of {max_tokens} tokens is too short for its question; name another")

    @torch.inference_mode()
    def second_preferred(
        self,
        pairs: Sequence[tuple[str, str]],
        batch_tokens: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """For each (first, second) pair log P("2") - log P("1"): float64 (pairs,); above 0 the second is preferred."""
        prompts = [
            self._tokens(judge_prompt(self._fitted(first), self._fitted(second), self._task)) for first, second in pairs
        ]
        self.tokens_read += sum(len(prompt.input_ids) for prompt in prompts)
        margins = np.zeros(len(pairs))
        head: Any = self._model.get_output_embeddings()
        answers = self._answers.to(self._model.device)
        for batch, states in answer_states(self._model, prompts, batch_tokens, on_progress):
            logits = head(states).float()[:, answers]
            margins[batch] = (logits[:, 1] - logits[:, 0]).double().cpu().numpy()
        return margins

    def _fitted(self, text: str) -> str:
        """The text without special tokens, cut to its last tokens that fit."""
        text = without_special_tokens(self._tokenizer, text)
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return text if len(ids) <= self._text_tokens else self._tokenizer.decode(ids[-self._text_tokens :])

    def _tokens(self, prompt: str) -> Tokenised:
        return as_question(self._tokenizer, prompt, cue="\nAnswer: ")


def verdicts(margins: np.ndarray, swapped_margins: np.ndarray) -> np.ndarray:
    """Scores of the first-named method: 1 win, 0 loss, 0.5 tie, float64 (pairs,).

    Args:
        margins: log P("2") - log P("1") with the method's text first.
        swapped_margins: the same with the method's text second.

    A judge that prefers another text when the order changes has shown a preference for a place: a tie.
    """
    wins = (margins < 0) & (swapped_margins > 0)
    losses = (margins > 0) & (swapped_margins < 0)
    return np.where(wins, 1.0, np.where(losses, 0.0, 0.5))
