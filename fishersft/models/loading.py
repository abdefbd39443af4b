"""Loading causal language models and tokenizers, and converting a GGUF file into a folder of safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from fishersft.errors import InputError
from fishersft.models.chat import chat_template_text

transformers_logging.disable_progress_bar()


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Writes the model and tokenizer of a GGUF file, dequantized to float32, as a folder for `from_pretrained`.

    The weights move into a fresh model, because transformers refuses to save one that remembers its quantization.
    """
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = loaded.config
    del config.quantization_config
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fresh.load_state_dict(loaded.state_dict())
    fresh.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_tokenizer(
    folder: Path, trust_remote_code: bool = False, chat_template: str | None = None
) -> PreTrainedTokenizerBase:
    """The tokenizer in a model folder, padding with its end-of-text token where it has no padding token.

    Args:
        folder: what `save_pretrained` wrote.
        trust_remote_code: run code that the folder carries; only when the user asked for it.
        chat_template: in the place of its own, see `chat_template_text`.

    Raises:
        InputError: there is none, or it has no end-of-text token; or there is no such chat template.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, StrictDataclassError) as error:
        raise InputError(
            f"the model in {folder.name}: its tokenizer does not load: {error}; save it into the folder, too"
        ) from error
    if tokenizer.eos_token_id is None:
        raise InputError(f"the tokenizer in {folder.name} has no end-of-text token; set eos_token in its config")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if chat_template is not None:
        tokenizer.chat_template = chat_template_text(chat_template)
    return tokenizer


def load_model(
    folder: Path, dtype: str, device: torch.device | None, trust_remote_code: bool = False
) -> PreTrainedModel:
    """The causal language model in a folder, in evaluation mode.

    Args:
        folder: what `save_pretrained` wrote.
        dtype: "float32" or "bfloat16", the type of the weights in memory.
        device: where the weights go; None: spread over all GPUs, and main memory where those do not suffice.
        trust_remote_code: run code that the folder carries; only when the user asked for it.

    Raises:
        InputError: the files are damaged, or need code that is not trusted.
    """
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            device_map="auto" if device is None else None,
        )
    except (OSError, ValueError, SafetensorError, StrictDataclassError) as error:
        raise InputError(f"the model in {folder.name} does not load: {error}") from error
    return model.eval() if device is None else model.to(device).eval()
