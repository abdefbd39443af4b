"""The settings of a corpus: where its rows are, and how a row becomes an example."""

from __future__ import annotations

from typing import Annotated, Literal

from fishersft.config.fields import NoCredentials, Section, described

# The settings that say what example a row holds.
OF_AN_EXAMPLE = frozenset(
    {"example", "text_field", "prompt_field", "completion_field", "messages_field", "ignore_message_keys"}
)

ExampleKind = Literal["auto", "text", "prompt-completion", "messages", "sharegpt", "alpaca", "preference", "prompt"]


class CorpusConfig(Section):
    """Where the training examples come from and how a row becomes an example."""

    path: Annotated[str | list[str], NoCredentials] = described(
        ...,
        0,
        "Path",
        "A file, glob, folder or fsspec URL, or several; package:NAME/GLOB for files that an installed "
        "Python package carries; with format huggingface a dataset's name or folder.",
    )
    format: Literal["auto", "lines", "blocks", "jsonl", "csv", "parquet", "huggingface"] = described(
        "auto",
        1,
        "Format",
        "lines: a sentence per line. blocks: a sentence per block of lines between blank lines. "
        "auto goes by the file name: .jsonl, .ndjson, .json, .csv, .tsv, .parquet; .txt, .md and the like are lines. "
        "All but Parquet may be compressed: .gz, .zst, .bz2, .xz.",
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
    example: ExampleKind = described(
        "auto",
        5,
        "Kind of example",
        "auto: found from each row's fields. text: the loss counts every token but the first. prompt-completion: the "
        "completion's. messages: a conversation through the tokenizer's chat template; the assistant's tokens. "
        "sharegpt: the same, from from/value turns. alpaca: instruction, input and output. preference: the chosen "
        "answer, the rejected one is left out. prompt: a prompt, or messages up to a user's turn, to choose which to "
        "have answered; an answer that is there is left out. `select` finds by itself that rows hold nothing else.",
    )
    text_field: str = described(
        "text", 6, "Text field", "The field that holds the text. Naming another than the default selects this kind."
    )
    prompt_field: str = described("prompt", 7, "Prompt field", "The field that holds the prompt; likewise.")
    completion_field: str = described(
        "completion", 8, "Completion field", "The field that holds the completion; likewise."
    )
    messages_field: str = described(
        "messages", 9, "Messages field", "The field that holds the list of messages; likewise."
    )
    ignore_message_keys: list[str] = described(
        [],
        10,
        "Ignored message keys",
        "Keys of messages to leave out, such as id or timestamp. A key that is neither known nor listed here is an "
        "error, because a chat template might have used it.",
    )
    chat_template: str | None = described(
        None,
        11,
        "Chat template",
        "A path to a .jinja file, or the name of one of TRL's chat templates such as qwen3; overrides the tokenizer's "
        "own.",
    )
    on_bad_row: Literal["stop", "skip"] = described(
        "stop",
        12,
        "On a bad row",
        "stop: a row that is no example, or a line that is no JSON, ends the run with an error. skip: such rows are "
        "left out and counted, and the first 20 are listed.",
    )
    max_rows: int | None = described(
        None,
        13,
        "Most rows",
        "Use a seeded uniform sample of at most this many distinct examples; empty: all.",
        ge=3,
    )
    held_out_fraction: float = described(
        0.1,
        14,
        "Held-out share",
        "The share of distinct examples set aside for evaluation, chosen by content: an example and its "
        "exact duplicates are never on both sides. 0 where nothing is measured, or on evaluation.corpus; prompts "
        "without answers have 0 as their default.",
        ge=0,
        lt=1,
    )
