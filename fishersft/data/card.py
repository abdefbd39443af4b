"""The dataset card: how the rows were chosen, and how to load them and train on them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from fishersft.config import CorpusConfig, CurateConfig
from fishersft.data.locations import display_name

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_FOLDER = "path/to/this/folder"


@dataclass(frozen=True)
class CardFacts:
    """What the card tells about the selection; `information_gain` is in nats, `version` FisherSFT's."""

    config: CurateConfig
    pool_sentences: int
    information_gain: float
    version: str


def dataset_card(facts: CardFacts, rows: Sequence[dict[str, Any]], as_json: Sequence[str], digest: str) -> str:
    """The README.md of a curated dataset, as Markdown with YAML front matter. Names in it are hostile input.

    Args:
        facts: about the selection.
        rows: the chosen rows, as they were read.
        as_json: the Parquet columns that hold JSON strings.
        digest: the sha256 of `curated.parquet`.
    """
    corpus = facts.config.corpus
    parts = [
        f"---\n{_front_matter(facts.config.name, len(rows), digest)}---",
        f"# {facts.config.name}",
        _chosen(facts, len(rows)),
        _columns(as_json),
        "## Licence\n\nThese are rows of the corpus above, so the corpus's own licence applies to them.",
        "## Load\n\n" + _fenced("python", f"{_IMPORT}\n\n{_READ}"),
        f"## Train with TRL\n\n{_trl(corpus, rows)}",
        *_other_trainers(facts.config.name, corpus, rows),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(name: str, rows: int, digest: str) -> str:
    matter = {
        "pretty_name": name,
        # datasets 5.2 caches a folder with a card by its name and this front matter alone: without the digest,
        # load_dataset would go on giving the rows of an earlier selection.
        "dataset_info": {"config_name": "default", "description": f"sha256 of curated.parquet: {digest}"},
        "configs": [{"config_name": "default", "data_files": "curated.parquet"}],
        "size_categories": [next((size for below, size in _SIZES if rows < below), "n>1M")],
        "task_categories": ["text-generation"],
        "tags": ["fishersft", "data-selection", "supervised-fine-tuning"],
    }
    return yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)


def _chosen(facts: CardFacts, rows: int) -> str:
    config = facts.config
    paths = [config.corpus.path] if isinstance(config.corpus.path, str) else config.corpus.path
    corpus = ", ".join(_code(display_name(path)) for path in paths)
    return (
        f"{rows:,} of {facts.pool_sentences:,} sentences of {corpus}, chosen by "
        f"[FisherSFT](https://arxiv.org/abs/2505.14826) {_code(facts.version)}: greedily, {_aim(config)}.\n\n"
        "| | |\n| --- | --- |\n"
        f"| Model | {_code(display_name(config.model.path)).replace('|', chr(92) + '|')} |\n"
        f"| Budget | {config.selection.budget:,} {config.selection.budget_unit} |\n"
        f"| Criterion | {config.selection.criterion} |\n"
        f"| Regularization | {config.selection.regularization:g} ({config.selection.regularization_unit}) |\n"
        f"| Information gain | {facts.information_gain:.2f} nats |\n"
        f"| Seed | {config.seed} |"
    )


def _aim(config: CurateConfig) -> str:
    if config.selection.criterion == "v-optimal":
        return "what takes most off a language model's prediction variance on a target"
    if config.selection.criterion == "gradient-matching":
        return "what pulls the last layer of a language model where all of the aim would"
    return "the most informative about the last layer of a language model"


def _columns(as_json: Sequence[str]) -> str:
    text = (
        "## Columns\n\nThe corpus's own, as they came in, and:\n\n"
        "- `fishersft_rank`: place in the order of choosing, from 1.\n"
        "- `fishersft_gain`: marginal information gain when it was chosen, in nats.\n"
        "- `fishersft_tokens`: tokens that the loss counts.\n\n"
        "`curated.jsonl` has the same rows. What JSON has no type for is in it as text: dates and times in "
        "ISO 8601, bytes in base64, decimals in digits; durations are seconds, NaN and infinity null. "
        "In `curated.parquet`, a key that a row lacks is null."
    )
    if as_json:
        text += (
            "\n\nParquet has one type a column, and cannot hold the values of these unchanged: there they "
            f"are JSON strings, as in `curated.jsonl`: {', '.join(map(_code, as_json))}."
        )
    return text


_IMPORT = "from datasets import load_dataset"
_READ = f'dataset = load_dataset("{_FOLDER}", split="train")'


