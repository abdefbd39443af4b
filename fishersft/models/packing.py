"""Whether a model keeps sentences apart that share a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from fishersft.errors import InputError
from fishersft.models.tokenising import Tokenised

_CHECKED_TOKENS = 64  # of each of two sentences
_RELATIVE = 1e-3  # of the largest logit; rounding is a thousandth of that


@torch.inference_mode()
def check_packing(model: PreTrainedModel, sentences: Sequence[Tokenised]) -> None:
    """Raise InputError where a sentence's logits depend on the one before it in the row.

    Positions that begin anew tell most architectures of transformers where a sentence begins; some have no use for
    positions (Mamba), or make their own (OPT, MPT, Bloom), and would train each sentence on the ones before it.

    Args:
        model: left in the mode that it came in.
        sentences: of which the first two are tried; one is enough.
    """
    first, second = (sentences[0].input_ids[:_CHECKED_TOKENS], sentences[-1].input_ids[:_CHECKED_TOKENS])
    was_training = model.training
    model.eval()
    alone = _logits(model, [second])
    packed = _logits(model, [first, second])[len(first) :]
    model.train(was_training)
    if not torch.allclose(alone, packed, rtol=0, atol=_RELATIVE * float(alone.abs().max())):
        raise InputError(
            f"{type(model).__name__} lets sentences that share a row see each other, so packing would train on another "
            "text; set finetune.packing to false"
        )


def _logits(model: PreTrainedModel, rows: Sequence[list[int]]) -> torch.Tensor:
    """(tokens, vocabulary), float32, of sentences in one row, positions anew in each."""
    any_model: Any = model
    ids = torch.tensor([[token for row in rows for token in row]], device=model.device)
    positions = torch.tensor([[place for row in rows for place in range(len(row))]], device=model.device)
    return any_model(input_ids=ids, position_ids=positions, use_cache=False).logits[0].float()
