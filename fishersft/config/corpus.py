"""The settings of a corpus: where its rows are, and how a row becomes an example."""

from __future__ import annotations

from typing import Annotated, Literal

from fishersft.config.fields import NoCredentials, Section, described


class CorpusConfig(Section):
    """Where the training examples come from and how a row becomes an example."""

    path: Annotated[str | list[str], NoCredentials] = described(
        ...,
        0,
        "Path",
        "A file, glob, folder or fsspec URL, or several; package:NAME/GLOB for files that an installed "
        "Python package carries; with format huggingface a dataset's name or folder.",
    )
    format: Literal["auto", "lines", "blocks", "jsonl", "parquet", "huggingface"] = described(
        "auto",
        1,
        "Format",
        "lines: a sentence per line. blocks: a sentence per block of lines between blank lines. "
        "auto goes by the file name: .jsonl, .json, .parquet; .txt, .md and the like are lines.",
    )
    pattern: str | None = described(
        None,
        2,
        "Pattern",
        "For lines and blocks: a regular expression that a row must match from its start to its end; its "
        "named groups become the row's fields. Rows that do not match are left out and counted.",
    )
    subset: str | None = described(
        None, 3, "Subset", "For huggingface: the dataset's configuration name, if it has several."
    )
    split: str = described("train", 4, "Split", "For huggingface: the split to read.")
    example: Literal["text", "prompt-completion", "messages"] = described(
        "text",
        5,
        "Kind of example",
        "text: the loss counts every token but the first. prompt-completion: the completion's. "
        "messages: a conversation through the tokenizer's chat template; the assistant's tokens.",
    )
    text_field: str = described("text", 6, "Text field", "The field that holds the text.")
    prompt_field: str = described("prompt", 7, "Prompt field", "The field that holds the prompt.")
    completion_field: str = described("completion", 8, "Completion field", "The field that holds the completion.")
    messages_field: str = described(
        "messages", 9, "Messages field", "The field that holds the list of {role, content} messages."
    )
    max_rows: int | None = described(
        None,
        10,
        "Most rows",
        "Use a seeded uniform sample of at most this many distinct examples; empty: all.",
        ge=3,
    )
    held_out_fraction: float = described(
        0.1,
        11,
        "Held-out share",
        "The share of distinct examples set aside for evaluation, chosen by content: an example and its "
        "exact duplicates are never on both sides.",
        gt=0,
        lt=1,
    )
