"""Every method of a comparison chooses what the library's own function chooses, and is found the second time."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from fishersft import baselines
from fishersft.config import CorpusConfig
from fishersft.config.compare import NEED_TARGET, TOWARDS_TARGET, CompareConfig, Method, MethodConfig
from fishersft.data.block_files import GRADIENTS_FILE, read_gradients, read_nll, read_spectrum, read_weights
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks, select
from fishersft.numerics.spectra import first_gains
from fishersft.steps.chosen_from import ChosenFrom
from fishersft.steps.comparing import artifacts_of_choice
from fishersft.steps.corpus import load_index, read_corpus, read_target, shard_rows, target_config
from fishersft.steps.embedding import embed_shard
from fishersft.steps.methods import ask_about_shard, draw_uniformly, select_by
from fishersft.steps.on_target import share_on_target
from fishersft.steps.picks import load_picks, picked_blocks, picked_examples, shard_blocks
from fishersft.steps.row_scores import check_columns
from fishersft.steps.target_training import check_target_fits
from tests.conftest import random_llama

BUDGET = 150  # tokens
ELSEWHERE = ("target-alone", "large-batch", *TOWARDS_TARGET)  # tested below, and in test_towards_target.py
SETTINGS: dict[str, dict[str, Any]] = {
    "stratified": {"column": "sevenths"},
    "balanced": {"column": "sevenths"},
    "perfect-filter": {"column": "sevenths", "keep": "3"},
}
TARGET = ["7 verses of my heart heart", "what my heart is 9 times", "verses of two hearts"]


def row(number: int) -> dict[str, Any]:
    hearts = "heart " * (number % 7)
    return {"text": f"{number} verses of my {hearts}and {number * number} more", "sevenths": number % 7}


class Pool:
    """A small corpus, embedded with scores and gradients."""

    def __init__(self, config: CompareConfig) -> None:
        self.config, self.store = config, Store(config.store)
        self.corpus = read_corpus(self.store, config)
        shards = self.corpus.facts["shard_keys"]
        self.embeddings = [embed_shard(self.store, config.embedded(), shard).key for shard in shards]
        self.target = CorpusConfig(path=str(Path(str(config.corpus.path)).with_name("aim.txt")))
        aiming = config.model_copy(update={"target": self.target}).aiming()
        self.target_corpus = read_target(self.store, aiming).key
        of_target = load_index(self.store, self.target_corpus).shards
        self.aimed_at = [embed_shard(self.store, target_config(aiming), shard).key for shard in of_target]
        self.asked = [ask_about_shard(self.store, config, shard).key for shard in shards]
        folders = [self.store.fetch("embeddings", key) for key in self.embeddings]
        self.blocks = TokenBlocks.concatenate([shard_blocks(self.store, key, "information") for key in self.embeddings])
        self.weights, self.nll, self.spectra = (
            np.concatenate([read(folder) for folder in folders]) for read in (read_weights, read_nll, read_spectrum)
        )
        self.gradients = np.concatenate([read_gradients(folder / GRADIENTS_FILE) for folder in folders])

    def choose(self, method: str, seed: int = 0, budget: int = BUDGET, aims: bool = False, **settings: Any) -> Any:
        aims = aims or method in NEED_TARGET or settings.get("with_target", False)
        changes = {"methods": [{"method": method, **SETTINGS.get(method, {}), **settings}]}
        config = CompareConfig.model_validate(
            {**self.config.model_dump(), **changes, "target": self.target if aims else None}
        )
        aim = {"target": self.aimed_at, "target_corpus": self.target_corpus} if aims else {}
        known = ChosenFrom(self.corpus.key, self.embeddings, asked=self.asked, **aim)
        return select_by(self.store, config, config.methods[0], budget, seed, known)

    def rows(self) -> list[dict[str, Any]]:
        index = load_index(self.store, self.corpus.key)
        return [of for shard in index.shards for of in shard_rows(self.store, shard)]

    def places(self, selection: str) -> list[int]:
        """Where in the pool the picks are, in their order."""
        index, picks = load_index(self.store, self.corpus.key), load_picks(self.store, selection)
        begins = dict(zip(index.shards, np.cumsum([0, *index.rows]), strict=False))
        return [int(begins[shard]) + row for shard, row in zip(picks.shards, picks.rows, strict=True)]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Pool:
    """Embedded once for all tests, none of which changes it."""
    folder = tmp_path_factory.mktemp("methods")
    for part in (random_llama(tokenizer, context=512), tokenizer):
        part.save_pretrained(folder / "model")
    corpus = folder / "verses.jsonl"
    corpus.write_text("".join(json.dumps(row(number)) + "\n" for number in range(50)))
    (folder / "aim.txt").write_text("\n".join(TARGET))
    return Pool(
        CompareConfig.model_validate(
            {
                "corpus": {"path": str(corpus)},
                "model": {"path": str(folder / "model"), "max_tokens": 64},
                "embedding": {"shard_rows": 12},
                "selection": {"budget_unit": "tokens"},
                "methods": ["gradient-matching"],
                "store": str(folder / "store"),
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
    texts = [of["text"] for of in pool.rows()]
    sevenths = np.array([of["sevenths"] for of in pool.rows()])
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
        "stratified": lambda: baselines.stratified(sevenths, lengths, BUDGET, **settings),
        "balanced": lambda: baselines.balanced(sevenths, lengths, BUDGET, **settings),
        "dedup": lambda: baselines.deduplicated(baselines.near_copies(texts), lengths, BUDGET, **settings),
        "dsir": lambda: baselines.dsir(baselines.ngram_log_ratios(texts, TARGET), lengths, BUDGET, **settings),
        "perfect-filter": lambda: baselines.perfect_filter(sevenths == 3, lengths, BUDGET, **settings),
    }
    assert {*ways, *ELSEWHERE} == set(get_args(Method))
    return [int(place) for place in ways[method]()]


@pytest.mark.parametrize("method", [name for name in get_args(Method) if name not in ELSEWHERE])
def test_a_method_chooses_what_the_librarys_function_chooses(pool: Pool, method: str) -> None:
    if method == "facility-location" and importlib.util.find_spec("submodlib") is None:
        pytest.skip("needs submodlib (pip install 'fishersft[baselines]')")
    chosen = pool.choose(method)
    assert pool.places(chosen.key) == expected(pool, method)
    assert chosen.facts["exhausted"] or chosen.facts["tokens"] == pytest.approx(BUDGET, abs=40)
    assert pool.choose(method).hit


def test_what_chose_all_that_it_may_says_so(pool: Pool) -> None:
    good = sum(of["sevenths"] == 3 for of in pool.rows())
    filtered = pool.choose("perfect-filter", budget=10_000)
    assert filtered.facts["exhausted"] and filtered.facts["sentences"] == good > 0
    assert not pool.choose("perfect-filter", budget=20).facts["exhausted"]
    assert pool.choose("dedup", budget=10_000).facts["exhausted"]


def test_strata_without_a_column_are_clusters_of_the_embeddings(pool: Pool) -> None:
    by_clusters = pool.choose("stratified", seed=4, column=None)
    assert pool.places(by_clusters.key) == pool.places(pool.choose("clustering", seed=4).key)
    assert pool.places(by_clusters.key) != pool.places(pool.choose("stratified", seed=4).key)


def test_the_target_alone_is_repeated_until_the_budget_is_spent(pool: Pool) -> None:
    chosen = pool.choose("target-alone", seed=3)
    picks = load_picks(pool.store, chosen.key)
    examples = picked_examples(pool.store, pool.config.corpus, picks)
    lengths = dict(zip((example.text for example in examples), picks.tokens, strict=True))
    assert set(lengths) == set(TARGET)
    counts = Counter(example.text for example in examples)
    assert max(counts.values()) - min(counts.values()) <= 1 < min(counts.values())
    assert abs(sum(picks.tokens) - BUDGET) <= max(lengths.values()) / 2
    assert chosen.facts["tokens"] == sum(picks.tokens)


@pytest.mark.parametrize("method", ["information", "gradient-matching", "density", "dsir"])
def test_beside_the_target_a_method_chooses_for_the_rest_of_the_budget(pool: Pool, method: str) -> None:
    chosen = pool.choose(method, with_target=True)
    picks = load_picks(pool.store, chosen.key)
    texts = [example.text for example in picked_examples(pool.store, pool.config.corpus, picks)]
    assert sorted(texts[:3]) == sorted(TARGET) and not set(texts[3:]) & set(TARGET)
    rest = pool.choose(method, budget=BUDGET - sum(picks.tokens[:3]), aims=True)
    by_itself = picked_examples(pool.store, pool.config.corpus, load_picks(pool.store, rest.key))
    assert texts[3:] == [example.text for example in by_itself]
    assert pool.choose(method, with_target=True).hit


def test_gains_beside_the_target_are_those_of_both_together(pool: Pool) -> None:
    chosen = pool.choose("longest", with_target=True)
    of_target = TokenBlocks.concatenate([shard_blocks(pool.store, key, "information") for key in pool.aimed_at])
    of_picks = [block.double().numpy() for block in picked_blocks(pool.store, chosen.key, "information")]
    assert [len(block) for block in of_picks[:3]] == of_target.lengths.tolist()
    stacked = np.concatenate(of_picks)
    determinant = np.linalg.slogdet(np.eye(stacked.shape[1]) + stacked.T @ stacked)
    assert chosen.facts["information_gain"] == pytest.approx(determinant.logabsdet, rel=1e-6)


def test_a_target_as_large_as_a_budget_is_refused_before_anything_is_computed(pool: Pool) -> None:
    size = sum(pool.store.get("embeddings", key).facts["tokens"] for key in pool.aimed_at)
    methods = [{"method": "longest", "with_target": True}]
    for budgets, refused in (([size, 500], True), ([size + 1], False)):
        changes = {"methods": methods, "budgets": budgets, "target": pool.target}
        config = CompareConfig.model_validate({**pool.config.model_dump(), **changes})
        with pytest.raises(InputError, match=f"has {size} tokens, so a budget of {size}") if refused else nullcontext():
            check_target_fits(pool.store, config, pool.target_corpus)
    by_sentences = {
        "budgets": [3],
        "selection": {"budget_unit": "sentences"},
        "methods": methods,
        "target": pool.target,
    }
    config = CompareConfig.model_validate({**pool.config.model_dump(), **by_sentences})
    with pytest.raises(InputError, match="has 3 sentences, so a budget of 3"):
        check_target_fits(pool.store, config, pool.target_corpus)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "stratified", "column": "genre"}, "has no 'genre', which column of the method stratified names"),
        ({"method": "perfect-filter", "column": "sevenths", "keep": "9"}, "keep of the method perfect-filter is '9'"),
    ],
)
def test_columns_are_checked_before_anything_is_computed(pool: Pool, settings: dict[str, Any], message: str) -> None:
    config = CompareConfig.model_validate({**pool.config.model_dump(), "methods": [settings]})
    with pytest.raises(InputError, match=message):
        check_columns(pool.store, config, pool.corpus.key)


def test_only_what_a_choice_goes_by_is_charged_to_it(pool: Pool) -> None:
    def kinds(method: str, **settings: Any) -> Counter[str]:
        charged = artifacts_of_choice(pool.store, [pool.choose(method, **settings).key])
        return Counter(name.split("/")[0] for name in charged)

    shards = len(pool.embeddings)
    assert kinds("density") == kinds("stratified", column=None) == {"selection": 1, "embeddings": shards}
    assert kinds("dsir") == kinds("dedup") == {"selection": 1, "scores": 1}
    assert kinds("ask-llm") == {"selection": 1, "embeddings": shards, "scores": shards}
    assert (
        kinds("stratified")
        == kinds("balanced")
        == kinds("perfect-filter")
        == kinds("target-alone")
        == kinds("longest")
        == {"selection": 1}
    )
    assert kinds("density", with_target=True) == {"selection": 2, "embeddings": shards}


def test_gradient_matching_says_how_far_its_gradient_strays_and_aims_at_a_target_where_there_is_one(pool: Pool) -> None:
    by_pool = pool.choose("gradient-matching")
    assert 0 < by_pool.facts["mismatch"] < 0.5
    target = {"path": pool.config.corpus.path, "max_rows": 5}
    aimed = CompareConfig.model_validate({**pool.config.model_dump(), "target": target})
    known = ChosenFrom(pool.corpus.key, pool.embeddings, target=pool.embeddings[:1])
    by_target = select_by(pool.store, aimed, aimed.methods[0], BUDGET, 0, known)
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


def test_a_large_batch_is_a_uniform_choice_of_ten_times_the_budget(pool: Pool) -> None:
    drawn = draw_uniformly(pool.store, pool.config, 300, "tokens", 4, pool.corpus.key, pool.embeddings)
    assert pool.choose("large-batch", seed=4, budget=30).key == drawn.key


def test_the_share_on_target_is_of_tokens_and_the_targets_own_rows_are_on_it(pool: Pool) -> None:
    keep = MethodConfig(method="perfect-filter", column="sevenths", keep="3")
    chosen = pool.choose("stratified")
    rows, places = pool.rows(), pool.places(chosen.key)
    tokens = pool.blocks.lengths.numpy()[places]
    good = [rows[place]["sevenths"] == 3 for place in places]
    share = tokens[good].sum() / tokens.sum()
    assert 0 < share < 1
    assert share_on_target(pool.store, [chosen.key], keep) == pytest.approx(share)
    filtered = pool.choose("perfect-filter")
    assert share_on_target(pool.store, [filtered.key], keep) == 1.0
    assert share_on_target(pool.store, [chosen.key, filtered.key], keep) == pytest.approx((share + 1) / 2)
    assert share_on_target(pool.store, [pool.choose("target-alone").key], keep) == 1.0
