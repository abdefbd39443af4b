"""Choosing rows of a comparison by their prompts alone, as if nobody had answered them yet."""

from __future__ import annotations

from typing import Any

import numpy as np

from fishersft.config import CorpusConfig
from fishersft.config.compare import CompareConfig, MethodConfig
from fishersft.data.examples import Conversation, Example, TextExample
from fishersft.data.formats import example_of
from fishersft.data.readers import Row
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.numerics import Blocks
from fishersft.steps.chosen_from import ChosenFrom
from fishersft.steps.corpus import load_index, shard_examples, shard_rows
from fishersft.steps.outcome import OnProgress, Outcome
from fishersft.steps.picks import load_picks
from fishersft.steps.saved_picks import save_picks
from fishersft.steps.selection import select_informative


def check_prompts(store: Store, config: CompareConfig, corpus: str) -> None:
    """Looks at every row of the pool, where a method chooses by prompts.

    Raises:
        InputError: a row has no prompt, or does not end with its answer, so that what is trained on is not what was
            chosen to be answered.
    """
    if not config.chooses_by_prompts:
        return
    index, as_prompts = load_index(store, corpus), config.prompted().corpus
    for shard in index.shards:
        pairs = zip(shard_rows(store, shard), shard_examples(store, config.corpus, shard), strict=True)
        for number, (data, example) in enumerate(pairs):
            row = Row(data, *index.source_of(shard, number))
            if not _answers_a_prompt(row, example, as_prompts):
                raise InputError(
                    f"{row.place}: a method chooses by prompts, and this row is no prompt with its answer; give every "
                    "row a prompt and a completion, or messages that end with a turn of the assistant"
                )


def select_by_prompts(
    store: Store,
    config: CompareConfig,
    method: MethodConfig,
    budget: int,
    known: ChosenFrom,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """What the criterion chooses of the prompts, as a selection of the answered rows: an artifact of kind "selection".

    Its tokens and gains are those of the answers, as other methods' are; the choice itself has seen none of them.

    Args:
        budget: in examples.
        known: with the embeddings of the prompts.
    """
    chosen = select_informative(store, config.choosing(method, budget), known.corpus, known.prompts, (), on_progress)

    def pick(_: Blocks) -> tuple[np.ndarray, dict[str, Any]]:
        shards, picks = load_index(store, known.corpus).shards, load_picks(store, chosen.key)
        sizes = [store.get("embeddings", key).facts["sentences"] for key in known.prompts]
        first = dict(zip(shards, np.cumsum([0, *sizes]).tolist(), strict=False))
        places = [first[shard] + row for shard, row in zip(picks.shards, picks.rows, strict=True)]
        return np.array(places, dtype=np.int64), {"exhausted": chosen.facts["exhausted"]}

    params = {"method": method.method, "by": "prompts"}
    inputs, sources = {"chosen": chosen.key}, [f"selection/{chosen.key}"]
    return save_picks(store, config, known.corpus, known.embeddings, params, pick, inputs, sources)


def _answers_a_prompt(row: Row, example: Example, as_prompts: CorpusConfig) -> bool:
    if isinstance(example, TextExample):
        return False
    if isinstance(example, Conversation) and example.messages[-1]["role"] != "assistant":
        return False
    return example_of(row, as_prompts) is not None
