"""A causal LM on this machine as judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fishersft.errors import InputError
from fishersft.models.head import logits_of
from fishersft.models.judging import Pair, Question, Verdict, harmless
from fishersft.models.questions import answer_states, as_question, without_special_tokens
from fishersft.models.tokenising import Tokenised

_SPARE = 16  # tokens: cut texts may take a few more when they are put together


class LocalJudge:
    """A causal LM as judge: the more probable of "1" and "2" as the next token is its answer.

    Args:
        model: in evaluation mode.
        tokenizer: the model's; its chat template is used where it has one.
        question: what it is asked about every pair.
        max_tokens: the judge's context. Texts that do not fit lose their beginning, both at the same length.
        batch_tokens: tokens a forward pass, padding included; None: found by itself.

    Raises:
        InputError: the tokenizer does not end "1" and "2" with different tokens, or the context is too short.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        question: Question,
        max_tokens: int,
        batch_tokens: int | None = None,
    ):
        self._model = model
        self._tokenizer: Any = tokenizer
        self._question = question
        self._batch_tokens = batch_tokens
        one, two = (self._tokenizer(digit, add_special_tokens=False)["input_ids"] for digit in "12")
        if one[:-1] != two[:-1] or one[-1] == two[-1]:
            raise InputError('this judge\'s tokenizer does not tell "1" from "2" by one token; name another judge')
        self._answers = torch.tensor([one[-1], two[-1]])
        spare = max_tokens - len(self._tokens(question.about("", "")).input_ids) - _SPARE
        self._text_tokens = spare // 2
        if self._text_tokens < 1:
            raise InputError(f"the judge's context of {max_tokens} tokens is too short for its question; name another")

    def answers(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Verdict]]:
        """Each pair's index and verdict; one that is equally for both names none."""
        prompts = self._prompts(pairs)
        for i, margin in enumerate(self._margins(prompts)):
            choice = 2 if margin > 0 else 1 if margin < 0 else 0
            yield i, Verdict(choice, len(prompts[i].input_ids), 1, str(choice))

    def second_preferred(self, pairs: Sequence[Pair]) -> np.ndarray:
        """For each (first, second) pair log P("2") - log P("1"): float64 (pairs,); above 0 the second is preferred."""
        return self._margins(self._prompts(pairs))

    @torch.inference_mode()
    def _margins(self, prompts: Sequence[Tokenised]) -> np.ndarray:
        margins = np.zeros(len(prompts))
        answers = self._answers.to(self._model.device)
        for batch, states in answer_states(self._model, prompts, self._batch_tokens):
            logits = logits_of(self._model, states, answers)
            margins[batch] = (logits[:, 1] - logits[:, 0]).double().cpu().numpy()
        return margins

    def _prompts(self, pairs: Sequence[Pair]) -> list[Tokenised]:
        return [
            self._tokens(self._question.about(self._fitted(first), self._fitted(second))) for first, second in pairs
        ]

    def _fitted(self, text: str) -> str:
        """The text without special tokens, cut to its last tokens that fit."""
        text = without_special_tokens(self._tokenizer, harmless(text))
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return text if len(ids) <= self._text_tokens else self._tokenizer.decode(ids[-self._text_tokens :])

    def _tokens(self, prompt: str) -> Tokenised:
        return as_question(self._tokenizer, prompt, cue="\nAnswer: ")
