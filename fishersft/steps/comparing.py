"""The page of a comparison, as an artifact: every figure is read back from the other artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pyarrow.parquet as pq

from fishersft.config.compare import CompareConfig
from fishersft.data.store import Draft, Store
from fishersft.reporting.comparison import Arm, Basis, Comparison, Judge, Training, read_comparison
from fishersft.reporting.summary import Interval, JudgeFacts
from fishersft.steps.comparison_keys import CellKeys, ComparisonKeys, TrainedKeys
from fishersft.steps.differences import against_uniform, head_to_head, in_groups, mean_fact
from fishersft.steps.findings import judge_warning, overlap_facts, overlap_warning, scores_of
from fishersft.steps.held_out import target_warnings
from fishersft.steps.judge_findings import judge_facts, judge_warnings
from fishersft.steps.judges import judge_name
from fishersft.steps.measured import Measured, held_out_nll, measured_sentences, trained_nll
from fishersft.steps.models import trained_config
from fishersft.steps.on_target import share_on_target
from fishersft.steps.outcome import Outcome, find_or_make
from fishersft.steps.provenance import library_versions, shown_config
from fishersft.steps.worth import target_alone_warning, with_filter_shares, with_worth

COMPARISON_VERSION = 3
_FEW_SEEDS = 3
_BY_ROWS = ("uniform", "longest", "dedup", "dsir", "perfect-filter", "target-alone", "with target")
_BY_OTHER_FEATURES = ("rds+", "less", "less-round-robin")
_NEED_NO_EMBEDDING = (*_BY_ROWS, *_BY_OTHER_FEATURES)
_COMPUTED = ("gradients/", "scores/", "features/", "warm-up/")


def make_comparison(store: Store, config: CompareConfig, keys: ComparisonKeys) -> Outcome:
    """Writes the page of a comparison: an artifact of kind "comparison" with its data, tables and figure."""

    def write(draft: Draft) -> None:
        from fishersft.reporting.comparison_page import write_comparison

        comparison = build_comparison(store, config, keys)
        write_comparison(comparison, draft.folder)
        draft.facts.update(headline=comparison.headline, warnings=comparison.warnings)

    params = {"config": shown_config(config), "versions": library_versions()}
    return find_or_make(store, "comparison", COMPARISON_VERSION, params, asdict(keys), write, keys.artifacts())


def load_comparison(store: Store, comparison: str) -> Comparison:
    """What the comparison artifact of that key says."""
    return read_comparison(store.fetch("comparison", comparison) / "comparison.json")


def build_comparison(store: Store, config: CompareConfig, keys: ComparisonKeys) -> Comparison:
    """What a comparison found, from its artifacts."""
    choices: dict[tuple[str, int], list[CellKeys]] = {}
    for cell in keys.cells:
        choices.setdefault((cell.method, cell.budget), []).append(cell)
    measured = measured_sentences(store, config, keys.corpus, keys.base)
    judges = _judges(store, config, keys)
    arms = with_worth(store, measured, _arms(store, config, measured, choices), keys.curve)
    versus = [
        *against_uniform(store, measured, choices.values(), "tokens and steps"),
        *(against_uniform(store, measured, choices.values(), "sentences") if config.at_equal_sentences else ()),
    ]
    perfect = config.perfect_filter
    return Comparison(
        name=config.name,
        unit=config.selection.budget_unit,
        seeds=len(config.seeds),
        orders=config.orders,
        held_out=len(measured.tokens),
        macro_column=config.evaluation.macro_column,
        cluster_column=config.evaluation.cluster_column,
        clusters=None if measured.clusters is None else len(set(measured.clusters)),
        counted_by_choosing_model=config.finetune.model is not None,
        base=_arm("base model", 0, measured, measured.base[None], seeds=1),
        arms=arms,
        versus=versus if perfect is None else with_filter_shares(versus, perfect.name),
        groups=tuple(in_groups(store, measured, choices.values(), config.selection.budget_unit)),
        duels=head_to_head(
            store,
            measured,
            config.methods[0].name,
            keys.duels,
            "tokens and steps" if config.selection.budget_unit == "tokens" else "sentences",
        ),
        trainings=[training for cell in keys.cells for training in _trainings(store, measured, cell)],
        judges=[Judge.of(judge) for judge in judges],
        warnings=[*target_alone_warning(config.methods, arms), *_warnings(store, config, keys, judges)],
        config=shown_config(config),
        versions=library_versions(),
    )


def _arms(
    store: Store, config: CompareConfig, measured: Measured, choices: dict[tuple[str, int], list[CellKeys]]
) -> list[Arm]:
    """The uniform choice of every budget, and each method."""
    arms = []
    for budget in config.budgets:
        of_budget = {method: cells for (method, of), cells in choices.items() if of == budget}
        uniform = [cell.control(config.selection.budget_unit)[0] for cell in next(iter(of_budget.values()))]
        arms.append(_arm_of(store, config, measured, "uniform", budget, uniform, []))
        for method, cells in of_budget.items():
            pairs = [judged for cell in cells for judged in (cell.judged_by_tokens, cell.judged_by_sentences)]
            judged = list(zip(*pairs, strict=True))
            arms.append(_arm_of(store, config, measured, method, budget, [cell.chosen for cell in cells], judged))
    return arms


def _arm_of(
    store: Store,
    config: CompareConfig,
    measured: Measured,
    method: str,
    budget: int,
    trained: Sequence[TrainedKeys],
    judged: Sequence[Sequence[str]],
) -> Arm:
    """A way to choose by all of its trainings; `judged` has the judgements of each judge."""
    nll = trained_nll(store, trained).mean(axis=1)
    arm = _arm(method, budget, measured, nll, seeds=len(trained))
    perfect = config.perfect_filter
    choosing = _seconds_choosing(store, [of.selection for of in trained])
    trainings = {training.trained for of in trained for training in of.orders}
    training = sum(store.get("training", key).seconds for key in trainings)
    judging = sum(store.get("judgements", key).seconds for keys in judged for key in keys)
    return arm.model_copy(
        update={
            "sentences": mean_fact(store, trained, "sentences"),
            "lengths": _lengths(store, [of.selection for of in trained]),
            "on_target": None if perfect is None else share_on_target(store, [of.selection for of in trained], perfect),
            "tokens": mean_fact(store, trained, "tokens_per_epoch"),
            "steps": mean_fact(store, trained, "steps"),
            "seconds_choosing": choosing,
            "seconds_training": training,
            "seconds_judging": judging,
            "money": _money(store, config, choosing + training + judging, judged),
        }
    )


def _lengths(store: Store, selections: Sequence[str]) -> tuple[float, float, float]:
    """What a tenth, half and nine tenths of the chosen sentences have at most, in tokens."""
    chosen = [pq.read_table(store.fetch("selection", key) / "selection.parquet")["tokens"] for key in selections]
    tenth, half, nine_tenths = np.quantile(np.concatenate([tokens.to_numpy() for tokens in chosen]), (0.1, 0.5, 0.9))
    return float(tenth), float(half), float(nine_tenths)


def _seconds_choosing(store: Store, selections: Sequence[str]) -> float:
    """What selections took, with all that was computed to choose by."""
    return sum(store.get(*artifact.split("/")).seconds for artifact in artifacts_of_choice(store, selections))


def artifacts_of_choice(store: Store, selections: Sequence[str]) -> set[str]:
    """Selections and what was computed to choose by, as "kind/key": embeddings, gradients, scores, features, warm-ups.

    A uniform choice needs no embeddings, nor does any other that goes by the rows alone or by features of its own: what
    these are charged is their own. A choice beside the target, or by prompts, is charged what it was made from.
    """
    found = {f"selection/{key}" for key in selections}
    for selection in [store.get("selection", key) for key in selections]:
        within = [source.removeprefix("selection/") for source in selection.sources if source.startswith("selection/")]
        found |= artifacts_of_choice(store, within)
        found |= {source for source in selection.sources if source.startswith(_COMPUTED)}
        of_others = "column" in selection.params or "by" in selection.params
        if selection.params.get("method") not in _NEED_NO_EMBEDDING and not of_others:
            found |= {source for source in selection.sources if source.startswith("embeddings/")}
    return found


def _money(store: Store, config: CompareConfig, seconds: float, judged: Sequence[Sequence[str]]) -> float | None:
    """What so many seconds cost, and what judges asked for; None where neither has a price."""
    spent = [] if config.price_per_hour is None else [seconds / 3600 * config.price_per_hour]
    for judge, keys in zip(config.evaluation.judging.judges, judged, strict=False):
        facts = [store.get("judgements", key).facts for key in keys]
        asked = judge.cost(*(sum(fact[name] for fact in facts) for name in ("input_tokens", "output_tokens")))
        spent += [] if asked is None else [asked]
    return sum(spent) if spent else None


def _arm(method: str, budget: int, measured: Measured, nll: np.ndarray, seeds: int) -> Arm:
    worst = measured.worst()
    nats = measured.difference(nll.mean(axis=0)[None], np.zeros((1, len(measured.tokens))))
    return Arm(
        method=method,
        budget=budget,
        seeds=seeds,
        sentences=0,
        lengths=None,
        tokens=0,
        steps=0,
        mean=float(measured.mean(nll).mean()),
        perplexity=Interval.of(np.exp(nats[:3]).tolist()),
        worst_tenth=float(measured.only(worst).mean(nll[:, worst]).mean()),
        worst=float((nll / measured.tokens).max(axis=1).mean()),
        seconds_choosing=0,
        seconds_training=0,
        seconds_judging=0,
        money=None,
    )


def _trainings(store: Store, measured: Measured, cell: CellKeys) -> list[Training]:
    """The training of a cell and its two controls."""
    controls: list[tuple[TrainedKeys | None, Basis | None]] = [
        (cell.chosen, None),
        (cell.by_tokens, "tokens and steps"),
        (cell.by_sentences, "sentences"),
    ]
    return [
        _training(store, measured, cell, training, control, order)
        for trained, control in controls
        if trained is not None
        for order, training in enumerate(trained.orders)
    ]


def _training(
    store: Store, measured: Measured, cell: CellKeys, trained: TrainedKeys, control: Basis | None, order: int
) -> Training:
    model = store.get("training", trained.trained)
    arm = _arm(cell.method, cell.budget, measured, held_out_nll(store, [trained.evaluation])[0], seeds=1)
    judged = control is None and order == 0
    won = [_mean_score(store, judged) for judged in (cell.judged_by_tokens, cell.judged_by_sentences)]
    return Training(
        method=cell.method,
        budget=cell.budget,
        seed=cell.seed,
        control=control,
        order=order,
        sentences=model.facts["sentences"],
        tokens=model.facts["tokens_per_epoch"],
        steps=model.facts["steps"],
        mean=arm.mean,
        worst_tenth=arm.worst_tenth,
        worst=arm.worst,
        win_rate_at_equal_tokens=won[0] if judged else None,
        win_rate_at_equal_sentences=won[1] if judged else None,
        seconds_choosing=_seconds_choosing(store, [trained.selection]),
        seconds_training=model.seconds,
    )


def _mean_score(store: Store, judged: Sequence[str]) -> float | None:
    """Of the first judge; None where nothing was judged, or all pairs were the same text."""
    if not judged:
        return None
    scores = scores_of(store, judged[0])
    return None if np.isnan(scores).all() else float(np.nanmean(scores))


def _judges(store: Store, config: CompareConfig, keys: ComparisonKeys) -> list[JudgeFacts]:
    """Each judge on all pairs of the comparison."""
    settings = config.evaluation.judging.judges if config.judged else []
    by_judge = [
        [
            (cell.method, "uniform", judged[number])
            for cell in keys.cells
            for judged in (cell.judged_by_tokens, cell.judged_by_sentences)
            if judged
        ]
        + [(config.methods[0].name, duel.other, duel.judged[number]) for duel in keys.duels if duel.other != "uniform"]
        for number in range(len(settings))
    ]
    first = [key for _, _, key in by_judge[0]] if by_judge else []
    return [
        judge_facts(
            store,
            judge_name(settings[number], trained_config(config).model),
            settings[number],
            keys.calibrations[number],
            compared,
            first if number else None,
        )
        for number, compared in enumerate(by_judge)
    ]


def _warnings(store: Store, config: CompareConfig, keys: ComparisonKeys, judges: Sequence[JudgeFacts]) -> list[str]:
    warnings = []
    if len(config.seeds) < _FEW_SEEDS:
        warnings.append(
            f"{len(config.seeds)} seed a method: the intervals say little or nothing of the luck of a training or a "
            "uniform draw. Set repeats to 3 or more."
        )
    chosen = {cell.method: store.get("selection", cell.chosen.selection).facts for cell in keys.cells}
    covered = [method for method, facts in chosen.items() if facts.get("exhausted")]
    if covered:
        warnings.append(f"{', '.join(covered)} chose all that could be chosen: there was nothing to choose between.")
    warnings += target_warnings(store, config, config.target, keys.corpus)
    overlap = overlap_facts(store, keys.overlap, config.evaluation.on_overlap == "leave out")
    by_place = judge_warning(judges[0].win_rates) if judges else None
    return [*warnings, *overlap_warning(overlap), *([by_place] if by_place else []), *judge_warnings(judges)]
