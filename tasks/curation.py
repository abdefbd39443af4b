"""The tasks of a curation run: each takes the config and keys, and returns the outcome of one step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from prefect import get_run_logger

from fishersft.config import CurateConfig
from fishersft.data.runs import RunRecord
from fishersft.models.harness import check_tasks
from fishersft.models.vocabulary import check_model
from fishersft.reporting.proposal import Proposal
from fishersft.reporting.summary import ThisRun
from fishersft.steps import (
    checking,
    embedding,
    evaluation,
    harness,
    held_out,
    models,
    proposal,
    publishing,
    reporting,
    selection,
    sketching,
    training,
    weights,
)
from fishersft.steps import corpus as corpus_steps
from fishersft.steps import this_run as this_run_steps
from fishersft.steps.judges import check_judges
from fishersft.steps.outcome import Outcome, open_store
from fishersft.steps.report_parts import RunKeys
from tasks.devices import on_device, slot_of_judge
from tasks.progress import Progress
from tasks.secrets import api_key
from tasks.step import step
from tasks.ui import show_losses


@step("check the models")
def check_models(config: CurateConfig, judged: bool = True) -> None:
    """Fails before any work where a model, judge, secret or harness task is missing, or a tokenizer does not fit."""
    check_model(config.model)
    trained = models.trained_config(config).model
    if trained != config.model:
        check_model(trained)
    if judged:
        check_judges(config.evaluation.judging, trained)
        for number in range(len(config.evaluation.judging.judges)):
            api_key(config, number)
    if config.evaluation.harness_tasks:
        check_tasks(config.evaluation.harness_tasks)


@step("prepare the model")
def prepare_model(config: CurateConfig) -> str:
    """The model's fingerprint, once it is ready to load."""
    return models.prepare_model(open_store(config.store), config.model).fingerprint


@step("read the corpus")
def read_corpus(config: CurateConfig) -> Outcome:
    """Corpus → shards."""
    return logged(corpus_steps.read_corpus(open_store(config.store), config))


@step("check every row")
def check_rows(config: CurateConfig, corpus: Outcome, target: Outcome | None = None, evaluated: bool = True) -> None:
    """Corpus and target → tokens; fails before any model computes where a row cannot be trained on."""
    progress = Progress("checking rows", "rows")
    for line in checking.check_corpora(open_store(config.store), config, corpus, target, evaluated, progress):
        get_run_logger().info("%s", line)


@step("embed shard {number} of {total}")
@on_device
def embed_shard(config: CurateConfig, shard: str, number: int, total: int) -> Outcome:
    """Shard → prelogit embeddings."""
    progress = Progress(f"embedding shard {number} of {total}", "tokens")
    return logged(embedding.embed_shard(open_store(config.store), config, shard, progress))


@step("read the target")
def read_target(config: CurateConfig) -> Outcome:
    """Target → shards."""
    return logged(corpus_steps.read_target(open_store(config.store), config))


@step("embed target shard {number} of {total}")
@on_device
def embed_target_shard(config: CurateConfig, shard: str, number: int, total: int) -> Outcome:
    """Shard of the target → prelogit embeddings."""
    progress = Progress(f"embedding target shard {number} of {total}", "tokens")
    return logged(embedding.embed_shard(open_store(config.store), corpus_steps.target_config(config), shard, progress))


@step("sketch gradients of shard {number} of {total}")
@on_device
def sketch_shard(config: CurateConfig, shard: str, number: int, total: int) -> Outcome:
    """Shard → gradient sketches of all layers."""
    progress = Progress(f"sketching gradients of shard {number} of {total}", "tokens")
    return logged(sketching.sketch_shard(open_store(config.store), config, shard, progress))


@step("sketch gradients of target shard {number} of {total}")
@on_device
def sketch_target_shard(config: CurateConfig, shard: str, number: int, total: int) -> Outcome:
    """Shard of the target → gradient sketches of all layers."""
    progress = Progress(f"sketching gradients of target shard {number} of {total}", "tokens")
    target = corpus_steps.target_config(config)
    return logged(sketching.sketch_shard(open_store(config.store), target, shard, progress))


@step("select by {method}")
@on_device
def select_informative(
    config: CurateConfig,
    corpus: str,
    embeddings: list[str],
    target: list[str],
    method: str,
    gradients: list[str] | None = None,
) -> Outcome:
    """Embeddings (and gradients of all layers) of all shards, and those of the target → the greedy selection."""
    progress, store = Progress(f"selecting by {method}", config.selection.budget_unit), open_store(config.store)
    chosen = selection.select_informative(
        store, config, corpus, embeddings, target, progress, gradients=gradients or ()
    )
    return logged(chosen)


@step("estimate the training")
def propose(config: CurateConfig, corpus: str, embedded: list[Outcome], chosen: str) -> Proposal:
    """Selection → what would be trained on, and about what that costs."""
    return proposal.propose(open_store(config.store), config, corpus, embedded, chosen)


@step("select uniformly, {tokens} tokens")
def select_uniform(config: CurateConfig, corpus: str, embeddings: list[str], tokens: int) -> Outcome:
    """Embeddings of all shards → a uniform selection of as many tokens."""
    return logged(selection.select_uniform(open_store(config.store), config, corpus, embeddings, tokens))


