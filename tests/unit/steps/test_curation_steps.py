"""The cached steps on a small corpus with a tiny random model: what is made, what is found again, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import fsspec
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from fishersft.data.block_files import read_blocks, read_weights
from fishersft.data.keys import artifact_key
from fishersft.data.store import Store, put_folder
from fishersft.errors import InputError
from fishersft.numerics.projection import random_basis
from fishersft.steps.corpus import load_index, read_corpus, shard_rows
from fishersft.steps.picks import load_picks, picked_rows
from fishersft.steps.publishing import publish_dataset
from fishersft.steps.selection import select_informative, select_uniform
from fishersft.steps.training import finetune_on
from tests.unit.steps.small_run import WORDS, Run


def test_shards_hold_the_pools_rows_exactly_and_no_held_out_row(run: Run, corpus_file: Path) -> None:
    corpus = read_corpus(run.store, run.config)
    index = load_index(run.store, corpus.key)
    pool = [row for shard in index.shards for row in shard_rows(run.store, shard)]
    held_out = shard_rows(run.store, index.held_out)
    came = [json.loads(line) for line in corpus_file.read_text(encoding="utf-8").splitlines()]
    texts = {row["text"] for row in held_out}
    assert len(index.shards) > 1 and held_out
    assert not texts & {row["text"] for row in pool}
    assert [row for row in came if row in pool] == pool
    source, number = index.source_of(index.shards[1], 0)
    assert source.endswith("verses.jsonl") and came[number - 1] == shard_rows(run.store, index.shards[1])[0]


def test_every_row_of_a_shard_is_traced_to_its_file_and_line(run: Run, tmp_path: Path) -> None:
    files = {name: [f"{name} {i}" for i in range(count)] for name, count in {"a": 40, "b": 2, "c": 20}.items()}
    folder = tmp_path / "several"
    folder.mkdir()
    for name, texts in files.items():
        (folder / f"{name}.txt").write_text("\n".join(texts) + "\n")
    several = run.changed(corpus={"path": str(folder)})
    index = load_index(run.store, read_corpus(run.store, several.config).key)
    places = set[tuple[str, int]]()
    for shard in [*index.shards, index.held_out]:
        for number, row in enumerate(shard_rows(run.store, shard)):
            source, line = index.source_of(shard, number)
            assert files[Path(source).stem][line - 1] == row["text"]
            places.add((source, line))
    assert len(places) == 62


def test_files_renamed_or_put_in_another_order_cost_no_embedding(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "several"
    folder.mkdir()
    for name, first in {"a": 0, "b": 40, "c": 55}.items():
        texts = [" ".join(WORDS[(i * k) % 15] for k in range(1, 4 + i % 5)) + f" {i}" for i in range(first, first + 30)]
        (folder / f"{name}.txt").write_text("\n".join(texts) + "\n")
    several = run.changed(corpus={"path": str(folder)})
    before, _ = several.embedded()
    for old, new in {"a": "z", "c": "a"}.items():
        (folder / f"{old}.txt").rename(folder / f"{new}.txt")
    after, embeddings = several.embedded()
    assert after.facts["shard_keys"] == before.facts["shard_keys"] and all(outcome.hit for outcome in embeddings)
    assert not after.hit, "where rows came from is told by the new names"


def test_everything_is_found_the_second_time(run: Run) -> None:
    first = run.selected()
    again_corpus, again_embeddings = run.embedded()
    assert not first[0].hit and again_corpus.hit and all(outcome.hit for outcome in again_embeddings)
    again = select_informative(run.store, run.config, again_corpus.key, [o.key for o in again_embeddings])
    assert again.hit and again.key == first[2].key


def test_batch_size_and_device_do_not_change_a_key_but_what_changes_bytes_does(run: Run) -> None:
    _, embeddings = run.embedded()
    same = run.changed(embedding={"batch_tokens": 64}).embedded()[1]
    assert all(outcome.hit for outcome in same)
    other = run.changed(model={"max_tokens": 5}).embedded()[1]
    assert {o.key for o in embeddings}.isdisjoint({o.key for o in other})


def test_blocks_without_weights_keep_the_key_they_had_before_there_were_weights(run: Run) -> None:
    _, embeddings = run.embedded()
    for outcome in embeddings:
        manifest = run.store.get("embeddings", outcome.key)
        assert outcome.key == artifact_key("embeddings", 4, {"dtype": "float32"}, manifest.inputs)
        with pytest.raises(InputError, match="expected weights"):
            read_weights(run.store.fetch("embeddings", outcome.key))


def test_weights_are_another_artifact_with_the_same_blocks(run: Run) -> None:
    _, plain = run.embedded()
    _, weighted = run.changed(selection={"criterion": "fisher-weighted"}).embedded()
    assert {o.key for o in plain}.isdisjoint({o.key for o in weighted})
    for one, other in zip(plain, weighted, strict=True):
        without, with_weights = (run.store.fetch("embeddings", outcome.key) for outcome in (one, other))
        assert torch.equal(read_blocks(without).values, read_blocks(with_weights).values)
        weights = read_weights(with_weights)
        assert weights.shape == (other.facts["tokens"],) and bool(((weights > 0) & (weights < 1)).all())
    assert all(outcome.hit for outcome in run.changed(selection={"budget": 3}).embedded()[1])


def test_a_field_that_is_no_part_of_the_example_does_not_cost_an_embedding(run: Run, corpus_file: Path) -> None:
    run.embedded()
    rows = [json.loads(line) for line in corpus_file.read_text(encoding="utf-8").splitlines()]
    corpus_file.write_text("".join(json.dumps({**row, "id": row["id"] + 1000}) + "\n" for row in rows))
    corpus, embeddings = run.embedded()
    assert not corpus.hit and all(outcome.hit for outcome in embeddings)


def test_the_curated_dataset_has_the_rows_as_they_came_in_with_rank_gain_and_tokens(run: Run) -> None:
    corpus, _, chosen = run.selected()
    publish_dataset(run.store, run.config, corpus.key, chosen.key)
    picks = load_picks(run.store, chosen.key)
    loaded = datasets.load_dataset(f"{run.config.output}/dataset", split="train")
    assert list(loaded["fishersft_rank"]) == list(range(1, 9))
    assert list(loaded["fishersft_gain"]) == picks.gains and list(loaded["fishersft_tokens"]) == picks.tokens
    columns = {"fishersft_rank", "fishersft_gain", "fishersft_tokens"}
    lines = Path(run.config.output, "dataset", "curated.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [{k: v for k, v in json.loads(line).items() if k not in columns} for line in lines]
    assert rows == picked_rows(run.store, picks)


def test_a_store_and_an_output_under_a_url_hold_the_same(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    url = f"memory://{tmp_path}"
    config = run.config.model_copy(update={"store": f"{url}/store", "output": f"{url}/output"})
    keys = []
    for place in (run, Run(Store(config.store), config)):
        corpus, embeddings, chosen = place.selected()
        publish_dataset(place.store, place.config, corpus.key, chosen.key)
        keys.append((corpus.key, embeddings, chosen.key))
    assert keys[0] == keys[1]
    local = Path(run.config.output, "dataset", "curated.jsonl").read_bytes()
    assert fsspec.filesystem("memory").cat(f"{tmp_path}/output/dataset/curated.jsonl") == local


def test_a_fine_tuned_model_is_kept_and_loads(run: Run, tiny_model_folder: Path) -> None:
    corpus, _, chosen = run.selected()
    trained = finetune_on(run.store, run.config, corpus.key, chosen.key)
    assert finetune_on(run.store, run.config, corpus.key, chosen.key).hit
    model = AutoModelForCausalLM.from_pretrained(run.store.fetch("fine-tuned-model", trained.key))
    before = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    assert not torch.equal(model.lm_head.weight, before.lm_head.weight)
    assert trained.facts["tokens_per_epoch"] == chosen.facts["tokens"]


def test_a_model_that_gives_nan_is_an_error_that_names_the_example(run: Run, tiny_model_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    model.base_model.norm.weight.data[3] = float("nan")
    model.save_pretrained(tiny_model_folder)
    with pytest.raises(InputError, match=r'NaN or infinity for the example \{"text":"'):
        run.embedded()


def test_weights_changed_in_place_are_embedded_anew(run: Run, tiny_model_folder: Path) -> None:
    _, before = run.embedded()
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    model.lm_head.weight.data.mul_(2)
    model.save_pretrained(tiny_model_folder)
    _, after = run.embedded()
    first, second = (read_blocks(run.store.fetch("embeddings", o[0].key)).values for o in (before, after))
    assert not torch.equal(first, second)


def test_a_dataset_written_anew_leaves_no_file_of_the_old_one(tmp_path: Path) -> None:
    for names in (("a.txt", "sub/b.txt"), ("a.txt",)):
        folder = tmp_path / str(len(names))
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
        put_folder(folder, f"{tmp_path}/out")
        (tmp_path / "out" / "mine.txt").write_text("the user's own")
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.txt")) == ["a.txt", "mine.txt"]


def test_a_second_training_takes_the_steps_of_the_first(run: Run) -> None:
    corpus, keys, chosen = run.selected()
    at_random = select_uniform(run.store, run.config, corpus.key, keys, chosen.facts["tokens"])
    trained = finetune_on(run.store, run.config, corpus.key, chosen.key)
    again = finetune_on(run.store, run.config, corpus.key, at_random.key, trained.facts["steps_per_epoch"])
    assert again.facts["steps"] == trained.facts["steps"]


def test_a_corrupted_embedding_is_refused_by_name(run: Run) -> None:
    corpus, embeddings = run.embedded()
    folder = run.store.fetch("embeddings", embeddings[0].key)
    (folder / "embeddings.safetensors").write_bytes(b"garbage")
    fresh = Store(run.config.store)
    with pytest.raises(InputError, match=f"embeddings artifact {embeddings[0].key}: file embeddings.safetensors"):
        select_informative(fresh, run.config, corpus.key, [outcome.key for outcome in embeddings])


def test_embeddings_in_random_directions_are_the_projections_of_the_whole_ones(run: Run) -> None:
    _, whole = run.embedded()
    small = run.changed(embedding={"project_to": 5})
    _, projections = small.embedded()
    basis = random_basis(read_blocks(run.store.fetch("embeddings", whole[0].key)).dim, 5)
    for one, other in zip(whole, projections, strict=True):
        blocks, kept = (read_blocks(run.store.fetch("embeddings", outcome.key)) for outcome in (one, other))
        torch.testing.assert_close(kept.values, (blocks.values.double() @ basis).float())
        of_sentences = [float(block.double().square().sum()) for block in blocks]
        assert other.facts["energy"] == pytest.approx(of_sentences)
        left = [float(block.double().square().sum()) for block in kept]
        discarded = np.subtract(of_sentences, left)
        np.testing.assert_allclose(other.facts["discarded_energy"], discarded, rtol=1e-4)
