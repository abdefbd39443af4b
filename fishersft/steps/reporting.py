"""The report of a run, as an artifact: everything it shows is read back from the other artifacts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fishersft.config import CurateConfig
from fishersft.data.manifest import Manifest
from fishersft.data.store import Draft, Store
from fishersft.reporting.summary import (
    Comparison,
    JudgeFacts,
    RunReport,
    WinRate,
    read_report,
)
from fishersft.steps.choosing import proof_sentence, settings_in_words
from fishersft.steps.corpus import load_index
from fishersft.steps.findings import (
    compare_likelihoods,
    judge_warning,
    likelihood_facts,
    overlap_facts,
    overlap_warning,
    task_scores,
    win_rate,
)
from fishersft.steps.held_out import target_warnings
from fishersft.steps.judge_findings import judge_facts, judge_warnings
from fishersft.steps.judges import judge_name
from fishersft.steps.models import trained_config
from fishersft.steps.outcome import Outcome, find_or_make
from fishersft.steps.picks import load_picks, picked_examples
from fishersft.steps.preview import previews
from fishersft.steps.provenance import library_versions, shown_config
from fishersft.steps.report_parts import (
    BASE,
    UNIFORM,
    RunKeys,
    chosen,
    completions,
    corpus_facts,
    costs,
    pool_lengths,
    selection_facts,
    steps_kept,
    training_facts,
)

REPORT_VERSION = 7


def method_of(config: CurateConfig) -> str:
    """What the run's own selection is called beside the uniform one."""
    if config.matches_all_layers:
        return "gradient matching, all layers"
    names = {"v-optimal": "V-optimal", "gradient-matching": "gradient matching"}
    return names.get(config.chosen_criterion()[0], "information gain")


def make_report(store: Store, config: CurateConfig, keys: RunKeys) -> Outcome:
    """Writes the report of a run: an artifact of kind "report" with index.html, report.json and figures."""
    config = config.resolved()

    def write(draft: Draft) -> None:
        from fishersft.reporting.write import write_report

        report = build_report(store, config, keys)
        write_report(report, draft.folder)
        draft.facts.update(headline=report.headline, warnings=report.warnings)

    return find_or_make(
        store,
        "report",
        REPORT_VERSION,
        {"config": shown_config(config), "versions": library_versions()},
        asdict(keys),
        write,
        keys.artifacts(),
    )


def load_report(store: Store, report: str) -> RunReport:
    """What the report artifact of that key says."""
    return read_report(store.fetch("report", report) / "report.json")


def build_report(store: Store, config: CurateConfig, keys: RunKeys) -> RunReport:
    """What a run found, from its artifacts."""
    config = config.resolved()
    method = method_of(config)
    index = load_index(store, keys.corpus)
    picks, uniform_picks = load_picks(store, keys.selection), load_picks(store, keys.uniform_selection)
    base, informative, uniform = keys.evaluations
    trained = store.get("training", keys.trained)
    uniform_trained = store.get("training", keys.uniform_trained)
    comparisons = [
        compare_likelihoods(
            store, method, informative, UNIFORM, uniform, base, _basis(config, trained, uniform_trained)
        ),
        compare_likelihoods(store, method, informative, BASE, base, base, "(no training)"),
        compare_likelihoods(store, UNIFORM, uniform, BASE, base, base, "(no training)"),
    ]
    rates = [
        win_rate(store, method, UNIFORM, keys.judgements_uniform),
        win_rate(store, method, BASE, keys.judgements_base),
    ]
    judges = _judges(store, config, keys, method)
    selected = store.get("selection", keys.selection).facts
    overlap = overlap_facts(store, keys.overlap, config.evaluation.on_overlap == "leave out")
    return RunReport(
        name=config.name,
        judge=judge_name(config.evaluation.judging.judges[0], trained_config(config).model),
        corpus=corpus_facts(store, config, index),
        overlap=overlap,
        pool_lengths=pool_lengths(store, keys.embeddings),
        selections=[
            selection_facts(method, picks, _proof(method, selected), settings_in_words(config.selection, selected)),
            selection_facts(UNIFORM, uniform_picks),
        ],
        previews=previews(store, config, index),
        chosen=chosen(index, picks, picked_examples(store, config.corpus, picks)),
        trainings=[
            training_facts(method, trained, config, picks),
            training_facts(UNIFORM, uniform_trained, config, uniform_picks),
        ],
        likelihoods=[
            likelihood_facts(store, name, evaluation, base)
            for name, evaluation in zip((BASE, method, UNIFORM), keys.evaluations, strict=True)
        ],
        comparisons=comparisons,
        win_rates=rates,
        judges=judges,
        harness=task_scores(store, dict(zip((BASE, method, UNIFORM), keys.harness, strict=False))),
        completions=completions(store, keys.generations, method),
        costs=costs(store, keys),
        headline=_headline(comparisons[0]),
        warnings=[
            *_selection_warnings(store, config, keys, selected),
            *overlap_warning(overlap),
            *_warnings(comparisons[0], rates, judges),
        ],
        config=shown_config(config),
        versions=library_versions(),
    )


