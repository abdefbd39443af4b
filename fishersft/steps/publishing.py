"""What a user came for, at the path the config names: the curated dataset, the fine-tuned model and the report."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path

from fishersft.config import CurateConfig
from fishersft.data.card import CardFacts
from fishersft.data.curated import write_curated
from fishersft.data.store import Store, put_folder
from fishersft.steps.corpus import load_index
from fishersft.steps.reporting import RunKeys
from fishersft.steps.selection import load_picks, picked_rows


def publish_output(store: Store, config: CurateConfig, keys: RunKeys, report: str) -> None:
    """Writes `dataset/`, `model/` and `report/` to the config's output, over what an earlier run left there.

    Args:
        keys: the run's artifacts.
        report: the report artifact's key.
    """
    publish_dataset(store, config, keys.corpus, keys.selection)
    put_folder(store.fetch("fine-tuned-model", keys.trained), f"{config.output}/model")
    put_folder(store.fetch("report", report), f"{config.output}/report")


def publish_dataset(store: Store, config: CurateConfig, corpus: str, selection: str) -> None:
    """Writes the chosen rows, as they came in, with rank, gain and token count to `dataset/` in the config's output.

    Args:
        corpus: the corpus artifact's key.
        selection: the selection artifact's key.
    """
    picks = load_picks(store, selection)
    card = CardFacts(
        config=config,
        pool_sentences=load_index(store, corpus).counts["pool"],
        information_gain=sum(picks.gains),
        version=version("fishersft"),
    )
    with tempfile.TemporaryDirectory() as scratch:
        write_curated(
            Path(scratch),
            picked_rows(store, picks),
            ranks=range(1, len(picks.gains) + 1),
            gains=picks.gains,
            tokens=picks.tokens,
            card=card,
        )
        put_folder(Path(scratch), f"{config.output}/dataset")
