"""The selection step on a small corpus: by each criterion, under conditions, from disk, and what it says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM

from fishersft.data.block_files import read_blocks, read_weights
from fishersft.errors import InputError
from fishersft.numerics import StoredBlocks, TokenBlocks, information_gains_along, select
from fishersft.steps import choosing
from fishersft.steps.choosing import proof_sentence, settings_in_words
from fishersft.steps.corpus import load_index, read_target, shard_rows, target_config
from fishersft.steps.embedding import embed_shard
from fishersft.steps.outcome import Outcome
from fishersft.steps.picks import load_picks, picked_rows
from fishersft.steps.publishing import publish_dataset
from fishersft.steps.selection import select_informative, select_uniform
from tests.unit.steps.small_run import Run


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


def test_a_token_budget_under_the_shortest_sentence_is_refused(run: Run) -> None:
    with pytest.raises(InputError, match=r"selection\.budget 1 tokens is less than the shortest sentence"):
        run.changed(selection={"budget": 1, "budget_unit": "tokens"}).selected()


@pytest.fixture
def target_file(tmp_path: Path) -> Path:
    path = tmp_path / "target.txt"
    path.write_text("rough winds\nshake darling buds\nlease short date\nheaven\n")
    return path


def v_optimal(run: Run, target_file: Path) -> tuple[Run, Outcome, list[str], list[str], Outcome]:
    """The run by the V-optimal criterion: itself, corpus, embeddings, the target's embeddings, the selection."""
    aimed = run.changed(selection={"criterion": "v-optimal"}, target={"path": str(target_file)})
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
    with pytest.raises(InputError, match=r"target, read as a corpus: the corpus is empty"):
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
