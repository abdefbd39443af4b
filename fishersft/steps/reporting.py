"""The report of a run, as an artifact: everything it shows is read back from the other artifacts."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from fishersft.config import CorpusConfig, CurateConfig
from fishersft.data.examples import Example, as_text
from fishersft.data.locations import display_name
from fishersft.data.manifest import Manifest
from fishersft.data.store import Draft, Store
from fishersft.reporting.summary import (
    ChosenRow,
    Comparison,
    Completion,
    CorpusFacts,
    JudgeFacts,
    RunReport,
    SelectionFacts,
    StepCost,
    TrainingFacts,
    WinRate,
    read_report,
)
from fishersft.steps.choosing import NO_CERTIFICATE, proof_sentence, settings_in_words
from fishersft.steps.corpus import CorpusIndex, load_index, shard_examples, target_config
from fishersft.steps.findings import (
    compare_likelihoods,
    judge_warning,
    likelihood_facts,
    overlap_facts,
    overlap_warning,
    task_scores,
    win_rate,
)
from fishersft.steps.judge_findings import judge_facts, judge_warnings
from fishersft.steps.judges import judge_name
from fishersft.steps.models import trained_config
from fishersft.steps.outcome import Outcome, find_or_make
from fishersft.steps.picks import SavedSelection, load_picks, picked_examples

REPORT_VERSION = 4
BASE = "base model"
UNIFORM = "uniform"
_SHOWN_ROWS = 50
_SHOWN_TEXT = 600
_SHOWN_COMPLETIONS = 12
_LIBRARIES = ("fishersft", "torch", "transformers", "trl", "peft", "datasets", "numpy", "pyarrow")


@dataclass(frozen=True)
class RunKeys:
    """The keys of all artifacts of a curation run; the lists are base model, the selection's, uniform.

    `model` is the base model's fingerprint: an artifact's key only where the model was converted. `target` is the
    corpus artifact of the selection's target, where it has one. `calibrations` has a key a judge, and
    `further_judgements` for each judge after the first its judgements against uniform and against the base model.
    `harness` is empty where no task of it was asked for.
    """

    corpus: str
    overlap: str
    model: str
    embeddings: list[str]
    target: str | None
    target_embeddings: list[str]
    selection: str
    uniform_selection: str
    trained: str
    uniform_trained: str
    evaluations: list[str]
    generations: list[str]
    judgements_uniform: str
    judgements_base: str
    harness: list[str] = field(default_factory=list)
    calibrations: list[str] = field(default_factory=list)
    further_judgements: list[list[str]] = field(default_factory=list)

    def judged(self) -> list[list[str]]:
        """For each judge its judgements against uniform and against the base model."""
        return [[self.judgements_uniform, self.judgements_base], *self.further_judgements]

    def artifacts(self) -> list[str]:
        """All of them as "kind/key"; of a base model that is a folder of the user's, there is none."""
        kinds: list[tuple[str, Sequence[str | None]]] = [
            ("corpus", [self.corpus, self.target]),
            ("overlap", [self.overlap]),
            ("embeddings", [*self.embeddings, *self.target_embeddings]),
            ("selection", [self.selection, self.uniform_selection]),
            ("fine-tuned-model", [self.trained, self.uniform_trained]),
            ("evaluation", self.evaluations),
            ("generations", self.generations),
            ("judgements", [*self.calibrations, *(key for keys in self.judged() for key in keys)]),
            ("harness", self.harness),
        ]
        return [f"{kind}/{key}" for kind, keys in kinds for key in keys if key is not None]


def method_of(config: CurateConfig) -> str:
    """What the run's own selection is called beside the uniform one."""
    return "V-optimal" if config.selection.criterion == "v-optimal" else "information gain"


