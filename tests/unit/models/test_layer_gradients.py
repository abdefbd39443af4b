"""Sketches of all layers' gradients: the projections of what autograd finds for each sentence alone."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from transformers.pytorch_utils import Conv1D

from fishersft.errors import InputError
from fishersft.models import forward
from fishersft.models import layer_gradients as module
from fishersft.models.layer_gradients import layer_gradients, layer_signs
from fishersft.models.tokenising import Tokenised
from tests.unit.models.architectures import VOCABULARY, own_nll, random_model, random_sentences

ARCHITECTURES = (
    "Llama",
    "GPT-2, tied",
    "OPT with word_embed_proj_dim",
    "MiniCPM3, states divided by 4",
    "Cohere, logits times 0.0625",
    "Gemma 2, soft-capped",
    "Phi, a bias on the head",
    "ModernBERT as decoder, layers in the head",
)
COUNTED = [False] * 5 + [True] * 4 + [False] * 2 + [True]


def instruction() -> Tokenised:
    """A sentence of which the loss counts neither the prompt nor two tokens in between."""
    return Tokenised([7 * token % VOCABULARY for token in range(3, 15)], COUNTED, truncated=False)


def exact_gradients(model: Any, sentence: Tokenised) -> dict[str, np.ndarray]:
    """By linear layer, the derivative of the sentence's summed loss in its weights: (out, in), float64."""
    untied = copy.deepcopy(model)
    head = untied.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    counted = torch.tensor(sentence.loss_mask[1:])
    loss = own_nll(untied, sentence)[counted].sum()
    linear = torch.nn.Linear | Conv1D  # the head is one
    layers = {name: layer for name, layer in untied.named_modules() if isinstance(layer, linear)}
    found = torch.autograd.grad(loss, [layer.weight for layer in layers.values()])
    return {
        name: (of_weight.T if isinstance(layer, Conv1D) else of_weight).double().numpy()
        for (name, layer), of_weight in zip(layers.items(), found, strict=True)
    }


def projected(gradients: dict[str, np.ndarray]) -> np.ndarray:
    """sum over layers of R^T G P by the definition, with each layer's own signs."""
    total = np.zeros((32, 64))
    for name, gradient in gradients.items():
        left = layer_signs(name, "derivatives", gradient.shape[0]).double().numpy() / np.sqrt(32)
        right = layer_signs(name, "activations", gradient.shape[1]).double().numpy() / np.sqrt(64)
        total += left.T @ gradient @ right
    return total.ravel()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_sketches_are_the_projections_of_the_gradients_that_autograd_finds(name: str) -> None:
    model, batch = random_model(name, surer=20), [*random_sentences((9, 17, 4)), instruction()]
    expected = np.stack([projected(exact_gradients(model, sentence)) for sentence in batch])
    found = layer_gradients(model, batch).double().numpy()
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-5 * np.abs(expected).max())


def test_a_layers_signs_are_splitmix64_from_a_seed_of_its_name() -> None:
    state = int.from_bytes(hashlib.sha256(b"model.layers.0.mlp.up_proj derivatives").digest()[:8], "little")
    rows = []
    for _ in range(40):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        number = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        number = (number ^ (number >> 27)) * 0x94D049BB133111EB % 2**64
        number ^= number >> 31
        rows.append([2 * (number >> bit & 1) - 1 for bit in range(32)])
    assert layer_signs("model.layers.0.mlp.up_proj", "derivatives", 40).tolist() == rows


def test_inner_products_are_within_their_standard_deviation_of_those_of_the_gradients() -> None:
    model, batch = random_model("Llama", surer=20), random_sentences()
    exact = [exact_gradients(model, sentence) for sentence in batch]
    sketches = layer_gradients(model, batch).double().numpy()
    squares = np.array([[np.sum(part**2) for part in gradients.values()] for gradients in exact])
    norms = squares.sum(axis=1)
    truth = np.array([[sum(np.sum(a[name] * b[name]) for name in a) for b in exact] for a in exact])
    bound = (2 / 32 + 2 / 64 + 4 / 2048) * squares @ squares.T + norms[:, None] * norms[None, :] / 2048
    deviations = (sketches @ sketches.T - truth) / np.sqrt(bound)
    assert np.sqrt(np.mean(deviations**2)) < 1.2
    assert np.abs(deviations).max() < 4


def test_neither_batch_nor_padding_changes_a_sketch() -> None:
    model, batch = random_model("Llama"), [*random_sentences(), instruction()]
    together = layer_gradients(model, batch)
    alone = torch.cat([layer_gradients(model, [sentence]) for sentence in batch])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-5 * float(alone.abs().max()))
    few = layer_gradients(model, batch, batch_tokens=40)
    torch.testing.assert_close(together, few, rtol=1e-3, atol=1e-5 * float(alone.abs().max()))


def test_a_prompt_counts_by_what_the_completion_makes_of_it() -> None:
    model, sentence = random_model("Llama"), instruction()
    other = Tokenised([sentence.input_ids[0] + 1, *sentence.input_ids[1:]], COUNTED, truncated=False)
    one, two = layer_gradients(model, [sentence, other])
    assert torch.linalg.norm(one - two) > 0.01 * torch.linalg.norm(one)


def test_a_sentence_without_a_loss_position_has_none_and_progress_counts_loss_tokens() -> None:
    told = list[tuple[int, int]]()
    batch = [Tokenised([5], [False], truncated=False), instruction(), *random_sentences((30,))]
    model = random_model("Llama")
    found = layer_gradients(model, batch, 12, lambda done, total: told.append((done, total)))
    assert not found[0].any() and found[1].any() and found[2].any()
    assert told == [(29, 34), (34, 34)]
    assert not layer_gradients(model, batch[:1]).any()


def test_the_model_is_as_it_was() -> None:
    model = random_model("GPT-2, tied")
    model.lm_head.weight.requires_grad_(False)
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    layer_gradients(model, [instruction()])
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == before
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_batch_that_is_too_much_for_the_memory_is_halved_here_and_not_where_nothing_goes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, batch, tried = random_model("Llama"), random_sentences(), list[int]()
    expected, states = layer_gradients(model, batch), forward.states_with_graph

    def limited(model: Any, sentences: list[Tokenised]) -> torch.Tensor:
        tried.append(len(sentences) * max(len(sentence.input_ids) for sentence in sentences))
        if tried[-1] > 60:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return states(model, sentences)

    monkeypatch.setattr(module, "states_with_graph", limited)
    torch.testing.assert_close(layer_gradients(model, batch), expected, rtol=1e-3, atol=1e-5)
    assert max(tried) > 60 and forward._found[model].keys() == {True}


def test_a_layer_that_does_not_get_its_tokens_by_sentence_is_refused() -> None:
    model = random_model("Llama")
    inner = model.model.layers[1].mlp
    whole = inner.forward
    inner.extra = torch.nn.Linear(32, 4)
    inner.forward = lambda values: whole(values) + 0 * inner.extra(values.flatten(0, 1)[:7]).sum()
    with pytest.raises(InputError, match=r"model\.layers\.1\.mlp\.extra gives \(7, 4\) for 3 sentences of 17 tokens"):
        layer_gradients(model, random_sentences((9, 17, 4)))
