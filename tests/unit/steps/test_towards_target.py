"""RDS+, cross-entropy difference and LESS as steps: what they compute, when they are found again, what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from fishersft import baselines
from fishersft.config.compare import CompareConfig
from fishersft.data.store import Store
from fishersft.models.adapters import checkpoint_file, load_checkpoint, with_adapters
from fishersft.models.example_gradients import gradient_features
from fishersft.models.tokenising import Tokenised
from fishersft.steps.chosen_from import ChosenFrom
from fishersft.steps.comparing import _seconds_choosing
from fishersft.steps.corpus import load_index, read_corpus, read_target, target_config
from fishersft.steps.embedding import embed_shard
from fishersft.steps.features import gradients_of_shard, nats_after_tuning, represent_shard
from fishersft.steps.methods import select_by
from fishersft.steps.outcome import Outcome
from fishersft.steps.picks import load_picks
from fishersft.steps.tokens import shard_tokens, tokenise_shard
from fishersft.steps.towards_target import Evidence
from fishersft.steps.warm_ups import tune_on_target, warm_up_on_pool

BUDGET = 150  # tokens


class Aimed:
    """A small corpus and a target of three verses, read and embedded; what each method goes by is computed once."""

    def __init__(self, config: CompareConfig) -> None:
        self.config, self.store = config, Store(config.store)
        self.towards = target_config(config.aiming())
        self.corpus, self.target = read_corpus(self.store, config), read_target(self.store, config.aiming())
        self.shards, self.aims = (of.facts["shard_keys"] for of in (self.corpus, self.target))
        self.embeddings = [embed_shard(self.store, config.embedded(), shard) for shard in self.shards]

    def evidence(self, method: str) -> tuple[Evidence, list[Outcome]]:
        if method == "rds+":
            pool = [represent_shard(self.store, self.config, shard) for shard in self.shards]
            aims = [represent_shard(self.store, self.towards, shard) for shard in self.aims]
            return Evidence([keys(pool)], [keys(aims)], None), [*pool, *aims]
        if method == "cross-entropy-difference":
            tuned = tune_on_target(self.store, self.config.aiming(), self.target.key)
            after = [nats_after_tuning(self.store, self.config, shard, tuned.key) for shard in self.shards]
            return Evidence([keys(after)], [], tuned.key), [tuned, *after]
        warm_up = warm_up_on_pool(self.store, self.config, self.corpus.key)
        pool, aims = (
            [
                [gradients_of_shard(self.store, config, shard, warm_up.key, epoch, adam) for shard in shards]
                for epoch in range(4)
            ]
            for config, shards, adam in ((self.config, self.shards, True), (self.towards, self.aims, False))
        )
        made = [warm_up, *(outcome for part in (*pool, *aims) for outcome in part)]
        return Evidence([keys(part) for part in pool], [keys(part) for part in aims], warm_up.key), made

    def choose(self, method: str, evidence: Evidence) -> Outcome:
        config = CompareConfig.model_validate({**self.config.model_dump(), "methods": [method]})
        (chosen_by,) = config.methods
        known = ChosenFrom(self.corpus.key, keys(self.embeddings), evidence={chosen_by.method: evidence})
        return select_by(self.store, config, chosen_by, BUDGET, 0, known)

    def places(self, selection: Outcome) -> list[int]:
        """Where in the pool the picks are, in their order."""
        index, picks = load_index(self.store, self.corpus.key), load_picks(self.store, selection.key)
        begins = dict(zip(index.shards, np.cumsum([0, *index.rows]), strict=False))
        return [int(begins[shard]) + row for shard, row in zip(picks.shards, picks.rows, strict=True)]

    def sentences(self, config: Any, shards: Sequence[str]) -> list[Tokenised]:
        return [s for shard in shards for s in shard_tokens(self.store, tokenise_shard(self.store, config, shard))]

    @property
    def pool(self) -> list[Tokenised]:
        return self.sentences(self.config, self.shards)

    @property
    def lengths(self) -> np.ndarray:
        return np.array([sentence.loss_tokens for sentence in self.pool])


def keys(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.key for outcome in outcomes]


def settings(tmp_path: Path, model: Path, target: str) -> CompareConfig:
    corpus, aim = tmp_path / "verses.txt", tmp_path / f"{target}.txt"
    corpus.write_text("".join(f"{n} verses of my {'heart ' * (n % 7)}and {n * n} more\n" for n in range(50)))
    aim.write_text("".join(f"the {target} {n} of May\n" for n in range(3)))
    return CompareConfig.model_validate(
        {
            "corpus": {"path": str(corpus)},
            "model": {"path": str(model), "max_tokens": 64},
            "embedding": {"shard_rows": 24},
            "selection": {"budget_unit": "tokens"},
            "finetune": {"learning_rate": 1e-3, "lora_rank": 2, "epochs": 3},
            "methods": ["cross-entropy-difference"],
            "target": {"path": str(aim)},
            "store": str(tmp_path / "store"),
        }
    )


@pytest.fixture
def aimed(tmp_path: Path, tiny_model_folder: Path) -> Aimed:
    return Aimed(settings(tmp_path, tiny_model_folder, "winds"))


def states(model: Any, sentence: Tokenised) -> np.ndarray:
    """The mean of a sentence's last hidden states by transformers, later ones weighing more."""
    with torch.inference_mode():
        found = model(torch.tensor([sentence.input_ids]), output_hidden_states=True).hidden_states[-1][0]
    weights = np.arange(1, len(sentence.input_ids) + 1)
    return weights @ found.double().numpy() / weights.sum()


