"""A selection that extends an earlier one: what it counts, what it forgets, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fishersft.data.block_files import read_blocks
from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks, select
from fishersft.steps.choosing import settings_in_words
from fishersft.steps.corpus import load_index, shard_rows
from fishersft.steps.outcome import Outcome
from fishersft.steps.picks import load_picks, picked_rows
from fishersft.steps.selection import select_uniform
from tests.unit.steps.small_run import Run


def test_an_extension_chooses_other_examples_and_counts_what_is_known(run: Run, corpus_file: Path) -> None:
    *_, first = run.selected()
    second_run = run.changed(selection={"extends": first.key})
    *_, second = second_run.selected()
    whole = picked_rows(run.store, load_picks(run.store, run.changed(selection={"budget": 16}).selected()[2].key))
    parts = [picked_rows(run.store, load_picks(run.store, key)) for key in (first.key, second.key)]
    assert parts[0] + parts[1] == whole

    # Shards move when rows are put before them; the examples are found again, and so is what the first extends.
    corpus_file.write_text('{"id": -1, "text": "thee"}\n' + corpus_file.read_text(encoding="utf-8"))
    third_run = run.changed(selection={"extends": second.key})
    corpus, keys, third = third_run.selected()
    chosen = [row["text"] for row in picked_rows(run.store, load_picks(run.store, third.key))]
    assert len(chosen) == 8 and not {row["text"] for row in whole} & set(chosen)

    at_random = select_uniform(run.store, third_run.config, corpus.key, keys, third.facts["tokens"])
    drawn = {row["text"] for row in picked_rows(run.store, load_picks(run.store, at_random.key))}
    assert drawn and not {row["text"] for row in whole} & drawn


def remove(corpus_file: Path, texts: set[str]) -> None:
    lines = corpus_file.read_text(encoding="utf-8").splitlines(keepends=True)
    corpus_file.write_text("".join(line for line in lines if json.loads(line)["text"] not in texts), encoding="utf-8")


def texts_of(run: Run, selection: Outcome) -> list[str]:
    return [row["text"] for row in picked_rows(run.store, load_picks(run.store, selection.key))]


def test_what_was_removed_from_the_corpus_no_longer_counts_in_an_extension(run: Run, corpus_file: Path) -> None:
    *_, first = run.selected()
    assert "removed_since" not in first.facts
    unchanged = run.changed(selection={"extends": first.key}).selected()[2]
    assert unchanged.facts["removed_since"] == 0

    gone, kept = texts_of(run, first)[:3], texts_of(run, first)[3:]
    remove(corpus_file, set(gone))
    extending = run.changed(selection={"extends": first.key})
    corpus, keys, extended = extending.selected()
    assert extended.facts["removed_since"] == 3
    words = settings_in_words(extending.config.selection, extended.facts)
    assert words["Extends"].endswith(", without 3 picks removed from the corpus since")

    blocks = TokenBlocks.concatenate([read_blocks(run.store.fetch("embeddings", key)) for key in keys])
    pool = [row["text"] for key in load_index(run.store, corpus.key).shards for row in shard_rows(run.store, key)]
    still = [pool.index(text) for text in kept]
    expected = select(blocks, 8, already_selected=TokenBlocks.from_sequence([blocks[i] for i in still]), exclude=still)
    assert texts_of(run, extended) == [pool[i] for i in expected.indices]
    at_random = select_uniform(run.store, extending.config, corpus.key, keys, extended.facts["tokens"])
    assert at_random.facts["removed_since"] == 3


def test_picks_that_are_held_out_now_still_count_in_an_extension(run: Run) -> None:
    *_, first = run.selected()
    other_split = run.changed(selection={"extends": first.key}, corpus={"held_out_fraction": 0.5})
    corpus, _, extended = other_split.selected()
    held_out = {row["text"] for row in shard_rows(run.store, load_index(run.store, corpus.key).held_out)}
    assert held_out & set(texts_of(run, first)) and extended.facts["removed_since"] == 0


def test_an_extension_of_what_was_all_removed_starts_anew(run: Run, corpus_file: Path) -> None:
    *_, first = run.selected()
    remove(corpus_file, set(texts_of(run, first)))
    *_, anew = run.selected()
    *_, extended = run.changed(selection={"extends": first.key}).selected()
    assert texts_of(run, extended) == texts_of(run, anew) and extended.facts["removed_since"] == 8


def test_an_extension_of_what_was_embedded_otherwise_or_of_all_is_refused(run: Run) -> None:
    *_, first = run.selected()
    with pytest.raises(InputError, match=r"selection\.extends: the selection \w+ was embedded otherwise"):
        run.changed(selection={"extends": first.key}, model={"max_tokens": 5}).selected()
    *_, everything = run.changed(selection={"budget": 1000}).selected()
    with pytest.raises(InputError, match="holds every example of the pool"):
        run.changed(selection={"extends": everything.key}).selected()
    with pytest.raises(InputError, match="no selection artifact aaaa"):
        run.changed(selection={"extends": "a" * 64}).selected()
