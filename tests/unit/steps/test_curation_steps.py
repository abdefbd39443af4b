"""The cached steps on a small corpus with a tiny random model: what is made, what is found again, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM

from fishersft.data.block_files import read_blocks, read_weights
from fishersft.data.keys import artifact_key
from fishersft.data.store import Store, put_folder
from fishersft.errors import InputError
from fishersft.numerics import StoredBlocks, TokenBlocks, information_gains_along, select
from fishersft.numerics.projection import random_basis
from fishersft.steps import choosing
from fishersft.steps.choosing import proof_sentence, settings_in_words
from fishersft.steps.corpus import load_index, read_corpus, read_target, shard_rows, target_config
from fishersft.steps.embedding import embed_shard
from fishersft.steps.outcome import Outcome
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
        params = {"tokenising": 1, "max_tokens": 64, "dtype": "float32"}
        assert outcome.key == artifact_key("embeddings", 3, params, manifest.inputs)
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


def test_the_weighted_criterion_selects_by_weighted_tokens_and_so_does_its_uniform_baseline(
    run: Run, tiny_model_folder: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    model.lm_head.weight.data.mul_(12)  # a random model is sure of nothing: all weights would be alike
    model.save_pretrained(tiny_model_folder)
    by_weight = run.changed(selection={"criterion": "fisher-weighted"})
    corpus, keys, chosen = by_weight.selected()
    folders = [run.store.fetch("embeddings", key) for key in keys]
    weights = torch.cat([read_weights(folder) for folder in folders])
    assert float(weights.std()) > 0.05
    plain = TokenBlocks.concatenate([read_blocks(folder) for folder in folders])
    blocks = plain.weighted(weights)
    expected = select(blocks, 8, algorithm="naive")
    np.testing.assert_allclose(load_picks(run.store, chosen.key).gains, expected.gains, rtol=1e-4)

    pool = [
        (shard, row)
        for shard in load_index(run.store, corpus.key).shards
        for row in range(len(shard_rows(run.store, shard)))
    ]
    picks = load_picks(run.store, chosen.key)
    assert list(zip(picks.shards, picks.rows, strict=True)) == [pool[i] for i in expected.indices]

    at_random = select_uniform(run.store, by_weight.config, corpus.key, keys, chosen.facts["tokens"])
    drawn = load_picks(run.store, at_random.key)
    order = [pool.index(place) for place in zip(drawn.shards, drawn.rows, strict=True)]
    np.testing.assert_allclose(drawn.gains, information_gains_along(blocks, order), rtol=1e-9)
    assert sum(drawn.gains) < information_gains_along(plain, order).sum()
    same_draw = select_uniform(run.store, run.config, corpus.key, keys, chosen.facts["tokens"])
    assert same_draw.key != at_random.key and load_picks(run.store, same_draw.key).rows == drawn.rows


def test_a_field_that_is_no_part_of_the_example_does_not_cost_an_embedding(run: Run, corpus_file: Path) -> None:
    run.embedded()
    rows = [json.loads(line) for line in corpus_file.read_text(encoding="utf-8").splitlines()]
    corpus_file.write_text("".join(json.dumps({**row, "id": row["id"] + 1000}) + "\n" for row in rows))
    corpus, embeddings = run.embedded()
    assert not corpus.hit and all(outcome.hit for outcome in embeddings)


def test_the_merged_selection_equals_one_over_all_blocks(run: Run) -> None:
    corpus, keys, chosen = run.selected()
    blocks = TokenBlocks.concatenate([read_blocks(run.store.fetch("embeddings", key)) for key in keys])
    expected = select(blocks, 8, algorithm="naive")
    pool = [row for shard in load_index(run.store, corpus.key).shards for row in shard_rows(run.store, shard)]
    picks = load_picks(run.store, chosen.key)
    assert picked_rows(run.store, picks) == [pool[i] for i in expected.indices]
    np.testing.assert_allclose(picks.gains, expected.gains, rtol=1e-4)
    assert chosen.facts["sentences"] == 8 and chosen.facts["tokens"] == sum(picks.tokens)


def test_the_three_algorithms_pick_the_same_rows(run: Run) -> None:
    picks = [
        picked_rows(run.store, load_picks(run.store, run.changed(selection={"algorithm": name}).selected()[2].key))
        for name in ("lazy", "paper", "naive")
    ]
    assert picks[0] == picks[1] == picks[2]


def test_the_uniform_selection_has_as_many_tokens(run: Run) -> None:
    corpus, keys, chosen = run.selected()
    at_random = select_uniform(run.store, run.config, corpus.key, keys, chosen.facts["tokens"])
    longest = max(length for key in keys for length in run.store.get("embeddings", key).facts["lengths"])
    assert abs(at_random.facts["tokens"] - chosen.facts["tokens"]) <= longest
    assert at_random.facts["information_gain"] > 0


def test_a_budget_beyond_the_pool_chooses_all_of_it_and_says_so(run: Run) -> None:
    corpus, _, chosen = run.changed(selection={"budget": 10_000}).selected()
    assert chosen.facts["sentences"] == corpus.facts["pool"] and chosen.facts["exhausted"] is True


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


def test_a_token_budget_under_the_shortest_sentence_is_refused(run: Run) -> None:
    with pytest.raises(InputError, match=r"selection\.budget 1 tokens is less than the shortest sentence"):
        run.changed(selection={"budget": 1, "budget_unit": "tokens"}).selected()


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


@pytest.fixture
def target_file(tmp_path: Path) -> Path:
    path = tmp_path / "target.txt"
    path.write_text("rough winds\nshake darling buds\nlease short date\nheaven\n")
    return path


def v_optimal(run: Run, target_file: Path) -> tuple[Run, Outcome, list[str], list[str], Outcome]:
    """The run by the V-optimal criterion: itself, corpus, embeddings, the target's embeddings, the selection."""
    aimed = run.changed(selection={"criterion": "v-optimal", "target": {"path": str(target_file)}})
    corpus, embeddings = aimed.embedded()
    target = read_target(aimed.store, aimed.config)
    keys = [outcome.key for outcome in embeddings]
    target_keys = [
        embed_shard(aimed.store, target_config(aimed.config), shard).key for shard in target.facts["shard_keys"]
    ]
    chosen = select_informative(aimed.store, aimed.config, corpus.key, keys, target_keys)
    return aimed, corpus, keys, target_keys, chosen


