"""The tasks of a simulation: each takes the config and keys, and returns an outcome."""

from __future__ import annotations

from fishersft.config.simulation import SimulationConfig
from fishersft.steps import publishing, simulating
from fishersft.steps.outcome import Outcome, open_store
from tasks.curation import logged
from tasks.step import step


@step("trial of {dim} dimensions, {classes} classes, seed {seed}")
def run_trial(config: SimulationConfig, dim: int, classes: int, seed: int) -> Outcome:
    """A problem → the errors of every method at every budget."""
    return logged(simulating.run_trial(open_store(config.store), config, (dim, classes), seed))


@step("write the simulation")
def make_simulation(config: SimulationConfig, trials: list[str]) -> Outcome:
    """All trials → the page."""
    return logged(simulating.make_simulation(open_store(config.store), config, trials))


@step("publish the simulation")
def publish_simulation(config: SimulationConfig, simulation: str) -> None:
    """The simulation → the config's output."""
    publishing.publish_simulation(open_store(config.store), config, simulation)
