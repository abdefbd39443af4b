"""Likelihoods and completions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from fishersft.data.examples import PromptCompletion, TextExample
from fishersft.models.evaluating import complete, sentence_nll
from fishersft.models.tokenising import Tokeniser
from tests.conftest import VERSES
from tests.unit.models.test_embedding import CONFIGS


@pytest.mark.parametrize("name", CONFIGS)
def test_likelihoods_equal_the_models_own_loss(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    tokenise = Tokeniser(tokenizer, 24)
    batch = [tokenise(TextExample(text)) for text in VERSES]
    batch.append(tokenise(PromptCompletion("Rough winds", " do shake")))
    nll = sentence_nll(model, batch, batch_tokens=64)
    for value, sentence in zip(nll, batch, strict=True):
        with torch.inference_mode():
            loss = model(torch.tensor([sentence.input_ids]), labels=torch.tensor([sentence.labels])).loss
        assert value == pytest.approx(float(loss) * sentence.loss_tokens, rel=1e-4)


def test_completions_do_not_depend_on_the_batch_and_leave_out_the_prompt(
    tiny_llama: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    prompts = [tokenizer(text)["input_ids"][:n] for n, text in zip((3, 9, 5), VERSES, strict=False)]
    together = complete(tiny_llama, tokenizer, prompts, new_tokens=6)
    alone = [complete(tiny_llama, tokenizer, [prompt], new_tokens=6)[0] for prompt in prompts]
    assert together == alone
    ids = torch.tensor([prompts[1]])
    for _ in range(6):
        ids = torch.cat([ids, tiny_llama(ids).logits[:, -1:].argmax(-1)], dim=1)
    assert together[1] == tokenizer.decode(ids[0, len(prompts[1]) :], skip_special_tokens=True)
