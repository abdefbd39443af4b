"""Models and files that once went wrong, through `fishersft select`: the right values come from transformers.

They are the others of issue 16. With `-s` each prints a line: the input, and what comes now.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM

from fishersft.data.block_files import EMBEDDINGS_FILE, read_nll
from fishersft.errors import InputError
from fishersft.models.tokenising import Tokenised
from tests.chat_models import chat_tokenizer, save_model
from tests.selected import Chosen, config_for, now, numbers, run, select, write_rows
from tests.unit.models import test_rope
from tests.unit.models.architectures import CONFIGS, entering_the_head, own_nll, random_model


def words(n: int) -> str:
    """A text of some length."""
    return f"{n} " + "may " * (n % 9 + 1)


def texts(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "d.jsonl", [{"text": words(n)} for n in numbers()])


def model_of(tmp_path: Path, name: str) -> Path:
    """A random model of an architecture, with a tokenizer that fits."""
    folder = tmp_path / "model"
    random_model(name).save_pretrained(folder)
    tokenizer = chat_tokenizer(None)
    assert len(tokenizer) <= CONFIGS[name].vocab_size
    tokenizer.save_pretrained(folder)
    return folder


def sentence_of(chosen: Chosen, row: int) -> Tokenised:
    return Tokenised(*chosen.tokens[row], truncated=False)


def largest_difference(chosen: Chosen, expected: Any) -> float:
    """Between the embeddings of all rows of a pool and the expected ones, relative to the largest of those."""
    off = []
    for row in chosen.pool:
        right = expected(sentence_of(chosen, row))
        off.append(float((chosen.blocks[row] - right).abs().max() / right.abs().max()))
    return max(off)


@pytest.mark.parametrize(
    ("name", "dim"), [("OPT with word_embed_proj_dim", 16), ("ModernBERT as decoder, layers in the head", 32)]
)
def test_embeddings_are_what_enters_the_head(tmp_path: Path, name: str, dim: int) -> None:
    folder = model_of(tmp_path, name)
    chosen = select(tmp_path, folder, texts(tmp_path))
    assert {block.shape[1] for block in chosen.blocks.values()} == {dim}
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    off = largest_difference(chosen, lambda sentence: entering_the_head(model, sentence))
    assert off < 1e-5
    now(name, "float32", f"embeddings of {dim}, at most {off:.0e} from what enters the head")


@pytest.mark.parametrize("name", ["Granite, logits divided by 8", "Gemma 2, soft-capped"])
def test_logits_that_are_scaled_or_capped_are_the_models_own(tmp_path: Path, name: str) -> None:
    folder = model_of(tmp_path, name)
    chosen = select(tmp_path, folder, texts(tmp_path), criterion="fisher-weighted")
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    files = tmp_path.glob(f"store/embeddings/*/*/{EMBEDDINGS_FILE}")
    found = torch.cat([read_nll(file) for file in files]).double()
    expected = torch.cat([own_nll(model, sentence_of(chosen, row)) for row in chosen.pool])
    assert torch.allclose(found.sort().values, expected.sort().values, atol=1e-4)
    now(name, "criterion fisher-weighted", "works; the tokens' negative log-likelihoods are transformers'")


@pytest.mark.parametrize("name", ["Phi-3 with LongRoPE", "Llama with dynamic NTK"])
def test_a_short_row_beside_a_long_one_is_as_alone(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    test_rope.fresh(name).save_pretrained(folder)
    chat_tokenizer(None).save_pretrained(folder)
    rows = [{"text": f"{n} " + "may " * (1 if n % 2 else 12)} for n in numbers()]
    chosen = select(tmp_path, folder, write_rows(tmp_path / "d.jsonl", rows))

    def alone(sentence: Tokenised) -> torch.Tensor:
        model = AutoModelForCausalLM.from_pretrained(folder).eval()  # anew, as it remembers the longest it has seen
        return entering_the_head(model, sentence)

    off = largest_difference(chosen, alone)
    assert off < 1e-5
    now(name, "short and long rows in one batch", f"as each alone, at most {off:.0e} off")


def refused(tmp_path: Path, folder: Path, file: Path, message: str) -> str:
    """The error of a selection that has embedded nothing."""
    with pytest.raises(InputError, match=message) as error:
        run("select", config_for(tmp_path, folder, file))
    assert not (tmp_path / "store" / "embeddings").exists()
    return str(error.value)


def test_a_token_beyond_the_embedding_table_is_an_error_before_any_work(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(None)
    folder = save_model(tmp_path / "model", tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<tool>"]})
    tokenizer.save_pretrained(folder)
    rows = [{"text": words(n) + ("<tool>" if n == 7 else "")} for n in numbers()]
    error = refused(tmp_path, folder, write_rows(tmp_path / "d.jsonl", rows), "token in the corpus '<tool>' with id")
    now("a special token beyond the embedding table", "", f"error before embedding: {error}")


def test_a_padding_token_beyond_the_table_is_one_too(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(None)
    folder = save_model(tmp_path / "model", tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(folder)
    error = refused(tmp_path, folder, texts(tmp_path), "has the padding token '<pad>' with id")
    now("pad id = vocabulary size", "", f"error before any work: {error}")


def test_two_parquet_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    column = pa.array([words(n) for n in numbers()])
    pq.write_table(pa.Table.from_arrays([column, column], names=["text", "text"]), tmp_path / "d.parquet")
    folder = save_model(tmp_path / "model", chat_tokenizer(None))
    error = refused(tmp_path, folder, tmp_path / "d.parquet", r"d\.parquet.*text")
    now("Parquet with two columns of one name", "", f"error: {error}")


@pytest.mark.parametrize("name", ["curated.jsonl", "curated.parquet", ""])
def test_the_curated_dataset_is_a_corpus_again(tmp_path: Path, name: str) -> None:
    folder = save_model(tmp_path / "model", chat_tokenizer(None))
    select(tmp_path, folder, texts(tmp_path), budget=20)
    dataset = tmp_path / "output" / "dataset" / name
    again = tmp_path / "again"
    again.mkdir()
    chosen = select(again, folder, dataset, budget=3, held_out_fraction=0.5)
    assert set(chosen.texts) <= {words(n) + "</s>" for n in numbers()} and len(set(chosen.texts)) == 20
    written = [json.loads(line) for line in (again / "output/dataset/curated.jsonl").read_text().splitlines()]
    assert [sorted(row) for row in written] == [["fishersft_gain", "fishersft_rank", "fishersft_tokens", "text"]] * 3
    assert [row["fishersft_rank"] for row in written] == [1, 2, 3]
    now("the curated dataset fed back as a corpus", name or "its folder", "works; our columns are the new run's")
