"""Choosing by any method of a comparison: a criterion of this project, a uniform draw, or another way to choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from fishersft import baselines
from fishersft.config import CurateConfig
from fishersft.config.compare import CRITERIA, DRAWN, LARGE_BATCH, CompareConfig, MethodConfig
from fishersft.data.block_files import EMBEDDINGS_FILE, read_nll
from fishersft.data.examples import as_text
from fishersft.data.store import Draft, Store
from fishersft.numerics import Blocks
from fishersft.numerics.greedy import BudgetUnit
from fishersft.steps.by_prompts import select_by_prompts
from fishersft.steps.chosen_from import ChosenFrom
from fishersft.steps.corpus import load_index, shard_examples
from fishersft.steps.embedding import examples_digest
from fishersft.steps.models import device_of, loaded_model, loaded_tokeniser, prepare_model
from fishersft.steps.outcome import OnProgress, Outcome, find_or_make
from fishersft.steps.row_scores import SCORES_FILE, find_near_copies, log_ratios, read_scores, values_of
from fishersft.steps.saved_picks import save_picks
from fishersft.steps.selection import select_informative
from fishersft.steps.target_training import Target, add_target, repeat_target
from fishersft.steps.towards_target import pick_towards_target

ASKING_VERSION = 1
_BY_TEXT = ("dedup", "dsir")


def select_by(
    store: Store,
    config: CompareConfig,
    method: MethodConfig,
    budget: int,
    seed: int,
    known: ChosenFrom,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """What a method chooses of the pool: an artifact of kind "selection".

    Args:
        budget: in what `selection.budget_unit` counts.
        seed: of methods that draw.
        known: what it chooses from.

    Raises:
        InputError: the method cannot choose, such as where a row lacks its column.
    """
    if method.trains_on_target:
        return _with_target(store, config, method, budget, seed, known, on_progress)
    if method.method == "large-batch":
        unit = config.selection.budget_unit
        return draw_uniformly(store, config, LARGE_BATCH * budget, unit, seed, known.corpus, known.embeddings)
    if method.by == "prompts":
        return select_by_prompts(store, config, method, budget, known, on_progress)
    if method.method in CRITERIA:
        return _by_criterion(store, config.choosing(method, budget), known, on_progress)
    unit, lam = config.selection.budget_unit, method.regularization or config.selection.regularization
    seed = seed if method.method in DRAWN else 0
    keys, evidence = _score_keys(store, config, method, known), known.evidence.get(method.method)

    def pick(blocks: Blocks) -> tuple[np.ndarray, dict[str, Any]]:
        scores = _scores(store, method, known, keys)
        if evidence is not None:
            lengths, settings = blocks.lengths.numpy(), {"budget_unit": unit, "seed": seed}
            picks = pick_towards_target(store, method.method, evidence, scores, lengths, budget, **settings)
        else:
            picks = _picks(method, blocks, scores, budget, unit, seed, lam, config.device)
        return picks, {"exhausted": len(picks) == _choosable(method, blocks.lengths.numpy(), scores)}

    params: dict[str, Any] = {"method": method.method, "budget": budget, "budget_unit": unit, "seed": seed}
    if method.method == "sentence-design":
        params["sentence_lambda"] = lam
    params |= {name: value for name, value in (("column", method.column), ("keep", method.keep)) if value is not None}
    further: dict[str, Any] = {"scores": keys} if method.method in _BY_TEXT else {}
    sources = [f"scores/{key}" for key in keys]
    if evidence is not None:
        further, sources = evidence.inputs(), evidence.sources(method.method)
    return save_picks(store, config, known.corpus, known.embeddings, params, pick, further, sources)


def _with_target(
    store: Store,
    config: CompareConfig,
    method: MethodConfig,
    budget: int,
    seed: int,
    known: ChosenFrom,
    on_progress: OnProgress | None,
) -> Outcome:
    """The target alone, or beside what a method chooses for the rest of the budget."""
    assert known.target_corpus is not None, "the config is refused without a target"
    target = Target(known.target_corpus, known.target)
    if method.method == "target-alone":
        return repeat_target(store, config, budget, seed, target)
    by_itself, rest = method.model_copy(update={"with_target": False}), budget - target.size(store, config)
    chosen = select_by(store, config, by_itself, rest, seed, known, on_progress)
    return add_target(store, config, chosen, known.corpus, known.embeddings, target)


def _by_criterion(store: Store, settings: CurateConfig, known: ChosenFrom, on_progress: OnProgress | None) -> Outcome:
    """V-optimal aims at the pool where there is no target."""
    aim = known.target_gradients if settings.matches_all_layers else known.target
    if settings.selection.criterion == "v-optimal":
        aim = known.target or known.embeddings
    elif settings.target is None:
        aim = []
    gradients = known.gradients if settings.matches_all_layers else []
    return select_informative(store, settings, known.corpus, known.embeddings, aim, on_progress, gradients=gradients)


def draw_uniformly(
    store: Store,
    config: CompareConfig,
    budget: int,
    unit: BudgetUnit,
    seed: int,
    corpus: str,
    embeddings: Sequence[str],
) -> Outcome:
    """A uniform choice of so many sentences or tokens: an artifact of kind "selection"."""
    params = {"method": "uniform", "budget": budget, "budget_unit": unit, "seed": seed}

    def pick(blocks: Blocks) -> tuple[np.ndarray, dict[str, Any]]:
        return baselines.uniform(blocks.lengths.numpy(), budget, budget_unit=unit, seed=seed), {}

    return save_picks(store, config, corpus, embeddings, params, pick)


def ask_about_shard(store: Store, config: CurateConfig, shard: str, on_progress: OnProgress | None = None) -> Outcome:
    """How probably the model calls each sentence of a shard worth training on: an artifact of kind "scores"."""
    model = prepare_model(store, config.model)
    examples = shard_examples(store, config.corpus, shard)

    def write(draft: Draft) -> None:
        from fishersft.models.asking import yes_probabilities

        loaded = loaded_model(model, config.model.dtype, device_of(config), config.model.trust_remote_code)
        tokeniser = loaded_tokeniser(model, model.context, config.model.trust_remote_code)
        scores = yes_probabilities(
            loaded,
            tokeniser.tokenizer,
            [as_text(example) for example in examples],
            max_tokens=model.context,
            batch_tokens=config.embedding.batch_tokens,
            on_progress=on_progress,
        )
        pq.write_table(pa.table({"yes": pa.array(scores, pa.float64())}), draft.folder / SCORES_FILE)

    inputs = {"model": model.fingerprint, "examples": examples_digest(examples)}
    sources = [f"shard/{shard}", *model.sources]
    return find_or_make(store, "scores", ASKING_VERSION, {"dtype": config.model.dtype}, inputs, write, sources)


def _score_keys(store: Store, config: CompareConfig, method: MethodConfig, known: ChosenFrom) -> list[str]:
    """The keys of the artifacts of kind "scores" that a method goes by; computed here where they are of texts alone."""
    if method.method == "dedup":
        return [find_near_copies(store, config, known.corpus).key]
    if method.method == "dsir":
        assert known.target_corpus is not None, "the config is refused without a target"
        return [log_ratios(store, config, known.corpus, known.target_corpus).key]
    return known.asked if method.method == "ask-llm" else []


def _scores(store: Store, method: MethodConfig, known: ChosenFrom, keys: Sequence[str]) -> np.ndarray:
    """What a method goes by, where that is not in the token blocks, a value a sentence; empty for the others."""
    if keys:
        return read_scores(store, keys)
    if method.column is not None:
        return values_of(store, method, load_index(store, known.corpus))
    if method.method.startswith("perplexity") or method.method == "cross-entropy-difference":
        return np.concatenate([_nats_per_token(store, key) for key in known.embeddings])
    return np.empty(0)


def _choosable(method: MethodConfig, lengths: np.ndarray, scores: np.ndarray) -> int:
    """How many sentences of the pool a method may choose."""
    if method.method == "dedup":
        return len(np.unique(scores[lengths > 0]))
    return int(((lengths > 0) & scores).sum() if method.method == "perfect-filter" else (lengths > 0).sum())


def _nats_per_token(store: Store, embeddings: str) -> np.ndarray:
    """(sentences,), the mean negative log-likelihood of each; 0 without a token."""
    lengths = torch.tensor(store.get("embeddings", embeddings).facts["lengths"], dtype=torch.int64)
    nll = read_nll(store.fetch("embeddings", embeddings) / EMBEDDINGS_FILE)
    sums = torch.zeros(len(lengths), dtype=torch.float64)
    sums.index_add_(0, torch.repeat_interleave(torch.arange(len(lengths)), lengths), nll.double())
    return (sums / lengths.clamp_min(1)).numpy()


def _picks(
    method: MethodConfig,
    blocks: Blocks,
    scores: np.ndarray,
    budget: int,
    unit: BudgetUnit,
    seed: int,
    regularization: float,
    device: str | None,
) -> np.ndarray:
    """The places in the pool that a method other than a criterion chooses, in its order."""
    lengths = blocks.lengths.numpy()
    settings: dict[str, Any] = {"budget_unit": unit, "seed": seed}
    by_values: dict[str, Callable[..., np.ndarray]] = {
        "ask-llm": baselines.ask_llm,
        "perplexity-low": partial(baselines.perplexity, part="low"),
        "perplexity-middle": partial(baselines.perplexity, part="middle"),
        "perplexity-high": partial(baselines.perplexity, part="high"),
        "stratified": baselines.stratified,
        "balanced": baselines.balanced,
        "dedup": baselines.deduplicated,
        "dsir": baselines.dsir,
        "perfect-filter": baselines.perfect_filter,
    }
    by_vectors: dict[str, Callable[..., np.ndarray]] = {
        "sentence-design": partial(baselines.sentence_d_optimal, regularization=regularization, device=device),
        "density": baselines.density,
        "clustering": baselines.clustering,
        "facility-location": baselines.facility_location,
        "stratified": baselines.clustering,
    }
    if method.method == "longest":
        return baselines.longest(lengths, budget, **settings)
    if len(scores):
        return by_values[method.method](scores, lengths, budget, **settings)
    return by_vectors[method.method](baselines.mean_embeddings(blocks), lengths, budget, **settings)
