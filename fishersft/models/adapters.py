"""LESS's warm-up: LoRA adapters trained on a sample of the pool, kept after every epoch with Adam's moments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from fishersft.config import FinetuneConfig
from fishersft.errors import InputError
from fishersft.models.example_losses import padded, token_nll
from fishersft.models.token_batches import TokenBatches
from fishersft.models.tokenising import Tokenised

EPOCHS = 4
BETAS, EPSILON = (0.9, 0.999), 1e-8
_ALPHA_TO_RANK = 4  # 512 to 128
_DROPOUT = 0.1
_RISE = 0.03  # of the steps is how long the learning rate rises
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class WarmUp:
    """What a warm-up did.

    Attributes:
        sentences: how many it trained on.
        learning_rates: the mean of each epoch's steps.
        steps: optimiser steps taken by the end of each epoch.
        losses: of each step, in nats per token.
    """

    sentences: int
    learning_rates: list[float]
    steps: list[int]
    losses: list[float]


@dataclass(frozen=True, eq=False)
class AdamMoments:
    """Adam's state at a checkpoint.

    Attributes:
        first, second: by a parameter's name, the running means of its gradient and of that squared.
        steps: that were taken.
    """

    first: dict[str, torch.Tensor]
    second: dict[str, torch.Tensor]
    steps: int

    def direction(self, name: str, gradients: torch.Tensor) -> torch.Tensor:
        """Where AdamW would step next, without weight decay and per unit of learning rate, on gradients of a parameter.

            m' / (sqrt(v') + eps),  with
            m' = (b1 m + (1 - b1) g) / (1 - b1^(t+1)),  v' = (b2 v + (1 - b2) g^2) / (1 - b2^(t+1))

        Args:
            name: the parameter's.
            gradients: (..., *the parameter's shape).

        Source: Xia et al. (2024), arXiv:2402.04333, section 3.1; Kingma and Ba (2015), arXiv:1412.6980.
        """
        (beta1, beta2), after = BETAS, self.steps + 1
        first = self.first[name].mul(beta1 / (1 - beta1**after)) + gradients * ((1 - beta1) / (1 - beta1**after))
        second = self.second[name] * beta2 + gradients.square() * (1 - beta2)
        return first / (second.div_(1 - beta2**after).sqrt_().add_(EPSILON))


def with_adapters(model: PreTrainedModel, rank: int, seed: int) -> Any:
    """The model with LoRA adapters, which begin without effect and alone are trained; the model is changed in place.

    On the attention's projections where they are called as in Llama (q, k, v, o), as in the paper; else on all linear
    layers. alpha is 4 times the rank and dropout 0.1, as in the paper, whose rank is 128.

    Args:
        rank: of the adapters; 16 or less suits models of some hundred million weights.
        seed: of their initial weights.
    """
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    targets = [name for name in _ATTENTION if name in names] or "all-linear"
    settings = LoraConfig(
        r=rank,
        lora_alpha=_ALPHA_TO_RANK * rank,
        lora_dropout=_DROPOUT,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    with _seeded(model.device, seed):
        return get_peft_model(model, settings).eval()


def warm_up(
    model: Any,
    sentences: Sequence[Tokenised],
    config: FinetuneConfig,
    folder: Path,
    *,
    seed: int = 0,
    on_progress: Callable[..., None] | None = None,
) -> WarmUp:
    """Trains adapters for 4 epochs and writes them with Adam's moments after each, see `load_checkpoint`.

    AdamW without weight decay; the learning rate rises for 3% of the steps and then falls linearly to 0.

    Args:
        model: as `with_adapters` gives it, float32 weights; changed in place.
        sentences: to train on, at least one with a loss position; the loss counts these.
        config: of it the peak learning rate and the loss tokens a step.
        folder: where the checkpoints go.
        seed: of the order of the sentences and of dropout.
        on_progress: called with (optimiser steps done, steps in all, a note of the loss).

    Raises:
        InputError: no sentence has a loss position, or the loss became NaN or infinite.

    Cost: four forward and backward passes over the sentences.
    Source: Xia et al. (2024), "LESS", arXiv:2402.04333, section 4.1, whose peak learning rate is 2e-5.
    """
    trainable = [sentence for sentence in sentences if sentence.loss_tokens]
    if not trainable:
        raise InputError("no sentence of the warm-up has a token that the loss counts; check corpus.example")
    lengths = [sentence.loss_tokens for sentence in trainable]
    batches = TokenBatches(lengths, round(sum(lengths) / config.batch_tokens), seed)
    total = EPOCHS * len(batches)
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=config.learning_rate, betas=BETAS, eps=EPSILON, weight_decay=0.0
    )
    schedule = get_linear_schedule_with_warmup(optimizer, math.ceil(_RISE * total), total)
    rates, losses, steps = list[float](), list[float](), list[int]()
    with _seeded(model.device, seed):
        model.train()
        for epoch in range(EPOCHS):
            batches.set_epoch(epoch)
            for batch in batches:
                rates.append(optimizer.param_groups[0]["lr"])
                losses.append(_step(model, [trainable[i] for i in batch], optimizer))
                schedule.step()
                if on_progress:
                    on_progress(len(losses), total, f"loss {losses[-1]:.3f} nats a token")
            steps.append(len(losses))
            _save(parameters, optimizer, steps[-1], folder / checkpoint_file(epoch))
        model.eval()
    by_epoch = [rates[start : start + len(batches)] for start in range(0, total, len(batches))]
    return WarmUp(len(trainable), [sum(part) / len(part) for part in by_epoch], steps, losses)


def checkpoint_file(epoch: int) -> str:
    """The name of the checkpoint after an epoch, counted from 0."""
    return f"epoch-{epoch + 1}.safetensors"


def load_checkpoint(model: Any, file: Path) -> AdamMoments:
    """Gives a model, as `with_adapters` gives it, the adapters of a checkpoint: Adam's moments there, on its device."""
    tensors = load_file(file, device=str(model.device))
    parts: dict[str, dict[str, torch.Tensor]] = {"weight": {}, "first": {}, "second": {}}
    steps = int(tensors.pop("steps"))
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        parts[part][name] = tensor
    unexpected = model.load_state_dict(parts["weight"], strict=False).unexpected_keys
    assert not unexpected, f"{file.name} holds adapters of other layers: {unexpected[:1]}"
    return AdamMoments(parts["first"], parts["second"], steps)


def _step(model: Any, sentences: Sequence[Tokenised], optimizer: torch.optim.Optimizer) -> float:
    ids, labels = padded(sentences, model.device)
    loss = token_nll(model, ids, labels).sum() / sum(sentence.loss_tokens for sentence in sentences)
    if not bool(loss.isfinite()):
        raise InputError("the loss of the warm-up became NaN or infinite; lower finetune.learning_rate")
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def _save(parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer, steps: int, file: Path) -> None:
    tensors = {"steps": torch.tensor(steps)}
    for name, parameter in parameters.items():
        state = optimizer.state[parameter]
        tensors[f"weight/{name}"] = parameter.detach().contiguous()
        tensors[f"first/{name}"], tensors[f"second/{name}"] = state["exp_avg"], state["exp_avg_sq"]
    save_file(tensors, file)


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """torch's random numbers from a seed on, and afterwards as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
