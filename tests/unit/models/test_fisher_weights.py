"""Fisher weights equal those of a plain softmax over the whole vocabulary, for every architecture."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GraniteConfig, PreTrainedTokenizerFast

from fishersft.errors import InputError
from fishersft.models.embedding import embed
from fishersft.models.forward import fisher_weights
from fishersft.models.tokenising import Tokenised
from tests.unit.models.test_embedding import CONFIGS, SHAPE, sentences

# Random models are sure of nothing, and all weights alike: the head's weights times these make them differ.
SURER = {"llama": 12, "qwen": 40, "gemma": 15, "gpt2": 12}


def direct(model: Any, sentence: Tokenised) -> torch.Tensor:
    """1 - sum p^2 in float64 from the model's own logits of the one sentence, at the predicting positions."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([sentence.input_ids])).logits[0, sentence.predicting_positions]
    return 1 - logits.double().softmax(-1).square().sum(-1)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("batch_tokens", "head_rows"), [(1, 256), (64, 5), (10_000, 7)])
def test_weights_equal_a_direct_softmax_in_every_batch_and_chunk(
    name: str,
    batch_tokens: int,
    head_rows: int,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fishersft.models.forward._HEAD_ROWS", head_rows)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    model.get_output_embeddings().weight.data.mul_(SURER[name])
    batch = [*sentences(tokenizer, max_tokens=24), Tokenised([5, 6], [False, False], False)]
    embedded = embed(model, batch, batch_tokens, with_fisher_weights=True)
    weights = embedded.fisher_weights
    assert weights is not None and weights.dtype == torch.float32
    expected = torch.cat([direct(model, sentence) for sentence in batch])
    assert float(expected.std()) > 1e-3
    torch.testing.assert_close(weights.double(), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(embedded.blocks.values, embed(model, batch, batch_tokens).blocks.values)


def with_logits_of_the_first_token(name: str, logit: float) -> tuple[Any, torch.Tensor]:
    """A model and states to which its head gives that logit for token 0 and 0 for all others."""
    model = AutoModelForCausalLM.from_config(CONFIGS[name])
    head = model.get_output_embeddings().weight.data
    head.zero_()[0, 0] = logit
    states = torch.zeros(3, head.shape[1])
    states[:, 0] = 1
    return model, states


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_that_knows_nothing_gives_one_less_one_over_the_vocabulary(name: str) -> None:
    weights = fisher_weights(*with_logits_of_the_first_token(name, 0.0))
    torch.testing.assert_close(weights, torch.full((3,), 1 - 1 / 400))


@pytest.mark.parametrize("name", ["llama", "qwen", "gpt2"])
def test_a_model_that_is_certain_gives_nothing(name: str) -> None:
    assert fisher_weights(*with_logits_of_the_first_token(name, 1000.0)).tolist() == [0.0] * 3


def test_a_capped_logit_leaves_the_uncertainty_of_its_cap() -> None:
    likely, other = math.exp(5) / (math.exp(5) + 399), 1 / (math.exp(5) + 399)
    weights = fisher_weights(*with_logits_of_the_first_token("gemma", 1000.0))
    torch.testing.assert_close(weights, torch.full((3,), 1 - likely**2 - 399 * other**2))


def test_the_head_does_not_run_when_weights_are_not_asked_for(
    tiny_llama: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    rows: list[int] = []
    tiny_llama.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[-2]))
    batch = sentences(tokenizer, 24)
    assert embed(tiny_llama, batch, 64).fisher_weights is None
    assert rows == []
    embed(tiny_llama, batch, 64, with_fisher_weights=True)
    assert rows and max(rows) <= 256


def test_no_sentence_or_none_with_a_loss_position_gives_no_weights(tiny_llama: Any) -> None:
    for batch in ([], [Tokenised([5, 6], [False, False], False)]):
        weights = embed(tiny_llama, batch, 64, with_fisher_weights=True).fisher_weights
        assert weights is not None and weights.shape == (0,)


def test_logits_that_the_head_alone_does_not_give_are_refused_for_weights_only(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    shape = {name: value for name, value in SHAPE.items() if name != "head_dim"}
    model = AutoModelForCausalLM.from_config(GraniteConfig(**shape, logits_scaling=8.0)).eval()
    model.lm_head.weight.data.mul_(100)
    batch = sentences(tokenizer, 24)
    assert len(embed(model, batch, 64).blocks) == len(batch)
    with pytest.raises(InputError, match="changes its logits after the LM head"):
        embed(model, batch, 64, with_fisher_weights=True)


def test_a_model_that_gives_nan_is_not_blamed_on_its_head(tiny_llama: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    tiny_llama.base_model.norm.weight.data[3] = float("nan")
    with pytest.raises(InputError, match=r"NaN or infinity for a sentence; try the other model\.dtype"):
        embed(tiny_llama, sentences(tokenizer, 24), 64, with_fisher_weights=True)
