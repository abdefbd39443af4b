"""LESS's gradient features: the gradient of each sentence in the adapters' weights, randomly projected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch.nn import functional

from fishersft.models.adapters import AdamMoments
from fishersft.models.example_losses import padded, token_nll
from fishersft.models.forward import batches_by_tokens
from fishersft.models.gradients import random_words, signs
from fishersft.models.rope import grouped, length_kinds
from fishersft.models.tokenising import Tokenised

PROJECTED = 8192  # numbers that are kept of a gradient
_BATCH_TOKENS = 1024  # the logits of more take too much memory
_A_PASS = 256  # what a forward and a backward pass take beside their tokens, in tokens
_SHIFTS = 1 << 32  # from this number on random words shift blocks; those before are signs


class BlockProjection:
    """A random projection of vectors in named parts to 8,192 numbers, by random signs and shifts, a block at a time.

        Sg = sum over blocks b of shift_b(sign_b * g_b)

    A part's entries are cut into blocks of 8,192; each entry gets a random sign, and each block is rotated by a random
    number of places before all are added up. Inner products of projections are those of the vectors in expectation,
    with a variance that is never more than under the dense matrix of random signs over sqrt(8192) that LESS takes,

        (|g|^2 |h|^2 + (g.h)^2 - 2 sum_i g_i^2 h_i^2) / 8192,

    since two entries of different blocks meet with probability 1 / 8192, and two of one block never. It costs one
    addition an entry in the place of 8,192, and no matrix is held.

    Args:
        sizes: of each part, by its name, how many entries it has.
        device: of what is projected.

    Source: Charikar, Chen and Farach-Colton (2002), "Finding Frequent Items in Data Streams", for sums under random
        signs (count sketch); Weinberger et al. (2009), "Feature Hashing for Large Scale Multitask Learning",
        arXiv:0902.2206, for the variance; Achlioptas (2003) for the dense matrix of signs.
    """

    def __init__(self, sizes: Mapping[str, int], device: torch.device) -> None:
        blocks = [-(-size // PROJECTED) for size in sizes.values()]
        ends = list(accumulate(blocks))
        self._blocks = {name: slice(end - some, end) for name, some, end in zip(sizes, blocks, ends, strict=True)}
        self._signs = signs(ends[-1] * PROJECTED // 64, 64).view(-1, PROJECTED).to(device)
        self._shifts = (random_words(ends[-1], _SHIFTS) % PROJECTED).astype(int).tolist()

    def __call__(self, name: str, values: torch.Tensor) -> torch.Tensor:
        """What one part adds to the projections: (vectors, 8192), of its values (vectors, size)."""
        blocks = self._blocks[name]
        some = blocks.stop - blocks.start
        whole = functional.pad(values, (0, some * PROJECTED - values.shape[1])).view(len(values), some, PROJECTED)
        signed = whole * self._signs[blocks]
        shifted = [signed[:, b].roll(shift, dims=1) for b, shift in enumerate(self._shifts[blocks])]
        return torch.stack(shifted).sum(0)


def gradient_features(
    model: Any,
    sentences: Sequence[Tokenised],
    moments: AdamMoments | None = None,
    batch_tokens: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """The projected gradient of each sentence's mean loss in the adapters' weights: float32 (sentences, 8192).

    With `moments` it is what Adam would step by on that sentence alone, see `AdamMoments.direction`: LESS's features
    of the pool. Without, it is the gradient itself: those of the target.

    The gradients of a batch come from one backward pass: that of a linear layer's weights on sentence i is

        sum over its tokens t of (derivative of the loss in the layer's output at t) (its input at t)^T

    Args:
        model: as `with_adapters` gives it, with the adapters of a checkpoint; in evaluation mode.
        sentences: one without a loss position gets zeros.
        moments: Adam's state at the checkpoint, or None.
        batch_tokens: tokens a pass, padding included; None: 1,024.
        on_progress: called with (sentences done, sentences in all).

    Returns:
        On the CPU, not normalised.

    Cost: a forward and a backward pass, and a few operations for each adapter weight of each sentence.
    Source: Xia et al. (2024), "LESS", arXiv:2402.04333, sections 3.1 and 4.1; Goodfellow (2015), "Efficient
        Per-Example Gradient Computations", arXiv:1510.01799.
    """
    layers = _adapter_layers(model)
    sizes = {name: layer.weight.numel() for name, layer in layers.items()}
    projection = BlockProjection(sizes, model.device)
    features = torch.zeros(len(sentences), PROJECTED)
    with_loss = [i for i, sentence in enumerate(sentences) if sentence.loss_tokens]
    lengths, done = [len(sentences[i].input_ids) for i in with_loss], len(sentences) - len(with_loss)
    for alike in grouped(lengths, length_kinds(model)):
        for batch in batches_by_tokens([lengths[i] for i in alike], batch_tokens or _BATCH_TOKENS, _A_PASS):
            members = [with_loss[alike[place]] for place in batch]
            chosen = [sentences[i] for i in members]
            features[members] = _features_of_batch(model, layers, chosen, moments, projection).cpu()
            done += len(members)
            if on_progress:
                on_progress(done, len(sentences))
    return features


def _features_of_batch(
    model: Any,
    layers: dict[str, torch.nn.Linear],
    sentences: Sequence[Tokenised],
    moments: AdamMoments | None,
    projection: BlockProjection,
) -> torch.Tensor:
    total = torch.zeros(len(sentences), PROJECTED, device=model.device)
    seen: set[str] = set()

    def take(name: str, inputs: torch.Tensor, slopes: torch.Tensor) -> None:
        assert name not in seen and inputs.ndim == 3, f"{name} sees each token once, in a row a sentence"
        seen.add(name)
        gradients = slopes.transpose(1, 2) @ inputs
        steps = gradients if moments is None else moments.direction(name, gradients)
        total.add_(projection(name, steps.flatten(1)))

    ids, labels = padded(sentences, model.device)
    counts = torch.tensor([sentence.loss_tokens for sentence in sentences], device=model.device)
    with _watched(layers, take):
        (token_nll(model, ids, labels).sum(dim=1) / counts).sum().backward()
    model.zero_grad()
    return total


def _adapter_layers(model: Any) -> dict[str, torch.nn.Linear]:
    """The linear layers whose weights are trained, by the names of these weights."""
    layers = {
        name: model.get_submodule(name.removesuffix(".weight"))
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    assert all(type(layer) is torch.nn.Linear and layer.bias is None for layer in layers.values()), "LoRA's own"
    return layers


@contextmanager
def _watched(
    layers: dict[str, torch.nn.Linear], take: Callable[[str, torch.Tensor, torch.Tensor], None]
) -> Iterator[None]:
    """Calls `take` with each layer's name, input, and the derivative in its output, as the backward pass comes by."""

    def watch(name: str, _: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        output.register_hook(partial(take, name, inputs[0].detach()))

    handles = [layer.register_forward_hook(partial(watch, name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
