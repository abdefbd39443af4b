"""The parts of a run's report, each read back from the artifacts that have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow.parquet as pq

from fishersft.config import CurateConfig
from fishersft.data.examples import Example, as_text
from fishersft.data.manifest import Manifest
from fishersft.data.store import Store
from fishersft.reporting.summary import ChosenRow, Completion, CorpusFacts, SelectionFacts, StepCost, TrainingFacts
from fishersft.steps.corpus import CorpusIndex
from fishersft.steps.picks import SavedSelection
from fishersft.steps.tokens import tokenise_shard

BASE = "base model"
UNIFORM = "uniform"
_SHOWN_ROWS = 50
_SHOWN_TEXT = 600
_SHOWN_COMPLETIONS = 12


@dataclass(frozen=True)
class RunKeys:
    """The keys of all artifacts of a curation run; the lists are base model, the selection's, uniform.

    `model` is the base model's fingerprint: an artifact's key only where the model was converted. `target` is the
    corpus artifact of the selection's target, where it has one. `calibrations` has a key a judge, and
    `further_judgements` for each judge after the first its judgements against uniform and against the base model.
    `harness` is empty where no task of it was asked for. `gradients` has those of all layers, of the pool's shards and
    the target's, where they are matched.
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
    gradients: list[str] = field(default_factory=list)

    def judged(self) -> list[list[str]]:
        """For each judge its judgements against uniform and against the base model."""
        return [[self.judgements_uniform, self.judgements_base], *self.further_judgements]

    def artifacts(self) -> list[str]:
        """All of them as "kind/key"; of a base model that is a folder of the user's, there is none."""
        kinds: list[tuple[str, Sequence[str | None]]] = [
            ("corpus", [self.corpus, self.target]),
            ("overlap", [self.overlap]),
            ("embeddings", [*self.embeddings, *self.target_embeddings]),
            ("gradients", self.gradients),
            ("selection", [self.selection, self.uniform_selection]),
            ("training", [self.trained, self.uniform_trained]),
            ("fine-tuned-model", [self.trained]),
            ("evaluation", self.evaluations),
            ("generations", self.generations),
            ("judgements", [*self.calibrations, *(key for keys in self.judged() for key in keys)]),
            ("harness", self.harness),
        ]
        return [f"{kind}/{key}" for kind, keys in kinds for key in keys if key is not None]


def corpus_facts(store: Store, config: CurateConfig, index: CorpusIndex) -> CorpusFacts:
    """What became of the corpus's rows."""
    facts = [tokenise_shard(store, config, shard).facts for shard in index.shards]
    return CorpusFacts(
        **{name: value for name, value in index.counts.items() if name in CorpusFacts.model_fields},
        truncated=sum(fact["cut"] for fact in facts),
        lost=sum(fact["lost"] for fact in facts),
        without_loss=sum(fact["without_loss"] for fact in facts),
    )


def pool_lengths(store: Store, embeddings: Sequence[str]) -> list[int]:
    """Loss tokens of every sentence of the pool."""
    return [length for key in embeddings for length in store.get("embeddings", key).facts["lengths"]]


def selection_facts(
    method: str, picks: SavedSelection, certificate: str = "", settings: dict[str, str] | None = None
) -> SelectionFacts:
    """One selection, pick by pick."""
    return SelectionFacts(
        method=method,
        sentences=len(picks.gains),
        information_gain=np.cumsum(picks.gains).tolist(),
        tokens=np.cumsum(picks.tokens).tolist(),
        lengths=picks.tokens,
        certificate=certificate,
        settings=settings or {},
    )


def chosen(
    index: CorpusIndex, picks: SavedSelection, examples: Sequence[Example], most: int = _SHOWN_ROWS
) -> list[ChosenRow]:
    """The first picks, at most so many, with their texts and where these came from."""
    rows = []
    for place, example in enumerate(examples[:most]):
        source, number = index.source_of(picks.shards[place], picks.rows[place])
        rows.append(
            ChosenRow(
                rank=place + 1,
                id=example.id,
                gain=picks.gains[place],
                tokens=picks.tokens[place],
                source=source,
                row=number,
                text=_cut(as_text(example)),
            )
        )
    return rows


def training_facts(method: str, manifest: Manifest, config: CurateConfig, picks: SavedSelection) -> TrainingFacts:
    """One training: what it was of, its steps and its losses."""
    facts = manifest.facts
    return TrainingFacts(
        method=method,
        sentences=facts["sentences"],
        tokens_per_epoch=facts["tokens_per_epoch"],
        epochs=facts["steps"] // facts["steps_per_epoch"],
        steps=facts["steps"],
        steps_kept=steps_kept(manifest),
        seconds=manifest.seconds,
        losses=facts["losses"],
        held_out_losses=facts.get("held_out_losses", []),
        tokens_chosen=None if config.finetune.model is None else sum(picks.tokens),
    )


def steps_kept(trained: Manifest) -> int:
    """Optimiser steps behind the weights; models of before there was early stopping have all steps' weights."""
    return trained.facts.get("steps_kept", trained.facts["steps"])


def completions(store: Store, generations: Sequence[str], chosen: str) -> list[Completion]:
    """The first prompts, and what each model made of them."""
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


def costs(store: Store, keys: RunKeys) -> list[StepCost]:
    """What every step of a run cost when it was computed."""
    sources = store.get("training", keys.trained).sources  # another model may have been trained than chose
    models = {keys.model, *(name.removeprefix("model/") for name in sources if name.startswith("model/"))}
    steps = [
        ("read the corpus", "corpus", [keys.corpus]),
        ("look for overlap", "overlap", [keys.overlap]),
        ("convert the model", "model", sorted(models)),
        ("embed the pool", "embeddings", keys.embeddings),
        ("read the target", "corpus", [keys.target] if keys.target else []),
        ("embed the target", "embeddings", keys.target_embeddings),
        ("sketch gradients of all layers", "gradients", keys.gradients),
        ("select", "selection", [keys.selection]),
        ("select uniformly", "selection", [keys.uniform_selection]),
        ("fine-tune", "training", [keys.trained, keys.uniform_trained]),
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


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_TEXT else text[:_SHOWN_TEXT] + " …"
