"""What a run would train on, for somebody to approve: the chosen examples, their cost, and changes to the choice."""

from __future__ import annotations

from collections.abc import Sequence

from fishersft.config import CurateConfig
from fishersft.data.examples import ID_DIGITS
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.reporting.proposal import Proposal
from fishersft.steps.corpus import load_index
from fishersft.steps.outcome import Outcome
from fishersft.steps.picks import load_picks, picked_examples
from fishersft.steps.report_parts import chosen

_SHOWN = 200
_TRAININGS = 2  # on the selection, and on the uniform choice of as many tokens
_PASSES = 3  # a training step's forward and backward pass cost about three of embedding's forward pass


def propose(store: Store, config: CurateConfig, corpus: str, embedded: Sequence[Outcome], selection: str) -> Proposal:
    """What a run would train on.

    Args:
        corpus: the corpus artifact's key.
        embedded: of the pool's shards.
        selection: the selection artifact's key.
    """
    picks = load_picks(store, selection)
    examples = picked_examples(store, config.corpus, picks)
    tokens, epochs = sum(picks.tokens), config.finetune.epochs
    a_token = sum(outcome.seconds for outcome in embedded) / sum(outcome.facts["tokens"] for outcome in embedded)
    seconds = None if config.finetune.model is not None else _TRAININGS * _PASSES * epochs * tokens * a_token
    price = config.approval.price_per_hour
    return Proposal(
        unit=config.selection.budget_unit,
        budget=config.selection.budget,
        ids=[example.id for example in examples],
        rows=chosen(load_index(store, corpus), picks, examples, _SHOWN),
        tokens=tokens,
        steps=epochs * max(1, min(len(examples), round(tokens / config.finetune.batch_tokens))),
        seconds=seconds,
        money=None if price is None or seconds is None else seconds / 3600 * price,
    )


def changed_choice(config: CurateConfig, ids: Sequence[str], budget: int, exclude: Sequence[str]) -> CurateConfig:
    """The settings with another budget, and with further examples that are never chosen.

    Args:
        ids: of the chosen examples, in the order chosen.
        exclude: ids or ranks of examples to exclude.

    Raises:
        InputError: one is neither.
    """
    found = [_id_of(name.strip().lower(), ids) for name in exclude]
    excluded = list(dict.fromkeys([*config.selection.exclude, *found]))
    selection = config.selection.model_copy(update={"budget": budget, "exclude": excluded})
    return config.model_copy(update={"selection": selection})


def _id_of(name: str, ids: Sequence[str]) -> str:
    if name[:ID_DIGITS] in ids:
        return name[:ID_DIGITS]
    if name.isdecimal() and 1 <= int(name) <= len(ids):
        return ids[int(name) - 1]
    raise InputError(
        f"cannot exclude {name!r}: it is neither the id of a chosen example nor a rank from 1 to {len(ids):,}"
    )