def nats_per_token(model: Any, sentence: Tokenised) -> float:
    with torch.inference_mode():
        return float(model(torch.tensor([sentence.input_ids]), labels=torch.tensor([sentence.labels])).loss)


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = (of / np.linalg.norm(of, axis=1, keepdims=True) for of in (one, other))
    return one @ other.T


def test_rds_plus_compares_the_states_of_the_pool_with_those_of_the_target(
    aimed: Aimed, tiny_model_folder: Path
) -> None:
    evidence, made = aimed.evidence("rds+")
    chosen = aimed.choose("rds+", evidence)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder).eval()
    target = aimed.sentences(aimed.towards, aimed.aims)
    pool, aims = (np.stack([states(model, sentence) for sentence in of]) for of in (aimed.pool, target))
    expected = baselines.round_robin(cosines(aims, pool), aimed.lengths, BUDGET, budget_unit="tokens")
    assert aimed.places(chosen) == expected.tolist()
    assert aimed.choose("rds+", evidence).hit and all(of.hit for of in aimed.evidence("rds+")[1])
    spent = sum(outcome.seconds for outcome in (*made, chosen))
    assert _seconds_choosing(aimed.store, [chosen.key]) == pytest.approx(spent)


def test_cross_entropy_difference_takes_what_two_epochs_on_the_target_made_likelier(
    aimed: Aimed, tiny_model_folder: Path
) -> None:
    evidence, (tuned, *scored) = aimed.evidence("cross-entropy-difference")
    assert tuned.facts["sentences"] == 3 and tuned.facts["steps"] == 2 * tuned.facts["steps_per_epoch"]
    chosen = aimed.choose("cross-entropy-difference", evidence)
    before, after = (
        np.array([nats_per_token(model, sentence) for sentence in aimed.pool])
        for model in (
            AutoModelForCausalLM.from_pretrained(folder).eval()
            for folder in (tiny_model_folder, aimed.store.fetch("warm-up", tuned.key))
        )
    )
    ranked = np.argsort(after - before, kind="stable")
    places = aimed.places(chosen)
    np.testing.assert_allclose((after - before)[places], (after - before)[ranked[: len(places)]], atol=1e-5)
    spent = sum(outcome.seconds for outcome in (*aimed.embeddings, tuned, *scored, chosen))
    assert _seconds_choosing(aimed.store, [chosen.key]) == pytest.approx(spent)


def test_less_warms_up_on_a_twentieth_and_ranks_by_influence_on_the_targets_mean_gradient(
    aimed: Aimed, tiny_model_folder: Path
) -> None:
    evidence, made = aimed.evidence("less")
    facts = aimed.store.get("warm-up", str(evidence.warm_up)).facts
    rows = len(aimed.pool)
    assert facts["sentences"] == round(rows / 20) and len(facts["learning_rates"]) == 4
    of_mean, of_each = np.zeros((1, rows)), np.zeros((3, rows))
    for epoch, rate in enumerate(facts["learning_rates"]):
        model = with_adapters(AutoModelForCausalLM.from_pretrained(tiny_model_folder), 2, seed=9)
        file = aimed.store.fetch("warm-up", str(evidence.warm_up)) / checkpoint_file(epoch)
        moments = load_checkpoint(model, file)
        pool = gradient_features(model, aimed.pool, moments).double().numpy()
        target = gradient_features(model, aimed.sentences(aimed.towards, aimed.aims)).double().numpy()
        of_mean += rate * cosines(target.mean(axis=0, keepdims=True), pool)
        of_each += rate * cosines(target, pool)
    chosen, by_turns = (aimed.choose(method, evidence) for method in ("less", "less-round-robin"))
    best = np.sort(of_mean[0])[::-1]
    places = aimed.places(chosen)
    np.testing.assert_allclose(of_mean[0][places], best[: len(places)], atol=1e-3 * sum(facts["learning_rates"]))
    expected = baselines.round_robin(of_each, aimed.lengths, BUDGET, budget_unit="tokens")
    assert len(set(aimed.places(by_turns)) & set(expected.tolist())) >= 0.8 * len(expected)  # float16 may swap two
    for selection in (chosen, by_turns):
        spent = sum(outcome.seconds for outcome in (*made, selection))
        assert _seconds_choosing(aimed.store, [selection.key]) == pytest.approx(spent)
    assert all(outcome.hit for outcome in aimed.evidence("less")[1])


def test_another_target_is_another_choice_and_the_pools_features_are_found(
    aimed: Aimed, tmp_path: Path, tiny_model_folder: Path
) -> None:
    first, _ = aimed.evidence("rds+")
    other = Aimed(settings(tmp_path, tiny_model_folder, "heart"))
    second, made = other.evidence("rds+")
    assert second.pool == first.pool and second.target != first.target
    assert [outcome.hit for outcome in made] == [True] * len(first.pool[0]) + [False]
    assert other.choose("rds+", second).key != aimed.choose("rds+", first).key
