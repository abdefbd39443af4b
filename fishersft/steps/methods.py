"""Choosing by any method of a comparison: a criterion of this project, a uniform draw, or another way to choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
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
from fishersft.numerics.prior import absolute_regularization
from fishersft.steps.choosing import gains_of
from fishersft.steps.conditions import Earlier
from fishersft.steps.corpus import shard_examples
from fishersft.steps.embedding import examples_digest
from fishersft.steps.models import device_of, loaded_model, loaded_tokeniser, prepare_model
from fishersft.steps.outcome import OnProgress, Outcome, find_or_make
from fishersft.steps.selection import save_selection, select_informative

BASELINE_VERSION = 1
ASKING_VERSION = 1

_Picker = Callable[[Blocks], np.ndarray]


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
    on_progress: OnProgress | None = None,
) -> Outcome:
    """What a method chooses of the pool: an artifact of kind "selection".

    Args:
        budget: in what `selection.budget_unit` counts.
        seed: of methods that draw.
        corpus, embeddings: keys, as of `select_informative`.
        target: the embeddings' keys that "v-optimal" aims at, and "gradient-matching" where the config has a target.
        asked: the keys of `ask_about_shard`, a shard each, for "ask-llm".
    """
    if method.method in CRITERIA:
        settings = config.choosing(method, budget)
        aims = method.method == "v-optimal" or settings.target is not None  # v-optimal at the pool without
        return select_informative(store, settings, corpus, embeddings, target if aims else (), on_progress)
    unit, lam = config.selection.budget_unit, method.regularization or config.selection.regularization
    seed = seed if method.method in DRAWN else 0
    scores = _scores(store, method, embeddings, asked)

    def pick(blocks: Blocks) -> np.ndarray:
        return _picks(method.method, blocks, scores, budget, unit, seed, lam, config.device)

    params: dict[str, Any] = {"method": method.method, "budget": budget, "budget_unit": unit, "seed": seed}
    if method.method == "sentence-design":
        params["sentence_lambda"] = lam
    return _save(store, config, corpus, embeddings, params, pick, [f"scores/{key}" for key in asked])


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

    def pick(blocks: Blocks) -> np.ndarray:
        return baselines.uniform(blocks.lengths.numpy(), budget, budget_unit=unit, seed=seed)

    return _save(store, config, corpus, embeddings, params, pick)


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
        pq.write_table(pa.table({"yes": pa.array(scores, pa.float64())}), draft.folder / "scores.parquet")

    inputs = {"model": model.fingerprint, "examples": examples_digest(examples)}
    sources = [f"shard/{shard}", *model.sources]
    return find_or_make(store, "scores", ASKING_VERSION, {"dtype": config.model.dtype}, inputs, write, sources)


def _save(
    store: Store,
    config: CompareConfig,
    corpus: str,
    embeddings: Sequence[str],
    params: dict[str, Any],
    pick: _Picker,
    sources: Sequence[str] = (),
) -> Outcome:
    """Saves the picks with the information gain of each beside those before it."""
    settings = config.selection
    lam_is = {"regularization": settings.regularization, "regularization_unit": settings.regularization_unit}

    def write(blocks: Blocks, earlier: Earlier, _: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        indices = pick(blocks)
        lam = absolute_regularization(blocks, settings.regularization, settings.regularization_unit)
        return {"index": indices, "gain": gains_of(blocks, indices, lam, earlier.blocks)}, {}

    return save_selection(store, config, corpus, embeddings, BASELINE_VERSION, {**params, **lam_is}, {}, write, sources)


def _scores(store: Store, method: MethodConfig, embeddings: Sequence[str], asked: Sequence[str]) -> np.ndarray:
    """What a method ranks by, where that is not in the token blocks: a number a sentence; empty for the others."""
    if method.method == "ask-llm":
        tables = [pq.read_table(store.fetch("scores", key) / "scores.parquet") for key in asked]
        return np.concatenate([table["yes"].to_numpy() for table in tables])
    if method.method.startswith("perplexity"):
        return np.concatenate([_nats_per_token(store, key) for key in embeddings])
    return np.empty(0)


def _nats_per_token(store: Store, embeddings: str) -> np.ndarray:
    """(sentences,), the mean negative log-likelihood of each; 0 without a token."""
    lengths = torch.tensor(store.get("embeddings", embeddings).facts["lengths"], dtype=torch.int64)
    nll = read_nll(store.fetch("embeddings", embeddings) / EMBEDDINGS_FILE)
    sums = torch.zeros(len(lengths), dtype=torch.float64)
    sums.index_add_(0, torch.repeat_interleave(torch.arange(len(lengths)), lengths), nll.double())
    return (sums / lengths.clamp_min(1)).numpy()


def _picks(
    method: str,
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
    ranked: dict[str, Callable[..., np.ndarray]] = {
        "ask-llm": baselines.ask_llm,
        "perplexity-low": partial(baselines.perplexity, part="low"),
        "perplexity-middle": partial(baselines.perplexity, part="middle"),
        "perplexity-high": partial(baselines.perplexity, part="high"),
    }
    by_vectors: dict[str, Callable[..., np.ndarray]] = {
        "sentence-design": partial(baselines.sentence_d_optimal, regularization=regularization, device=device),
        "density": baselines.density,
        "clustering": baselines.clustering,
        "facility-location": baselines.facility_location,
    }
    if method == "longest":
        return baselines.longest(lengths, budget, **settings)
    if method in ranked:
        return ranked[method](scores, lengths, budget, **settings)
    return by_vectors[method](baselines.mean_embeddings(blocks), lengths, budget, **settings)
