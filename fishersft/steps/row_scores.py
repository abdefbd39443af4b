"""What the methods of a comparison that need no model go by: the texts of the rows, and their columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fishersft import baselines
from fishersft.config import CorpusConfig, CurateConfig
from fishersft.config.compare import CompareConfig, MethodConfig
from fishersft.data.examples import as_text
from fishersft.data.store import Draft, Store
from fishersft.errors import InputError
from fishersft.steps.conditions import column_values
from fishersft.steps.corpus import CorpusIndex, example_settings, load_index, shard_examples
from fishersft.steps.outcome import Outcome, find_or_make

SCORES_FILE = "scores.parquet"
NEAR_COPIES_VERSION = 1
LOG_RATIOS_VERSION = 1
_NAMED_VALUES = 5


def read_scores(store: Store, keys: Sequence[str]) -> np.ndarray:
    """The one column of artifacts of kind "scores", one after another: (sentences,)."""
    tables = [pq.read_table(store.fetch("scores", key) / SCORES_FILE) for key in keys]
    return np.concatenate([table.column(0).to_numpy() for table in tables])


def find_near_copies(store: Store, config: CurateConfig, corpus: str) -> Outcome:
    """Which examples of the pool nearly repeat an earlier one, see `near_copies`: an artifact of kind "scores"."""
    shards = load_index(store, corpus).shards

    def write(draft: Draft) -> None:
        copy_of = baselines.near_copies(_texts(store, config.corpus, shards))
        pq.write_table(pa.table({"copy_of": pa.array(copy_of, pa.int64())}), draft.folder / SCORES_FILE)
        draft.facts["near_copies"] = int((copy_of != np.arange(len(copy_of))).sum())

    params = {"of": "near copies", "example": example_settings(config.corpus)}
    return find_or_make(store, "scores", NEAR_COPIES_VERSION, params, {"shards": shards}, write, [f"corpus/{corpus}"])


def log_ratios(store: Store, config: CompareConfig, corpus: str, target: str) -> Outcome:
    """How much the n-grams of each example are the target's, see `ngram_log_ratios`: an artifact of kind "scores".

    Args:
        corpus, target: the keys of the pool's and the target's corpus artifacts.
    """
    aim = config.target
    assert aim is not None, "the config is refused without a target"
    shards, of_target = load_index(store, corpus).shards, load_index(store, target).shards

    def write(draft: Draft) -> None:
        texts, wanted = _texts(store, config.corpus, shards), _texts(store, aim, of_target)
        ratios = baselines.ngram_log_ratios(texts, wanted)
        pq.write_table(pa.table({"log_ratio": pa.array(ratios, pa.float64())}), draft.folder / SCORES_FILE)

    params = {
        "of": "log ratios of n-grams",
        "example": example_settings(config.corpus),
        "target": example_settings(aim),
    }
    sources = [f"corpus/{corpus}", f"corpus/{target}"]
    inputs = {"shards": shards, "target": of_target}
    return find_or_make(store, "scores", LOG_RATIOS_VERSION, params, inputs, write, sources)


def check_columns(store: Store, config: CompareConfig, corpus: str) -> None:
    """Looks at the columns that methods go by, before anything is computed.

    Raises:
        InputError: as `values_of`.
    """
    index = load_index(store, corpus)
    for method in config.methods:
        if method.column is not None:
            values_of(store, method, index)


def values_of(store: Store, method: MethodConfig, index: CorpusIndex) -> np.ndarray:
    """What a method reads off its column for each row of the pool: its stratum, or (bool) whether it is good.

    Raises:
        InputError: a row lacks the column, or none is good.
    """
    assert method.column is not None
    values = np.array(column_values(store, index, method.column, f"column of the method {method.name}"))
    if method.method != "perfect-filter":
        return values
    good = values == method.keep
    if not good.any():
        seen = sorted(set(values.tolist()))
        shown = ", ".join(map(repr, seen[:_NAMED_VALUES])) + (", …" if len(seen) > _NAMED_VALUES else "")
        raise InputError(
            f"keep of the method {method.name} is {method.keep!r}, but in the column {method.column!r} the pool has "
            f"{shown}; name one of these"
        )
    return good


def _texts(store: Store, config: CorpusConfig, shards: Sequence[str]) -> list[str]:
    return [as_text(example) for shard in shards for example in shard_examples(store, config, shard)]
