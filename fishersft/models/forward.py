"""Length-sorted batches through a causal LM: its last hidden states, in as few forward passes as memory allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from fishersft.errors import InputError
from fishersft.models.tokenising import Tokenised

_CPU_TOKENS = 2048  # a batch; more is no faster
_GPU_TOKENS = 1 << 16  # at most: more is no faster either
_SHARE_OF_FREE = 0.5  # of a GPU's free memory is what a first batch may take
_STATES = 16  # values of the hidden size that a token holds at once in a forward pass, and
_INNER = 4  # of the inner size of its feed-forward layer

# What was found to be too much for a model's device, halved: later batches keep to it.
_found: WeakKeyDictionary[PreTrainedModel, int] = WeakKeyDictionary()


def hidden_states(
    model: PreTrainedModel, sentences: Sequence[Tokenised], batch_tokens: int | None = None
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """The last hidden states of sentences, a batch of like length at a time, the longest first.

    Where a batch is too much for the memory, it and all later ones are halved.

    Args:
        model: a causal LM in evaluation mode.
        sentences: at least one token each.
        batch_tokens: tokens a forward pass, padding included; None: by the device and its free memory.

    Yields:
        The places of a batch's sentences, and their states: (batch, longest, dim), see `last_hidden_states`.

    Raises:
        InputError: a single sentence is too much.
    """
    lengths = [len(sentence.input_ids) for sentence in sentences]
    most = min(batch_tokens or _first_guess(model), _found.get(model, batch_tokens or _GPU_TOKENS))
    done: set[int] = set()
    while len(done) < len(sentences):
        left = [i for i in range(len(sentences)) if i not in done]
        for batch in batches_by_tokens([lengths[i] for i in left], most):
            members = [left[place] for place in batch]
            try:
                states = last_hidden_states(model, [sentences[i] for i in members])
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                if len(members) == 1:
                    raise InputError(
                        f"a sentence of {lengths[members[0]]} tokens is too much for the memory of {model.device}; "
                        "lower model.max_tokens, or take bfloat16 or a smaller model"
                    ) from error
                most = _found[model] = max(1, min(most, len(members) * lengths[members[0]]) // 2)
                break
            yield members, states
            done.update(members)
            del states  # before the next batch takes its room
        if model.device.type == "cuda":
            torch.cuda.empty_cache()


def batches_by_tokens(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of sentences in batches of like length, longest first.

    A batch holds at most `batch_tokens` tokens, padding included, or one sentence.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@torch.inference_mode()
def last_hidden_states(model: PreTrainedModel, sentences: Sequence[Tokenised]) -> torch.Tensor:
    """The states after the final norm and before the LM head: (sentences, longest, dim), in the model's dtype.

    Sentences are padded on the right, without an attention mask: a causal model's states before the padding do not
    depend on it, and without a mask attention takes its fastest way.
    """
    longest = max(len(sentence.input_ids) for sentence in sentences)
    ids = torch.zeros(len(sentences), longest, dtype=torch.long)
    for row, sentence in enumerate(sentences):
        ids[row, : len(sentence.input_ids)] = torch.tensor(sentence.input_ids)
    decoder: Any = model.base_model
    return decoder(input_ids=ids.to(model.device), use_cache=False).last_hidden_state


def _first_guess(model: PreTrainedModel) -> int:
    """Tokens that a batch may have by the size of the model and the free memory of its GPU."""
    if model.device.type != "cuda":
        return _CPU_TOKENS
    config = model.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    bytes_a_token = model.dtype.itemsize * (_STATES * config.hidden_size + _INNER * inner)
    free, _ = torch.cuda.mem_get_info(model.device)
    return max(1, min(_GPU_TOKENS, int(_SHARE_OF_FREE * free / bytes_a_token)))


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error)
