"""Features at the position of the answer, beside transformers' own hidden states of each prompt alone."""

from __future__ import annotations

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from fishersft.models.answer_positions import answer_states, questions

TEXTS = [
    "Rough winds do shake the darling buds of May,",
    "heart",
    "Thou art more lovely, ünd more temperate: summer's lease",
]


def test_a_text_is_cut_and_the_question_follows(tokenizer: PreTrainedTokenizerFast) -> None:
    prompts = questions(tokenizer, TEXTS, "\nTopic:", 4)
    for text, prompt in zip(TEXTS, prompts, strict=True):
        kept = tokenizer.decode(tokenizer(text)["input_ids"][:4])
        assert tokenizer.decode(prompt.input_ids) == f"{kept}\nTopic:"
        assert prompt.loss_tokens == 0
    whole = questions(tokenizer, TEXTS, "\nTopic:", 99)
    assert [tokenizer.decode(prompt.input_ids) for prompt in whole] == [f"{text}\nTopic:" for text in TEXTS]
    assert questions(tokenizer, [], "\nTopic:", 4) == []


def test_the_state_is_the_last_one_of_each_prompt_whatever_it_is_batched_with(
    tiny_llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    prompts, seen = questions(tokenizer, TEXTS, "\nTopic:", 20), list[tuple[int, int]]()
    for batch_tokens in (None, 16):
        found = answer_states(tiny_llama, prompts, batch_tokens, on_progress=lambda *now: seen.append(now))
        for row, prompt in zip(found, prompts, strict=True):
            with torch.inference_mode():
                states = tiny_llama(torch.tensor([prompt.input_ids]), output_hidden_states=True).hidden_states[-1][0]
            torch.testing.assert_close(row, states[-1], rtol=1e-4, atol=1e-5)
        total = sum(len(prompt.input_ids) for prompt in prompts)
        assert seen[-1] == (total, total)
