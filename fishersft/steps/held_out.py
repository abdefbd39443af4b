"""The held-out examples that a model is evaluated on, and what they share with the pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fishersft.config import CorpusConfig, CurateConfig
from fishersft.data.examples import Example
from fishersft.data.overlap import find_overlap
from fishersft.data.store import Draft, Store
from fishersft.errors import InputError
from fishersft.steps.conditions import values_in
from fishersft.steps.corpus import (
    evaluated_config,
    example_settings,
    load_index,
    read_whole_corpus,
    shard_examples,
)
from fishersft.steps.outcome import Outcome, find_or_make

OVERLAP_VERSION = 1
_TENTH = 10


@dataclass(frozen=True)
class HeldOut:
    """The examples that are evaluated on, in an order that does not follow the corpus: by digest.

    `places` are theirs among the rows of the shards that they come from; `sources` are the artifacts that they come
    from, as "kind/key".
    """

    examples: list[Example]
    places: list[int]
    sources: list[str]


@dataclass(frozen=True)
class _MeasuredOn:
    """The shards whose examples are measured on, and the corpus artifact that has them, as "corpus/key"."""

    shards: list[str]
    source: str

    @property
    def corpus(self) -> str:
        return self.source.removeprefix("corpus/")


def check_measurable(config: CurateConfig) -> None:
    """Raises InputError where no example would be left to measure a model on, or to stop early by."""
    if config.corpus.held_out_fraction:
        return
    if config.evaluation.corpus is None:
        raise InputError(
            "corpus.held_out_fraction 0 leaves nothing to measure the models on; raise it, or name other examples in "
            "evaluation.corpus"
        )
    if config.finetune.early_stopping is not None:
        raise InputError(
            "finetune.early_stopping looks at the corpus's held-out examples, and corpus.held_out_fraction is 0; raise "
            "it, or leave early_stopping out"
        )


def refuse_columns(config: CurateConfig) -> None:
    """Raises InputError where a curation run is told to measure by a column, which only comparisons do."""
    for name in ("macro_column", "cluster_column"):
        if getattr(config.evaluation, name) is not None:
            raise InputError(f"evaluation.{name} is for `fishersft compare`; leave it out of a curation run")


def look_for_overlap(store: Store, config: CurateConfig, corpus: str) -> Outcome:
    """Which held-out examples share words with the pool, see `find_overlap`: an artifact of kind "overlap".

    Its table says of each row of the held-out shard whether it does; its facts are the number of words, and how many
    examples of either side overlap.
    """
    index, words = load_index(store, corpus), config.evaluation.overlap_words
    measured = _measured_on(store, config, corpus)

    def write(draft: Draft) -> None:
        held_out = _examples(store, config, measured)
        pool = (shard_examples(store, config.corpus, shard) for shard in index.shards)
        overlap = find_overlap(held_out, pool, words)
        pq.write_table(pa.table({"overlaps": pa.array(overlap.held_out)}), draft.folder / "overlap.parquet")
        draft.facts.update(words=words, held_out=int(overlap.held_out.sum()), pool=overlap.pool)

    params = {"words": words, **example_settings(config.corpus)}
    inputs: dict[str, object] = {"pool": sorted(index.shards), "held_out": index.held_out}
    if config.evaluation.corpus is not None:
        params["held_out_fields"] = example_settings(config.evaluation.corpus)
        inputs["held_out"] = measured.shards
    return find_or_make(store, "overlap", OVERLAP_VERSION, params, inputs, write, [f"corpus/{corpus}", measured.source])


def read_evaluated(store: Store, config: CurateConfig) -> Outcome:
    """Reads `evaluation.corpus`, once in a process, so that all models of a run see the same.

    Raises:
        InputError: as `read_whole_corpus` does.
    """
    assert config.evaluation.corpus is not None
    read_by = CurateConfig(corpus=config.evaluation.corpus, seed=config.seed, embedding=config.embedding)
    return _read_once(store, read_by.model_dump_json())


def evaluated_examples(store: Store, config: CurateConfig, corpus: str) -> HeldOut:
    """The held-out examples of a corpus, or those of `evaluation.corpus`, that outcomes are measured on.

    Without those that overlap with the pool, where the config leaves them out, and without those that early stopping
    looks at.

    Raises:
        InputError: fewer than 2 would be left, and an interval needs as many.
    """
    candidates = _candidates(store, config, corpus)
    kept = len(candidates.examples) - _spared(config, len(candidates.examples))
    return HeldOut(candidates.examples[:kept], candidates.places[:kept], candidates.sources)


def evaluated_values(
    store: Store, config: CurateConfig, corpus: str, column: str, setting: str, places: Sequence[int]
) -> list[str]:
    """The values of a column, as text, in rows that are measured on.

    Args:
        corpus: the corpus artifact's key.
        setting: that names the column, for the error.
        places: of the rows, as `HeldOut` has them.

    Raises:
        InputError: a row of the examples to measure on lacks the column, or holds null there, whether it is one of
            these or not.
    """
    measured = _measured_on(store, config, corpus)
    values = values_in(store, load_index(store, measured.corpus), measured.shards, column, setting)
    return [values[place] for place in places]


def stopping_examples(store: Store, config: CurateConfig, corpus: str) -> list[Example]:
    """The held-out examples that early stopping looks at; none without it.

    What says when a training ends would flatter it if it measured the outcome, too. So they are as many as are measured
    where so many can be spared, else a tenth; or where `evaluation.corpus` is measured, the corpus's own held-out ones.

    Args:
        corpus: the corpus artifact's key.
    """
    if config.finetune.early_stopping is None:
        return []
    if config.evaluation.corpus is not None:
        own = shard_examples(store, config.corpus, load_index(store, corpus).held_out)
        return sorted(own, key=lambda example: example.digest)[: config.evaluation.sentences]
    candidates = _candidates(store, config, corpus).examples
    return candidates[len(candidates) - _spared(config, len(candidates)) :]


def target_warnings(store: Store, config: CurateConfig, target: CorpusConfig | None, corpus: str) -> list[str]:
    """A warning where examples that are measured on are in the target too, which selections were made for."""
    if target is None:
        return []
    aimed_at = config.model_copy(update={"corpus": target})
    shards = read_whole_corpus(store, aimed_at, "the target").facts["shard_keys"]
    seen = {example.digest for shard in shards for example in shard_examples(store, target, shard)}
    shared = sum(example.digest in seen for example in evaluated_examples(store, config, corpus).examples)
    if not shared:
        return []
    return [
        f"{shared:,} of the examples that are measured on are in the target too, which the selection was made for: "
        "what is measured on them flatters it. Take them out of the target."
    ]


def _spared(config: CurateConfig, held_out: int) -> int:
    """How many of the held-out examples early stopping has to itself."""
    if config.finetune.early_stopping is None or config.evaluation.corpus is not None:
        return 0
    measured = config.evaluation.sentences
    return max(-(-held_out // _TENTH), min(measured, held_out - measured))


def _candidates(store: Store, config: CurateConfig, corpus: str) -> HeldOut:
    measured = _measured_on(store, config, corpus)
    examples, sources = _examples(store, config, measured), [measured.source]
    places = list(range(len(examples)))
    if config.evaluation.on_overlap == "leave out":
        overlap = look_for_overlap(store, config, corpus)
        table = pq.read_table(store.fetch("overlap", overlap.key) / "overlap.parquet")
        clean = np.flatnonzero(~table.column("overlaps").to_numpy())
        if len(clean) < 2:
            raise InputError(
                f"{len(examples) - len(clean)} of the {len(examples)} held-out examples share {overlap.facts['words']} "
                "words in a row with the pool, and without them an interval has fewer than the 2 that it needs; set "
                "evaluation.on_overlap to report, raise evaluation.overlap_words or take near copies out of the corpus"
            )
        places = clean.tolist()
        sources.append(f"overlap/{overlap.key}")
    places.sort(key=lambda place: examples[place].digest)
    return HeldOut([examples[place] for place in places], places, sources)


def _measured_on(store: Store, config: CurateConfig, corpus: str) -> _MeasuredOn:
    if config.evaluation.corpus is None:
        return _MeasuredOn([load_index(store, corpus).held_out], f"corpus/{corpus}")
    evaluated = read_evaluated(store, config)
    return _MeasuredOn(evaluated.facts["shard_keys"], f"corpus/{evaluated.key}")


def _examples(store: Store, config: CurateConfig, measured: _MeasuredOn) -> list[Example]:
    corpus = evaluated_config(config).corpus
    return [example for shard in measured.shards for example in shard_examples(store, corpus, shard)]


@lru_cache(maxsize=4)
def _read_once(store: Store, settings: str) -> Outcome:
    return read_whole_corpus(store, CurateConfig.model_validate_json(settings), "evaluation.corpus")
