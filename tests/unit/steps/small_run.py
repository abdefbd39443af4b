"""The steps of a curation run on a small corpus, one after another, and its settings changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.steps.corpus import read_corpus
from fishersft.steps.embedding import embed_shard
from fishersft.steps.outcome import Outcome
from fishersft.steps.selection import select_informative

WORDS = [
    "shall",
    "compare",
    "thee",
    "summer",
    "lovely",
    "temperate",
    "rough",
    "winds",
    "shake",
    "darling",
    "buds",
    "lease",
    "short",
    "date",
    "heaven",
]


@dataclass
class Run:
    store: Store
    config: CurateConfig

    def embedded(self) -> tuple[Outcome, list[Outcome]]:
        corpus = read_corpus(self.store, self.config)
        return corpus, [embed_shard(self.store, self.config, shard) for shard in corpus.facts["shard_keys"]]

    def selected(self) -> tuple[Outcome, list[str], Outcome]:
        corpus, embeddings = self.embedded()
        keys = [outcome.key for outcome in embeddings]
        return corpus, keys, select_informative(self.store, self.config, corpus.key, keys)

    def changed(self, **sections: dict[str, Any]) -> Run:
        values = self.config.model_dump()
        for name, settings in sections.items():
            values[name] = {**(values[name] or {}), **settings}
        return Run(self.store, CurateConfig.model_validate(values))
