"""Simulations as cached steps: the errors of one trial, and the page of all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fishersft.config.simulation import SimulationConfig
from fishersft.data.store import Draft, Store
from fishersft.experiments.trial import Trial, trials
from fishersft.experiments.word_problem import draw_problem
from fishersft.reporting.simulation import Simulation, read_simulation
from fishersft.reporting.simulation_page import write_simulation
from fishersft.steps.outcome import Outcome, find_or_make
from fishersft.steps.simulation_findings import findings
from fishersft.steps.word_vectors import vectors_fingerprint, word_vectors

TRIAL_VERSION = 1
SIMULATION_VERSION = 1
_TRIALS = "trials.parquet"
_DATA = "simulation.json"


def run_trial(store: Store, config: SimulationConfig, setting: tuple[int, int], seed: int) -> Outcome:
    """The errors of every method at every budget on one problem: an artifact of kind "trial".

    Args:
        setting: dimensions and classes.
        seed: of the problem, and of what draws.
    """
    dim, classes = setting
    budgets = config.budgets_at(setting)
    params: dict[str, Any] = {
        "dim": dim,
        "classes": classes,
        "budgets": budgets,
        "seed": seed,
        **{name: getattr(config, name) for name in ("features", "sentences", "tokens", "methods", "regularization")},
        "words": config.words if config.features == "independent" else classes,
        "vectors": None if config.vectors is None else vectors_fingerprint(store, config.vectors),
    }

    def write(draft: Draft) -> None:
        rng = np.random.default_rng(seed)
        if config.vectors is None:
            features = rng.normal(size=(params["words"], dim))
        else:
            features = word_vectors(store, config.vectors, config.words, dim)
        problem = draw_problem(features, classes, config.sentences, config.tokens, config.features, rng)
        rows = list(trials(problem, config.methods, budgets, config.regularization, seed))
        columns = {name: [getattr(row, name) for row in rows] for name in Trial._fields}
        pq.write_table(pa.table(columns), draft.folder / _TRIALS)

    return find_or_make(store, "trial", TRIAL_VERSION, params, {}, write)


def make_simulation(store: Store, config: SimulationConfig, keys: list[str]) -> Outcome:
    """What all trials say together, as a page, tables and data: an artifact of kind "simulation".

    Args:
        keys: of the trials, by setting and then seed, in the order of the config.
    """
    params = config.model_dump(mode="json", exclude={"store", "output"})

    def write(draft: Draft) -> None:
        write_simulation(findings(config, [_load(store, key) for key in keys]), draft.folder)

    sources = [f"trial/{key}" for key in keys]
    return find_or_make(store, "simulation", SIMULATION_VERSION, params, {"trials": keys}, write, sources)


def load_simulation(store: Store, key: str) -> Simulation:
    """What a simulation found."""
    return read_simulation(store.fetch("simulation", key) / _DATA)


def _load(store: Store, key: str) -> list[Trial]:
    table = pq.read_table(store.fetch("trial", key) / _TRIALS)
    return [Trial(**row) for row in table.to_pylist()]
