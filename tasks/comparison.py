"""The tasks of a comparison that a curation run has not: each takes the config and keys, and returns an outcome."""

from __future__ import annotations

from fishersft.config.compare import CompareConfig, MethodConfig
from fishersft.numerics.greedy import BudgetUnit
from fishersft.steps import by_prompts, comparing, measured, methods, publishing, row_scores, target_training
from fishersft.steps.chosen_from import ChosenFrom
from fishersft.steps.comparison_keys import ComparisonKeys
from fishersft.steps.outcome import Outcome, open_store
from tasks.curation import logged
from tasks.devices import on_device
from tasks.progress import Progress
from tasks.step import step


@step("check the methods")
def check_methods(config: CompareConfig, corpus: str, target: str | None) -> None:
    """Corpus and target → nothing; fails before any model computes where a method cannot choose or measure."""
    store = open_store(config.store)
    row_scores.check_columns(store, config, corpus)
    by_prompts.check_prompts(store, config, corpus)
    measured.check_measured(store, config, corpus)
    if target is not None:
        target_training.check_target_fits(store, config, target)


@step("ask about shard {number} of {total}")
@on_device
def ask_about_shard(config: CompareConfig, shard: str, number: int, total: int) -> Outcome:
    """Shard → how probably the model calls each of its sentences worth training on."""
    progress = Progress(f"asking about shard {number} of {total}", "sentences")
    return logged(methods.ask_about_shard(open_store(config.store), config, shard, progress))


@step("select by {method.name}, {budget} {config.selection.budget_unit}, seed {seed}")
@on_device
def select_by(
    config: CompareConfig,
    method: MethodConfig,
    budget: int,
    seed: int,
    known: ChosenFrom,
) -> Outcome:
    """Embeddings of all shards → what a method chooses."""
    progress = Progress(f"selecting by {method.name}", config.selection.budget_unit)
    return logged(methods.select_by(open_store(config.store), config, method, budget, seed, known, progress))


@step("select uniformly, {budget} {unit}, seed {seed}")
def draw_uniformly(
    config: CompareConfig, budget: int, unit: BudgetUnit, seed: int, corpus: str, embeddings: list[str]
) -> Outcome:
    """Embeddings of all shards → a uniform choice."""
    return logged(methods.draw_uniformly(open_store(config.store), config, budget, unit, seed, corpus, embeddings))


@step("write the comparison")
def make_comparison(config: CompareConfig, keys: ComparisonKeys) -> Outcome:
    """All artifacts → the page of the comparison."""
    return logged(comparing.make_comparison(open_store(config.store), config, keys))


@step("publish the comparison")
def publish_comparison(config: CompareConfig, comparison: str) -> None:
    """The comparison → the config's output."""
    publishing.publish_comparison(open_store(config.store), config, comparison)
