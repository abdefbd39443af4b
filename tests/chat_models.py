"""Tiny random models with the chat templates that TRL ships, and what TRL's SFTTrainer trains on."""

from __future__ import annotations

import re
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import trl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_WORDS = [
    "Why is the sky blue?\n\nBecause it is.\n\n",
    "assistant\n\n\nShall I compare thee to a summer's day?\n",
    "Rough winds do shake the darling buds of May,\n\n",
]
_SPECIAL = re.compile(r"<[|｜][^<>'\"{}]+?[|｜]>")


class Counted(NamedTuple):
    """Token ids, and at which of them the loss looks."""

    ids: list[int]
    mask: list[bool]


def template_text(name: str) -> str:
    """The chat template that TRL ships under that name; "SmolLM2" is that of SmolLM2-Instruct."""
    if name == "SmolLM2":
        return SMOLLM2
    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def chat_tokenizer(template: str | None, end: str = "</s>", **settings: Any) -> PreTrainedTokenizerFast:
    """A small byte-level BPE that has the special tokens of a template, and merges newlines."""
    text = "" if template is None else template_text(template)
    special = list(dict.fromkeys(["<unk>", end, *settings.values(), *_SPECIAL.findall(text)]))
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_WORDS * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=end, pad_token="<unk>", **settings)
    tokenizer.chat_template = text or None
    return tokenizer


def save_model(folder: Path, tokenizer: Any, config: Any = None) -> Path:
    """A model of random weights and its tokenizer, as a folder for `from_pretrained`; by default a small Llama."""
    torch.manual_seed(0)
    config = config or LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class _FixedClock(datetime):
    """The day that FisherSFT renders templates as of."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> _FixedClock:
        return cls(2024, 7, 26, 12, tzinfo=tz)


def differing(ours: list[Counted], theirs: list[Counted]) -> list[int]:
    """The rows that are not alike; pytest would take minutes to show how long lists differ."""
    return [row for row, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other]


def trl_trains_on(folder: Path, rows: list[dict[str, Any]], output: Path, **settings: Any) -> list[Counted]:
    """What `SFTTrainer` makes of rows: its own preparation and its own collator."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    args = trl.SFTConfig(
        output_dir=str(output), report_to="none", use_cpu=True, bf16=False, disable_tqdm=True, **settings
    )
    with patch("transformers.utils.chat_template_utils.datetime", _FixedClock):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        trainer = trl.SFTTrainer(model, args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    found = []
    for row in trainer.train_dataset:
        batch = trainer.data_collator([row])
        labels = batch["labels"][0].tolist()
        # Labels are shifted by one, so the first token is never predicted.
        found.append(Counted(batch["input_ids"][0].tolist(), [False, *(label != -100 for label in labels[1:])]))
    return found
