"""What is evaluated on: the same held-out examples and prompts for every model, with or without those in the pool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoConfig, LlamaForCausalLM

from fishersft.config import CurateConfig
from fishersft.data.examples import TextExample
from fishersft.data.overlap import words_of
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.steps import held_out as step
from fishersft.steps.corpus import load_index, read_corpus, shard_examples
from fishersft.steps.evaluation import complete_prompts, measure_likelihood
from fishersft.steps.held_out import evaluated_examples, look_for_overlap

WORDS = ["shall", "compare", "thee", "summer", "lovely", "temperate", "rough", "winds", "shake", "darling", "buds"]


@pytest.fixture
def config(tmp_path: Path, tiny_model_folder: Path) -> CurateConfig:
    """Sixty speeches, twenty of which come a second time with other punctuation."""
    generator = np.random.default_rng(0)
    speeches = [" ".join(generator.choice(WORDS, size=9)) for _ in range(60)]
    lines = [*speeches, *(f"{speech}!" for speech in speeches[:20])]
    (tmp_path / "speeches.txt").write_text("\n".join(lines) + "\n")
    return CurateConfig.model_validate(
        {
            "corpus": {"path": str(tmp_path / "speeches.txt"), "held_out_fraction": 0.3},
            "model": {"path": str(tiny_model_folder)},
            "embedding": {"shard_rows": 16},
            "evaluation": {"prompts": 4, "prompt_tokens": 3, "new_tokens": 6, "overlap_words": 6},
            "store": str(tmp_path / "store"),
        }
    )


@pytest.fixture
def store(config: CurateConfig) -> Store:
    return Store(config.store)


@pytest.fixture
def corpus(store: Store, config: CurateConfig) -> str:
    return read_corpus(store, config).key


def asked_for(config: CurateConfig, **settings: Any) -> CurateConfig:
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update=settings)})


def test_what_overlaps_is_counted_and_evaluated_on_unless_it_is_to_be_left_out(
    store: Store, config: CurateConfig, corpus: str
) -> None:
    index = load_index(store, corpus)
    pool = [example for shard in index.shards for example in shard_examples(store, config.corpus, shard)]
    in_pool = {tuple(words_of(example.text)) for example in pool if isinstance(example, TextExample)}

    def is_clean(example: object) -> bool:
        return isinstance(example, TextExample) and tuple(words_of(example.text)) not in in_pool

    facts = look_for_overlap(store, config, corpus).facts
    everything = evaluated_examples(store, config, corpus)
    clean = evaluated_examples(store, asked_for(config, on_overlap="leave out"), corpus)
    assert 0 < facts["held_out"] < len(everything.examples) and facts["pool"] > 0 and facts["words"] == 6
    assert clean.examples == [example for example in everything.examples if is_clean(example)]
    assert len(everything.examples) - len(clean.examples) == facts["held_out"]
    assert [name.split("/")[0] for name in clean.sources] == ["corpus", "overlap"]


def test_likelihoods_and_prompts_are_of_the_clean_examples_only(
    store: Store, config: CurateConfig, corpus: str
) -> None:
    cleaned = asked_for(config, on_overlap="leave out", prompts=100)
    clean = [example.text for example in evaluated_examples(store, cleaned, corpus).examples]  # type: ignore[union-attr]
    measured = measure_likelihood(store, cleaned, corpus, None)
    assert measured.facts["sentences"] == len(clean)
    assert measured.key != measure_likelihood(store, config, corpus, None).key
    written = complete_prompts(store, cleaned, corpus, None)
    prompts = pq.read_table(store.fetch("generations", written.key) / "generations.parquet")["prompt"].to_pylist()
    assert len(prompts) == len(clean)
    assert all(text.startswith(prompt) for text, prompt in zip(clean, prompts, strict=True))


def test_where_nothing_overlaps_leaving_out_costs_no_evaluation_anew(
    store: Store, config: CurateConfig, tmp_path: Path
) -> None:
    lines = Path(str(config.corpus.path)).read_text().splitlines()
    (tmp_path / "once.txt").write_text("\n".join(line for line in lines if "!" not in line) + "\n")
    once = config.model_copy(update={"corpus": config.corpus.model_copy(update={"path": str(tmp_path / "once.txt")})})
    corpus = read_corpus(store, once).key
    assert look_for_overlap(store, once, corpus).facts["held_out"] == 0
    first = measure_likelihood(store, once, corpus, None)
    assert measure_likelihood(store, asked_for(once, on_overlap="leave out"), corpus, None).key == first.key


def test_overlap_is_looked_for_once_and_again_when_the_corpus_or_the_words_change(
    store: Store, config: CurateConfig, corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = look_for_overlap(store, config, corpus)
    monkeypatch.setattr(step, "find_overlap", lambda *_: pytest.fail("it was looked for again"))
    assert look_for_overlap(store, config, corpus).key == first.key
    monkeypatch.undo()
    assert not look_for_overlap(store, asked_for(config, overlap_words=7), corpus).hit
    with Path(str(config.corpus.path)).open("a") as file:
        file.write("rough winds shake\n")
    assert not look_for_overlap(store, config, read_corpus(store, config).key).hit


def test_a_held_out_part_that_is_all_in_the_pool_is_refused(tmp_path: Path, config: CurateConfig, store: Store) -> None:
    (tmp_path / "same.txt").write_text("\n".join(f"rough winds {'!' * n}" for n in range(20)) + "\n")
    same = asked_for(config, on_overlap="leave out")
    same = same.model_copy(update={"corpus": config.corpus.model_copy(update={"path": str(tmp_path / "same.txt")})})
    corpus = read_corpus(store, same).key
    with pytest.raises(InputError, match=r"held-out examples share 6 words in a row with the pool.*set evaluation"):
        evaluated_examples(store, same, corpus)


def other_model(store: Store, config: CurateConfig) -> str:
    """A model as fine-tuning would leave it, with other weights."""
    torch.manual_seed(7)
    key = "7" * 64
    with store.publish("fine-tuned-model", key, {}, {}) as draft:
        other = AutoConfig.from_pretrained(config.model.path, tie_word_embeddings=False)
        LlamaForCausalLM(other).save_pretrained(draft.folder)
    return key


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_model_gets_the_same_prompts(store: Store, config: CurateConfig, corpus: str, temperature: float) -> None:
    asked = asked_for(config, temperature=temperature)
    keys = [complete_prompts(store, asked, corpus, model).key for model in (None, other_model(store, config))]
    one, other = (pq.read_table(store.fetch("generations", key) / "generations.parquet") for key in keys)
    assert one["prompt"].to_pylist() == other["prompt"].to_pylist()
    assert one["completion"].to_pylist() != other["completion"].to_pylist()


def test_completions_are_made_anew_for_another_temperature_or_seed_but_not_for_the_default_written_out(
    store: Store, config: CurateConfig, corpus: str
) -> None:
    def key(seed: int = 0, **settings: Any) -> str:
        asked = asked_for(config, **settings).model_copy(update={"seed": seed})
        return complete_prompts(store, asked, corpus, None).key

    assert key() == key(temperature=0.0, top_p=1.0) == key(seed=5)
    different = [key(), key(temperature=1.0), key(temperature=0.5), key(temperature=1.0, top_p=0.9)]
    different.append(key(temperature=1.0, seed=5))
    assert len(set(different)) == 5


def test_other_examples_can_be_measured_on_and_their_overlap_is_found(
    store: Store, config: CurateConfig, corpus: str, tmp_path: Path
) -> None:
    pool = shard_examples(store, config.corpus, load_index(store, corpus).shards[0])
    known = next(example.text for example in pool if isinstance(example, TextExample))
    others = [f"{word} {word} winds" for word in WORDS]
    (tmp_path / "others.txt").write_text("\n".join([*others, known.upper()]) + "\n")
    other = asked_for(config, corpus=config.corpus.model_copy(update={"path": str(tmp_path / "others.txt")}))
    found = evaluated_examples(store, other, corpus)
    assert {example.text for example in found.examples if isinstance(example, TextExample)} == {*others, known.upper()}
    assert look_for_overlap(store, other, corpus).facts["held_out"] == 1
    assert len(evaluated_examples(store, asked_for(other, on_overlap="leave out"), corpus).examples) == len(others)
    assert measure_likelihood(store, other, corpus, None).facts["sentences"] == len(others) + 1


def test_other_examples_that_are_not_there_are_named_by_their_setting(
    store: Store, config: CurateConfig, corpus: str, tmp_path: Path
) -> None:
    missing = asked_for(config, corpus=config.corpus.model_copy(update={"path": str(tmp_path / "nowhere.txt")}))
    with pytest.raises(InputError, match=r"evaluation\.corpus, read as a corpus: .*nowhere"):
        evaluated_examples(store, missing, corpus)


def test_with_nothing_held_out_a_run_says_so_before_it_begins(config: CurateConfig) -> None:
    step.check_measurable(config)
    bare = config.model_copy(update={"corpus": config.corpus.model_copy(update={"held_out_fraction": 0.0})})
    with pytest.raises(InputError, match="held_out_fraction 0 leaves nothing to measure"):
        step.check_measurable(bare)
    elsewhere = asked_for(bare, corpus=config.corpus)
    step.check_measurable(elsewhere)
    early = elsewhere.model_copy(update={"finetune": config.finetune.model_copy(update={"early_stopping": 1})})
    with pytest.raises(InputError, match="early_stopping looks at the corpus's held-out examples"):
        step.check_measurable(early)
