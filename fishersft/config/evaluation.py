"""The settings of measuring what a choice was worth."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from fishersft.config.corpus import CorpusConfig
from fishersft.config.fields import Section, described
from fishersft.config.judging import JudgingConfig


class EvaluationConfig(Section):
    """How base and fine-tuned models are compared."""

    sentences: int = described(200, 0, "Held-out sentences", "At most this many for the perplexity.", ge=2)
    prompts: int = described(32, 1, "Prompts", "How many held-out prompts are completed and judged.", ge=2)
    prompt_tokens: int = described(
        12, 2, "Prompt tokens", "For plain text: how many tokens of a held-out sentence are the prompt.", ge=1
    )
    new_tokens: int = described(24, 3, "New tokens", "At most this many tokens a completion.", ge=1)
    judging: JudgingConfig = described(
        JudgingConfig(), 4, "Judging", "Who compares the completions, and by which question."
    )
    temperature: float = described(
        0.0,
        5,
        "Temperature",
        "Of completions: 0 takes the likeliest token each time, 1 draws from the model's own probabilities.",
        ge=0,
        allow_inf_nan=False,
    )
    top_p: float = described(
        1.0,
        6,
        "Top p",
        "With a temperature: draw only from the likeliest tokens that together have this probability. 1: from all.",
        gt=0,
        le=1,
    )
    overlap_words: int = described(
        13,
        7,
        "Words of an overlap",
        "A held-out example overlaps with the pool where both have as many words in a row; one with fewer words where "
        "all are the same. Case and punctuation do not count.",
        ge=1,
    )
    on_overlap: Literal["report", "leave out"] = described(
        "report",
        8,
        "On overlap",
        "report: count held-out examples that overlap with the pool, and warn. leave out: do not evaluate on them.",
    )
    harness_tasks: list[str] = described(
        [],
        9,
        "Harness tasks",
        "Tasks of lm-evaluation-harness, such as [arc_easy, hellaswag], on which base and fine-tuned models are "
        "measured too; they need `pip install lm_eval`.",
    )
    corpus: CorpusConfig | None = described(
        None,
        10,
        "Measure on",
        "Other examples to measure on, all of them, with the settings that `corpus` has; the corpus's own "
        "held-out share is then not used. Empty: that share.",
    )

    macro_column: str | None = described(
        None,
        11,
        "Macro column",
        "Of a comparison: a column of the examples that are measured on, such as task. The outcome is then the mean "
        "over its values of their nats a token, so that a rare kind counts as much as a common one. Empty: the mean "
        "over all tokens.",
    )
    cluster_column: str | None = described(
        None,
        12,
        "Cluster column",
        "Of a comparison: a column of the examples that are measured on, such as play or template, if examples of one "
        "value are alike. Intervals are then over its values, not over sentences. Empty: every sentence by itself.",
    )

    @model_validator(mode="after")
    def _groups_have_several_clusters(self) -> EvaluationConfig:
        if self.macro_column is not None and self.macro_column == self.cluster_column:
            raise ValueError(
                f"macro_column and cluster_column are both {self.macro_column!r}, but an interval needs several "
                "clusters in each group; leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _top_p_is_of_a_sample(self) -> EvaluationConfig:
        if self.top_p < 1 and self.temperature == 0:
            raise ValueError(
                f"top_p {self.top_p} is for drawing tokens, but temperature 0 takes the likeliest; give a temperature, "
                "or leave top_p out"
            )
        return self
