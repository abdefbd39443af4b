"""Whether a model's embedding table has a row for each token that its tokenizer gives it, without loading weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fishersft.config import ModelConfig
from fishersft.errors import InputError
from fishersft.models.source import find_model


def check_model(config: ModelConfig) -> None:
    """Finds the model that a config names, and checks its tokenizer against its embedding table: no weights are loaded.

    A GGUF file is only found, since its tokenizer is known once it is converted.

    Raises:
        InputError: as `find_model`, `loading.load_tokenizer` and `check_vocabulary` say.
    """
    from fishersft.models.loading import load_tokenizer

    source = find_model(config)
    if source.is_gguf:
        return
    tokenizer = load_tokenizer(source.path, config.trust_remote_code)
    check_vocabulary(source.path, tokenizer, trust_remote_code=config.trust_remote_code)


def check_vocabulary(
    folder: Path, tokenizer: Any, largest_id: int | None = None, trust_remote_code: bool = False
) -> None:
    """Raise InputError where a token that is sure to be used lies beyond the model's embedding table.

    Looked at are the padding token, the end-of-text token, those that the tokenizer puts around every text, and the
    largest id that was seen. Added tokens beyond the table that nothing uses are common and do no harm.

    Args:
        folder: of the model.
        tokenizer: as `loading.load_tokenizer` gives it.
        largest_id: of all tokens of the corpus, if it is known.
        trust_remote_code: let the folder's own code read its config.

    Raises:
        InputError: a token is beyond the table; the folder's config does not load or does not say how many rows the
            table has.
    """
    rows = embedding_rows(folder, trust_remote_code)
    around = tokenizer("")["input_ids"]
    used = [("padding token", tokenizer.pad_token_id), ("end-of-text token", tokenizer.eos_token_id)]
    used += [("token around every text", token) for token in around]
    if largest_id is not None:
        used.append(("token in the corpus", largest_id))
    for what, token in used:
        if token is not None and token >= rows:
            raise InputError(
                f"the model in {folder.name} has {rows} rows in its embedding table, but its tokenizer has the {what} "
                f"{tokenizer.convert_ids_to_tokens(token)!r} with id {token}; call model.resize_token_embeddings("
                f"{max(len(tokenizer), token + 1)}) and save the model, or use the tokenizer that it came with"
            )


def embedding_rows(folder: Path, trust_remote_code: bool = False) -> int:
    """How many token ids the model in a folder knows, by its config.

    Raises:
        InputError: its config does not load, or does not say it.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"the model in {folder.name}: its config.json does not load: {reason}") from error
    rows = getattr(config.get_text_config(), "vocab_size", None)
    if not isinstance(rows, int):
        raise InputError(
            f"the model in {folder.name}: its config.json gives {rows} as vocab_size, expected the number of rows of "
            "its embedding table; set it"
        )
    return rows