def _proof(method: str, selected: dict[str, Any]) -> str:
    if selected["certificate"] is None:
        return f"The selection by {method}: {proof_sentence(selected)}."
    return f"The selection by {method} has {proof_sentence(selected)}."


def _basis(config: CurateConfig, trained: Manifest, uniform_trained: Manifest) -> str:
    steps, uniform_steps = steps_kept(trained), steps_kept(uniform_trained)
    tokens = "equal tokens" if config.finetune.early_stopping is None else "equal tokens an epoch"
    if config.finetune.model is not None:
        tokens += " as the choosing model counts them"
    if steps == uniform_steps:
        return f"at {tokens} and {'' if tokens == 'equal tokens' else 'equal '}steps"
    return f"at {tokens} ({steps} and {uniform_steps} steps)"


def _headline(against_uniform: Comparison) -> str:
    ratio = against_uniform.perplexity_ratio
    verdict = against_uniform.verdict[0].upper() + against_uniform.verdict[1:]
    return f"{verdict} (ratio {ratio.value:.3f}, 95% interval {ratio.low:.3f} to {ratio.high:.3f})."


def _selection_warnings(store: Store, config: CurateConfig, keys: RunKeys, selected: dict[str, Any]) -> list[str]:
    warnings = []
    if selected["exhausted"]:
        warnings.append(
            f"The budget of {config.selection.budget} {config.selection.budget_unit} covers all "
            "of the pool that has a token to learn from, so there was nothing to choose between."
        )
    warnings += target_warnings(store, config, config.target, keys.corpus)
    return warnings


def _warnings(against_uniform: Comparison, rates: list[WinRate], judges: list[JudgeFacts]) -> list[str]:
    warnings = []
    if against_uniform.perplexity_ratio.high >= 1:
        warnings.append(
            "This selection is not shown to be better than a uniform choice of as many tokens. Compare more budgets "
            "and seeds before you rely on it."
        )
    warnings.append(
        "One training seed a method: the intervals cover the choice of held-out sentences and prompts, not the luck "
        "of a training run or of a uniform draw."
    )
    by_place = judge_warning(rates)
    return [*warnings, *([by_place] if by_place else []), *judge_warnings(judges)]


def _judges(store: Store, config: CurateConfig, keys: RunKeys, method: str) -> list[JudgeFacts]:
    settings, judged = config.evaluation.judging.judges, keys.judged()
    return [
        judge_facts(
            store,
            judge_name(settings[number], trained_config(config).model),
            settings[number],
            calibration,
            [(method, UNIFORM, judged[number][0]), (method, BASE, judged[number][1])],
            judged[0] if number else None,
        )
        for number, calibration in enumerate(keys.calibrations)
    ]