def test_the_v_optimal_selection_is_the_librarys_towards_all_of_the_target(run: Run, target_file: Path) -> None:
    aimed, corpus, keys, target_keys, chosen = v_optimal(run, target_file)
    read = [
        TokenBlocks.concatenate([read_blocks(run.store.fetch("embeddings", key)) for key in some])
        for some in (keys, target_keys)
    ]
    blocks, target = read
    assert len(target) == 4  # none held out
    expected = select(blocks, 8, criterion="v-optimal", target=target)
    columns = pq.read_table(run.store.fetch("selection", chosen.key) / "selection.parquet").to_pydict()
    np.testing.assert_allclose(columns["variance_reduction"], expected.gains, rtol=1e-6)
    np.testing.assert_allclose(columns["gain"], information_gains_along(blocks, expected.indices), rtol=1e-6)
    facts = chosen.facts
    before = float(target.values.double().square().sum()) / len(target.values)
    assert facts["variance_before"] == pytest.approx(before)
    assert facts["variance"] == pytest.approx(before - expected.gains.sum())
    assert facts["certificate"] is None and "no certificate" in proof_sentence(facts)

    publish_dataset(run.store, aimed.config, corpus.key, chosen.key)
    card = Path(run.config.output, "dataset", "README.md").read_text(encoding="utf-8")
    assert "what takes most off a language model's prediction variance on a target" in card

    again = v_optimal(run, target_file)[-1]
    target_file.write_text("summer\n")
    assert again.hit and v_optimal(run, target_file)[-1].key != chosen.key


def test_an_empty_target_is_refused_by_its_name(run: Run, target_file: Path) -> None:
    target_file.write_text("\n")
    with pytest.raises(InputError, match=r"selection\.target, read as a corpus: the corpus is empty"):
        v_optimal(run, target_file)


def test_quotas_go_by_a_column_of_the_corpus(run: Run, corpus_file: Path) -> None:
    rows = [json.loads(line) for line in corpus_file.read_text(encoding="utf-8").splitlines()]
    corpus_file.write_text("".join(json.dumps({**row, "year": 2020 + row["id"] % 3}) + "\n" for row in rows))
    quotas = {"quota_column": "year", "quotas": {"2020": 1, "2021": 2}}
    *_, chosen = run.changed(selection=quotas).selected()
    years = [row["year"] for row in picked_rows(run.store, load_picks(run.store, chosen.key))]
    assert {year: years.count(year) for year in years} == {2020: 1, 2021: 2, 2022: 5}
    with pytest.raises(InputError, match="quota for group '1999'"):
        run.changed(selection={**quotas, "quotas": {"1999": 1}}).selected()


def test_a_row_without_the_quotas_column_is_named(run: Run, corpus_file: Path) -> None:
    with pytest.raises(InputError, match=r"verses\.jsonl:\d+ has no 'year', which selection\.quota_column names"):
        run.changed(selection={"quota_column": "year", "quotas": {"2020": 1}}).selected()


