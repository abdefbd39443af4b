"""What a user came for, at the path the config names: the curated dataset, the fine-tuned model and the report."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path

from fishersft.config import CurateConfig
from fishersft.config.compare import CompareConfig
from fishersft.config.simulation import SimulationConfig
from fishersft.data.card import CardFacts
from fishersft.data.curated import write_curated
from fishersft.data.faults import clear_storage_errors
from fishersft.data.store import Store, put_folder
from fishersft.reporting.summary import ThisRun
from fishersft.reporting.write import write_report
from fishersft.steps.corpus import load_index
from fishersft.steps.picks import load_picks, picked_rows
from fishersft.steps.reporting import load_report


def publish_dataset(store: Store, config: CurateConfig, corpus: str, selection: str) -> None:
    """Writes the chosen rows, as they came in, with rank, gain and token count to `dataset/` in the config's output.

    Args:
        corpus: the corpus artifact's key.
        selection: the selection artifact's key.
    """
    config, picks = config.resolved(), load_picks(store, selection)
    card = CardFacts(
        config=config,
        pool_sentences=load_index(store, corpus).counts["pool"],
        information_gain=sum(picks.gains),
        version=version("fishersft"),
    )
    with clear_storage_errors("the curated dataset"), tempfile.TemporaryDirectory() as scratch:
        write_curated(
            Path(scratch),
            picked_rows(store, picks),
            ranks=range(1, len(picks.gains) + 1),
            gains=picks.gains,
            tokens=picks.tokens,
            card=card,
        )
        put_folder(Path(scratch), output_folder(config, "dataset"))


def publish_model_and_report(store: Store, config: CurateConfig, trained: str, report: str, this_run: ThisRun) -> None:
    """Writes the fine-tuned model to `model/` and the report to `report/` in the config's output.

    Args:
        trained: the fine-tuned model's key.
        report: the report artifact's key.
        this_run: what the run found and made, which the artifact cannot hold: it is the same for every run.
    """
    put_folder(store.fetch("fine-tuned-model", trained), output_folder(config, "model"))
    with clear_storage_errors("the report"), tempfile.TemporaryDirectory() as scratch:
        write_report(load_report(store, report).model_copy(update={"this_run": this_run}), Path(scratch))
        put_folder(Path(scratch), output_folder(config, "report"))


def publish_comparison(store: Store, config: CompareConfig, comparison: str) -> None:
    """Writes the comparison's page, tables and data to `comparison/` in the config's output."""
    put_folder(store.fetch("comparison", comparison), output_folder(config, "comparison"))


def publish_simulation(store: Store, config: SimulationConfig, simulation: str) -> None:
    """Writes the simulation's page, tables and data to a folder of its name in the config's output."""
    put_folder(store.fetch("simulation", simulation), output_folder(config, config.name))


def output_folder(config: CurateConfig | SimulationConfig, name: str) -> str:
    """Where a part of the output is: a path or URL."""
    return f"{config.output.rstrip('/')}/{name}"
