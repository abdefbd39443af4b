"""Compare: methods of choosing against a uniform choice, at equal tokens and steps and at equal sentences."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from prefect import State
from prefect.states import Cancelled

from fishersft.config.compare import DRAWN, LARGE_BATCH, CompareConfig, MethodConfig
from fishersft.data.claims import AtWork
from fishersft.data.runs import recorded_run
from fishersft.numerics.greedy import BudgetUnit
from fishersft.steps.chosen_from import ChosenFrom
from fishersft.steps.comparison_keys import CellKeys, ComparisonKeys, CurveKeys, DuelKeys, TrainedKeys
from fishersft.steps.corpus import target_config
from fishersft.steps.held_out import check_measurable
from fishersft.steps.outcome import Outcome, RunResult, open_store
from tasks import comparison as tasks
from tasks import curation, embedding, towards_target
from tasks.checked import flow
from tasks.guard import guarded_run
from tasks.logs import shorten_input_errors
from tasks.overlap import alone
from tasks.sub_runs import Workers
from tasks.ui import show_comparison, tag_run

shorten_input_errors()


@flow(name="compare", task_runner=embedding.task_runner(), flow_run_name="compare-{config.name}")
def compare(config: CompareConfig) -> RunResult | State[AtWork]:
    """Chooses by every method at every budget, trains on each choice with every seed, and compares with chance.

    - **To start a run** fill in `Corpus > Path`, and choose `Methods`, `Budgets` and `Repeats`.
    - **Each training has two uniform controls:** one of as many tokens in as many optimiser steps, one of as many
      sentences.
    - **What comes out** goes to `Output`: the page, its tables and its data. The run's artifacts show the same.
    - **Nothing is computed twice:** what the store already holds is found there.

    What each setting does: `README.md`. How it works: `docs/design.md`. Schedules, alarms, recovery:
    `docs/operations.md`.
    """
    with guarded_run():
        tag_run(config.name, *(method.name for method in config.methods))
        check_measurable(config)
        curation.check_models(config, config.judged)
        workers = embedding.find_workers(config)
        store, name = open_store(config.store), f"compare-{config.name}"
        try:
            with alone(store, name, wait=False), recorded_run(store, name) as run:
                result = _compare(config, workers)
                run.note(comparison=result.report)
        except AtWork as at_work:
            return Cancelled(message=str(at_work), data=at_work)
        show_comparison(config, result)
        return result


def _compare(config: CompareConfig, workers: Workers | None) -> RunResult:
    corpus = curation.read_corpus(config)
    curation.prepare_model(config)
    target = None if config.target is None else curation.read_target(config.aiming())
    curation.check_rows(config if target is None else config.aiming(), corpus, target)
    tasks.check_methods(config, corpus.key, None if target is None else target.key)
    embedded = embedding.embed_corpus(config.embedded(), workers, corpus)
    towards = [] if target is None else [target, *_embed_target(config, workers, target)]
    sketched, target_sketched = _sketched(config, workers, corpus, target)
    prompted = embedding.embed_corpus(config.prompted(), workers, corpus) if config.chooses_by_prompts else []
    evidence, gathered = ({}, []) if target is None else towards_target.gather(config, corpus, target)
    known = ChosenFrom(
        corpus.key,
        _keys(embedded),
        target_corpus=None if target is None else target.key,
        target=_keys(towards[1:]),
        asked=_keys(_asked(config, corpus)),
        gradients=_keys(sketched),
        target_gradients=_keys(target_sketched),
        prompts=_keys(prompted),
        evidence=evidence,
    )
    trainings = _Trainings(config, known)
    overlap = curation.look_for_overlap(config, corpus.key)
    base = curation.measure_likelihood(config, corpus.key, None, "base model")
    judges = range(len(config.evaluation.judging.judges) if config.judged else 0)
    calibrated = [curation.calibrate_judge(config, corpus.key, judge) for judge in judges]
    grid = list(product(config.budgets, config.methods, config.seeds))
    for budget, method, seed in grid:  # all of it before any training, so that what cannot choose fails at once
        trainings.choose(method, budget, seed)
    cells = [trainings.cell(method, budget, seed) for budget, method, seed in grid]
    calibrations = [outcome.key for outcome in calibrated]
    duels = trainings.duels(cells) if config.head_to_head else []
    curve = [trainings.point(*of) for of in product(config.budgets, config.uniform_at, config.seeds)]
    keys = ComparisonKeys(corpus.key, overlap.key, base.key, calibrations, cells, duels, curve)
    page = tasks.make_comparison(config, keys)
    tasks.publish_comparison(config, page.key)
    read = [corpus, *embedded, *prompted, *towards, *sketched, *target_sketched, *gathered]
    return RunResult(page.key, [*read, overlap, base, *calibrated, *trainings.steps, page])


def _embed_target(config: CompareConfig, workers: Workers | None, target: Outcome) -> list[Outcome]:
    """The embeddings of the target's shards."""
    return embedding.embed_target(target_config(config.aiming()), workers, target)


