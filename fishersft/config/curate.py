"""The settings of a curation run: the same model serves YAML files, the command line and Prefect's run form."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import model_validator

from fishersft.config.approval import ApprovalConfig
from fishersft.config.corpus import CorpusConfig
from fishersft.config.evaluation import EvaluationConfig
from fishersft.config.fields import NoCredentials, Section, described
from fishersft.config.finetune import FinetuneConfig
from fishersft.config.model import EmbeddingConfig, ModelConfig
from fishersft.config.selection import SelectionConfig


class CurateConfig(Section):
    """One curation run: choose the most informative part of a corpus and measure what it is worth."""

    # Positions are ten apart, so that a comparison's own settings come where they belong in its run form.

    name: str = described(
        "curation",
        0,
        "Name",
        "Names the run: lower-case letters, digits and dashes.",
        pattern=r"^[a-z0-9][a-z0-9-]*$",
    )
    store: Annotated[str, NoCredentials] = described(
        "store", 10, "Store", "Where artifacts are cached: a folder or an s3:// URL.", min_length=1
    )
    output: Annotated[str, NoCredentials] = described(
        "output",
        20,
        "Output",
        "Where the curated dataset, the model and the report go: a folder or s3:// URL.",
        min_length=1,
    )
    corpus: CorpusConfig = described(..., 30, "Corpus", "The pool to choose from.")
    model: ModelConfig = described(ModelConfig(), 40, "Model", "The model to choose for.")
    selection: SelectionConfig = described(SelectionConfig(), 50, "Selection", "The budget and the criterion.")
    approval: ApprovalConfig = described(
        ApprovalConfig(), 60, "Approval", "Of a curation run: whether somebody looks at the choice before training."
    )
    finetune: FinetuneConfig = described(FinetuneConfig(), 70, "Fine-tuning", "Training on what was chosen.")
    evaluation: EvaluationConfig = described(EvaluationConfig(), 80, "Evaluation", "How the outcome is measured.")
    embedding: EmbeddingConfig = described(EmbeddingConfig(), 90, "Embedding", "Shards and batches.")
    device: str | None = described(None, 100, "Device", "cpu, cuda or cuda:N; empty: a GPU if there is one.")
    seed: int = described(0, 110, "Seed", "Of sampling, the held-out split, training and generating.", ge=0)

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
