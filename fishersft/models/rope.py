"""Rotary positions that depend on the longest sentence of a batch: which sentences may share one.

LongRoPE (Phi-3) takes other frequencies once a batch is longer than the original context, and dynamic NTK scaling takes
others for every length beyond the context, which it keeps for later batches. See `dynamic_rope_update` in transformers'
modeling_rope_utils.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from transformers import PreTrainedModel


def length_kinds(model: PreTrainedModel) -> Callable[[int], tuple[int, ...]]:
    """A function of a sentence's tokens: sentences for which it is the same may share a batch of this model.

    Each of them then gets the frequencies that it would get alone. For most models it is always the empty tuple. It
    never falls as sentences get longer.
    """
    switches = sorted(set(_switching_lengths(model)))
    contexts = sorted({module.original_max_seq_len for module, _ in _dynamic(model)})

    def kind(tokens: int) -> tuple[int, ...]:
        return (*(int(tokens > at) for at in switches), *(max(tokens, context) for context in contexts))

    return kind


def grouped(lengths: Sequence[int], kind: Callable[[int], tuple[int, ...]]) -> list[list[int]]:
    """Places of sentences of each kind, the longest first."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        groups.setdefault(kind(lengths[place]), []).append(place)
    return list(groups.values())


def forget_lengths(model: PreTrainedModel) -> None:
    """Gives a model with dynamic NTK scaling back the frequencies that it was loaded with.

    Otherwise a sentence beyond the context would get those of a longer one in an earlier batch.
    """
    for module, prefix in _dynamic(model):
        kept = f"{prefix}max_seq_len_cached"
        if getattr(module, kept, 0) > module.original_max_seq_len:
            now, original = getattr(module, f"{prefix}inv_freq"), getattr(module, f"{prefix}original_inv_freq")
            module.register_buffer(f"{prefix}inv_freq", original.to(now.device), persistent=False)
            setattr(module, kept, module.original_max_seq_len)


def _switching_lengths(model: PreTrainedModel) -> Iterator[int]:
    """The lengths beyond which LongRoPE takes its long factors."""
    for module, prefix, rope_type in _rotary(model):
        if rope_type == "longrope":
            parameters = module.config.rope_parameters
            yield (parameters[prefix[:-1]] if prefix else parameters)["original_max_position_embeddings"]


def _dynamic(model: PreTrainedModel) -> list[tuple[Any, str]]:
    """The modules with dynamic NTK scaling, and the prefix of their attributes."""
    return [(module, prefix) for module, prefix, rope_type in _rotary(model) if "dynamic" in rope_type]


def _rotary(model: PreTrainedModel) -> Iterator[tuple[Any, str, str]]:
    """The modules with rotary positions, once for each type of layer: module, prefix of its attributes, rope type."""
    for module in model.modules():
        rope_type: Any = getattr(module, "rope_type", None)
        if isinstance(rope_type, str):
            yield module, "", rope_type
        elif isinstance(rope_type, dict):
            yield from ((module, f"{layer_type}_", of_layers) for layer_type, of_layers in rope_type.items())