def make_report(store: Store, config: CurateConfig, keys: RunKeys) -> Outcome:
    """Writes the report of a run: an artifact of kind "report" with index.html, report.json and figures."""

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
    method = method_of(config)
    index = load_index(store, keys.corpus)
    picks, uniform_picks = load_picks(store, keys.selection), load_picks(store, keys.uniform_selection)
    base, informative, uniform = keys.evaluations
    trained = store.get("fine-tuned-model", keys.trained)
    uniform_trained = store.get("fine-tuned-model", keys.uniform_trained)
    comparisons = [
        compare_likelihoods(store, method, informative, UNIFORM, uniform, _basis(config, trained, uniform_trained)),
        compare_likelihoods(store, method, informative, BASE, base, "(no training)"),
        compare_likelihoods(store, UNIFORM, uniform, BASE, base, "(no training)"),
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
        corpus=_corpus_facts(store, index, keys.embeddings),
        overlap=overlap,
        pool_lengths=_pool_lengths(store, keys.embeddings),
        selections=[
            _selection_facts(method, picks, _proof(method, selected), settings_in_words(config.selection, selected)),
            _selection_facts(UNIFORM, uniform_picks),
        ],
        chosen=_chosen(index, picks, picked_examples(store, config.corpus, picks)),
        trainings=[
            _training_facts(method, trained, config, picks),
            _training_facts(UNIFORM, uniform_trained, config, uniform_picks),
        ],
        likelihoods=[
            likelihood_facts(store, name, evaluation)
            for name, evaluation in zip((BASE, method, UNIFORM), keys.evaluations, strict=True)
        ],
        comparisons=comparisons,
        win_rates=rates,
        judges=judges,
        harness=task_scores(store, dict(zip((BASE, method, UNIFORM), keys.harness, strict=False))),
        completions=_completions(store, keys.generations, method),
        costs=_costs(store, keys),
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
        return f"The selection by {method}: {NO_CERTIFICATE}."
    return f"The selection by {method} has {proof_sentence(selected)}."


def _basis(config: CurateConfig, trained: Manifest, uniform_trained: Manifest) -> str:
    steps, uniform_steps = _steps_kept(trained), _steps_kept(uniform_trained)
    tokens = "equal tokens" if config.finetune.early_stopping is None else "equal tokens an epoch"
    if config.finetune.model is not None:
        tokens += " as the choosing model counts them"
    if steps == uniform_steps:
        return f"at {tokens} and {'' if tokens == 'equal tokens' else 'equal '}steps"
    return f"at {tokens} ({steps} and {uniform_steps} steps)"


def _steps_kept(trained: Manifest) -> int:
    """Optimiser steps behind the weights; models of before there was early stopping have all steps' weights."""
    return trained.facts.get("steps_kept", trained.facts["steps"])


def _headline(against_uniform: Comparison) -> str:
    ratio = against_uniform.perplexity_ratio
    verdict = against_uniform.verdict[0].upper() + against_uniform.verdict[1:]
    return f"{verdict} (ratio {ratio.value:.3f}, 95% interval {ratio.low:.3f} to {ratio.high:.3f})."


def _selection_warnings(store: Store, config: CurateConfig, keys: RunKeys, selected: dict[str, Any]) -> list[str]:
    warnings = []
    if selected["exhausted"]:
        warnings.append(
            f"The budget of {config.selection.budget} {config.selection.budget_unit} covers the whole pool: everything "
            "was chosen, so there was nothing to choose between."
        )
    if keys.target is not None:
        seen = _digests(store, target_config(config), load_index(store, keys.target).shards)
        shared = len(seen & _digests(store, config, [load_index(store, keys.corpus).held_out]))
        if shared:
            warnings.append(
                f"{shared:,} of the held-out examples are in the target too, which the selection was made for: what "
                "is measured on them flatters it. Take them out of selection.target."
            )
    return warnings


def _digests(store: Store, config: CurateConfig, shards: Sequence[str]) -> set[str]:
    return {example.digest for shard in shards for example in shard_examples(store, config.corpus, shard)}


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
            calibration,
            [(method, UNIFORM, judged[number][0]), (method, BASE, judged[number][1])],
            judged[0] if number else None,
        )
        for number, calibration in enumerate(keys.calibrations)
    ]


def _corpus_facts(store: Store, index: CorpusIndex, embeddings: Sequence[str]) -> CorpusFacts:
    facts = [store.get("embeddings", key).facts for key in embeddings]
    return CorpusFacts(
        **{name: value for name, value in index.counts.items() if name in CorpusFacts.model_fields},
        truncated=sum(fact["truncated"] for fact in facts),
        without_loss=sum(fact["without_loss"] for fact in facts),
    )


def _pool_lengths(store: Store, embeddings: Sequence[str]) -> list[int]:
    return [length for key in embeddings for length in store.get("embeddings", key).facts["lengths"]]


def _selection_facts(
    method: str, picks: SavedSelection, certificate: str = "", settings: dict[str, str] | None = None
) -> SelectionFacts:
    return SelectionFacts(
        method=method,
        sentences=len(picks.gains),
        information_gain=np.cumsum(picks.gains).tolist(),
        tokens=np.cumsum(picks.tokens).tolist(),
        lengths=picks.tokens,
        certificate=certificate,
        settings=settings or {},
    )


