"""Gradient sketches: their signs, and their inner products beside those of the gradients themselves."""

from __future__ import annotations

import torch
from transformers import LlamaForCausalLM

from fishersft.models.embedding import embed
from fishersft.models.forward import last_hidden_states
from fishersft.models.gradients import SKETCH, signs
from fishersft.models.tokenising import Tokenised


def sentences(vocabulary: int) -> list[Tokenised]:
    generator = torch.Generator().manual_seed(0)
    lengths = (9, 1, 30, 4, 17, 12, 25)
    ids = [torch.randint(vocabulary, (length,), generator=generator).tolist() for length in lengths]
    return [Tokenised(row, [False, *[True] * (len(row) - 1)], truncated=False) for row in ids]


def exact_gradient(model: LlamaForCausalLM, sentence: Tokenised) -> torch.Tensor:
    """Of the summed loss in the head's weights, by the definition."""
    states = last_hidden_states(model, [sentence])[0, :-1].double()
    wrong = torch.softmax(states @ model.lm_head.weight.double().T, dim=1)
    wrong[torch.arange(len(states)), torch.tensor(sentence.input_ids[1:], dtype=torch.long)] -= 1
    return (wrong.T @ states).detach().flatten()


def sketched(model: LlamaForCausalLM, batch_tokens: int | None = None) -> torch.Tensor:
    rows = sentences(model.config.vocab_size)
    found = [part.gradients for part in embed(model, rows, batch_tokens, with_scores=True, with_gradients=True)]
    return torch.cat([part for part in found if part is not None]).double()


def test_signs_are_even_uncorrelated_and_the_same_each_time() -> None:
    found = signs(4096, 32)
    assert set(found.unique().tolist()) == {-1.0, 1.0}
    assert found.mean(dim=0).abs().max() < 5 / 64  # five standard deviations
    between = found.T @ found / len(found) - torch.eye(32)
    assert between.abs().max() < 5 / 64
    # the low bytes, AF and F4, of what SplitMix64 gives first from seed 0: e220a8397b1dcdaf, 6e789e6aa1b965f4
    assert signs(2, 8).tolist() == [[1, 1, 1, 1, -1, 1, -1, 1], [-1, -1, 1, -1, 1, 1, 1, 1]]


def test_inner_products_of_sketches_are_near_those_of_the_gradients(tiny_llama: LlamaForCausalLM) -> None:
    exact = torch.stack([exact_gradient(tiny_llama, row) for row in sentences(tiny_llama.config.vocab_size)])
    sketches = sketched(tiny_llama)
    assert sketches.shape == (7, SKETCH)
    assert not sketches[1].any()  # one token: no loss position
    products, truth = sketches @ sketches.T, exact @ exact.T
    scale = truth.diagonal().sqrt()
    error = (products - truth) / (scale[:, None] * scale[None, :]).clamp(min=1e-12)
    assert error.abs().max() < 0.25  # of the norms; a token's 32 x 64 signs leave some 1 / 32 to 1 / 8
    assert torch.linalg.norm(products - truth) < 0.15 * torch.linalg.norm(truth)


def test_sketches_do_not_hang_on_batches(tiny_llama: LlamaForCausalLM) -> None:
    torch.testing.assert_close(sketched(tiny_llama), sketched(tiny_llama, batch_tokens=32), rtol=1e-4, atol=1e-5)
