"""A token beyond the embedding table is one clear error before any weights are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from fishersft.config import ModelConfig
from fishersft.errors import InputError
from fishersft.models.loading import load_tokenizer
from fishersft.models.vocabulary import check_model, check_vocabulary, embedding_rows


def with_tokenizer(folder: Path, **settings: Any) -> PreTrainedTokenizerFast:
    """The folder's tokenizer with other special tokens, which get new ids; saved there."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.add_special_tokens(settings)
    tokenizer.save_pretrained(folder)
    return tokenizer


def test_a_tokenizer_that_fits_passes_without_weights(tiny_model_folder: Path) -> None:
    (tiny_model_folder / "model.safetensors").write_bytes(b"never read")
    check_model(ModelConfig(path=str(tiny_model_folder)))


@pytest.mark.parametrize(("setting", "what"), [("pad_token", "padding token"), ("eos_token", "end-of-text token")])
def test_a_special_token_beyond_the_table_is_named(tiny_model_folder: Path, setting: str, what: str) -> None:
    rows = embedding_rows(tiny_model_folder)
    with_tokenizer(tiny_model_folder, **{setting: "<new>"})
    expected = (
        f"the model in tiny-llama has {rows} rows in its embedding table, but its tokenizer has the {what} '<new>' "
        rf"with id {rows}; call model\.resize_token_embeddings\({rows + 1}\) and save the model, or use the "
    )
    with pytest.raises(InputError, match=expected):
        check_model(ModelConfig(path=str(tiny_model_folder)))


def test_a_token_that_begins_every_text_must_be_in_the_table(tiny_model_folder: Path) -> None:
    tokenizer = with_tokenizer(tiny_model_folder, bos_token="<begin>")
    check_model(ModelConfig(path=str(tiny_model_folder)))  # it is there, but nothing begins with it
    begin = tokenizer.convert_tokens_to_ids("<begin>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<begin> $A", None, [("<begin>", begin)])
    with pytest.raises(InputError, match=f"has the token around every text '<begin>' with id {begin}"):
        check_vocabulary(tiny_model_folder, tokenizer)


def test_added_tokens_beyond_the_table_do_no_harm_until_the_corpus_holds_one(tiny_model_folder: Path) -> None:
    rows = embedding_rows(tiny_model_folder)
    tokenizer = with_tokenizer(tiny_model_folder, additional_special_tokens=["<tool>", "<image>"])
    check_model(ModelConfig(path=str(tiny_model_folder)))
    check_vocabulary(tiny_model_folder, tokenizer, largest_id=rows - 1)
    with pytest.raises(InputError, match=rf"token in the corpus '<tool>' with id {rows}; .*embeddings\({rows + 2}\)"):
        check_vocabulary(tiny_model_folder, tokenizer, largest_id=rows)


def test_the_way_out_that_the_error_names_works(tiny_model_folder: Path, tiny_llama: Any) -> None:
    tokenizer = with_tokenizer(tiny_model_folder, pad_token="<pad>")
    tiny_llama.resize_token_embeddings(len(tokenizer))
    tiny_llama.save_pretrained(tiny_model_folder)
    check_vocabulary(tiny_model_folder, load_tokenizer(tiny_model_folder))
    assert len(tiny_llama.get_input_embeddings()(torch.tensor([tokenizer.pad_token_id]))) == 1


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ('{"model_type": "llama", "vocab_size": null}', "config.json does not load: .*'vocab_size' expected int"),
        ('{"model_type": "no-such-type"}', "config.json does not load: .*no-such-type"),
        ('{"model_type": "vit"}', "config.json gives None as vocab_size, expected the number of rows"),
    ],
)
def test_a_config_without_a_vocabulary_is_one_clear_error(tiny_model_folder: Path, config: str, reason: str) -> None:
    (tiny_model_folder / "config.json").write_text(config)
    with pytest.raises(InputError, match=f"the model in tiny-llama: its {reason}"):
        embedding_rows(tiny_model_folder)
