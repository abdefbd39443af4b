"""The dataset card's sections on training: code for TRL, and entries for axolotl and LLaMA-Factory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from fishersft.config import CorpusConfig
from fishersft.data.formats.detection import Format, answer_field, context_field, format_of
from fishersft.data.formats.sharegpt import ROLES
from fishersft.data.markdown import fenced
from fishersft.data.readers import Row

_FOLDER = "path/to/this/folder"
IMPORT = "from datasets import load_dataset"
READ = f'dataset = load_dataset("{_FOLDER}", split="train")'


def trainer_sections(name: str, corpus: CorpusConfig, rows: Sequence[dict[str, Any]]) -> list[str]:
    """The card's sections on training with TRL, axolotl and LLaMA-Factory. Field names are hostile input.

    Args:
        name: of the dataset.
        corpus: how the rows become examples; where it leaves the format to be found, it is what the rows show.
        rows: the chosen rows, as they were read.
    """
    found = _resolved(corpus, rows)
    if found is None:
        return [_MIXED]
    if found.example == "preference":
        return [_PREFERENCE]
    if found.example == "prompt":
        return [_prompts(found)]
    return [f"## Train with TRL\n\n{_trl(found)}", *_other_trainers(name, found, rows)]


_MIXED = (
    "## Train\n\nThe rows are of several formats: bring them into one, such as a column `messages`, before you train."
)


_PREFERENCE = (
    "## Train\n\nThe rows are preference data and were chosen by their `chosen` answers: to fine-tune on those, leave "
    "`rejected` out and rename `chosen` to `completion`, or to `messages` where there is no `prompt`."
)


def _prompts(corpus: CorpusConfig) -> str:
    """What to do with prompts that nobody has answered."""
    answer = (
        f"a column `{corpus.completion_field}`"
        if corpus.messages_field == corpus.prompt_field
        else "a last turn of the assistant in each conversation"
    )
    return (
        "## Have them answered\n\nThe rows are prompts, chosen without looking at any answer. To train on them, add "
        f"the answers as {answer}."
    )


def _resolved(corpus: CorpusConfig, rows: Sequence[dict[str, Any]]) -> CorpusConfig | None:
    """The settings with the one format that the rows have and its fields, Alpaca's input and output as prompt and
    completion; None where they have several formats."""
    found = {format_of(Row(row, "curated", number), corpus) for number, row in enumerate(rows, start=1)}
    if len(found) > 1:
        return None
    kind, name = found.pop() if found else Format("text")
    fields = {"messages_field": name or corpus.messages_field}
    if kind == "alpaca":
        fields = {"prompt_field": context_field(rows[0]), "completion_field": answer_field(rows[0])}
    return corpus.model_copy(update={"example": kind, **fields})


def _trl(corpus: CorpusConfig) -> str:
    # TRL tells the kind of example by its columns, so others must not stay.
    columns = _COLUMNS[corpus.example](corpus)
    code = fenced(
        "python",
        f"{IMPORT}\nfrom trl import SFTConfig, SFTTrainer\n\n{READ}\n{columns}\n"
        'trainer = SFTTrainer("your/model", args=SFTConfig("trained"), train_dataset=dataset)\n'
        "trainer.train()",
    )
    return f"{_LAST_TURN}\n\n{code}" if corpus.example in ("messages", "sharegpt") else code


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
    if corpus.prompt_field == "instruction" and corpus.example == "prompt-completion":
        return _mapped(
            '    question = "\\n\\n".join(filter(None, [row["instruction"], row.get("input")]))\n'
            f'    return {{"prompt": question, "completion": row[{corpus.completion_field!r}]}}'
        )
    renamed = {name: own for name, own in names.items() if name != own}
    select = f"dataset = dataset.select_columns({list(names)!r})"
    return select + (f".rename_columns({renamed!r})" if renamed else "")


def _split_conversations(corpus: CorpusConfig) -> str:
    return _mapped(f"    messages = row[{corpus.messages_field!r}]\n{_LAST}")


def _split_sharegpt(corpus: CorpusConfig) -> str:
    roles = {sender: role for sender, role in ROLES.items() if sender not in {"function_call", role}}
    return f"\n\nroles = {roles!r}" + _mapped(
        f"    turns = row[{corpus.messages_field!r}]\n"
        '    messages = [{"role": roles.get(turn["from"], turn["from"]), "content": turn["value"]} for turn in turns]\n'
        '    if row.get("system") and messages[0]["role"] != "system":\n'
        '        messages.insert(0, {"role": "system", "content": row["system"]})\n'
        f"{_LAST}"
    )


def _split_alpaca(corpus: CorpusConfig) -> str:
    return _mapped(
        f'    question = "\\n\\n".join(filter(None, [row["instruction"], row.get({corpus.prompt_field!r})]))\n'
        '    prompt = [{"role": "system", "content": row["system"]}] if row.get("system") else []\n'
        '    for user, assistant in row.get("history") or []:\n'
        '        prompt += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]\n'
        '    prompt += [{"role": "user", "content": question}]\n'
        f'    answer = [{{"role": "assistant", "content": row[{corpus.completion_field!r}]}}]\n'
        '    return {"prompt": prompt, "completion": answer}'
    )


_LAST = (
    '    last = max(i for i, message in enumerate(messages) if message["role"] == "assistant")\n'
    '    return {"prompt": messages[:last], "completion": [messages[last]]}'
)


def _mapped(body: str) -> str:
    return f"\n\ndef split(row):\n{body}\n\n\ndataset = dataset.map(split, remove_columns=dataset.column_names)"


_COLUMNS: dict[str, Callable[[CorpusConfig], str]] = {
    "text": _select_columns,
    "prompt-completion": _select_columns,
    "messages": _split_conversations,
    "sharegpt": _split_sharegpt,
    "alpaca": _split_alpaca,
}


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
        f"## Train with axolotl\n\n{fenced('yaml', axolotl)}",
        "## Train with LLaMA-Factory\n\nPut this into the `dataset_info.json` beside `curated.parquet`."
        f"{stage}\n\n{fenced('json', factory)}",
    ]


_KEYS = {"messages": {"role": "role", "content": "content"}, "sharegpt": {"role": "from", "content": "value"}}


def _axolotl(corpus: CorpusConfig) -> dict[str, Any]:
    file: dict[str, Any] = {"path": f"{_FOLDER}/curated.parquet", "ds_type": "parquet"}
    if corpus.example == "text":
        return file | {"type": "completion", "field": corpus.text_field}
    if corpus.example in _KEYS:
        return file | {
            "type": "chat_template",
            "field_messages": corpus.messages_field,
            "message_property_mappings": _KEYS[corpus.example],
            "roles_to_train": ["assistant"],
        }
    if corpus.example == "alpaca":
        return file | {
            "type": {
                "field_instruction": "instruction",
                "field_input": corpus.prompt_field,
                "field_output": corpus.completion_field,
                "format": "{instruction}\n\n{input}",
                "no_input_format": "{instruction}",
            }
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
    file: dict[str, Any] = {"file_name": "curated.parquet"}
    if corpus.example == "text":
        return file | {"columns": {"prompt": corpus.text_field}}
    if corpus.example == "sharegpt":
        return file | {"formatting": "sharegpt", "columns": {"messages": corpus.messages_field}}
    if corpus.example == "alpaca":
        columns = {"prompt": "instruction", "query": corpus.prompt_field, "response": corpus.completion_field}
        return file | {"columns": columns}
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
