"""Length-sorted batches through a causal LM, in as few passes as memory allows, and its last hidden states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from weakref import WeakKeyDictionary

import numpy as np
import torch
from transformers import PreTrainedModel

from fishersft.errors import InputError
from fishersft.models.output_layer import output_layer
from fishersft.models.rope import forget_lengths, grouped, length_kinds
from fishersft.models.tokenising import Tokenised

_CPU_TOKENS = 2048  # a batch; more is no faster
_CPU_BYTES = 1 << 30  # that a batch's activations may take on a CPU, where all of them are kept
# What a forward pass takes beside its tokens, in tokens: on a CPU as measured with SmolLM2, on a GPU the time that some
# hundred kernels need to start.
_CPU_PASS, _GPU_PASS = 100, 8192
_GPU_TOKENS = 1 << 16  # at most: more is no faster either
_SHARE_OF_FREE = 0.5  # of a GPU's free memory is what a first batch may take
_STATES = 16  # values of the hidden size that a token holds at once in a forward pass, and
_INNER = 4  # of the inner size of its feed-forward layer

# What was too much for a model's device, halved, without and with a backward pass: later batches keep to it.
_found: WeakKeyDictionary[PreTrainedModel, dict[bool, int]] = WeakKeyDictionary()


def hidden_states(
    model: PreTrainedModel, sentences: Sequence[Tokenised], batch_tokens: int | None = None
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """The last hidden states of sentences, a batch of like length at a time, the longest first.

    Where a batch is too much for the memory, it and all later ones are halved. Sentences share a batch only where that
    leaves each as it is alone, see `rope.length_kinds`.

    Args:
        model: a causal LM in evaluation mode.
        sentences: at least one token each.
        batch_tokens: tokens a forward pass, padding included; None: by the device and its free memory.

    Yields:
        The places of a batch's sentences, and their states: (batch, longest, dim), see `last_hidden_states`.

    Raises:
        InputError: a single sentence is too much; or as `output_layer` says.
    """
    return in_batches(model, sentences, lambda batch: last_hidden_states(model, batch), batch_tokens)


def in_batches(
    model: PreTrainedModel,
    sentences: Sequence[Tokenised],
    compute: Callable[[Sequence[Tokenised]], torch.Tensor],
    batch_tokens: int | None = None,
    *,
    backward: bool = False,
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """What `compute` gives for sentences, in the batches of `hidden_states`.

    Args:
        model: that `compute` runs.
        compute: given a batch's sentences; called again with fewer of them where memory does not suffice.
        batch_tokens: tokens a pass, padding included; None: by the device and its free memory.
        backward: whether `compute` goes back through the model too, for which all layers' activations are kept.

    Yields:
        The places of a batch's sentences, and what was computed for them.

    Raises:
        InputError: a single sentence is too much.
    """
    lengths = [len(sentence.input_ids) for sentence in sentences]
    found = _found.setdefault(model, {})
    most = min(batch_tokens or _first_guess(model, backward), found.get(backward, batch_tokens or _GPU_TOKENS))
    a_pass = _GPU_PASS if model.device.type == "cuda" else _CPU_PASS
    kind = length_kinds(model)
    done: set[int] = set()
    while len(done) < len(sentences):
        left = [i for i in range(len(sentences)) if i not in done]
        for batch in _batches([lengths[i] for i in left], kind, most, a_pass):
            members = [left[place] for place in batch]
            try:
                computed = compute([sentences[i] for i in members])
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                if len(members) == 1:
                    raise InputError(
                        f"a sentence of {lengths[members[0]]} tokens is too much for the memory of {model.device}; "
                        "lower model.max_tokens, or take bfloat16 or a smaller model"
                    ) from error
                most = found[backward] = max(1, min(most, len(members) * lengths[members[0]]) // 2)
                break
            yield members, computed
            done.update(members)
            del computed  # before the next batch takes its room
        else:
            return
        if model.device.type == "cuda":
            torch.cuda.empty_cache()


def batches_by_tokens(lengths: Sequence[int], batch_tokens: int, tokens_a_pass: int = 0) -> list[list[int]]:
    """Indices of sentences in batches of like length, longest first, so that least is computed for nothing.

    Of all ways to cut the sentences, sorted by length, into batches of at most `batch_tokens` tokens, padding included,
    or one sentence, it is the one with the least padding, when a forward pass counts as much as `tokens_a_pass`.

    Cost: sentences times the most that a batch holds.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    sizes = np.array([lengths[i] for i in order], dtype=np.int64)
    cost = np.zeros(len(order) + 1, dtype=np.int64)  # of the first so many
    begin = np.zeros(len(order) + 1, dtype=np.int64)  # of their last batch
    first = 0
    for end in range(1, len(order) + 1):
        while first < end - 1 and sizes[first] * (end - first) > batch_tokens:
            first += 1
        starts = np.arange(first, end)
        costs = cost[starts] + sizes[starts] * (end - starts) + tokens_a_pass
        within = (sizes[starts] * (end - starts) <= batch_tokens) | (starts == end - 1)
        begin[end] = starts[within][np.argmin(costs[within])]
        cost[end] = costs[within].min()
    cuts = [len(order)]
    while cuts[-1]:
        cuts.append(int(begin[cuts[-1]]))
    return [order[start:end] for end, start in reversed(list(pairwise(cuts)))]


def _batches(
    lengths: Sequence[int], kind: Callable[[int], tuple[int, ...]], batch_tokens: int, tokens_a_pass: int
) -> Iterator[list[int]]:
    """The same, of sentences of one kind each."""
    for members in grouped(lengths, kind):
        for batch in batches_by_tokens([lengths[i] for i in members], batch_tokens, tokens_a_pass):
            yield [members[place] for place in batch]


@torch.inference_mode()
def last_hidden_states(model: PreTrainedModel, sentences: Sequence[Tokenised]) -> torch.Tensor:
    """The states that enter the model's output projection: (sentences, longest, dim), in the model's dtype.

    Mostly the base model's last hidden states, after the final norm; `output_layer` finds out.
    """
    return states_with_graph(model, sentences)


def states_with_graph(model: PreTrainedModel, sentences: Sequence[Tokenised]) -> torch.Tensor:
    """The same, with the graph that leads back to what requires gradients.

    Sentences are padded on the right, without an attention mask: a causal model's states before the padding do not
    depend on it, and without a mask attention takes its fastest way.
    """
    longest = max(len(sentence.input_ids) for sentence in sentences)
    ids = torch.zeros(len(sentences), longest, dtype=torch.long)
    for row, sentence in enumerate(sentences):
        ids[row, : len(sentence.input_ids)] = torch.tensor(sentence.input_ids)
    forget_lengths(model)
    return output_layer(model).inputs(model, ids.to(model.device))


def _first_guess(model: PreTrainedModel, backward: bool) -> int:
    """Tokens that a batch may have by the size of the model and the free memory of its GPU."""
    if model.device.type != "cuda" and not backward:
        return _CPU_TOKENS
    config = model.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    bytes_a_token = model.dtype.itemsize * (_STATES * config.hidden_size + _INNER * inner)
    if backward:
        bytes_a_token *= config.num_hidden_layers
    if model.device.type != "cuda":
        return max(1, min(_CPU_TOKENS, _CPU_BYTES // bytes_a_token))
    free, _ = torch.cuda.mem_get_info(model.device)
    return max(1, min(_GPU_TOKENS, int(_SHARE_OF_FREE * free / bytes_a_token)))


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error)
