"""The one way to name an artifact in records, tags and manifests: "kind/key", checked wherever it is read."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

# What is made from another kind comes after it.
KINDS = (
    "shard",
    "corpus",
    "listing",
    "overlap",
    "model",
    "tokens",
    "warm-up",
    "embeddings",
    "gradients",
    "features",
    "scores",
    "selection",
    "training",
    "fine-tuned-model",
    "evaluation",
    "harness",
    "generations",
    "verdicts",
    "judgements",
    "report",
    "comparison",
    "trial",
    "simulation",
)
KEY_PATTERN = "[0-9a-f]{64}"

ArtifactName = Annotated[str, StringConstraints(pattern=rf"^({'|'.join(KINDS)})/{KEY_PATTERN}$")]
