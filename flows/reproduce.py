"""Reproduce: the paper's experiments, each a flow of its own."""

from __future__ import annotations

from prefect.task_runners import ThreadPoolTaskRunner

from fishersft.config.simulation import SimulationConfig
from fishersft.data.runs import recorded_run
from fishersft.steps.outcome import RunResult, open_store
from tasks import simulation as tasks
from tasks.checked import flow
from tasks.guard import guarded_run
from tasks.logs import shorten_input_errors
from tasks.ui import show_simulation, tag_run

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
        with recorded_run(open_store(config.store), f"simulate-{config.name}") as run:
            grid = [(dim, classes, seed) for dim, classes in config.settings for seed in config.seeds]
            futures = [tasks.run_trial.submit(config, dim, classes, seed) for dim, classes, seed in grid]
            trials = [future.result() for future in futures]
            page = tasks.make_simulation(config, [trial.key for trial in trials])
            tasks.publish_simulation(config, page.key)
            run.note(simulation=page.key)
        result = RunResult(page.key, [*trials, page])
        show_simulation(config, result)
        return result
