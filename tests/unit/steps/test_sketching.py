"""Matching the gradients of all layers: sketches as artifacts of their own, and what is chosen by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from fishersft import baselines
from fishersft.config import CurateConfig
from fishersft.config.compare import CompareConfig
from fishersft.data.block_files import GRADIENTS_FILE, read_gradients
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.models.layer_gradients import layer_gradients
from fishersft.steps.chosen_from import ChosenFrom
from fishersft.steps.comparing import _seconds_choosing
from fishersft.steps.corpus import read_corpus, read_target, target_config
from fishersft.steps.embedding import embed_shard
from fishersft.steps.methods import select_by
from fishersft.steps.missing_shards import missing_shards, shards_to_embed
from fishersft.steps.outcome import Outcome
from fishersft.steps.picks import load_picks, picked_examples
from fishersft.steps.selection import select_informative
from fishersft.steps.sketching import sketch_shard
from fishersft.steps.tokens import shard_tokens, tokenise_shard


@pytest.fixture
def settings(tmp_path: Path, tiny_model_folder: Path) -> dict[str, Any]:
    verses = tmp_path / "verses.txt"
    verses.write_text("".join(f"verse {n} of {'may ' * (n % 5 + 1)}and {n * n}\n" for n in range(40)))
    return {
        "corpus": {"path": str(verses)},
        "model": {"path": str(tiny_model_folder)},
        "embedding": {"shard_rows": 16},
        "selection": {
            "budget": 60,
            "budget_unit": "tokens",
            "criterion": "gradient-matching",
            "gradients": "all layers",
        },
        "store": str(tmp_path / "store"),
    }


class Pool:
    """The corpus of a config, embedded and sketched; the target too, where there is one."""

    def __init__(self, settings: dict[str, Any], target: dict[str, str] | None = None, **selection: Any) -> None:
        merged = {**settings, "target": target, "selection": {**settings["selection"], **selection}}
        self.config = CurateConfig.model_validate(merged)
        self.store = Store(self.config.store)
        self.corpus = read_corpus(self.store, self.config)
        self.shards = self.corpus.facts["shard_keys"]
        self.embeddings = [embed_shard(self.store, self.config, shard).key for shard in self.shards]
        self.gradients = [sketch_shard(self.store, self.config, shard).key for shard in self.shards]
        self.target = list[str]()
        if self.config.target is not None:
            aiming = target_config(self.config)
            shards = read_target(self.store, self.config).facts["shard_keys"]
            self.target = [sketch_shard(self.store, aiming, shard).key for shard in shards]

    def choose(self) -> Outcome:
        by = self.corpus.key, self.embeddings, self.target
        return select_informative(self.store, self.config, *by, gradients=self.gradients)

    def sketches(self, keys: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """(sentences, dim) and (sentences,): the sketches of those artifacts and the tokens of their sentences."""
        read = [read_gradients(self.store.fetch("gradients", key) / GRADIENTS_FILE) for key in keys]
        lengths = [self.store.get("gradients", key).facts["lengths"] for key in keys]
        return torch.cat(read).double().numpy(), np.concatenate(lengths)


def test_a_shards_sketches_are_those_of_its_tokens(settings: dict[str, Any], tiny_llama: LlamaForCausalLM) -> None:
    pool = Pool(settings)
    tokens = tokenise_shard(pool.store, pool.config, pool.shards[0])
    found, lengths = pool.sketches(pool.gradients[:1])
    sentences = shard_tokens(pool.store, tokens)
    np.testing.assert_allclose(found, layer_gradients(tiny_llama, sentences), rtol=1e-4, atol=1e-6)
    assert lengths.tolist() == [sentence.loss_tokens for sentence in sentences]
    assert sketch_shard(pool.store, pool.config, pool.shards[0]).hit


def test_the_choice_is_the_herding_of_all_layers_sketches_and_beside_them_blocks_are_as_ever(
    settings: dict[str, Any],
) -> None:
    pool = Pool(settings)
    selection = pool.choose()
    gradients, lengths = pool.sketches(pool.gradients)
    places = baselines.herding(gradients, lengths, 60, budget_unit="tokens")
    assert load_picks(pool.store, selection.key).tokens == lengths[places].tolist()
    manifest = pool.store.get("selection", selection.key)
    assert {f"gradients/{key}" for key in pool.gradients} < set(manifest.sources)
    assert manifest.params["gradients"] == "all layers"
    plain = pool.config.model_copy(update={"selection": type(pool.config.selection)()})
    assert [embed_shard(pool.store, plain, shard).key for shard in pool.shards] == pool.embeddings


def test_the_choice_aims_at_the_targets_gradients(settings: dict[str, Any], tmp_path: Path) -> None:
    aim = tmp_path / "aim.txt"
    aim.write_text("may may may may may and 9\nverse may may may and 4\n")
    pool = Pool(settings, target={"path": str(aim)})
    of_target, tokens = pool.sketches(pool.target)
    gradients, lengths = pool.sketches(pool.gradients)
    mean = of_target.sum(axis=0) / tokens.sum()
    places = baselines.herding(gradients, lengths, 60, mean=mean, budget_unit="tokens")
    selection = pool.choose()
    assert load_picks(pool.store, selection.key).tokens == lengths[places].tolist()
    assert selection.facts["mismatch"] == pytest.approx(baselines.mismatch(gradients, lengths, places, mean), rel=1e-6)
    assert {f"gradients/{key}" for key in pool.target} < set(pool.store.get("selection", selection.key).sources)


def test_an_extension_goes_on_as_if_all_were_chosen_at_once_and_needs_the_same_gradients(
    settings: dict[str, Any],
) -> None:
    settings["selection"]["budget_unit"] = "sentences"

    def texts(pool: Pool, selection: Outcome) -> list[str]:
        picks = picked_examples(pool.store, pool.config.corpus, load_picks(pool.store, selection.key))
        return [example.id for example in picks]

    whole, first = Pool(settings, budget=9), Pool(settings, budget=4)
    beginning = first.choose()
    rest = Pool(settings, budget=5, extends=beginning.key)
    assert texts(whole, whole.choose()) == [*texts(first, beginning), *texts(rest, rest.choose())]

    plain = Pool(settings, criterion="information", gradients="last layer", budget=4)
    by_design = select_informative(plain.store, plain.config, plain.corpus.key, plain.embeddings)
    with pytest.raises(InputError, match="was made without gradients of all layers"):
        Pool(settings, extends=by_design.key).choose()


def test_shards_are_missing_until_they_are_sketched(settings: dict[str, Any]) -> None:
    pool = Pool(settings)
    other = pool.config.model_copy(update={"model": pool.config.model.model_copy(update={"dtype": "bfloat16"})})
    for config, missing in ((pool.config, 0), (other, len(pool.shards))):
        wanted = shards_to_embed(pool.store, config, pool.shards, "gradients")
        assert len(missing_shards(pool.store, wanted)) == missing
    assert [shard.key for shard in shards_to_embed(pool.store, pool.config, pool.shards, "gradients")] == pool.gradients


def test_a_comparison_has_both_and_charges_each_with_its_own_gradients(settings: dict[str, Any]) -> None:
    both = ["gradient-matching", {"method": "gradient-matching", "gradients": "all layers"}]
    config = CompareConfig.model_validate(
        {**settings, "methods": both, "selection": {"budget_unit": "tokens"}, "budgets": [60]}
    )
    assert [method.name for method in config.methods] == ["gradient matching", "gradient matching, all layers"]
    assert config.matches_all_layers
    pool = Pool(settings)
    embeddings = [embed_shard(pool.store, config.embedded(), shard).key for shard in pool.shards]
    known = ChosenFrom(pool.corpus.key, embeddings, gradients=pool.gradients)
    last, whole = (select_by(pool.store, config, method, 60, 0, known) for method in config.methods)
    gradients, lengths = pool.sketches(pool.gradients)
    places = baselines.herding(gradients, lengths, 60, budget_unit="tokens")
    assert load_picks(pool.store, whole.key).tokens == lengths[places].tolist()
    assert "gradients" not in pool.store.get("selection", last.key).params  # as before there was such a setting

    def seconds(kind: str, keys: list[str]) -> float:
        return sum(pool.store.get(kind, key).seconds for key in keys)

    embedding, sketching = seconds("embeddings", embeddings), seconds("gradients", pool.gradients)
    assert _seconds_choosing(pool.store, [last.key]) == pytest.approx(embedding + last.seconds)
    assert _seconds_choosing(pool.store, [whole.key]) == pytest.approx(embedding + sketching + whole.seconds)


def test_a_model_whose_gradients_overflow_is_refused_with_the_example(settings: dict[str, Any]) -> None:
    folder = Path(settings["model"]["path"])
    model: Any = LlamaForCausalLM.from_pretrained(folder)
    model.model.layers[0].mlp.down_proj.weight.data[0, 0] = torch.nan
    model.save_pretrained(folder)
    config = CurateConfig.model_validate(settings)
    store = Store(config.store)
    (shard, *_) = read_corpus(store, config).facts["shard_keys"]
    with pytest.raises(InputError, match="gradients are NaN or infinity for the example"):
        sketch_shard(store, config, shard)
