"""What a causal LM does around its output projection: what enters it, and how its result becomes logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from fishersft.errors import InputError

_PROBE_TOKENS = 8
_SMALL, _LARGE = 2.0**-10, 2.0**20  # where a soft cap does not show, and where nothing else does
_FED = (_SMALL, _LARGE, 0.0, 1.0, -1.0, 7.0, -7.0, 30.0, -30.0, 100.0, -100.0)
_RELATIVE = 0.01  # a model may round its logits to bfloat16


@dataclass(frozen=True, eq=False)
class OutputLayer:
    """A model's output projection W x + b and its surroundings, as `output_layer` found them.

        logits = scale * (W x + b),  with a soft cap: cap * tanh(scale * (W x + b) / cap)

    Attributes:
        dim: the length of x, the prelogit embedding. It is not the hidden size in every architecture.
        direct: whether x is the base model's last hidden state. Otherwise layers stand between the two.
        scale: not 0.
        cap: None where there is no soft cap.
    """

    dim: int
    direct: bool
    scale: float
    cap: float | None
    _hooking: Lock = field(default_factory=Lock, repr=False)

    def logits(self, projected: torch.Tensor) -> torch.Tensor:
        """The model's logits, given W x + b of any shape, in the type of `projected`."""
        scaled = projected if self.scale == 1 else projected * self.scale
        return scaled if self.cap is None else torch.tanh(scaled / self.cap) * self.cap

    def cap_slopes(self, logits: torch.Tensor) -> torch.Tensor | None:
        """How much the soft cap flattens each logit, 1 - (logit / cap)^2 in [0, 1]; None where there is no cap.

        Times `scale` it is the derivative of a logit in its W x + b.
        """
        return None if self.cap is None else 1 - (logits / self.cap).square()

    def inputs(self, model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
        """What enters the model's output projection: (sentences, tokens, dim), in the model's dtype, with its graph.

        Args:
            model: the one that this was found for.
            ids: int64 (sentences, tokens) on the model's device, padded on the right.

        Cost: a forward pass, without the projection but for a single token where `direct` is False.
        """
        if self.direct:
            decoder: Any = model.base_model
            return decoder(input_ids=ids, use_cache=False).last_hidden_state
        seen: list[torch.Tensor] = []

        def keep(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            seen.append(inputs[0])
            return (inputs[0][:1, :1], *inputs[1:])  # so that logits cost nothing

        any_model, projection = _parts(model)
        with self._hooking, _hooked(projection.register_forward_pre_hook(keep)):
            any_model(input_ids=ids, use_cache=False)
        return seen[0]


_found: WeakKeyDictionary[PreTrainedModel, OutputLayer] = WeakKeyDictionary()
_probing = Lock()


def output_layer(model: PreTrainedModel) -> OutputLayer:
    """What stands around a model's output projection, found by trying it out once a model.

    In a forward pass of a few tokens one hook sees what enters `get_output_embeddings()`, and another puts known
    numbers in the place of what leaves it, which tells how the model makes logits of them. So no architecture is known
    by name, and one setting that divides here and multiplies there (`logits_scaling`) does no harm.

    Raises:
        InputError: the model has no such projection, uses it otherwise than once on one state a token, or makes
            logits of its result by something else than a scale and a soft cap.

    Cost: two forward passes of 8 tokens for the first call, nothing for later ones.
    """
    with _probing:
        if model not in _found:
            _found[model] = _probe(model)
        return _found[model]


def prelogit_dim(model: PreTrainedModel) -> int:
    """The length of a model's prelogit embeddings: what enters its output projection, whatever its hidden size.

    Raises:
        InputError: as `output_layer` says.
    """
    return output_layer(model).dim


@torch.inference_mode()
def _probe(model: PreTrainedModel) -> OutputLayer:
    any_model, projection = _parts(model)
    vocabulary, dim = projection.weight.shape
    # from the middle of the vocabulary, where no special tokens are
    ids = (torch.arange(_PROBE_TOKENS, device=model.device)[None] + vocabulary // 2) % vocabulary
    entered: list[torch.Tensor] = []
    fed: list[torch.Tensor] = []

    def see(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        entered.extend(inputs[:1])

    def feed(_: torch.nn.Module, __: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        values = torch.tensor(_FED, device=output.device)
        fed.append(values[torch.arange(output.numel(), device=output.device) % len(_FED)].view(output.shape))
        return fed[-1]

    with _hooked(projection.register_forward_pre_hook(see), projection.register_forward_hook(feed)):
        logits = any_model(input_ids=ids, use_cache=False).logits
    shapes = [tuple(states.shape) for states in entered]
    if shapes != [(1, _PROBE_TOKENS, dim)]:
        raise InputError(
            f"{type(model).__name__} applies its output projection to {shapes or 'nothing'} for {_PROBE_TOKENS} "
            f"tokens, expected once to {(1, _PROBE_TOKENS, dim)}, so its prelogit embeddings cannot be found; use "
            "another model"
        )
    scale, cap = _scale_and_cap(model, fed[0], logits.float())
    states = getattr(any_model.base_model(input_ids=ids, use_cache=False), "last_hidden_state", None)
    return OutputLayer(dim, states is not None and torch.equal(states, entered[0]), scale, cap)


def _parts(model: PreTrainedModel) -> tuple[Any, Any]:
    """The model and its output projection, untyped."""
    projection: Any = model.get_output_embeddings()
    if getattr(projection, "weight", None) is None:
        raise InputError(
            f"{type(model).__name__} has no output projection with weights (get_output_embeddings() gives "
            f"{type(projection).__name__}), so it has no prelogit embeddings; use another causal language model"
        )
    return model, projection


def _scale_and_cap(model: PreTrainedModel, fed: torch.Tensor, logits: torch.Tensor) -> tuple[float, float | None]:
    """By what numbers the model makes these logits of what was fed to it."""
    if logits.shape == fed.shape:
        fed = fed.to(logits.device)
        scale = float(logits[fed == _SMALL][0]) / _SMALL
        largest = float(logits[fed == _LARGE][0])
        cap = largest if abs(largest) < 0.5 * abs(scale) * _LARGE else None
        expected = OutputLayer(0, True, scale, cap).logits(fed)
        if scale and torch.allclose(logits, expected, rtol=_RELATIVE, atol=_RELATIVE * abs(scale) * _SMALL):
            return scale, cap
    raise InputError(
        f"{type(model).__name__} changes its logits after the LM head by something else than a scale and a soft cap, "
        "so its probabilities cannot be computed; use another model"
    )


@contextmanager
def _hooked(*handles: Any) -> Iterator[None]:
    """Takes hooks off again."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
