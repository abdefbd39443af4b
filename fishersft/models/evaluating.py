"""How well a causal LM predicts held-out sentences, and what it writes when asked to go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase

from fishersft.models.forward import hidden_states
from fishersft.models.head import check_logits, token_scores
from fishersft.models.rope import forget_lengths, grouped, length_kinds
from fishersft.models.sampling import SampledLogits, Sampling
from fishersft.models.tokenising import Tokenised


def sentence_nll(
    model: PreTrainedModel,
    sentences: Sequence[Tokenised],
    batch_tokens: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """The negative log-likelihood of each sentence's loss positions: float64 (sentences,), in nats, summed.

    Args:
        model: a causal LM in evaluation mode.
        sentences: each with at least one loss position.
        batch_tokens: tokens a forward pass, padding included; None: found by itself.
        on_progress: called with (sentences done, sentences in all).

    Raises:
        InputError: as `check_logits` says.
    """
    check_logits(model, sentences[0])
    result = np.zeros(len(sentences))
    done = 0
    for batch, states in hidden_states(model, sentences, batch_tokens):
        chosen = [sentences[i] for i in batch]
        prelogits = torch.cat([states[row, s.predicting_positions] for row, s in enumerate(chosen)])
        targets = torch.tensor([label for s in chosen for label in s.labels if label != -100])
        nll = token_scores(model, prelogits, targets).nll.double().cpu()
        for i, piece in zip(batch, nll.split([s.loss_tokens for s in chosen]), strict=True):
            result[i] = float(piece.sum())
        done += len(batch)
        if on_progress:
            on_progress(done, len(sentences))
    return result


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end what a model writes, ascending: the tokenizer's, and those that the model names itself."""
    own: Any = getattr(model.generation_config, "eos_token_id", None)
    ends = [getattr(tokenizer, "eos_token_id", None), *(own if isinstance(own, list) else [own])]
    return sorted({end for end in ends if end is not None})


def complete(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    new_tokens: int,
    sampling: Sampling | None = None,
    batch_size: int = 16,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Completions of prompts, greedy or drawn, without the prompts and without special tokens.

    They do not depend on which prompts share a batch, but for what another padding does to the last bits of logits.

    Args:
        model: a causal LM in evaluation mode.
        tokenizer: the model's.
        prompts: token ids, none empty.
        new_tokens: at most this many tokens each; a completion ends at the end-of-text token.
        sampling: how tokens are drawn; None: the likeliest each time.
        batch_size: prompts at once.
        on_progress: called with (prompts done, prompts in all).
    """
    any_tokenizer: Any = tokenizer
    any_model: Any = model
    result = [""] * len(prompts)
    done = 0
    for batch in _prompt_batches(model, prompts, new_tokens, batch_size):
        forget_lengths(model)
        longest = len(prompts[batch[0]])
        ids = torch.full((len(batch), longest), any_tokenizer.pad_token_id)
        attention = torch.zeros_like(ids)
        for row, i in enumerate(batch):
            ids[row, longest - len(prompts[i]) :] = torch.tensor(prompts[i])
            attention[row, longest - len(prompts[i]) :] = 1
        drawn = [] if sampling is None else [SampledLogits(sampling, [prompts[i] for i in batch])]
        written = any_model.generate(
            input_ids=ids.to(model.device),
            attention_mask=attention.to(model.device),
            generation_config=GenerationConfig(  # and not the model's own, which may punish repetition and the like
                max_new_tokens=new_tokens,
                do_sample=False,  # what is drawn has the greatest logit
                pad_token_id=any_tokenizer.pad_token_id,
                eos_token_id=end_tokens(model, tokenizer),
            ),
            logits_processor=LogitsProcessorList(drawn),
        )
        texts = any_tokenizer.batch_decode(written[:, longest:], skip_special_tokens=True)
        for i, text in zip(batch, texts, strict=True):
            result[i] = text
        done += len(batch)
        if on_progress:
            on_progress(done, len(prompts))
    return result


def _prompt_batches(
    model: PreTrainedModel, prompts: Sequence[list[int]], new_tokens: int, batch_size: int
) -> Iterator[list[int]]:
    """Prompts that may be continued together, the longest first.

    Where a model's rotary positions change with the length while it writes, only prompts of one length are.
    """
    kind_of_length = length_kinds(model)

    def kind(tokens: int) -> tuple[int, ...]:
        first, last = kind_of_length(tokens), kind_of_length(tokens + new_tokens)
        return first if first == last else (*first, tokens)

    for members in grouped([len(prompt) for prompt in prompts], kind):
        yield from (members[start : start + batch_size] for start in range(0, len(members), batch_size))
