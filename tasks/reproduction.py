"""The tasks of the paper's experiments that no other flow has: each takes the config and keys."""

from __future__ import annotations

from fishersft.config.simulation import SimulationConfig
from fishersft.config.speed import SpeedConfig
from fishersft.experiments.speed import Timing
from fishersft.numerics.selection import Algorithm
from fishersft.steps import publishing, simulating, timing
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


@step("time {algorithm}")
def time_algorithm(config: SpeedConfig, embeddings: list[str], algorithm: Algorithm) -> list[Timing]:
    """Embeddings of all shards → the seconds of an algorithm for every budget."""
    return timing.time_algorithm(open_store(config.store), config, embeddings, algorithm)


@step("publish the speed")
def publish_speed(config: SpeedConfig, found: list[Timing]) -> None:
    """The seconds → the config's output."""
    timing.publish_speed(config, found)
