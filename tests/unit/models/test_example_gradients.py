"""LESS's gradients, beside torch.autograd a sentence at a time, AdamW's own step and an explicit projection matrix."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, PreTrainedTokenizerFast

from fishersft.config import FinetuneConfig
from fishersft.errors import InputError
from fishersft.models.adapters import AdamMoments, WarmUp, checkpoint_file, load_checkpoint, warm_up, with_adapters
from fishersft.models.example_gradients import PROJECTED, BlockProjection, gradient_features
from fishersft.models.tokenising import Tokenised
from tests.conftest import random_llama

MASK = (1 << 64) - 1


def split_mix(number: int) -> int:
    """The output of SplitMix64 of that number, from seed 0, as its authors wrote it."""
    z = number * 0x9E3779B97F4A7C15 & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def explicit_projection(sizes: list[int]) -> np.ndarray:
    """The matrix (entries, 8192): of each entry a sign in the column where its block's shift puts it."""
    rows, block = [], 0
    for size in sizes:
        for entry in range(size):
            of_block, place = block + entry // PROJECTED, entry % PROJECTED
            bit = of_block * PROJECTED + place
            row = np.zeros(PROJECTED)
            sign = 1 if split_mix(bit // 64 + 1) >> bit % 64 & 1 else -1
            row[(place + split_mix((1 << 32) + of_block) % PROJECTED) % PROJECTED] = sign
            rows.append(row)
        block += -(-size // PROJECTED)
    return np.array(rows)


def sentences() -> list[Tokenised]:
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(200, (length,), generator=generator).tolist() for length in (9, 1, 14, 6, 14)]
    return [
        Tokenised(ids, [place > 2 or (len(ids) == 6 and place > 0) for place in range(len(ids))], False) for ids in rows
    ]


@pytest.fixture(scope="module")
def warmed(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast
) -> tuple[Any, WarmUp, AdamMoments]:
    """A tiny model with adapters after the second of four epochs; no test changes it."""
    model, tmp_path = with_adapters(random_llama(tokenizer, context=64), 2, seed=0), tmp_path_factory.mktemp("warm-up")
    record = warm_up(model, sentences(), FinetuneConfig(learning_rate=1e-2, batch_tokens=12), tmp_path)
    return model, record, load_checkpoint(model, tmp_path / checkpoint_file(1))


def trained(model: Any) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def own_gradients(model: Any, sentence: Tokenised) -> dict[str, torch.Tensor]:
    """Of the mean loss of one sentence without padding, by torch.autograd."""
    loss = model(torch.tensor([sentence.input_ids]), labels=torch.tensor([sentence.labels])).loss
    found = torch.autograd.grad(loss, list(trained(model).values()))
    return dict(zip(trained(model), found, strict=True))


def test_the_gradient_of_each_sentence_in_a_batch_is_that_of_torch_alone(warmed: Any) -> None:
    model, _, _ = warmed
    found = gradient_features(model, sentences()).double().numpy()
    matrix = explicit_projection([parameter.numel() for parameter in trained(model).values()])
    for row, sentence in zip(found, sentences(), strict=True):
        if not sentence.loss_tokens:
            assert not row.any()
            continue
        own = torch.cat([part.flatten() for part in own_gradients(model, sentence).values()])
        np.testing.assert_allclose(row, own.double().numpy() @ matrix, rtol=1e-3, atol=1e-5)


def test_with_moments_a_feature_is_what_adamw_would_step_by(warmed: Any) -> None:
    model, record, moments = warmed
    matrix = explicit_projection([parameter.numel() for parameter in trained(model).values()])
    (feature,) = gradient_features(model, sentences()[2:3], moments).double().numpy()
    copied = copy.deepcopy(model)
    parameters = trained(copied)
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-3, weight_decay=0.0)
    for name, parameter in parameters.items():
        optimizer.state[parameter] = {
            "step": torch.tensor(float(record.steps[1])),
            "exp_avg": moments.first[name].clone(),
            "exp_avg_sq": moments.second[name].clone(),
        }
    gradients = own_gradients(copied, sentences()[2])
    for name, parameter in parameters.items():
        parameter.grad = gradients[name]
    before = [parameter.detach().double().clone() for parameter in parameters.values()]
    optimizer.step()
    step = [(b - p.detach().double()) / 1e-3 for b, p in zip(before, parameters.values(), strict=True)]
    expected = torch.cat([part.flatten() for part in step]).numpy() @ matrix
    np.testing.assert_allclose(feature, expected, rtol=2e-2, atol=2e-3 * np.abs(expected).max())
    assert np.corrcoef(feature, expected)[0, 1] > 0.9999


