"""Ask-LLM: how probably a language model calls a text worth training on (Sachdeva et al., 2024)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fishersft.errors import InputError
from fishersft.models.head import check_logits, token_scores
from fishersft.models.questions import answer_states, as_question, without_special_tokens
from fishersft.models.tokenising import Tokenised

_FENCE = re.compile(r"#{3,}")
_SPARE = 16  # tokens: a cut text may take a few more when it is put into the question


def ask_llm_prompt(text: str) -> str:
    """The paper's question about one text. A fence inside the text is made shorter, so no text can end its own."""
    return (
        f"###\n{_FENCE.sub('##', text)}\n###\n\n"
        "Does the previous paragraph demarcated within ### and ### contain informative signal for pre-training a "
        "large-language model? An informative datapoint should be well-formatted, contain some usable knowledge of "
        "the world, and strictly NOT have any harmful, racist, sexist, etc. content.\n\n"
        "OPTIONS:\n- yes\n- no"
    )


@torch.inference_mode()
def yes_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_tokens: int,
    batch_tokens: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """The probability that the model answers "yes" to `ask_llm_prompt` of each text: float64 (texts,).

        softmax(logits at the question's last token)["yes"]

    over the whole vocabulary, as in the paper; "Yes" and others are not counted. With a chat template the question
    is the user's turn and "yes" begins the assistant's; without one, the question ends with "Answer:" and " yes"
    follows. Where "yes" takes several tokens, the first counts.

    Args:
        model: a causal LM in evaluation mode; better one that was tuned to follow instructions.
        tokenizer: the model's.
        texts: what is asked about. The tokenizer's special tokens in them, which could end the turn, become spaces.
        max_tokens: the model's context; texts that do not fit lose their end.
        batch_tokens: tokens a forward pass, padding included; None: found by itself.
        on_progress: called with (texts done, texts in all).

    Returns:
        Scores for `fishersft.baselines.ask_llm`, in the order of the texts.

    Raises:
        InputError: "yes" and "no" begin with the same token, the context is too short for the question, or the
            model changes its logits after the LM head in a way that is not known here.

    Cost: one forward pass over each text and about 100 tokens of question.
    Source: Sachdeva et al. (2024), "How to Train Data-Efficient LLMs", arXiv:2402.09668 (Ask-LLM).
    """
    yes = _first_token(tokenizer)
    spare = max_tokens - len(_question(tokenizer, "").input_ids) - _SPARE
    if spare < 1:
        raise InputError(f"a context of {max_tokens} tokens is too short for Ask-LLM's question; name another model")
    questions = [_question(tokenizer, _fitted(tokenizer, text, spare)) for text in texts]
    probabilities = np.zeros(len(texts))
    if not questions:
        return probabilities
    check_logits(model, questions[0])
    for batch, states in answer_states(model, questions, batch_tokens, on_progress):
        answers = torch.full((len(batch),), yes, device=model.device)
        nll = token_scores(model, states, answers).nll
        probabilities[batch] = (-nll.double()).exp().cpu().numpy()
    return probabilities


def _first_token(tokenizer: Any) -> int:
    """The token that begins the answer "yes"."""
    answers = ("yes", "no") if tokenizer.chat_template else (" yes", " no")
    yes, no = (tokenizer(answer, add_special_tokens=False)["input_ids"][0] for answer in answers)
    if yes == no:
        raise InputError('this model\'s tokenizer does not tell "yes" from "no" by one token; name another model')
    return yes


def _fitted(tokenizer: Any, text: str, most: int) -> str:
    """The text without special tokens, cut to its first `most` tokens."""
    text = without_special_tokens(tokenizer, text)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return text if len(ids) <= most else tokenizer.decode(ids[:most])


def _question(tokenizer: Any, text: str) -> Tokenised:
    return as_question(tokenizer, ask_llm_prompt(text), cue="\nAnswer:")