def _trl(corpus: CorpusConfig, rows: Sequence[dict[str, Any]]) -> str:
    # TRL tells the kind of example by its columns, so others must not stay.
    columns = _split_conversations(corpus) if corpus.example == "messages" else _select_columns(corpus)
    code = _fenced(
        "python",
        f"{_IMPORT}\nfrom trl import SFTConfig, SFTTrainer\n\n{_READ}\n{columns}\n"
        'trainer = SFTTrainer("your/model", args=SFTConfig("trained"), train_dataset=dataset)\n'
        "trainer.train()",
    )
    return f"{_LAST_TURN}\n\n{code}" if corpus.example == "messages" else code


_LAST_TURN = (
    "This trains on the last assistant turn of each conversation, with any chat template; to train on all assistant "
    "turns, as FisherSFT's own fine-tuning does, keep the column of messages under the name `messages` and set "
    "`assistant_only_loss=True` in `SFTConfig`, with a chat template that has `{% generation %}` markers."
)


def _select_columns(corpus: CorpusConfig) -> str:
    names = (
        {corpus.text_field: "text"}
        if corpus.example == "text"
        else {corpus.prompt_field: "prompt", corpus.completion_field: "completion"}
    )
    renamed = {name: own for name, own in names.items() if name != own}
    select = f"dataset = dataset.select_columns({list(names)!r})"
    return select + (f".rename_columns({renamed!r})" if renamed else "")


def _split_conversations(corpus: CorpusConfig) -> str:
    return (
        "\n\ndef split(row):\n"
        f"    messages = row[{corpus.messages_field!r}]\n"
        '    last = max(i for i, message in enumerate(messages) if message["role"] == "assistant")\n'
        '    return {"prompt": messages[:last], "completion": [messages[last]]}\n\n\n'
        "dataset = dataset.map(split, remove_columns=dataset.column_names)"
    )


def _is_conversational(corpus: CorpusConfig, rows: Sequence[dict[str, Any]]) -> bool:
    """Whether prompts and completions are lists of messages, TRL's form."""
    if corpus.example != "prompt-completion":
        return False
    return any(isinstance(row.get(corpus.completion_field), list) for row in rows)


def _other_trainers(name: str, corpus: CorpusConfig, rows: Sequence[dict[str, Any]]) -> list[str]:
    if _is_conversational(corpus, rows):
        return ["axolotl and LLaMA-Factory take a conversation as one list: join prompt and completion first."]
    axolotl = yaml.safe_dump({"datasets": [_axolotl(corpus)]}, sort_keys=False, allow_unicode=True)
    factory = json.dumps({name: _llama_factory(corpus)}, indent=2, ensure_ascii=False)
    stage = " Its stage is `pt`, plain text." if corpus.example == "text" else ""
    return [
        f"## Train with axolotl\n\n{_fenced('yaml', axolotl)}",
        "## Train with LLaMA-Factory\n\nPut this into the `dataset_info.json` beside `curated.parquet`."
        f"{stage}\n\n{_fenced('json', factory)}",
    ]


def _axolotl(corpus: CorpusConfig) -> dict[str, Any]:
    file = {"path": f"{_FOLDER}/curated.parquet", "ds_type": "parquet"}
    if corpus.example == "text":
        return file | {"type": "completion", "field": corpus.text_field}
    if corpus.example == "messages":
        return file | {
            "type": "chat_template",
            "field_messages": corpus.messages_field,
            "message_property_mappings": {"role": "role", "content": "content"},
            "roles_to_train": ["assistant"],
        }
    return file | {
        "type": {
            "field_instruction": corpus.prompt_field,
            "field_output": corpus.completion_field,
            "format": "{instruction}",
            "no_input_format": "{instruction}",
        }
    }


def _llama_factory(corpus: CorpusConfig) -> dict[str, Any]:
    file = {"file_name": "curated.parquet"}
    if corpus.example == "text":
        return file | {"columns": {"prompt": corpus.text_field}}
    if corpus.example == "messages":
        return file | {
            "formatting": "sharegpt",
            "columns": {"messages": corpus.messages_field},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                "user_tag": "user",
                "assistant_tag": "assistant",
                "system_tag": "system",
            },
        }
    return file | {"columns": {"prompt": corpus.prompt_field, "response": corpus.completion_field}}


def _code(text: str) -> str:
    """A code span that holds any text: control characters escaped, fenced by more backticks than it has."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    fence = "`" * (1 + _longest_run(shown))
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def _fenced(language: str, body: str) -> str:
    fence = "`" * max(3, 1 + _longest_run(body))
    return f"{fence}{language}\n{body.rstrip()}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
