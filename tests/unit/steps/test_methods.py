"""Every method of a comparison chooses what the library's own function chooses, and is found the second time."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from fishersft import baselines
from fishersft.config.compare import NEED_TARGET, CompareConfig, Method
from fishersft.data.block_files import GRADIENTS_FILE, read_gradients, read_nll, read_spectrum, read_weights
from fishersft.data.store import Store
from fishersft.numerics import TokenBlocks, select
from fishersft.numerics.spectra import first_gains
from fishersft.steps.corpus import load_index, read_corpus
from fishersft.steps.embedding import embed_shard
from fishersft.steps.methods import ask_about_shard, draw_uniformly, select_by
from fishersft.steps.picks import load_picks, shard_blocks

BUDGET = 150  # tokens
WITHOUT_TARGET = [method for method in get_args(Method) if method not in NEED_TARGET]  # the others: test_towards_target


class Pool:
    """A small corpus, embedded with scores and gradients."""

    def __init__(self, config: CompareConfig) -> None:
        self.config, self.store = config, Store(config.store)
        self.corpus = read_corpus(self.store, config)
        shards = self.corpus.facts["shard_keys"]
        self.embeddings = [embed_shard(self.store, config.embedded(), shard).key for shard in shards]
        self.asked = [ask_about_shard(self.store, config, shard).key for shard in shards]
        folders = [self.store.fetch("embeddings", key) for key in self.embeddings]
        self.blocks = TokenBlocks.concatenate([shard_blocks(self.store, key, "information") for key in self.embeddings])
        self.weights, self.nll, self.spectra = (
            np.concatenate([read(folder) for folder in folders]) for read in (read_weights, read_nll, read_spectrum)
        )
        self.gradients = np.concatenate([read_gradients(folder / GRADIENTS_FILE) for folder in folders])

    def choose(self, method: str, seed: int = 0, **settings: Any) -> Any:
        config = CompareConfig.model_validate({**self.config.model_dump(), "methods": [{"method": method, **settings}]})
        return select_by(
            self.store,
            config,
            config.methods[0],
            BUDGET,
            seed,
            self.corpus.key,
            self.embeddings,
            self.embeddings,
            self.asked if method == "ask-llm" else [],
        )

    def places(self, selection: str) -> list[int]:
        """Where in the pool the picks are, in their order."""
        index, picks = load_index(self.store, self.corpus.key), load_picks(self.store, selection)
        begins = dict(zip(index.shards, np.cumsum([0, *index.rows]), strict=False))
        return [int(begins[shard]) + row for shard, row in zip(picks.shards, picks.rows, strict=True)]


@pytest.fixture
def pool(tmp_path: Path, tiny_judge_folder: Path) -> Pool:
    corpus = tmp_path / "verses.txt"
    corpus.write_text("".join(f"{n} verses of my {'heart ' * (n % 7)}and {n * n} more\n" for n in range(50)))
    return Pool(
        CompareConfig.model_validate(
            {
                "corpus": {"path": str(corpus)},
                "model": {"path": str(tiny_judge_folder), "max_tokens": 64},
                "embedding": {"shard_rows": 12},
                "selection": {"budget_unit": "tokens"},
                "methods": ["gradient-matching"],
                "store": str(tmp_path / "store"),
            }
        )
    )


def expected(pool: Pool, method: str) -> list[int]:
    blocks, lengths = pool.blocks, pool.blocks.lengths.numpy()
    settings: dict[str, Any] = {"budget_unit": "tokens"}
    vectors = baselines.mean_embeddings(blocks)
    nats = np.array([part.mean() for part in np.split(pool.nll, blocks.offsets[1:-1].numpy())])
    asked = [pool.store.fetch("scores", key) / "scores.parquet" for key in pool.asked]
    yes = np.concatenate([pq.read_table(file)["yes"].to_numpy() for file in asked])
    ways = {
        "information": lambda: select(blocks, BUDGET, **settings).indices,
        "fisher-weighted": lambda: select(blocks.weighted(torch.from_numpy(pool.weights)), BUDGET, **settings).indices,
        "v-optimal": lambda: select(blocks, BUDGET, criterion="v-optimal", target=blocks, **settings).indices,
        "gradient-matching": lambda: baselines.herding(pool.gradients, lengths, BUDGET, **settings),
        "longest": lambda: baselines.longest(lengths, BUDGET, **settings),
        "perplexity-low": lambda: baselines.perplexity(nats, lengths, BUDGET, part="low", **settings),
        "perplexity-middle": lambda: baselines.perplexity(nats, lengths, BUDGET, part="middle", **settings),
        "perplexity-high": lambda: baselines.perplexity(nats, lengths, BUDGET, part="high", **settings),
        "ask-llm": lambda: baselines.ask_llm(yes, lengths, BUDGET, **settings),
        "sentence-design": lambda: baselines.sentence_d_optimal(vectors, lengths, BUDGET, **settings),
        "density": lambda: baselines.density(vectors, lengths, BUDGET, seed=0, **settings),
        "clustering": lambda: baselines.clustering(vectors, lengths, BUDGET, seed=0, **settings),
        "facility-location": lambda: baselines.facility_location(vectors, lengths, BUDGET, **settings),
    }
    assert set(ways) == set(WITHOUT_TARGET)
    return [int(place) for place in ways[method]()]


@pytest.mark.parametrize("method", WITHOUT_TARGET)
def test_a_method_chooses_what_the_librarys_function_chooses(pool: Pool, method: str) -> None:
    if method == "facility-location" and importlib.util.find_spec("submodlib") is None:
        pytest.skip("needs submodlib (pip install 'fishersft[baselines]')")
    chosen = pool.choose(method)
    assert pool.places(chosen.key) == expected(pool, method)
    assert chosen.facts["tokens"] == pytest.approx(BUDGET, abs=40)
    assert pool.choose(method).hit


def test_gradient_matching_says_how_far_its_gradient_strays_and_aims_at_a_target_where_there_is_one(pool: Pool) -> None:
    by_pool = pool.choose("gradient-matching")
    assert 0 < by_pool.facts["mismatch"] < 0.5
    target = {"path": pool.config.corpus.path, "max_rows": 5}
    aimed = CompareConfig.model_validate({**pool.config.model_dump(), "target": target})
    by_target = select_by(
        pool.store, aimed, aimed.methods[0], BUDGET, 0, pool.corpus.key, pool.embeddings, pool.embeddings[:1]
    )
    assert by_target.key != by_pool.key
    first = read_gradients(pool.store.fetch("embeddings", pool.embeddings[0]) / GRADIENTS_FILE).double().numpy()
    mean = first.sum(axis=0) / sum(pool.store.get("embeddings", pool.embeddings[0]).facts["lengths"])
    lengths = pool.blocks.lengths.numpy()
    wanted = baselines.herding(pool.gradients, lengths, BUDGET, mean=mean, budget_unit="tokens")
    assert pool.places(by_target.key) == wanted.tolist()


def test_only_a_method_that_draws_hangs_on_the_seed(pool: Pool) -> None:
    assert pool.choose("longest", seed=1).key == pool.choose("longest", seed=2).key
    assert pool.choose("density", seed=1).key != pool.choose("density", seed=2).key


def test_uniform_draws_differ_by_seed_and_meet_their_budget(pool: Pool) -> None:
    drawn = {
        seed: draw_uniformly(pool.store, pool.config, 7, "sentences", seed, pool.corpus.key, pool.embeddings)
        for seed in (0, 1)
    }
    assert drawn[0].key != drawn[1].key
    assert [outcome.facts["sentences"] for outcome in drawn.values()] == [7, 7]


@pytest.mark.parametrize("regularization", [0.01, 100.0])
def test_spectra_beside_the_blocks_bound_the_gains_of_weighted_blocks_too(pool: Pool, regularization: float) -> None:
    bounds = first_gains(torch.from_numpy(pool.spectra), pool.blocks.lengths, regularization)
    weighted = pool.blocks.weighted(torch.from_numpy(pool.weights))
    for blocks in (pool.blocks, weighted):
        exact = [
            float(torch.linalg.slogdet(torch.eye(len(x)).double() + x.double() @ x.double().T / regularization)[1])
            for x in blocks
        ]
        assert (bounds >= np.array(exact) - 1e-9).all()
