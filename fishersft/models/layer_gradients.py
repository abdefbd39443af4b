"""Gradient sketches of all linear layers: where an example's loss would pull the whole model, in few numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from fishersft.errors import InputError
from fishersft.models.forward import in_batches, states_with_graph
from fishersft.models.gradients import RESIDUALS, SKETCH, STATES, signs
from fishersft.models.output_layer import output_layer
from fishersft.models.tokenising import Tokenised

_LOGITS = 1 << 24  # of a part of the tokens at once: 64 MiB in float32
_SCALE = SKETCH**-0.5

_Signs = Callable[[str, str, torch.Tensor], torch.Tensor]


def layer_gradients(
    model: PreTrainedModel,
    sentences: Sequence[Tokenised],
    batch_tokens: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """The sketch of each sentence's gradient in all linear layers: (sentences, 2048), float32, on the CPU.

        sum over layers l and tokens t of (R_l^T delta_lt) kron (P_l^T a_lt)

    The gradient of a sentence's summed negative log-likelihood in the weights of a linear layer is the sum over its
    tokens of delta a^T: a is what enters the layer, delta the loss's derivative in what leaves it. R_l (out, 32) has
    random signs over sqrt(32), P_l (in, 64) over sqrt(64), others for each layer (`layer_signs`), and the layers'
    sketches are added up.

    Inner products of sketches are, in expectation over the signs, those of the gradients of all layers together. Let
    G and G' be two gradients, G_l and G'_l their parts in layer l. The variance of their sketches' inner product is at
    most

        (2/32 + 2/64 + 4/2048) * sum_l |G_l|^2 |G'_l|^2  +  1/2048 * |G|^2 |G'|^2

    The first term comes from within the layers: a standard deviation of 0.31 |G| |G'| for a single layer, 0.31 /
    sqrt(L) where L layers share the gradient equally. The second one is what adding up different layers costs, 0.022
    |G| |G'|, as for any sketch of 2048 numbers. So many layers need no larger sketch than the LM head alone.

    Linear layers are `torch.nn.Linear` and GPT-2's `Conv1D`, wherever they are in the model, and the output projection.
    Left out are biases, norms, convolutions, the embedding table (its own gradient, if it is tied to the head; the
    head's counts) and experts that are kept as one tensor for all.

    Args:
        model: a causal LM in evaluation mode.
        sentences: a sentence without a loss position gets zeros.
        batch_tokens: tokens a pass, padding included; None: by the device and its free memory.
        on_progress: called with (loss tokens done, loss tokens in all).

    Raises:
        InputError: a layer does not get its tokens sentence by sentence; a sentence is too much for the memory; or as
            `output_layer` says.

    Cost: a forward and a backward pass, of which nothing but activations is kept (no gradient of a weight is computed),
        and (in * 64 + out * 32) a token and layer.
    Source: Achlioptas (2003), random signs; Choe et al. (2024), "LoGra", arXiv:2405.13954, for projecting both factors
        of a layer's gradient; Park et al. (2023), "TRAK", arXiv:2303.14186, for sketched gradients.
    """
    output_layer(model)  # tries the model out, which the hooks below must not see
    gradients = torch.zeros(len(sentences), SKETCH)
    with_loss = [i for i, sentence in enumerate(sentences) if sentence.loss_tokens]
    total, done = sum(sentences[i].loss_tokens for i in with_loss), 0
    wanted = [sentences[i] for i in with_loss]
    found_signs = dict[tuple[str, str], torch.Tensor]()

    def signs_for(layer: str, side: str, values: torch.Tensor) -> torch.Tensor:
        if (layer, side) not in found_signs:
            found_signs[layer, side] = layer_signs(layer, side, values.shape[-1]).to(values)
        return found_signs[layer, side]

    with _frozen(model):
        passes = in_batches(
            model, wanted, lambda batch: _batch_gradients(model, batch, signs_for), batch_tokens, backward=True
        )
        for batch, sketches in passes:
            gradients[[with_loss[place] for place in batch]] = sketches
            done += sum(wanted[place].loss_tokens for place in batch)
            if on_progress is not None:
                on_progress(done, total)
    return gradients


def layer_signs(layer: str, side: str, size: int) -> torch.Tensor:
    """The signs by which a layer's activations or the derivatives of its output are projected: (size, 64 or 32).

    Args:
        layer: its name in the model, such as "model.layers.0.mlp.up_proj".
        side: "activations" (64 columns) or "derivatives" (32).
        size: how many numbers a token has there.

    Example:
        >>> layer_signs("lm_head", "derivatives", 100).shape
        torch.Size([100, 32])
    """
    seed = int.from_bytes(hashlib.sha256(f"{layer} {side}".encode()).digest()[:8], "little")
    return signs(size, STATES if side == "activations" else RESIDUALS, seed)


class _BatchSketches:
    """Adds up the sketches of a batch's sentences while derivatives come back through the layers.

    Each device has a sum of its own, for autograd has a thread for each.
    """

    def __init__(self, sentences: int, tokens: int, signs_for: _Signs) -> None:
        self._sentences, self._tokens, self._signs_for = sentences, tokens, signs_for
        self._sums = dict[torch.device, torch.Tensor]()

    def watch(self, name: str) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        """A forward hook for the layer of that name."""

        def watch(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            self._check_shape(name, output)
            activations = self._projected(name, "activations", inputs[0].detach())

            def add(derivatives: torch.Tensor) -> None:
                self._add(self._projected(name, "derivatives", derivatives), activations)

            output.register_hook(add)

        return watch

    def add_tokens(self, name: str, activations: torch.Tensor, derivatives: torch.Tensor, rows: torch.Tensor) -> None:
        """Adds what some tokens are to the layer of that name: (tokens, in), (tokens, out), the sentence of each."""
        left = derivatives @ self._signs_for(name, "derivatives", derivatives)
        right = activations @ self._signs_for(name, "activations", activations)
        products = left.float()[:, :, None] * right.float()[:, None, :]
        self._sum_on(products.device).index_add_(0, rows, products)

    def total(self) -> torch.Tensor:
        """All that was added: (sentences, 2048), on the CPU."""
        return _SCALE * torch.stack([one.flatten(1).cpu() for one in self._sums.values()]).sum(0)

    def _projected(self, name: str, side: str, values: torch.Tensor) -> torch.Tensor:
        """(sentences, tokens, 32 or 64), float32."""
        projected = (values @ self._signs_for(name, side, values)).float()
        return projected.reshape(self._sentences, -1, projected.shape[-1])

    def _add(self, left: torch.Tensor, right: torch.Tensor) -> None:
        self._sum_on(left.device).add_(torch.bmm(left.mT, right))

    def _sum_on(self, device: torch.device) -> torch.Tensor:
        if device not in self._sums:
            self._sums[device] = torch.zeros(self._sentences, RESIDUALS, STATES, device=device)
        return self._sums[device]

    def _check_shape(self, name: str, output: torch.Tensor) -> None:
        by_sentence = output.ndim > 2 and len(output) == self._sentences
        if not by_sentence and output.shape[:-1] != (self._sentences * self._tokens,):
            raise InputError(
                f"the layer {name} gives {tuple(output.shape)} for {self._sentences} sentences of {self._tokens} "
                "tokens, so whose tokens are whose cannot be told; take selection.gradients: last layer"
            )


def _batch_gradients(model: PreTrainedModel, sentences: Sequence[Tokenised], signs_for: _Signs) -> torch.Tensor:
    """The sketches of some sentences, in one forward and one backward pass: (sentences, 2048), on the CPU."""
    sketches = _BatchSketches(len(sentences), max(len(sentence.input_ids) for sentence in sentences), signs_for)
    layers, head = _linear_layers(model)
    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_hook(sketches.watch(name)).remove)
        hooks.callback(_from_embeddings(model).remove)
        states = states_with_graph(model, sentences)
    rows = torch.tensor([row for row, sentence in enumerate(sentences) for _ in range(sentence.loss_tokens)])
    positions = torch.tensor([position for sentence in sentences for position in sentence.predicting_positions])
    targets = torch.tensor([label for sentence in sentences for label in sentence.labels if label != -100])
    prelogits = states[rows.to(states.device), positions.to(states.device)]
    derivatives = torch.empty_like(prelogits)
    for part in torch.arange(len(rows)).split(max(1, _LOGITS // len(model.get_output_embeddings().weight))):
        derivatives[part] = _through_head(model, head, prelogits[part].detach(), targets[part], rows[part], sketches)
    prelogits.backward(derivatives)
    return sketches.total()


def _through_head(
    model: PreTrainedModel,
    name: str,
    states: torch.Tensor,
    targets: torch.Tensor,
    rows: torch.Tensor,
    sketches: _BatchSketches,
) -> torch.Tensor:
    """The derivative of some tokens' loss in their states, (tokens, dim), once the head's sketches were added."""
    head: Any = model.get_output_embeddings()
    states.requires_grad_()
    projected = head(states)
    logits = output_layer(model).logits(projected.float())
    loss = functional.cross_entropy(logits, targets.to(logits.device), reduction="sum")
    of_states, of_projected = torch.autograd.grad(loss, (states, projected))
    sketches.add_tokens(name, states.detach().to(of_projected.device), of_projected, rows.to(of_projected.device))
    return of_states


def _linear_layers(model: PreTrainedModel) -> tuple[dict[str, torch.nn.Module], str]:
    """The linear layers by name, without the output projection; and the name of that."""
    head = model.get_output_embeddings()
    named = dict(model.named_modules())
    name_of_head = next(name for name, module in named.items() if module is head)
    linear = {name: module for name, module in named.items() if isinstance(module, torch.nn.Linear | Conv1D)}
    return {name: module for name, module in linear.items() if module is not head}, name_of_head


def _from_embeddings(model: PreTrainedModel) -> Any:
    """Has derivatives come back to the embedded tokens, though no weight requires any; the hook's handle."""

    def begin(_: torch.nn.Module, __: tuple[torch.Tensor, ...], embedded: torch.Tensor) -> torch.Tensor:
        return embedded.detach().requires_grad_()

    return model.get_input_embeddings().register_forward_hook(begin)


@contextmanager
def _frozen(model: PreTrainedModel) -> Iterator[None]:
    """No weight requires gradients, so that none is computed."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
