"""The settings of a curation run: the same model serves YAML files, the command line and Prefect's run form."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import model_validator

from fishersft.config.corpus import CorpusConfig
from fishersft.config.evaluation import EvaluationConfig
from fishersft.config.fields import NoCredentials, Section, described
from fishersft.config.finetune import FinetuneConfig
from fishersft.config.model import EmbeddingConfig, ModelConfig
from fishersft.config.selection import SelectionConfig


class CurateConfig(Section):
    """One curation run: choose the most informative part of a corpus and measure what it is worth."""

    name: str = described(
        "curation",
        0,
        "Name",
        "Names the run: lower-case letters, digits and dashes.",
        pattern=r"^[a-z0-9][a-z0-9-]*$",
    )
    corpus: CorpusConfig = described(..., 1, "Corpus", "The pool to choose from.")
    model: ModelConfig = described(ModelConfig(), 2, "Model", "The model to choose for.")
    selection: SelectionConfig = described(SelectionConfig(), 3, "Selection", "The budget and the criterion.")
    embedding: EmbeddingConfig = described(EmbeddingConfig(), 4, "Embedding", "Shards and batches.")
    finetune: FinetuneConfig = described(FinetuneConfig(), 5, "Fine-tuning", "Training on what was chosen.")
    evaluation: EvaluationConfig = described(EvaluationConfig(), 6, "Evaluation", "How the outcome is measured.")
    store: Annotated[str, NoCredentials] = described(
        "store", 7, "Store", "Where artifacts are cached: a folder or an s3:// URL.", min_length=1
    )
    output: Annotated[str, NoCredentials] = described(
        "output",
        8,
        "Output",
        "Where the curated dataset, the model and the report go: a folder or s3:// URL.",
        min_length=1,
    )
    device: str | None = described(None, 9, "Device", "cpu, cuda or cuda:N; empty: a GPU if there is one.")
    seed: int = described(0, 10, "Seed", "Of sampling, the held-out split, training and generating.", ge=0)

    @model_validator(mode="after")
    def _workers_find_the_store(self) -> CurateConfig:
        relative = "://" not in self.store and not os.path.isabs(self.store)
        if self.embedding.deployment is not None and relative:
            raise ValueError(
                f"embedding.deployment is {self.embedding.deployment}, whose workers would each look for the store "
                f"{self.store!r} in a folder of their own; name a URL such as s3://bucket/prefix, or the full path of "
                "a folder that all of them share"
            )
        return self
