"""Curate: choose the most informative part of a corpus, fine-tune on it, and measure whether choosing helped."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from prefect import flow
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from fishersft.config import CurateConfig
from fishersft.data.runs import Run, RunRecord, last_finished, recorded_run
from fishersft.steps.conditions import begin_selection
from fishersft.steps.corpus import target_config
from fishersft.steps.embedding import THREADS_A_DEVICE
from fishersft.steps.models import devices_of
from fishersft.steps.outcome import Outcome, RunResult, open_store
from fishersft.steps.reporting import BASE, UNIFORM, RunKeys, method_of
from tasks import curation as tasks
from tasks import fan_out
from tasks.logs import shorten_input_errors
from tasks.sub_runs import Workers
from tasks.ui import show_run

shorten_input_errors()


@flow(
    name="curate",
    task_runner=ThreadPoolTaskRunner(  # type: ignore[arg-type]  # it is one
        max_workers=THREADS_A_DEVICE * len(devices_of(None))
    ),
    flow_run_name="curate-{config.name}-{config.selection.budget}-{config.selection.budget_unit}",
)
def curate(config: CurateConfig) -> RunResult:
    """Chooses the part of a corpus that tells a model most, fine-tunes on it, and measures what that was worth.

    Every step that the store already holds is found there and not computed again. The curated dataset, the
    fine-tuned model and the report go to the config's output.
    """
    tasks.check_models(config)
    workers = None if config.embedding.deployment is None else fan_out.find_workers(config.embedding.deployment)
    store, name = open_store(config.store), f"curate-{config.name}"
    previous = last_finished(store, name)
    with recorded_run(store, name) as run:
        return _curate(begin_selection(config, previous, run), workers, run, previous)


def _curate(config: CurateConfig, workers: Workers | None, run: Run, previous: RunRecord | None) -> RunResult:
    corpus = tasks.read_corpus(config)
    model = tasks.prepare_model(config)

    shards = corpus.facts["shard_keys"]
    made = fan_out.embed_on_workers(config, workers, shards, "the corpus") if workers else ()
    submit = tasks.embed_shard.submit
    embedded = _all((submit(config, shard, n, len(shards)) for n, shard in enumerate(shards, start=1)), made)
    embeddings = [outcome.key for outcome in embedded]

    towards = _embed_target(config, workers) if config.selection.target is not None else []
    target = [outcome.key for outcome in towards if outcome.kind == "embeddings"]

    method = method_of(config)
    chosen = tasks.select_informative(config, corpus.key, embeddings, target, method)
    run.note(corpus=corpus.key, selection=chosen.key)
    tasks.publish_dataset(config, corpus.key, chosen.key)
    at_random = tasks.select_uniform(config, corpus.key, embeddings, tokens=chosen.facts["tokens"])

    # The base model first: what is wrong with the held-out examples shows before anything is trained.
    measured = [tasks.measure_likelihood(config, corpus.key, None, BASE)]
    written = [tasks.complete_prompts(config, corpus.key, None, BASE)]
    trained = tasks.finetune_on(config, corpus.key, chosen.key, method)
    as_many = trained.facts["steps_per_epoch"]
    trained_at_random = tasks.finetune_on(config, corpus.key, at_random.key, UNIFORM, as_many)
    for name, outcome in ((method, trained), (UNIFORM, trained_at_random)):
        measured.append(tasks.measure_likelihood(config, corpus.key, outcome.key, name))
        written.append(tasks.complete_prompts(config, corpus.key, outcome.key, name))

    by_base, by_informative, by_uniform = (outcome.key for outcome in written)
    against_uniform = tasks.judge_completions(config, by_informative, by_uniform, method, UNIFORM)
    against_base = tasks.judge_completions(config, by_informative, by_base, method, BASE)

    keys = RunKeys(
        corpus=corpus.key,
        model=model,
        embeddings=embeddings,
        target=towards[0].key if towards else None,
        target_embeddings=target,
        selection=chosen.key,
        uniform_selection=at_random.key,
        trained=trained.key,
        uniform_trained=trained_at_random.key,
        evaluations=[outcome.key for outcome in measured],
        generations=[outcome.key for outcome in written],
        judgements_uniform=against_uniform.key,
        judgements_base=against_base.key,
    )
    report = tasks.make_report(config, keys)
    steps = [corpus, *embedded, *towards, chosen, at_random, trained, trained_at_random, *measured, *written]
    result = RunResult(report.key, [*steps, against_uniform, against_base, report])
    this_run = tasks.describe_run(config, result.steps, corpus.key, embedded, previous)
    tasks.publish_model_and_report(config, trained.key, report.key, this_run)
    show_run(config, result, this_run)
    return result


def _embed_target(config: CurateConfig, workers: Workers | None) -> list[Outcome]:
    """The target's corpus artifact, and the embeddings of its shards."""
    target = tasks.read_target(config)
    shards = target.facts["shard_keys"]
    made = fan_out.embed_on_workers(target_config(config), workers, shards, "the target") if workers else ()
    submit = tasks.embed_target_shard.submit
    return [target, *_all((submit(config, shard, n, len(shards)) for n, shard in enumerate(shards, start=1)), made)]


def _all(submitted: Iterable[PrefectFuture[Outcome]], made: Collection[str] = ()) -> list[Outcome]:
    """The outcomes of tasks that run at the same time, in the order they were submitted.

    Args:
        made: keys of what this run's workers made, so that its tasks only find it.
    """
    outcomes, made = [future.result() for future in list(submitted)], set(made)
    return [replace(outcome, hit=outcome.hit and outcome.key not in made) for outcome in outcomes]
