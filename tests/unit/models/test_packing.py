"""Packed sentences stay apart, or packing is refused."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, PreTrainedModel

from fishersft.errors import InputError
from fishersft.models.packing import check_packing
from fishersft.models.tokenising import Tokenised

SENTENCES = [Tokenised(list(range(start, start + 9)), [False] + [True] * 8, truncated=False) for start in (5, 60)]


class Forgetful(torch.nn.Module):
    """Stands in for a model that makes positions of its own: it takes no heed of those it is given."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.device = model.device

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor, use_cache: bool) -> object:
        del position_ids
        return self.model(input_ids=input_ids, use_cache=use_cache)


def test_a_model_that_heeds_positions_passes_and_keeps_its_mode(tiny_llama: LlamaForCausalLM) -> None:
    tiny_llama.train()
    check_packing(tiny_llama, SENTENCES)
    assert tiny_llama.training
    gpt2 = GPT2Config(vocab_size=100, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    check_packing(GPT2LMHeadModel(gpt2), SENTENCES)


def test_a_model_whose_sentences_see_each_other_is_refused(tiny_llama: LlamaForCausalLM) -> None:
    with pytest.raises(InputError, match=r"set finetune\.packing to false"):
        check_packing(Forgetful(tiny_llama), SENTENCES)  # type: ignore[arg-type]
