"""Embeddings, likelihoods and gradients are those of transformers where the output layer is unlike Llama's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from fishersft.errors import InputError
from fishersft.models.embedding import embed
from fishersft.models.evaluating import sentence_nll
from fishersft.models.forward import last_hidden_states
from fishersft.models.gradients import STATES, sentence_gradients, signs
from fishersft.models.head import check_logits, logits_of, token_scores
from fishersft.models.output_layer import output_layer, prelogit_dim
from tests.unit.models.architectures import CONFIGS, entering_the_head, own_nll, random_model, random_sentences

FOUND = {  # dim, whether the base model's state enters the head as it is, scale and cap
    "Llama": (32, True, 1.0, None),
    "GPT-2, tied": (32, True, 1.0, None),
    "Mamba": (32, True, 1.0, None),
    "OPT with word_embed_proj_dim": (16, True, 1.0, None),
    "Granite, logits divided by 8": (32, True, 0.125, None),
    "HyperCLOVA X, logits times 0.25": (32, True, 0.25, None),
    "MiniCPM3, states divided by 4": (32, False, 1.0, None),
    "Cohere, logits times 0.0625": (32, True, 0.0625, None),
    "Falcon-H1, logits times 0.04": (32, True, pytest.approx(0.04), None),
    "Gemma 2, soft-capped": (32, True, 1.0, 5.0),
    "RecurrentGemma, soft-capped": (32, True, 1.0, 5.0),
    "Phi, a bias on the head": (32, True, 1.0, None),
    "ModernBERT as decoder, layers in the head": (32, False, 1.0, None),
    "BERT as decoder, layers in the head": (32, False, 1.0, None),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_what_stands_around_the_output_projection_is_found(name: str) -> None:
    model = random_model(name)
    layer = output_layer(model)
    assert (layer.dim, layer.direct, layer.scale, layer.cap) == FOUND[name]
    assert prelogit_dim(model) == layer.dim
    hooks = model.get_output_embeddings()
    assert not hooks._forward_hooks and not hooks._forward_pre_hooks


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("batch_tokens", [1, 64, 10_000])
def test_embeddings_are_what_enters_the_head_of_the_sentence_alone(name: str, batch_tokens: int) -> None:
    model, batch = random_model(name), random_sentences()
    blocks = [block for window in embed(model, batch, batch_tokens) for block in window.blocks]
    for block, sentence in zip(blocks, batch, strict=True):
        torch.testing.assert_close(block, entering_the_head(model, sentence), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_likelihoods_are_those_of_the_models_own_logits(name: str) -> None:
    model, batch = random_model(name, surer=20), random_sentences()
    with torch.inference_mode():
        expected = [float(own_nll(model, sentence).sum()) for sentence in batch]
    assert sentence_nll(model, batch, 64) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_of_some_tokens_are_the_models_own(name: str) -> None:
    model, (sentence,) = random_model(name, surer=20), random_sentences((30,))
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([sentence.input_ids])).logits[0, :, [7, 399, 8]].float()
        found = logits_of(model, last_hidden_states(model, [sentence])[0], torch.tensor([7, 399, 8]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_sketches_are_those_of_the_gradient_that_autograd_finds(name: str) -> None:
    model, batch = random_model(name, surer=20), random_sentences()
    for sentence in batch:
        states = last_hidden_states(model, [sentence])[0, :-1]
        residuals = token_scores(model, states, torch.tensor(sentence.input_ids[1:]), with_residuals=True).residuals
        assert residuals is not None
        found = sentence_gradients(states, residuals, torch.zeros(len(states), dtype=torch.int64), 1)[0]
        gradient = gradient_in_the_head(model, sentence)
        left, right = signs(gradient.shape[0], 32) / 32**0.5, signs(gradient.shape[1], STATES) / STATES**0.5
        expected = (left.T @ gradient @ right).flatten()
        assert torch.linalg.norm(found - expected) < 1e-4 * torch.linalg.norm(expected)


def gradient_in_the_head(model: Any, sentence: Any) -> torch.Tensor:
    """Of the model's own summed loss in its output projection's weights, which are not tied for this."""
    head, weight = model.get_output_embeddings(), model.get_output_embeddings().weight
    head.weight = torch.nn.Parameter(weight.detach().clone())
    own_nll(model, sentence).sum().backward()
    gradient, head.weight = head.weight.grad, weight
    model.zero_grad()
    return gradient.detach()


def test_layers_inside_the_head_are_run_once_a_batch_and_the_projection_for_one_token() -> None:
    model, batch = random_model("ModernBERT as decoder, layers in the head"), random_sentences()
    prelogit_dim(model)
    shapes: list[tuple[int, ...]] = []
    model.decoder.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape)))
    list(embed(model, batch, 10_000))
    assert shapes == [(1, 1, 400)]


def test_a_llama_is_tried_out_once_and_then_only_its_base_model_runs(tiny_llama: LlamaForCausalLM) -> None:
    passes: list[str] = []
    tiny_llama.register_forward_pre_hook(lambda *_: passes.append("whole"))
    tiny_llama.base_model.register_forward_pre_hook(lambda *_: passes.append("base"))
    for _ in range(2):
        list(embed(tiny_llama, random_sentences((5, 5)), 5))
    assert passes == ["whole", "base", "base"] + ["base"] * 4  # the trial: the whole with its base, and the base alone


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["Granite, logits divided by 8", "Gemma 2, soft-capped"])
def test_scale_and_cap_are_exact_in_every_dtype(name: str, dtype: torch.dtype) -> None:
    layer = output_layer(random_model(name).to(dtype))
    assert (layer.scale, layer.cap) == FOUND[name][2:]


class WithShiftedLogits(LlamaForCausalLM):
    def forward(self, *arguments: Any, **options: Any) -> Any:  # type: ignore[override]
        outputs = super().forward(*arguments, **options)
        outputs.logits = outputs.logits + torch.arange(outputs.logits.shape[-1])
        return outputs


class WithAMaskedToken(LlamaForCausalLM):
    def forward(self, *arguments: Any, **options: Any) -> Any:  # type: ignore[override]
        outputs = super().forward(*arguments, **options)
        outputs.logits = outputs.logits.masked_fill(torch.arange(outputs.logits.shape[-1]) == 300, -1e9)
        return outputs


class WithFewerLogits(LlamaForCausalLM):
    def forward(self, *arguments: Any, **options: Any) -> Any:  # type: ignore[override]
        outputs = super().forward(*arguments, **options)
        outputs.logits = outputs.logits[..., :-8]
        return outputs


@pytest.mark.parametrize("kind", [WithShiftedLogits, WithAMaskedToken, WithFewerLogits])
def test_logits_that_are_made_in_another_way_are_refused_before_anything_is_embedded(kind: Any) -> None:
    model = kind(CONFIGS["Llama"]).eval()
    with pytest.raises(InputError, match=f"{kind.__name__} changes its logits after the LM head by something else"):
        next(embed(model, random_sentences()))


class WithTwoHeads(LlamaForCausalLM):
    def forward(self, *arguments: Any, **options: Any) -> Any:  # type: ignore[override]
        outputs = super().forward(*arguments, **options)
        self.lm_head(outputs.logits[..., :32])
        return outputs


def test_a_projection_that_is_used_twice_is_refused_before_anything_is_embedded() -> None:
    with pytest.raises(InputError, match=r"applies its output projection to \[\(1, 8, 32\), \(1, 8, 32\)\] for 8 tok"):
        next(embed(WithTwoHeads(CONFIGS["Llama"]).eval(), random_sentences()))


class WithoutAHead(LlamaForCausalLM):
    def get_output_embeddings(self) -> Any:
        return None


def test_a_model_without_an_output_projection_is_refused_before_anything_is_embedded() -> None:
    with pytest.raises(InputError, match="WithoutAHead has no output projection with weights"):
        next(embed(WithoutAHead(CONFIGS["Llama"]).eval(), random_sentences()))


def test_a_head_that_differs_from_the_model_by_weights_alone_is_still_refused(tiny_llama: LlamaForCausalLM) -> None:
    output_layer(tiny_llama)
    tiny_llama.lm_head.register_forward_hook(lambda _, __, output: output * 50)
    with pytest.raises(InputError, match="changes its logits after the LM head"):
        check_logits(tiny_llama, random_sentences((9,))[0])
