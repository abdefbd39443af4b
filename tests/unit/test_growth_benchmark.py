"""The growth benchmark in small: what a change of the corpus may cost is a fact, not a timing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.growth.changes import CHANGES, Change, Corpus, plays
from benchmarks.growth.scale import check, list_again, plan
from benchmarks.selection.measure import in_fresh_process


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(plays(3000), 32, tmp_path_factory.mktemp("growth"))


def test_the_corpus_has_at_least_forty_shards(corpus: Corpus) -> None:
    assert corpus.shards >= 40


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
@pytest.mark.parametrize("seed", range(3))
def test_a_change_embeds_no_more_than_its_target(corpus: Corpus, change: Change, seed: int) -> None:
    anew = corpus.anew(change, random.Random(seed))
    assert change.is_met(anew), f"{anew.shards} shards, {anew.share:.2%} of the tokens, target {change.target}"


def test_planning_counts_rows_and_shards(tmp_path: Path) -> None:
    planned = plan(5000, tmp_path)
    assert planned.rows == 5000 and 10 < planned.shards < 40 and planned.bytes_read > 5000 * 150


def test_every_row_that_is_not_held_out_is_tokenised(tmp_path: Path) -> None:
    checked = check(500, tmp_path)
    assert checked.rows == 500 and checked.tokens > 400 * 15


def test_no_file_of_an_unchanged_corpus_is_opened(tmp_path: Path) -> None:
    listed = in_fresh_process(list_again, 20, tmp_path)
    assert listed.files == 20 and listed.opened == 0
