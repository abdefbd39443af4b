"""The experiment on frozen features as cached steps: features of texts, and the outcomes of one split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from fishersft.config.frozen_features import FrozenFeaturesConfig
from fishersft.data.keys import digest_of
from fishersft.data.store import Draft, Store
from fishersft.experiments.frozen_split import HeadOutcome, split_outcomes
from fishersft.experiments.label_choice import Method
from fishersft.experiments.labelled_texts import LabelledTexts, labelled_texts
from fishersft.numerics.threads import one_blas_thread
from fishersft.steps.models import loaded_model, loaded_tokeniser, most_tokens, prepare_model
from fishersft.steps.outcome import OnProgress, Outcome, find_or_make

FEATURES_VERSION = 1
SPLIT_VERSION = 1
_PART = 250  # texts an artifact: what an interrupted run has to embed again
_FEATURES = "features.safetensors"
_OUTCOMES = "outcomes.parquet"


def texts_of_config(config: FrozenFeaturesConfig) -> LabelledTexts:
    """The sample of labelled texts.

    Raises:
        InputError: as `labelled_texts`.
    """
    return labelled_texts(Path(config.texts), config.fewest, config.most, config.seed)


def embed_texts(
    store: Store, config: FrozenFeaturesConfig, texts: Sequence[str], bar: Callable[[str], OnProgress]
) -> list[Outcome]:
    """The features of texts, 250 an artifact of kind "features".

    Args:
        bar: gives what is told the progress of a part, in tokens, for its description.
    """
    from fishersft.models.answer_positions import answer_states, questions

    model, trusted = prepare_model(store, config.model), config.model.trust_remote_code
    tokenizer = loaded_tokeniser(model, model.context, trusted).tokenizer
    prompts = questions(tokenizer, texts, config.question, most_tokens(model, config.model))
    outcomes = []
    for begin in range(0, len(prompts), _PART):
        part = prompts[begin : begin + _PART]
        told = bar(f"embedding texts {begin + 1} to {begin + len(part)} of {len(prompts)}")

        def write(draft: Draft, part: Sequence[Any] = part, told: OnProgress = told) -> None:
            loaded = loaded_model(model, config.model.dtype, None, trusted)
            save_file({"features": answer_states(loaded, part, None, told).numpy()}, draft.folder / _FEATURES)

        params = {"of": "answer positions", "dtype": config.model.dtype}
        inputs = {"model": model.fingerprint, "tokens": digest_of([prompt.input_ids for prompt in part])}
        outcomes.append(find_or_make(store, "features", FEATURES_VERSION, params, inputs, write, model.sources))
    return outcomes


def run_split(
    store: Store, config: FrozenFeaturesConfig, features: Sequence[str], labels: Sequence[int], classes: int, seed: int
) -> Outcome:
    """What every method reaches on one split: an artifact of kind "trial".

    Args:
        features: the keys of the texts' features.
        labels: of the texts, numbers below `classes`.
        seed: of the split.
    """
    params: dict[str, Any] = {
        "of": "frozen features",
        "methods": list(get_args(Method)),
        "classes": classes,
        "seed": seed,
        **config.design._asdict(),
    }

    def write(draft: Draft) -> None:
        found = np.concatenate([load_file(store.fetch("features", key) / _FEATURES)["features"] for key in features])
        with one_blas_thread():
            rows = list(split_outcomes(found.astype(np.float64), np.array(labels), classes, config.design, seed))
        columns = {name: [getattr(row, name) for row in rows] for name in HeadOutcome._fields}
        pq.write_table(pa.table(columns), draft.folder / _OUTCOMES)

    inputs = {"features": list(features), "labels": digest_of(list(labels))}
    sources = [f"features/{key}" for key in features]
    return find_or_make(store, "trial", SPLIT_VERSION, params, inputs, write, sources)


def load_split(store: Store, key: str) -> list[HeadOutcome]:
    """What every method reached on a split."""
    return [HeadOutcome(**row) for row in pq.read_table(store.fetch("trial", key) / _OUTCOMES).to_pylist()]
