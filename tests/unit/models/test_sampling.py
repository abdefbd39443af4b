"""Drawn completions: by the seed and the prompt alone, from the model's own probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from fishersft.models.evaluating import complete
from fishersft.models.sampling import SampledLogits, Sampling, within_top_p
from tests.conftest import VERSES


@pytest.fixture
def prompts(tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    return [tokenizer(text)["input_ids"][:n] for n, text in zip((3, 9, 5, 4), VERSES, strict=False)]


def drawn(model: Any, tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]], **how: Any) -> list[str]:
    return complete(model, tokenizer, prompts, 8, Sampling(**{"temperature": 1.0, "top_p": 1.0, "seed": 0, **how}))


def test_the_same_seed_draws_the_same_and_another_seed_other_texts(
    tiny_llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]]
) -> None:
    torch.manual_seed(1)
    first = drawn(tiny_llama, tokenizer, prompts)
    torch.manual_seed(2)  # torch's own generator has no part in it
    assert drawn(tiny_llama, tokenizer, prompts) == first
    assert drawn(tiny_llama, tokenizer, prompts, seed=1) != first


def test_what_is_drawn_does_not_depend_on_the_batch(
    tiny_llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]]
) -> None:
    together = drawn(tiny_llama, tokenizer, prompts)
    assert [drawn(tiny_llama, tokenizer, [prompt])[0] for prompt in prompts] == together
    assert drawn(tiny_llama, tokenizer, prompts[::-1]) == together[::-1]


def test_little_temperature_or_top_p_draws_the_likeliest(
    tiny_llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]]
) -> None:
    greedy = complete(tiny_llama, tokenizer, prompts, 8)
    assert drawn(tiny_llama, tokenizer, prompts, temperature=1e-6) == greedy
    assert drawn(tiny_llama, tokenizer, prompts, top_p=1e-6) == greedy
    assert drawn(tiny_llama, tokenizer, prompts) != greedy


def test_two_models_get_the_same_luck_so_equal_models_write_the_same(
    tiny_llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]]
) -> None:
    twin = LlamaForCausalLM(tiny_llama.config).eval()
    twin.load_state_dict(tiny_llama.state_dict())
    assert drawn(twin, tokenizer, prompts) == drawn(tiny_llama, tokenizer, prompts)


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    process = SampledLogits(Sampling(temperature=2.0, top_p=1.0, seed=0), [[1]])
    draws = 4000
    counts = np.bincount([int(process(torch.empty(1, 0), logits).argmax()) for _ in range(draws)], minlength=4)
    p = (logits[0] / 2).softmax(-1).numpy()
    assert np.abs(counts / draws - p).max() < 4 * np.sqrt(0.25 / draws)


def test_top_p_keeps_the_likeliest_that_reach_it() -> None:
    p = torch.tensor([[0.1, 0.5, 0.15, 0.25], [0.97, 0.01, 0.01, 0.01]])
    kept = within_top_p(p.log(), 0.7).isfinite()
    assert kept.tolist() == [[False, True, False, True], [True, False, False, False]]
    assert torch.equal(within_top_p(p.log(), 1.0), p.log())
