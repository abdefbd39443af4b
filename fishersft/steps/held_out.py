"""The held-out examples: those that the outcome is measured on, and those that early stopping looks at instead."""

from __future__ import annotations

from fishersft.config import CurateConfig
from fishersft.data.examples import Example
from fishersft.data.store import Store
from fishersft.steps.corpus import load_index, shard_examples

_TENTH = 10


def measured_examples(store: Store, config: CurateConfig, corpus: str) -> list[Example]:
    """Those that outcomes are measured on, in an order that does not follow the corpus.

    Args:
        corpus: the corpus artifact's key.
    """
    return _parts(store, config, corpus)[0]


def stopping_examples(store: Store, config: CurateConfig, corpus: str) -> list[Example]:
    """Those that early stopping looks at: as many as are measured where so many can be spared, else a tenth.

    None without early stopping. What says when a training ends would flatter it if it measured the outcome, too.

    Args:
        corpus: the corpus artifact's key.
    """
    return _parts(store, config, corpus)[1]


def _parts(store: Store, config: CurateConfig, corpus: str) -> tuple[list[Example], list[Example]]:
    examples = shard_examples(store, config.corpus, load_index(store, corpus).held_out)
    ordered = sorted(examples, key=lambda example: example.digest)
    if config.finetune.early_stopping is None:
        return ordered, []
    measured = config.evaluation.sentences
    spared = max(-(-len(ordered) // _TENTH), min(measured, len(ordered) - measured))
    return ordered[:-spared], ordered[-spared:]
