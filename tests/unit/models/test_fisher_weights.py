"""Fisher weights equal those of a plain softmax over the whole vocabulary, for every architecture."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from fishersft.errors import InputError
from fishersft.models.embedding import embed
from fishersft.models.head import token_scores
from fishersft.models.tokenising import Tokenised
from tests.unit.models.test_embedding import CONFIGS, embedded, sentences

# Random models are sure of nothing, and all weights alike: the head's weights times these make them differ.
SURER = {"llama": 12, "qwen": 40, "gemma": 15, "gpt2": 12}


def direct(model: Any, sentence: Tokenised) -> torch.Tensor:
    """1 - sum p^2 in float64 from the model's own logits of the one sentence, at the predicting positions."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([sentence.input_ids])).logits[0, sentence.predicting_positions]
    return 1 - logits.double().softmax(-1).square().sum(-1)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("batch_tokens", "rows", "columns"), [(1, 256, 400), (64, 5, 399), (10_000, 7, 33)])
def test_weights_and_likelihoods_equal_a_direct_softmax_in_every_batch_and_part(
    name: str,
    batch_tokens: int,
    rows: int,
    columns: int,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fishersft.models.head._ROWS", rows)
    monkeypatch.setattr("fishersft.models.head._COLUMNS", columns)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    model.get_output_embeddings().weight.data.mul_(SURER[name])
    batch = [*sentences(tokenizer, max_tokens=24), Tokenised([5, 6], [False, False], False)]
    found = embedded(model, batch, batch_tokens, with_scores=True)
    assert found.scores is not None
    weights = found.scores.fisher_weights
    assert weights.dtype == torch.float32
    expected = torch.cat([direct(model, sentence) for sentence in batch])
    assert float(expected.std()) > 1e-3
    torch.testing.assert_close(weights.double(), expected, rtol=1e-4, atol=1e-5)
    nll = torch.cat([direct_nll(model, sentence) for sentence in batch])
    torch.testing.assert_close(found.scores.nll.double(), nll, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.blocks.values, embedded(model, batch, batch_tokens).blocks.values)


def direct_nll(model: Any, sentence: Tokenised) -> torch.Tensor:
    """By cross entropy in float64 from the model's own logits."""
    ids = torch.tensor([sentence.input_ids])
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, :-1].double()
    nll = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
    return nll[torch.tensor(sentence.loss_mask[1:], dtype=torch.bool)]


def fisher_weights(model: Any, prelogits: torch.Tensor) -> torch.Tensor:
    return token_scores(model, prelogits, torch.zeros(len(prelogits), dtype=torch.int64)).fisher_weights


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


def test_the_head_runs_only_when_scores_are_asked_for_and_by_parts_of_the_vocabulary(
    tiny_llama: Any, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[int] = []
    head, linear = tiny_llama.get_output_embeddings().weight, torch.nn.functional.linear

    def counted(rows: torch.Tensor, weight: torch.Tensor, bias: Any = None) -> torch.Tensor:
        if weight.untyped_storage().data_ptr() == head.untyped_storage().data_ptr() and len(weight) < len(head):
            shapes.append(len(weight))
        return linear(rows, weight, bias)

    monkeypatch.setattr("fishersft.models.head._COLUMNS", 33)
    batch = sentences(tokenizer, 24)
    monkeypatch.setattr("torch.nn.functional.linear", counted)
    assert embedded(tiny_llama, batch, 64).scores is None
    assert shapes == []
    embedded(tiny_llama, batch, 64, with_scores=True)
    assert shapes and max(shapes) <= 33


def test_no_sentence_or_none_with_a_loss_position_gives_no_weights(tiny_llama: Any) -> None:
    for batch in ([], [Tokenised([5, 6], [False, False], False)]):
        windows = list(embed(tiny_llama, batch, 64, with_scores=True))
        assert all(w.scores is not None and w.scores.fisher_weights.shape == (0,) for w in windows)


def test_a_model_that_gives_nan_is_not_blamed_on_its_head(tiny_llama: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    tiny_llama.base_model.norm.weight.data[3] = float("nan")
    with pytest.raises(InputError, match=r"NaN or infinity for a sentence; try the other model\.dtype"):
        embedded(tiny_llama, sentences(tokenizer, 24), 64, with_scores=True)