def _sketched(
    config: CompareConfig, workers: Workers | None, corpus: Outcome, target: Outcome | None
) -> tuple[list[Outcome], list[Outcome]]:
    """The gradients of all layers, of the pool and of the target, where a method matches them."""
    if not config.matches_all_layers:
        return [], []
    of_pool = embedding.sketch_corpus(config.embedded(), workers, corpus)
    if target is None:
        return of_pool, []
    return of_pool, embedding.sketch_target(target_config(config.aiming()), workers, target)


def _asked(config: CompareConfig, corpus: Outcome) -> list[Outcome]:
    """What the model says of every sentence, where a method goes by it."""
    if not any(method.method == "ask-llm" for method in config.methods):
        return []
    shards = corpus.facts["shard_keys"]
    return [tasks.ask_about_shard(config, shard, number, len(shards)) for number, shard in enumerate(shards, start=1)]


def _keys(outcomes: list[Outcome]) -> list[str]:
    return [outcome.key for outcome in outcomes]


class _Trainings:
    """Chooses, trains, measures and judges for every cell; what several cells share is done once."""

    def __init__(self, config: CompareConfig, known: ChosenFrom):
        self._config, self._known, self._corpus = config, known, known.corpus
        self._chosen: dict[tuple[str, int, int], Outcome] = {}
        self._trained: dict[tuple[str, int, int], TrainedKeys] = {}
        self.steps: list[Outcome] = []

    def choose(self, method: MethodConfig, budget: int, seed: int) -> Outcome:
        """What a method chooses; only one that draws chooses by the seed."""
        drawn = seed if method.method in DRAWN else self._config.seed
        key = method.name, budget, drawn
        if key not in self._chosen:
            self._chosen[key] = self._did(tasks.select_by(self._config, method, budget, drawn, self._known))
        return self._chosen[key]

    def cell(self, method: MethodConfig, budget: int, seed: int) -> CellKeys:
        """A method at a budget with a seed, its two uniform controls, and the judge's verdicts."""
        unit, own = self._config.selection.budget_unit, f"{method.name}, {budget:,}, seed {seed}"
        chosen = self.choose(method, budget, seed)
        share = LARGE_BATCH if method.method == "large-batch" else 1  # of what its control has
        sizes = {name: chosen.facts[name] // share for name in ("tokens", "sentences")}
        if not chosen.facts.get("exhausted"):  # then a control has all that the budget allows
            sizes[unit] = budget
        as_many_tokens = self._draw(sizes["tokens"], "tokens", seed)
        # A step has at least a sentence: the side with fewer sentences says how many steps both can take.
        fewest = min(chosen.facts["sentences"], as_many_tokens.facts["sentences"])
        steps = min(self._config.steps_an_epoch(sizes["tokens"]), fewest)
        trained = self._train(chosen, steps, seed, own)
        by_tokens = self._train(as_many_tokens, steps, seed, f"uniform, {sizes['tokens']:,} tokens, seed {seed}")
        # Who has examples answered pays for each, and trains on them for as long, however long the answers are.
        as_long = steps if method.by == "prompts" else None
        equal_sentences = self._config.at_equal_sentences
        by_sentences = self._by_sentences(sizes["sentences"], seed, as_long) if equal_sentences else None
        return CellKeys(
            method=method.name,
            budget=budget,
            seed=seed,
            chosen=trained,
            by_tokens=by_tokens,
            by_sentences=by_sentences,
            judged_by_tokens=self._judge(trained, by_tokens, own, "uniform of as many tokens"),
            judged_by_sentences=self._judge(trained, by_sentences, own, "uniform of as many sentences"),
        )

    def _by_sentences(self, sentences: int, seed: int, steps: int | None) -> TrainedKeys:
        """A uniform choice of so many sentences, trained for so many steps, or as many as its own tokens fill."""
        drawn = self._draw(sentences, "sentences", seed)
        steps = steps or self._config.steps_an_epoch(drawn.facts["tokens"])
        return self._train(drawn, steps, seed, f"uniform, {sentences:,} sentences, seed {seed}")

    def point(self, budget: int, multiple: int, seed: int) -> CurveKeys:
        """A uniform choice of a multiple of a budget, trained for as many steps as its tokens fill."""
        unit = self._config.selection.budget_unit
        drawn = self._draw(multiple * budget, unit, seed)
        steps = min(self._config.steps_an_epoch(drawn.facts["tokens"]), drawn.facts["sentences"])
        trained = self._train(drawn, steps, seed, f"uniform, {multiple * budget:,} {unit}, seed {seed}")
        return CurveKeys(budget, multiple, seed, trained)

    def duels(self, cells: list[CellKeys]) -> list[DuelKeys]:
        """The first method against the uniform choice and each other method, of the same budget and seed."""
        first = {(cell.budget, cell.seed): cell for cell in cells if cell.method == self._config.methods[0].name}
        duels = []
        for (budget, seed), cell in first.items():
            uniform, judged = cell.control(self._config.selection.budget_unit)
            duels.append(DuelKeys("uniform", budget, seed, cell.chosen, uniform, judged))
        for other in cells:
            cell = first[other.budget, other.seed]
            if other is cell:
                continue
            what, against = f"{cell.method}, {cell.budget:,}, seed {cell.seed}", other.method
            judged = self._judge(cell.chosen, other.chosen, what, against)
            duels.append(DuelKeys(other.method, cell.budget, cell.seed, cell.chosen, other.chosen, judged))
        return duels

    def _draw(self, size: int, unit: BudgetUnit, seed: int) -> Outcome:
        return self._did(tasks.draw_uniformly(self._config, size, unit, seed, self._corpus, self._known.embeddings))

    def _train(self, chosen: Outcome, steps: int, seed: int, what: str) -> TrainedKeys:
        key = chosen.key, steps, seed
        if key not in self._trained:
            first = self._train_in_order(0, chosen, steps, seed, what)
            again = [
                self._train_in_order(order, chosen, steps, seed, f"{what}, order {order + 1}")
                for order in range(1, self._config.orders)
            ]
            self._trained[key] = replace(first, again=tuple(again))
        return self._trained[key]

    def _train_in_order(self, order: int, chosen: Outcome, steps: int, seed: int, what: str) -> TrainedKeys:
        """A training in one of the orders, of which the first alone is judged."""
        judged = self._config.judged and order == 0
        by = self._config.seeded(seed, order), self._corpus, chosen.key, what, steps, self._config, judged
        with curation.trained_until_measured(*by) as training:
            self._did(training)
            likelihood = self._did(curation.measure_likelihood(self._config, self._corpus, training.key, what))
            written = self._written(training.key, what) if judged else None
        return TrainedKeys(chosen.key, training.key, likelihood.key, written)

    def _written(self, model: str, what: str) -> str:
        """What the model writes."""
        return self._did(curation.complete_prompts(self._config, self._corpus, model, what)).key

    def _judge(self, one: TrainedKeys, other: TrainedKeys | None, what: str, against: str) -> list[str]:
        """The verdicts of every judge; none where nothing is judged, or nothing to judge against was trained."""
        if other is None or one.generations is None or other.generations is None:
            return []
        pair = one.generations, other.generations
        return [
            self._did(curation.judge_completions(self._config, *pair, what, against, judge)).key
            for judge in range(len(self._config.evaluation.judging.judges))
        ]

    def _did(self, outcome: Outcome) -> Outcome:
        self.steps.append(outcome)
        return outcome