def test_features_do_not_hang_on_batches_and_work_where_layers_are_called_otherwise() -> None:
    torch.manual_seed(0)
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=200, n_embd=32, n_layer=2, n_head=4, n_positions=64)).eval()
    model = with_adapters(gpt2, 2, seed=0)
    together, alone = (gradient_features(model, sentences(), batch_tokens=tokens) for tokens in (1000, 1))
    assert together.any(dim=1).tolist() == [True, False, True, True, True]
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_model_in_bfloat16_has_nearly_the_same_features(tokenizer: PreTrainedTokenizerFast) -> None:
    exact, rounded = (
        gradient_features(with_adapters(random_llama(tokenizer, context=64).to(dtype), 2, seed=0), sentences()[2:])
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert torch.nn.functional.cosine_similarity(exact, rounded).min() > 0.99


def test_inner_products_of_projections_stray_no_more_than_under_dense_random_signs() -> None:
    size, pairs = 5 * PROJECTED + 77, 60
    rng = np.random.default_rng(0)
    vectors = rng.standard_t(3, size=(2 * pairs, size))  # some entries are much larger than others
    vectors[pairs:] += vectors[:pairs]  # so that the products are not near 0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    project = BlockProjection({"a": size}, torch.device("cpu"))
    sketches = project("a", torch.from_numpy(vectors).float()).double().numpy()
    one, other = vectors[:pairs], vectors[pairs:]
    truth = np.einsum("pi,pi->p", one, other)
    errors = np.einsum("pi,pi->p", sketches[:pairs], sketches[pairs:]) - truth
    dense = (1 + truth**2 - 2 * np.einsum("pi,pi->p", one**2, other**2)) / PROJECTED  # variance under dense signs
    assert np.mean(errors**2) < 1.5 * dense.mean()
    assert abs(errors.mean()) < 4 * np.sqrt(dense.mean() / pairs)


def test_a_warm_up_takes_four_epochs_at_a_rate_that_rises_briefly_and_falls_to_zero(warmed: Any) -> None:
    _, record, moments = warmed
    an_epoch = record.steps[0]
    total = 4 * an_epoch
    assert record.steps == [an_epoch, 2 * an_epoch, 3 * an_epoch, total] and an_epoch > 1
    assert record.sentences == 4 and len(record.losses) == total
    rise = math.ceil(0.03 * total)
    rates = [1e-2 * (step / rise if step < rise else (total - step) / (total - rise)) for step in range(total)]
    means = [np.mean(rates[start : start + an_epoch]) for start in range(0, total, an_epoch)]
    assert record.learning_rates == pytest.approx(means)
    assert moments.steps == 2 * an_epoch
    assert np.mean(record.losses[-an_epoch:]) < np.mean(record.losses[:an_epoch])


def test_a_warm_up_adapts_attention_alone_with_the_papers_alpha_and_repeats_exactly(
    tmp_path: Path, tiny_llama: LlamaForCausalLM
) -> None:
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        model = with_adapters(copy.deepcopy(tiny_llama), 2, seed=5)
        assert {key.split(".")[-4] for key in trained(model)} == {"q_proj", "k_proj", "v_proj", "o_proj"}
        assert model.peft_config["default"].lora_alpha == 8
        warm_up(model, sentences(), FinetuneConfig(learning_rate=1e-2, batch_tokens=12), tmp_path / name, seed=5)
        files.append((tmp_path / name / checkpoint_file(3)).read_bytes())
    assert files[0] == files[1]


def test_a_warm_up_without_a_loss_position_is_an_error(tmp_path: Path, tiny_llama: LlamaForCausalLM) -> None:
    with pytest.raises(InputError, match="no sentence of the warm-up"):
        warm_up(with_adapters(tiny_llama, 2, seed=0), sentences()[1:2], FinetuneConfig(), tmp_path)
