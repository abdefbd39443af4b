"""What TRL's own SFTTrainer trains on, for the tests of our tokens; and tokenizers and templates to try."""

from __future__ import annotations

import datetime as clock
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import transformers.utils.chat_template_utils as rendering
import trl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer
from trl.chat_template_utils import get_training_chat_template, has_generation_markers

from fishersft.data.examples import Example
from fishersft.models.tokenising import Tokeniser

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
VISION_ONLY = ("idefics3", "llava_next", "smolvlm")
TEXT_TEMPLATES = sorted(
    file.stem
    for file in TEMPLATES.glob("*.jinja")
    if not file.stem.endswith("_training") and file.stem not in VISION_ONLY
)
Tokens = tuple[list[int], list[bool]]


def template(name: str) -> str:
    """A chat template that TRL carries."""
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")


def byte_tokenizer(chat_template: str | None = None, begin: bool = False, end: bool = False) -> PreTrainedTokenizerFast:
    """A BPE tokenizer over bytes with a few merges; it may add `<s>` before and `</s>` after every text."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_backend()), bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    if begin or end:
        single = " ".join(["<s>"] * begin + ["$A"] + ["</s>"] * end)
        special = [(token, fast.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
        fast.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
    fast.chat_template = chat_template
    return fast


@lru_cache(maxsize=1)
def _backend() -> str:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|eot_id|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(["hello world\n\n\nfoo bar", "a summer's day  in the sun"], trainer)
    return bpe.to_str()


def trained_on(tokenizer: PreTrainedTokenizerFast, rows: Sequence[dict[str, Any]], folder: Path) -> list[Tokens]:
    """Token ids and loss positions of rows of one format, as SFTTrainer prepares them; never the first token."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
    )
    conversations = "messages" in rows[0]
    trainer = SFTTrainer(
        model=LlamaForCausalLM(config),
        args=SFTConfig(
            output_dir=str(folder),
            assistant_only_loss=conversations,
            max_length=None,
            report_to="none",
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=tokenizer,
    )
    return [(row["input_ids"], counted([label != -100 for label in row["labels"]])) for row in trainer.train_dataset]


def marked_by_trl(
    tokenizer: PreTrainedTokenizerFast,
    messages: Sequence[dict[str, Any]],
    tools: list[dict[str, Any]] | None = None,
    **variables: Any,
) -> Tokens:
    """The same of one conversation by the building blocks that SFTTrainer uses, for where a trainer takes too long.

    Raises:
        ValueError: TRL has no training template for the tokenizer's.
    """
    marked = has_generation_markers(tokenizer.chat_template)
    encoded: Any = tokenizer.apply_chat_template(
        list(messages),
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        tools=tools,
        chat_template=None if marked else get_training_chat_template(tokenizer),
        **variables,
    )
    return encoded["input_ids"], counted([bit == 1 for bit in encoded["assistant_masks"]])


def counted(mask: list[bool]) -> list[bool]:
    """Nothing predicts the first token."""
    return [False, *mask[1:]]


def ours(tokenise: Tokeniser, example: Example) -> Tokens:
    """An example's token ids and loss positions by our code."""
    sentence = tokenise(example)
    return sentence.input_ids, sentence.loss_mask


def loss_text(tokenise: Tokeniser, example: Example) -> str:
    """The text of the tokens that the loss counts, with a bar wherever it leaves tokens out."""
    ids, mask = ours(tokenise, example)
    parts: list[list[int]] = [[]]
    for token, is_counted in zip(ids, mask, strict=True):
        if is_counted:
            parts[-1].append(token)
        elif parts[-1]:
            parts.append([])
    return "|".join(tokenise.tokenizer.decode(part) for part in parts if part)


def freeze(monkeypatch: pytest.MonkeyPatch, *day: int) -> None:
    """Makes it noon of some day for chat templates."""

    class Frozen(clock.datetime):
        @classmethod
        def now(cls, tz: clock.tzinfo | None = None) -> Frozen:
            return cls(*day, 12, tzinfo=tz)

    monkeypatch.setattr(rendering, "datetime", Frozen)
