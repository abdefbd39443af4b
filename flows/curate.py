"""Curate: choose the most informative part of a corpus, fine-tune on it, and measure whether choosing helped."""

from __future__ import annotations

from prefect import State, get_run_logger
from prefect.states import Cancelled

from fishersft.config import CurateConfig
from fishersft.data.runs import Run, RunRecord, last_finished, recorded_run
from fishersft.reporting.proposal import Proposal
from fishersft.steps.conditions import begin_selection
from fishersft.steps.corpus import target_config
from fishersft.steps.held_out import check_measurable, refuse_columns
from fishersft.steps.outcome import Outcome, RunResult, open_store
from fishersft.steps.prompts import check_answered
from fishersft.steps.report_parts import BASE, UNIFORM, RunKeys
from fishersft.steps.reporting import method_of
from fishersft.steps.this_run import report_of_the_same, settings_digest
from tasks import curation as tasks
from tasks import embedding
from tasks.approval import NotApproved, approved, check_approval
from tasks.checked import flow
from tasks.guard import guarded_run
from tasks.logs import shorten_input_errors
from tasks.notices import tell_if_not_better
from tasks.overlap import alone
from tasks.sub_runs import Workers
from tasks.ui import show_run, tag_run

shorten_input_errors()


@flow(
    name="curate",
    task_runner=embedding.task_runner(),
    flow_run_name="curate-{config.name}-{config.selection.budget}-{config.selection.budget_unit}",
)
def curate(config: CurateConfig) -> RunResult | State[NotApproved]:
    """Chooses the part of a corpus that tells a model most, fine-tunes on it, and measures what that was worth.

    - **To start a run** fill in `Corpus > Path`; everything else has a default.
    - **What comes out** goes to `Output`: the curated dataset, the fine-tuned model and the report. The run's
      artifacts show the summary, tables and figures.
    - **Nothing is computed twice:** what the store already holds is found there.
    - **Approval**, if wanted, pauses the run before it trains, until somebody resumes it.

    What each setting does: `README.md`. How it works: `docs/design.md`. Schedules, alarms, recovery:
    `docs/operations.md`.
    """
    with guarded_run():
        get_run_logger().info("%s", config.criterion_in_words())
        config = config.resolved()
        tag_run(config.name, config.chosen_criterion()[0])
        check_approval(config)
        check_answered(config)
        check_measurable(config)
        refuse_columns(config)
        tasks.check_models(config)
        workers = embedding.find_workers(config)
        store, name = open_store(config.store), f"curate-{config.name}"
        with alone(store, name, wait=True):
            previous = last_finished(store, name)
            try:
                with recorded_run(store, name) as run:
                    return _curate_if_new(config, workers, run, previous)
            except NotApproved as rejected:
                return Cancelled(message=str(rejected), data=rejected)


def _curate_if_new(config: CurateConfig, workers: Workers | None, run: Run, previous: RunRecord | None) -> RunResult:
    corpus = tasks.read_corpus(config)
    report = report_of_the_same(config, corpus.key, run, previous)
    if report is not None:
        get_run_logger().info("Nothing new: the corpus and the settings are those of the run before, so that stands")
        return RunResult(report, [corpus])
    settings = settings_digest(config)
    result = _curate(begin_selection(config, previous, run), workers, corpus, run, previous)
    run.note(report=result.report, settings=settings)
    return result


