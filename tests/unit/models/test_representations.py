"""The vectors that RDS+ compares, beside transformers' own hidden states of each sentence alone."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaForCausalLM

from fishersft.models.representations import weighted_means
from fishersft.models.tokenising import Tokenised


def sentence(length: int, prompt: int, seed: int) -> Tokenised:
    ids = torch.randint(200, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return Tokenised(ids, [place >= max(prompt, 1) for place in range(length)], truncated=False)


def reference(model: LlamaForCausalLM, ids: list[int]) -> torch.Tensor:
    """sum over t of t / (1 + ... + T) h_t, of a sentence without padding, prompt included."""
    with torch.inference_mode():
        states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
    total = len(ids) * (len(ids) + 1) / 2
    return torch.stack([(t + 1) / total * state for t, state in enumerate(states)]).sum(0)


@pytest.mark.parametrize("batch_tokens", [None, 16])
def test_a_sentence_is_the_mean_of_its_states_that_weighs_later_ones_more(
    tiny_llama: LlamaForCausalLM, batch_tokens: int | None
) -> None:
    sentences = [sentence(length, prompt, n) for n, (length, prompt) in enumerate([(5, 0), (12, 6), (1, 0), (30, 29)])]
    found = weighted_means(tiny_llama, sentences, batch_tokens)
    expected = torch.stack([reference(tiny_llama, row.input_ids) for row in sentences])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_row_without_tokens_is_zero_and_progress_counts_tokens(tiny_llama: LlamaForCausalLM) -> None:
    seen: list[tuple[int, int]] = []
    rows = [sentence(5, 0, 1), Tokenised([], [], False), sentence(7, 0, 2)]
    found = weighted_means(tiny_llama, rows, 8, on_progress=lambda *now: seen.append(now))
    assert not found[1].any() and found[0].any()
    assert seen == [(7, 12), (12, 12)]