def test_a_selection_that_was_cut_short_goes_on_where_it_was(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, embeddings = run.embedded()
    keys = [outcome.key for outcome in embeddings]
    notes = list[str]()

    def interrupt(done: int, total: int, note: str = "") -> None:
        notes.append(note)
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        select_informative(run.store, run.config, corpus.key, keys, on_progress=interrupt)
    (checkpoint,) = Path(run.config.store, ".checkpoints").iterdir()
    assert notes[2].startswith("3 picks, ") and notes[2].endswith("% of the best possible")

    first = list[int]()
    chosen = select_informative(
        run.store, run.config, corpus.key, keys, on_progress=lambda done, total, note="": first.append(done)
    )
    assert first[0] <= 4 and checkpoint.name == f"selection-{chosen.key}.json" and not checkpoint.exists()
    blocks = TokenBlocks.concatenate([read_blocks(run.store.fetch("embeddings", key)) for key in keys])
    np.testing.assert_allclose(load_picks(run.store, chosen.key).gains, select(blocks, 8).gains, rtol=1e-6)


def test_only_what_changes_a_selection_is_in_its_key(run: Run) -> None:
    *_, chosen = run.selected()
    assert run.changed(selection={"certificate_seconds": 5.0}).selected()[2].hit
    for settings in ({"stop_below": 1e-3}, {"project_to": 3}, {"regularization_unit": "mean token energy"}):
        *_, other = run.changed(selection=settings).selected()
        assert other.key != chosen.key and not other.hit
    proven = {"certificate": "frank-wolfe"}
    keys = {run.changed(selection={**proven, "certificate_seconds": t}).selected()[2].key for t in (5.0, 6.0)}
    assert len(keys) == 2


def test_what_was_asked_for_is_said_in_words(run: Run) -> None:
    settings = {
        "budget": 30,
        "budget_unit": "tokens",
        "stop_below": 1e-9,
        "project_to": 4,
        "regularization": 0.5,
        "regularization_unit": "mean token energy",
    }
    changed = run.changed(selection=settings)
    facts = changed.selected()[2].facts
    words = settings_in_words(changed.config.selection, facts)
    assert words["Budget"] == "30 tokens" and words["Stop below"] == "1e-09, not reached"
    assert words["Regularization"] == f"0.5 × mean token energy = {facts['regularization']:.4g}"
    assert words["Projected to"].startswith("4 dimensions; at most ")
    assert words["Chosen by"] == facts["rule"] and "by the prefix bound" in words["No selection can gain more than"]
    plain = settings_in_words(run.config.selection, run.selected()[2].facts)
    assert list(plain) == ["Budget", "Criterion", "Regularization", "No selection can gain more than"]


def test_a_threshold_that_no_sentence_reaches_is_an_error(run: Run) -> None:
    with pytest.raises(InputError, match=r"selection\.stop_below 1e\+06: no sentence of the pool adds as much"):
        run.changed(selection={"stop_below": 1e6}).selected()


@pytest.mark.parametrize("criterion", ["information", "fisher-weighted"])
def test_a_pool_larger_than_the_memory_stays_on_disk_and_gives_the_same_selection(
    run: Run, criterion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run.changed(selection={"criterion": criterion})
    _, _, in_memory = run.selected()
    for file in run.store.fetch("selection", in_memory.key).parent.glob("manifest.json"):
        file.unlink()
    used = list[int]()
    monkeypatch.setattr(
        choosing, "StoredBlocks", lambda files, memory: used.append(memory) or StoredBlocks(files, memory)
    )
    _, _, from_disk = run.changed(selection={"memory": "24K", "criterion": criterion}).selected()
    assert used == [24 * 1024]
    assert (from_disk.key, from_disk.hit) == (in_memory.key, False)
    assert load_picks(run.store, from_disk.key).rows == load_picks(run.store, in_memory.key).rows


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


def test_what_a_projection_cannot_show_of_a_selection_is_bounded_and_told(run: Run) -> None:
    _, whole = run.embedded()
    blocks = TokenBlocks.concatenate([read_blocks(run.store.fetch("embeddings", outcome.key)) for outcome in whole])
    small = run.changed(embedding={"project_to": 5})
    _, _, selected = small.selected()
    facts = run.store.get("selection", selected.key).facts
    saved = load_picks(run.store, selected.key)
    shards = [o.key for o in small.embedded()[1]]
    sizes = np.cumsum([0] + [run.store.get("embeddings", key).facts["sentences"] for key in shards])
    order = load_index(run.store, small.embedded()[0].key).shards
    indices = [int(sizes[order.index(shard)]) + row for shard, row in zip(saved.shards, saved.rows, strict=True)]
    really = float(information_gains_along(blocks, np.array(indices)).sum())
    assert sum(saved.gains) < really <= sum(saved.gains) + facts["unseen_nats"]
    assert 0 < facts["energy_kept"] < 1
    words = settings_in_words(small.config.selection, facts)["Embeddings"]
    assert words.startswith("in 5 of ") and "are in the others" in words
