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
from fishersft.config.compare import CRITERIA, DRAWN, CompareConfig, MethodConfig
from fishersft.data.block_files import EMBEDDINGS_FILE, read_nll
from fishersft.data.examples import as_text
from fishersft.data.store import Draft, Store
from fishersft.numerics import Blocks
from fishersft.numerics.greedy import BudgetUnit
from fishersft.steps.corpus import load_index, shard_examples
from fishersft.steps.embedding import examples_digest
from fishersft.steps.models import device_of, loaded_model, loaded_tokeniser, prepare_model
from fishersft.steps.outcome import OnProgress, Outcome, find_or_make
from fishersft.steps.row_scores import SCORES_FILE, find_near_copies, log_ratios, values_of
from fishersft.steps.saved_picks import save_picks
from fishersft.steps.selection import select_informative
from fishersft.steps.target_training import Target, add_target, repeat_target

ASKING_VERSION = 1
_BY_TEXT = ("dedup", "dsir")


def select_by(
    store: Store,
    config: CompareConfig,
    method: MethodConfig,
    budget: int,
    seed: int,
    corpus: str,
    embeddings: Sequence[str],
    target: Sequence[str],
    asked: Sequence[str] = (),
    target_corpus: str | None = None,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """What a method chooses of the pool: an artifact of kind "selection".

    Args:
        budget: in what `selection.budget_unit` counts.
        seed: of methods that draw.
        corpus, embeddings: keys, as of `select_informative`.
        target: the embeddings' keys that "v-optimal" aims at, and "gradient-matching" where the config has a target;
            also of what is trained on where that holds the target.
        asked: the keys of `ask_about_shard`, a shard each, for "ask-llm".
        target_corpus: the target's corpus artifact's key, for "dsir", "target-alone" and `with_target`.

    Raises:
        InputError: the method cannot choose, such as where a row lacks its column.
    """
    if method.trains_on_target:
        assert target_corpus is not None, "the config is refused without a target"
        sample = Target(target_corpus, list(target))
        if method.method == "target-alone":
            return repeat_target(store, config, budget, seed, sample)
        by_itself, rest = method.model_copy(update={"with_target": False}), budget - sample.size(store, config)
        of = corpus, embeddings, target, asked, target_corpus
        chosen = select_by(store, config, by_itself, rest, seed, *of, on_progress=on_progress)
        return add_target(store, config, chosen, corpus, embeddings, sample)
    if method.method in CRITERIA:
        settings = config.choosing(method, budget)
        aims = method.method == "v-optimal" or settings.selection.target is not None  # v-optimal at the pool without
        return select_informative(store, settings, corpus, embeddings, target if aims else (), on_progress)
    unit, lam = config.selection.budget_unit, method.regularization or config.selection.regularization
    seed = seed if method.method in DRAWN else 0
    keys = _score_keys(store, config, method, corpus, target_corpus, asked)

    def pick(blocks: Blocks) -> tuple[np.ndarray, dict[str, Any]]:
        known = _known(store, method, corpus, embeddings, keys)
        picks = _picks(method, blocks, known, budget, unit, seed, lam, config.device)
        return picks, {"exhausted": len(picks) == _choosable(method, blocks.lengths.numpy(), known)}

    params: dict[str, Any] = {"method": method.method, "budget": budget, "budget_unit": unit, "seed": seed}
    if method.method == "sentence-design":
        params["sentence_lambda"] = lam
    params |= {name: value for name, value in (("column", method.column), ("keep", method.keep)) if value is not None}
    further = {"scores": keys} if method.method in _BY_TEXT else {}
    sources = [f"scores/{key}" for key in keys]
    return save_picks(store, config, corpus, embeddings, params, pick, further, sources)


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


def _score_keys(
    store: Store,
    config: CompareConfig,
    method: MethodConfig,
    corpus: str,
    target_corpus: str | None,
    asked: Sequence[str],
) -> list[str]:
    """The keys of the artifacts of kind "scores" that a method goes by; computed here where they are of texts alone."""
    if method.method == "dedup":
        return [find_near_copies(store, config, corpus).key]
    if method.method == "dsir":
        assert target_corpus is not None, "the config is refused without a target"
        return [log_ratios(store, config, corpus, target_corpus).key]
    return list(asked) if method.method == "ask-llm" else []


def _known(
    store: Store, method: MethodConfig, corpus: str, embeddings: Sequence[str], scores: Sequence[str]
) -> np.ndarray:
    """What a method goes by, where that is not in the token blocks, a value a sentence; empty for the others."""
    if scores:
        tables = [pq.read_table(store.fetch("scores", key) / SCORES_FILE) for key in scores]
        return np.concatenate([table.column(0).to_numpy() for table in tables])
    if method.column is not None:
        return values_of(store, method, load_index(store, corpus))
    if method.method.startswith("perplexity"):
        return np.concatenate([_nats_per_token(store, key) for key in embeddings])
    return np.empty(0)


def _choosable(method: MethodConfig, lengths: np.ndarray, known: np.ndarray) -> int:
    """How many sentences of the pool a method may choose."""
    if method.method == "dedup":
        return len(np.unique(known[lengths > 0]))
    return int(((lengths > 0) & known).sum() if method.method == "perfect-filter" else (lengths > 0).sum())


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
    known: np.ndarray,
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
    if len(known):
        return by_values[method.method](known, lengths, budget, **settings)
    return by_vectors[method.method](baselines.mean_embeddings(blocks), lengths, budget, **settings)
