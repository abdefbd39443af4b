"""A batch of short and long sentences gives each the states that it has alone in a freshly loaded model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    Phi3Config,
    PhimoeConfig,
    PreTrainedTokenizerFast,
)

from fishersft.models.evaluating import complete, sentence_nll
from fishersft.models.forward import hidden_states
from fishersft.models.head import check_logits
from fishersft.models.rope import forget_lengths, grouped, length_kinds
from tests.unit.models.architectures import own_nll, random_sentences

SHAPE: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": [1.0] * 16,
    "long_factor": [1.0 + 2 * i for i in range(16)],
    "original_max_position_embeddings": 16,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0}
PLAIN = {"rope_type": "default", "rope_theta": 10_000.0}
CONFIGS: dict[str, Any] = {
    "Phi-3 with LongRoPE": Phi3Config(
        **SHAPE, max_position_embeddings=64, original_max_position_embeddings=16, rope_parameters=LONG
    ),
    "Phi-MoE with LongRoPE": PhimoeConfig(
        **SHAPE,
        max_position_embeddings=64,
        original_max_position_embeddings=16,
        num_local_experts=2,
        rope_parameters={**LONG, "short_mscale": 1.0, "long_mscale": 1.3},
    ),
    "Llama with dynamic NTK": LlamaConfig(**SHAPE, max_position_embeddings=16, rope_parameters=DYNAMIC),
    "Gemma 3 with dynamic NTK in some layers": Gemma3TextConfig(
        **SHAPE,
        head_dim=32,
        max_position_embeddings=16,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters={"sliding_attention": PLAIN, "full_attention": DYNAMIC},
    ),
    "Llama with plain positions": LlamaConfig(**SHAPE, max_position_embeddings=64),
}
LENGTHS = (9, 40, 16, 17, 24, 40, 3, 16, 31)  # the context, 16, on either side


def fresh(name: str) -> Any:
    """The model as it is loaded: the same weights each time, and no batch seen."""
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    for layer in model.base_model.layers:  # random weights attend to all alike, whatever the positions
        layer.self_attn.load_state_dict({key: value * 20 for key, value in layer.self_attn.state_dict().items()})
    return model


@torch.inference_mode()
def alone(name: str, ids: list[int]) -> torch.Tensor:
    return fresh(name).base_model(input_ids=torch.tensor([ids])).last_hidden_state[0]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("batch_tokens", [1, 100, 10_000])
def test_states_are_those_of_the_sentence_alone_in_a_fresh_model(name: str, batch_tokens: int) -> None:
    model, sentences = fresh(name), random_sentences(LENGTHS)
    for _ in range(2):  # what was seen before does not matter
        for batch, states in hidden_states(model, sentences, batch_tokens):
            for row, i in enumerate(batch):
                found = states[row, : LENGTHS[i]]
                torch.testing.assert_close(found, alone(name, sentences[i].input_ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in CONFIGS if "plain" not in name])
@torch.inference_mode()
def test_one_batch_of_them_all_would_differ(name: str) -> None:
    ids = torch.zeros(2, 40, dtype=torch.int64)
    for row, sentence in enumerate(random_sentences((40, 9))):
        ids[row, : len(sentence.input_ids)] = torch.tensor(sentence.input_ids)
    together = fresh(name).base_model(input_ids=ids).last_hidden_state[1, :9]
    expected = alone(name, ids[1, :9].tolist())
    assert torch.linalg.norm(together - expected) > 1e-3 * torch.linalg.norm(expected)


@pytest.mark.parametrize("name", CONFIGS)
def test_likelihoods_after_a_long_sentence_are_those_of_a_fresh_model(name: str) -> None:
    model, sentences = fresh(name), random_sentences(LENGTHS)
    with torch.inference_mode():
        model(input_ids=torch.tensor([random_sentences((60,))[0].input_ids]))
        expected = [float(own_nll(fresh(name), sentence).sum()) for sentence in sentences]
    check_logits(model, sentences[3])
    np.testing.assert_allclose(sentence_nll(model, sentences, 10_000), expected, rtol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_completions_are_those_of_the_prompt_alone_in_a_fresh_model(
    name: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    def surer() -> Any:
        model = fresh(name)
        model.get_output_embeddings().weight.data.mul_(20)
        return model

    prompts = [sentence.input_ids for sentence in random_sentences(LENGTHS)]
    together = complete(surer(), tokenizer, prompts, new_tokens=8)
    assert together == [complete(surer(), tokenizer, [prompt], new_tokens=8)[0] for prompt in prompts]


def test_sentences_share_a_batch_only_within_a_kind() -> None:
    def groups(name: str) -> list[list[int]]:
        return [[LENGTHS[i] for i in members] for members in grouped(LENGTHS, length_kinds(fresh(name)))]

    assert groups("Llama with plain positions") == [sorted(LENGTHS, reverse=True)]
    assert groups("Phi-3 with LongRoPE") == [[40, 40, 31, 24, 17], [16, 16, 9, 3]]
    assert groups("Llama with dynamic NTK") == [[40, 40], [31], [24], [17], [16, 16, 9, 3]]


def test_a_model_that_saw_nothing_long_keeps_its_frequencies() -> None:
    model = fresh("Llama with dynamic NTK")
    before = model.base_model.rotary_emb.inv_freq
    forget_lengths(model)
    assert model.base_model.rotary_emb.inv_freq is before