def _curate(
    config: CurateConfig, workers: Workers | None, corpus: Outcome, run: Run, previous: RunRecord | None
) -> RunResult:
    model = tasks.prepare_model(config)
    target_corpus = tasks.read_target(config) if config.target is not None else None
    tasks.check_rows(config, corpus, target_corpus)

    embedded = embedding.embed_corpus(config, workers, corpus)
    embeddings = [outcome.key for outcome in embedded]
    all_layers = config.matches_all_layers
    sketched = embedding.sketch_corpus(config, workers, corpus) if all_layers else []
    gradients = [outcome.key for outcome in sketched]

    towards = [] if target_corpus is None else _target(config, workers, target_corpus)
    target = [outcome.key for outcome in towards[1:]]

    method = method_of(config)

    def select(config: CurateConfig) -> Outcome:
        return tasks.select_informative(config, corpus.key, embeddings, target, method, gradients)

    def propose(config: CurateConfig, chosen: Outcome) -> Proposal:
        return tasks.propose(config, corpus.key, embedded, chosen.key)

    config, chosen = approved(config, select(config), propose, select)
    run.note(corpus=corpus.key, selection=chosen.key)
    tasks.publish_dataset(config, corpus.key, chosen.key)
    at_random = tasks.select_uniform(config, corpus.key, embeddings, tokens=chosen.facts["tokens"])

    overlap = tasks.look_for_overlap(config, corpus.key)
    # The base model first: what is wrong with the held-out examples shows before anything is trained.
    measured, written, on_tasks = list[Outcome](), list[Outcome](), list[Outcome]()

    def measure(training: str | None, name: str) -> None:
        measured.append(tasks.measure_likelihood(config, corpus.key, training, name))
        written.append(tasks.complete_prompts(config, corpus.key, training, name))
        if config.evaluation.harness_tasks:
            on_tasks.append(tasks.run_harness(config, training, name))

    measure(None, BASE)
    trained = tasks.finetune_on(config, corpus.key, chosen.key, method)  # kept, as it is published
    measure(trained.key, method)
    as_many = trained.facts["steps_per_epoch"]
    with tasks.trained_until_measured(config, corpus.key, at_random.key, UNIFORM, as_many, config) as trained_at_random:
        measure(trained_at_random.key, UNIFORM)

    by_base, by_informative, by_uniform = (outcome.key for outcome in written)
    judges = range(len(config.evaluation.judging.judges))
    calibrated = [tasks.calibrate_judge(config, corpus.key, judge) for judge in judges]
    against = ((by_uniform, UNIFORM), (by_base, BASE))
    judged = [
        [tasks.judge_completions(config, by_informative, other, method, name, judge) for other, name in against]
        for judge in judges
    ]
    (against_uniform, against_base), *further = judged

    keys = RunKeys(
        corpus=corpus.key,
        overlap=overlap.key,
        model=model,
        embeddings=embeddings,
        target=towards[0].key if towards else None,
        target_embeddings=[] if all_layers else target,
        gradients=[*gradients, *target] if all_layers else [],
        selection=chosen.key,
        uniform_selection=at_random.key,
        trained=trained.key,
        uniform_trained=trained_at_random.key,
        evaluations=[outcome.key for outcome in measured],
        generations=[outcome.key for outcome in written],
        judgements_uniform=against_uniform.key,
        judgements_base=against_base.key,
        calibrations=[outcome.key for outcome in calibrated],
        further_judgements=[[outcome.key for outcome in outcomes] for outcomes in further],
        harness=[outcome.key for outcome in on_tasks],
    )
    report = tasks.make_report(config, keys)
    steps = [
        corpus,
        *embedded,
        *sketched,
        *towards,
        chosen,
        at_random,
        overlap,
        trained,
        trained_at_random,
        *measured,
        *written,
    ]
    steps += [*on_tasks, *calibrated, *(outcome for outcomes in judged for outcome in outcomes)]
    result = RunResult(report.key, [*steps, report])
    this_run = tasks.describe_run(config, result.steps, corpus.key, embedded, previous)
    tasks.publish_model_and_report(config, trained.key, report.key, this_run)
    show_run(config, result, this_run)
    tell_if_not_better(config, report.key)
    return result


def _target(config: CurateConfig, workers: Workers | None, target: Outcome) -> list[Outcome]:
    """The target's corpus artifact, and the embeddings of its shards; or their gradients, where all layers' count."""
    read = embedding.sketch_target if config.matches_all_layers else embedding.embed_target
    return [target, *read(target_config(config), workers, target)]
