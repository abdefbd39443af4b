"""`fishersft select` over a file of rows, and what it saw of each row."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import yaml
from rich.console import Console
from transformers import AutoTokenizer
from typer.testing import CliRunner

from fishersft import cli, terminal
from fishersft.config import CurateConfig
from fishersft.config.files import load_config
from fishersft.data.block_files import EMBEDDINGS_FILE, read_blocks
from fishersft.data.store import Store
from fishersft.steps.corpus import load_index, read_corpus
from fishersft.steps.embedding import embed_shard
from fishersft.steps.tokens import shard_tokens, tokenise_shard
from tests.chat_models import Counted

_ROWS = 40


@dataclass(repr=False)
class Chosen:
    """What a selection saw; rows are numbered from 0, as they stand in the file.

    Attributes:
        printed: by the command.
        tokens: of every row that was read, held out or not.
        counted, texts: the tokens that the loss counts, and all of them, as text.
        blocks: the embeddings of the rows of the pool.
        pool: their numbers.
    """

    printed: str
    tokens: list[Counted]
    counted: list[str]
    texts: list[str]
    blocks: dict[int, torch.Tensor]

    @property
    def pool(self) -> list[int]:
        return sorted(self.blocks)


def numbers() -> range:
    """Of the rows, which tell them apart."""
    return range(_ROWS)


def now(what: str, setting: str, comes: str) -> None:
    """A line of the table: an input, and what comes now."""
    print(f"{what} | {setting} | {comes}".replace("\n", "\\n"))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A file of JSON lines, compressed as its name says."""
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".gz":
        content = gzip.compress(content)
    if path.suffix == ".zst":
        content = pa.Codec("zstd").compress(content, asbytes=True)
    path.write_bytes(content)
    return path


def config_for(
    folder: Path,
    model: Path,
    corpus: Path,
    held_out_row: int | None = None,
    max_tokens: int | None = None,
    budget: int = 5,
    criterion: str = "information",
    **of_corpus: Any,
) -> Path:
    """A CONFIG.yaml for a corpus.

    Args:
        held_out_row: 1-based; the seed is one that holds it out.
        of_corpus: settings of the corpus.
    """
    settings: dict[str, Any] = {
        "corpus": {"path": str(corpus), "held_out_fraction": 0.2 if held_out_row is None else 0.5, **of_corpus},
        "model": {"path": str(model), "max_tokens": max_tokens},
        "selection": {"budget": budget, "budget_unit": "sentences", "criterion": criterion},
        "embedding": {"shard_rows": 16},
        "store": str(folder / "store"),
        "output": str(folder / "output"),
    }
    if held_out_row is not None:
        settings["seed"] = next(seed for seed in range(200) if held_out_row in _held_out({**settings, "seed": seed}))
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def run(*words: str | Path) -> str:
    """What a command prints, in one line each; its InputError is raised."""
    shown, terminal.console = terminal.console, Console(width=1000, color_system=None)
    try:
        done = CliRunner().invoke(cli.app, [str(word) for word in words])
    finally:
        terminal.console = shown
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def select(folder: Path, model: Path, corpus: Path, **settings: Any) -> Chosen:
    """Runs `fishersft select` as `config_for` has it."""
    path = config_for(folder, model, corpus, **settings)
    return seen(load_config(path, ()), run("select", path), model)


def seen(config: CurateConfig, printed: str, model: Path) -> Chosen:
    """What a selection that has been run saw."""
    store = Store(config.store)
    read = read_corpus(store, config)
    index = load_index(store, read.key)
    tokens, blocks = dict[tuple[str, int], Counted](), dict[tuple[str, int], torch.Tensor]()
    for shard in [*index.shards, index.held_out]:
        outcome = tokenise_shard(store, config, shard)
        places = [
            index.source_of(shard, row) for row in range(index.rows[[*index.shards, index.held_out].index(shard)])
        ]
        for place, sentence in zip(places, shard_tokens(store, outcome), strict=True):
            tokens[place] = Counted(sentence.input_ids, sentence.loss_mask)
        if shard != index.held_out:
            embedded = embed_shard(store, config, shard)
            assert outcome.hit and embedded.hit, "the command has made them"
            found = read_blocks(store.fetch("embeddings", embedded.key) / EMBEDDINGS_FILE)
            blocks |= dict(zip(places, found, strict=True))
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    order = sorted(tokens)
    return Chosen(
        printed,
        [tokens[place] for place in order],
        [tokenizer.decode(np.array(tokens[place].ids)[tokens[place].mask].tolist()) for place in order],
        [tokenizer.decode(tokens[place].ids) for place in order],
        {number: blocks[place] for number, place in enumerate(order) if place in blocks},
    )


def _held_out(settings: dict[str, Any]) -> list[int]:
    config = CurateConfig.model_validate({**settings, "store": settings["store"] + "-tried"})
    store = Store(config.store)
    index = load_index(store, read_corpus(store, config).key)
    return [index.source_of(index.held_out, row)[1] for row in range(index.rows[-1])]