@step("publish the dataset")
def publish_dataset(config: CurateConfig, corpus: str, chosen: str) -> None:
    """The curated dataset → the config's output."""
    publishing.publish_dataset(open_store(config.store), config, corpus, chosen)


@step("fine-tune on {method}")
@on_device
def finetune_on(
    config: CurateConfig,
    corpus: str,
    chosen: str,
    method: str,
    steps_per_epoch: int | None = None,
    measured_by: CurateConfig | None = None,
    written: bool = True,
) -> Outcome:
    """Selection → fine-tuned model; its weights are kept, or with `measured_by` there until they are measured."""
    store, progress = open_store(config.store), Progress(f"fine-tuning on {method}", "steps")
    is_measured = None
    if measured_by is not None:
        is_measured = partial(evaluation.is_measured, store, measured_by, corpus, written=written)
    trained = training.finetune_on(store, config, corpus, chosen, steps_per_epoch, progress, is_measured)
    show_losses(config, method, trained.facts)
    return logged(trained)


@contextmanager
def trained_until_measured(
    config: CurateConfig,
    corpus: str,
    chosen: str,
    method: str,
    steps_per_epoch: int,
    measured_by: CurateConfig,
    written: bool = True,
) -> Iterator[Outcome]:
    """A training to measure in this block: at its end the weights are removed, unless `finetune.keep_weights`.

    Runs that share a training come one after the other here, see `weights.until_measured`.

    Args:
        measured_by: the settings of all that is measured in the block.
        written: whether the model completes prompts in the block.
    """
    if config.finetune.keep_weights:
        yield finetune_on(config, corpus, chosen, method, steps_per_epoch)
        return
    store = open_store(config.store)
    key = training.training_key(store, config, corpus, chosen, steps_per_epoch)
    with weights.until_measured(store, key):
        yield finetune_on(config, corpus, chosen, method, steps_per_epoch, measured_by, written)


@step("look for overlap")
def look_for_overlap(config: CurateConfig, corpus: str) -> Outcome:
    """Corpus → which held-out examples share words with the pool."""
    return logged(held_out.look_for_overlap(open_store(config.store), config, corpus))


@step("measure likelihood of {method}")
@on_device
def measure_likelihood(config: CurateConfig, corpus: str, trained: str | None, method: str) -> Outcome:
    """Model → held-out likelihoods."""
    progress = Progress(f"measuring {method}", "held-out sentences")
    return logged(evaluation.measure_likelihood(open_store(config.store), config, corpus, trained, progress))


@step("complete prompts with {method}")
@on_device
def complete_prompts(config: CurateConfig, corpus: str, trained: str | None, method: str) -> Outcome:
    """Model → completions of held-out prompts."""
    progress = Progress(f"completing prompts with {method}", "prompts")
    return logged(evaluation.complete_prompts(open_store(config.store), config, corpus, trained, progress))


@step("run the harness on {method}")
@on_device
def run_harness(config: CurateConfig, trained: str | None, method: str) -> Outcome:
    """Model → its figures on the harness's tasks."""
    return logged(harness.run_harness(open_store(config.store), config, trained))


@step("judge {method} against {other} (judge {judge})")
def judge_completions(
    config: CurateConfig, generations: str, other_generations: str, method: str, other: str, judge: int = 0
) -> Outcome:
    """Two sets of completions → a judge's verdicts; `judge` is its place in the config, from 0."""
    progress = Progress(f"judging {method} against {other} (judge {judge})", "comparisons")
    key = api_key(config, judge)
    store = open_store(config.store)
    with slot_of_judge(config, judge):
        judged = evaluation.judge_completions(store, config, generations, other_generations, progress, judge, key)
    return logged(judged)


@step("calibrate judge {judge}")
def calibrate_judge(config: CurateConfig, corpus: str, judge: int = 0) -> Outcome:
    """Held-out texts and the same words shuffled → a judge's verdicts; `judge` is its place in the config, from 0."""
    progress = Progress(f"calibrating judge {judge}", "comparisons")
    key = api_key(config, judge)
    with slot_of_judge(config, judge):
        calibrated = evaluation.calibrate_judge(open_store(config.store), config, corpus, progress, judge, key)
    return logged(calibrated)


@step("write the report")
def make_report(config: CurateConfig, keys: RunKeys) -> Outcome:
    """All artifacts of the run → its report."""
    return logged(reporting.make_report(open_store(config.store), config, keys))


@step("describe the run")
def describe_run(
    config: CurateConfig, steps: list[Outcome], corpus: str, embedded: list[Outcome], previous: RunRecord | None
) -> ThisRun:
    """Outcomes of all steps → what was found, what was made, and what is new since the run before."""
    return this_run_steps.describe_run(open_store(config.store), steps, corpus, embedded, previous)


@step("publish model and report")
def publish_model_and_report(config: CurateConfig, trained: str, report: str, this_run: ThisRun) -> None:
    """The fine-tuned model and the report → the config's output."""
    publishing.publish_model_and_report(open_store(config.store), config, trained, report, this_run)


def logged(outcome: Outcome) -> Outcome:
    """The outcome, once the run's log says what it is and whether it was there."""
    verb = "found" if outcome.hit else f"made in {outcome.seconds:,.1f} s"
    get_run_logger().info("%s %s: %s", outcome.kind, outcome.key[:12], verb)
    return outcome
