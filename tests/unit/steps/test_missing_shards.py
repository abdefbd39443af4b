"""Which shards are still to be embedded, asked without embedding any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fishersft.config import CurateConfig
from fishersft.steps.corpus import read_corpus
from fishersft.steps.embedding import embed_shard
from fishersft.steps.missing_shards import missing_shards, shards_to_embed
from fishersft.steps.outcome import open_store


@pytest.fixture
def settings(tmp_path: Path, tiny_model_folder: Path) -> dict[str, Any]:
    corpus = tmp_path / "verses.txt"
    corpus.write_text("".join(f"{n} verses of my {'heart ' * (n % 7)}and {n * n} more\n" for n in range(40)))
    return {
        "corpus": {"path": str(corpus)},
        "model": {"path": str(tiny_model_folder)},
        "embedding": {"shard_rows": 4},
        "store": str(tmp_path / "store"),
    }


@pytest.fixture(params=["plain", "stored in half", "fisher-weighted", "by workers"])
def config(request: pytest.FixtureRequest, settings: dict[str, Any]) -> CurateConfig:
    settings["embedding"].update(
        {"stored in half": {"storage": "bfloat16"}, "by workers": {"deployment": "embed-shards/gpu"}}.get(
            request.param, {}
        )
    )
    if request.param == "fisher-weighted":
        settings["selection"] = {"criterion": "fisher-weighted"}
    return CurateConfig.model_validate(settings)


def test_shards_are_missing_until_they_are_embedded(config: CurateConfig) -> None:
    store = open_store(config.store)
    shards = read_corpus(store, config).facts["shard_keys"]
    assert len(shards) > 3
    wanted = shards_to_embed(store, config, shards)
    assert [shard.shard for shard in wanted] == shards
    assert missing_shards(store, wanted) == wanted
    assert embed_shard(store, config, shards[1]).key == wanted[1].key
    assert missing_shards(store, wanted) == [wanted[0], *wanted[2:]]


def test_who_embeds_changes_no_key(settings: dict[str, Any]) -> None:
    here = CurateConfig.model_validate(settings)
    settings["embedding"]["deployment"] = "embed-shards/gpu"
    there = CurateConfig.model_validate(settings)
    store = open_store(here.store)
    corpus = read_corpus(store, here)
    assert read_corpus(store, there).key == corpus.key
    shards = corpus.facts["shard_keys"]
    assert shards_to_embed(store, there, shards) == shards_to_embed(store, here, shards)


def test_text_beyond_the_most_tokens_does_not_count(settings: dict[str, Any]) -> None:
    config = CurateConfig.model_validate(settings)
    store = open_store(config.store)
    shards = read_corpus(store, config).facts["shard_keys"]
    whole = shards_to_embed(store, config, shards)
    settings["model"]["max_tokens"] = 2
    cut = shards_to_embed(store, CurateConfig.model_validate(settings), shards)
    assert all(0 < short.tokens < long.tokens for short, long in zip(cut, whole, strict=True))