def _chosen(index: CorpusIndex, picks: SavedSelection, examples: Sequence[Example]) -> list[ChosenRow]:
    rows = []
    for place, example in enumerate(examples[:_SHOWN_ROWS]):
        source, number = index.source_of(picks.shards[place], picks.rows[place])
        rows.append(
            ChosenRow(
                rank=place + 1,
                gain=picks.gains[place],
                tokens=picks.tokens[place],
                source=source,
                row=number,
                text=_cut(as_text(example)),
            )
        )
    return rows


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_TEXT else text[:_SHOWN_TEXT] + " …"


def _training_facts(method: str, manifest: Manifest, config: CurateConfig, picks: SavedSelection) -> TrainingFacts:
    facts = manifest.facts
    return TrainingFacts(
        method=method,
        sentences=facts["sentences"],
        tokens_per_epoch=facts["tokens_per_epoch"],
        epochs=facts["steps"] // facts["steps_per_epoch"],
        steps=facts["steps"],
        steps_kept=_steps_kept(manifest),
        seconds=manifest.seconds,
        losses=facts["losses"],
        held_out_losses=facts.get("held_out_losses", []),
        tokens_chosen=None if config.finetune.model is None else sum(picks.tokens),
    )


def _completions(store: Store, generations: Sequence[str], chosen: str) -> list[Completion]:
    tables = [pq.read_table(store.fetch("generations", key) / "generations.parquet").to_pydict() for key in generations]
    prompts = tables[0]["prompt"][:_SHOWN_COMPLETIONS]
    return [
        Completion(
            prompt=_cut(prompt),
            completions={
                method: _cut(table["completion"][place])
                for method, table in zip((BASE, chosen, UNIFORM), tables, strict=True)
            },
        )
        for place, prompt in enumerate(prompts)
    ]


def _costs(store: Store, keys: RunKeys) -> list[StepCost]:
    sources = store.get("fine-tuned-model", keys.trained).sources  # another model may have been trained than chose
    models = {keys.model, *(name.removeprefix("model/") for name in sources if name.startswith("model/"))}
    steps = [
        ("read the corpus", "corpus", [keys.corpus]),
        ("look for overlap", "overlap", [keys.overlap]),
        ("convert the model", "model", sorted(models)),
        ("embed the pool", "embeddings", keys.embeddings),
        ("read the target", "corpus", [keys.target] if keys.target else []),
        ("embed the target", "embeddings", keys.target_embeddings),
        ("select", "selection", [keys.selection]),
        ("select uniformly", "selection", [keys.uniform_selection]),
        ("fine-tune", "fine-tuned-model", [keys.trained, keys.uniform_trained]),
        ("measure likelihood", "evaluation", keys.evaluations),
        ("complete prompts", "generations", keys.generations),
        ("calibrate the judges", "judgements", keys.calibrations),
        ("judge", "judgements", [key for judged in keys.judged() for key in judged]),
        ("run the harness", "harness", keys.harness),
    ]
    costs = []
    for step, kind, artifacts in steps:
        manifests = [manifest for key in artifacts if (manifest := store.find(kind, key))]
        if not manifests:
            continue
        tokens = [manifest.facts["tokens"] for manifest in manifests if "tokens" in manifest.facts]
        costs.append(
            StepCost(
                step=step,
                artifacts=len(manifests),
                tokens=sum(tokens) if tokens else None,
                seconds=sum(manifest.seconds for manifest in manifests),
            )
        )
    return costs


def shown_config(config: CurateConfig) -> dict[str, object]:
    """The settings, without credentials that a URL may carry."""
    shown = config.model_dump(mode="json")
    shown["store"] = display_name(config.store)
    shown["output"] = display_name(config.output)
    shown["corpus"]["path"] = _shown_paths(config.corpus)
    if config.selection.target is not None:
        shown["selection"]["target"]["path"] = _shown_paths(config.selection.target)
    return shown


def _shown_paths(corpus: CorpusConfig) -> str | list[str]:
    return display_name(corpus.path) if isinstance(corpus.path, str) else [display_name(path) for path in corpus.path]


def library_versions() -> dict[str, str]:
    """The versions of what a run's figures hang on."""
    return {"python": platform.python_version(), **{library: version(library) for library in _LIBRARIES}}
