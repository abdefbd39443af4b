"""Reproduce: the paper's experiments, each a flow of its own."""

from __future__ import annotations

from prefect.task_runners import ThreadPoolTaskRunner

from fishersft.config.simulation import SimulationConfig
from fishersft.config.speed import SpeedConfig
from fishersft.data.runs import recorded_run
from fishersft.experiments.speed import Timing
from fishersft.reporting.speed import NAMES
from fishersft.steps.outcome import RunResult, open_store
from tasks import curation, embedding
from tasks import reproduction as tasks
from tasks.checked import flow
from tasks.guard import guarded_run
from tasks.logs import shorten_input_errors
from tasks.overlap import alone
from tasks.ui import show_simulation, show_speed, tag_run

shorten_input_errors()
TRIALS_AT_ONCE = 2  # a trial's work is many small products, which leave half of the cores idle


@flow(
    name="simulate",
    task_runner=ThreadPoolTaskRunner(max_workers=TRIALS_AT_ONCE),
    flow_run_name="simulate-{config.name}",
)
def simulate(config: SimulationConfig) -> RunResult:
    """Problems whose answer is known: every method chooses sentences, a model is fitted to them, its error is measured.

    - **What comes out** goes to `Output`: the page, its tables and its data. The run's artifacts show the same.
    - **Nothing is computed twice:** what the store already holds is found there.

    What each setting does: `README.md`.
    """
    with guarded_run():
        tag_run(config.name)
        store, name = open_store(config.store), f"simulate-{config.name}"
        with alone(store, name, wait=True), recorded_run(store, name) as run:
            grid = [(dim, classes, seed) for dim, classes in config.settings for seed in config.seeds]
            futures = [tasks.run_trial.submit(config, dim, classes, seed) for dim, classes, seed in grid]
            trials = [future.result() for future in futures]
            page = tasks.make_simulation(config, [trial.key for trial in trials])
            tasks.publish_simulation(config, page.key)
            run.note(simulation=page.key)
        result = RunResult(page.key, [*trials, page])
        show_simulation(config, result)
        return result


@flow(name="speed", task_runner=embedding.task_runner(), flow_run_name="speed-{config.name}")
def speed(config: SpeedConfig) -> list[Timing]:
    """Times Algorithms 1 and 2 as published and the engine on a corpus's embeddings, one after the other.

    - **What comes out** goes to `Output`: a table, which the run's artifacts show too.

    What each setting does: `README.md`.
    """
    with guarded_run():
        tag_run(config.name)
        curation.check_models(config)
        workers = embedding.find_workers(config)
        store, name = open_store(config.store), f"speed-{config.name}"
        with alone(store, name, wait=True), recorded_run(store, name):
            corpus = curation.read_corpus(config)
            curation.prepare_model(config)
            keys = [outcome.key for outcome in embedding.embed_corpus(config, workers, corpus)]
            found = [timing for algorithm in NAMES for timing in tasks.time_algorithm(config, keys, algorithm)]
            tasks.publish_speed(config, found)
        show_speed(config, found)
        return found
