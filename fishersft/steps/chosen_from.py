"""What the methods of a comparison choose from and go by, as keys of artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fishersft.config.compare import Method
from fishersft.steps.towards_target import Evidence


@dataclass(frozen=True)
class ChosenFrom:
    """The keys of a comparison's pool and target, and of what was computed of both for its methods.

    Attributes:
        corpus: the pool's corpus artifact.
        embeddings: the pool's, a shard each.
        target_corpus: the target's corpus artifact; None where there is no target.
        target: the embeddings of the target's shards; without a target none.
        asked: of `ask_about_shard`, a shard each, for "ask-llm".
        gradients, target_gradients: of `sketch_shard`, for "gradient-matching" of all layers.
        prompts: the embeddings of the pool's rows as prompts without answers, a shard each, for methods by prompts.
        evidence: what "rds+", "cross-entropy-difference", "less" and "less-round-robin" go by.
    """

    corpus: str
    embeddings: list[str]
    target_corpus: str | None = None
    target: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    gradients: list[str] = field(default_factory=list)
    target_gradients: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    evidence: Mapping[Method, Evidence] = field(default_factory=dict)
