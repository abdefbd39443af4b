"""The pool is distinct, sampled and split by content, so that it is stable where the corpus grows."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fishersft.config import CorpusConfig
from fishersft.data.examples import TextExample
from fishersft.data.pool import Pool, read_pool, split_pool
from fishersft.data.readers import ReadCounts, Row
from fishersft.data.rows import decode_row
from fishersft.data.spool import Spool
from fishersft.errors import InputError


def rows_of(texts: list[str]) -> list[Row]:
    return [Row({"text": text, "place": i}, "a.txt", i) for i, text in enumerate(texts, 1)]


@dataclass
class Split:
    """A pool, and the texts and row numbers of both its sides."""

    pool: list[str]
    held_out: list[str]
    pool_numbers: list[int]
    held_out_numbers: list[int]
    split: Pool


def split(texts: list[str], seed: int = 0, **settings: Any) -> Split:
    config = CorpusConfig(path="a.txt", **settings)
    counts = ReadCounts(rows_read=len(texts), sources=["a.txt"])
    with Spool() as spool:
        found = split_pool(rows_of(texts), config, seed, counts, spool)
        sides = [found.pool, found.held_out]
        pool, held_out = (
            [decode_row(text)["text"] for text in spool.read(found.rows.texts[places])] for places in sides
        )
    numbers = [found.rows.numbers[places].tolist() for places in sides]
    return Split(pool, held_out, *numbers, found)


def numbered(count: int, start: int = 0) -> list[str]:
    return [f"sentence {i}" for i in range(start, start + count)]


def test_rows_come_back_as_they_were_in_the_order_of_the_file() -> None:
    found = split(numbered(50))
    assert found.pool_numbers == sorted(found.pool_numbers)
    assert found.held_out_numbers == sorted(found.held_out_numbers)
    assert sorted(found.pool_numbers + found.held_out_numbers) == list(range(1, 51))
    assert found.pool == [numbered(50)[number - 1] for number in found.pool_numbers]
    first = found.split.pool[0]
    assert found.split.rows.digests[first].tobytes().hex() == TextExample(found.pool[0]).digest
    assert found.split.rows.names[found.split.rows.files[first]] == "a.txt"


def test_about_the_share_asked_for_is_held_out() -> None:
    pool = split(numbered(2000), held_out_fraction=0.25)
    assert 430 < len(pool.held_out) < 570
    assert len(pool.pool) + len(pool.held_out) == 2000


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 5), st.data())
def test_pool_and_held_out_share_no_text_whatever_the_duplicates(seed: int, data: st.DataObject) -> None:
    texts = numbered(60) + data.draw(st.lists(st.sampled_from([*numbered(60), " ", ""]), max_size=40))
    shuffled = data.draw(st.permutations(texts))
    pool = split(shuffled, seed, held_out_fraction=0.5)
    assert sorted(pool.pool + pool.held_out) == sorted(numbered(60))
    assert not set(pool.pool) & set(pool.held_out)


def test_of_duplicates_the_first_is_kept() -> None:
    pool = split([*numbered(30), *numbered(30)])
    assert sorted(pool.pool_numbers + pool.held_out_numbers) == list(range(1, 31))
    assert pool.split.counts.duplicates == 30


def test_the_split_does_not_depend_on_the_order_of_rows() -> None:
    texts = numbered(300)
    shuffled = random.Random(1).sample(texts, 300)
    one, two = split(texts, max_rows=100), split(shuffled, max_rows=100)
    assert set(one.pool) == set(two.pool)
    assert set(one.held_out) == set(two.held_out)


def test_appending_leaves_every_example_on_its_side() -> None:
    one, two = split(numbered(300)), split(numbered(600))
    assert two.pool[: len(one.pool)] == one.pool
    assert two.held_out[: len(one.held_out)] == one.held_out


def test_a_sample_of_a_grown_corpus_keeps_what_is_not_replaced() -> None:
    one, two = split(numbered(1000), max_rows=200), split(numbered(1100, 0), max_rows=200)
    before = set(one.pool + one.held_out)
    after = set(two.pool + two.held_out)
    assert len(before) == len(after) == 200
    assert after - before <= set(numbered(100, 1000))
    assert 150 < len(before & after) < 200


def test_the_sample_is_uniform_over_the_corpus() -> None:
    times = [0] * 10
    for seed in range(60):
        pool = split(numbered(1000), seed, max_rows=100)
        for number in pool.pool_numbers + pool.held_out_numbers:
            times[(number - 1) // 100] += 1
    assert sum(times) == 6000
    assert all(500 < count < 700 for count in times), times


def test_the_seed_changes_sample_and_split() -> None:
    one, two = split(numbered(300), 0, max_rows=100), split(numbered(300), 1, max_rows=100)
    assert set(one.pool) != set(two.pool)
    assert set(split(numbered(300), 0).held_out) != set(split(numbered(300), 1).held_out)


def test_more_rows_allowed_than_there_are_keeps_all() -> None:
    pool = split(numbered(50), max_rows=51)
    assert len(pool.pool) + len(pool.held_out) == 50
    assert pool.split.counts.beyond_max_rows == 0


def test_the_counts_add_up_to_the_rows_read(tmp_path: Path) -> None:
    lines = [*numbered(100), *numbered(20), "", "  ", "# heading"]
    (tmp_path / "a.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = CorpusConfig(path=str(tmp_path / "a.txt"), pattern="[^#].*", max_rows=80)
    with Spool() as spool:
        counts = read_pool(config, 0, spool).counts
    assert (counts.rows_read, counts.blank, counts.unmatched) == (123, 2, 1)
    assert (counts.duplicates, counts.beyond_max_rows) == (20, 20)
    assert counts.held_out > 0
    assert counts.held_out + counts.pool == 80


@pytest.mark.parametrize(
    ("content", "pattern", "message"),
    [
        ("", None, r"the corpus is empty: 0 rows read from .*a.txt; check corpus.path"),
        ("\n \n\t\n", None, r"the corpus is empty: 3 rows read from .*a.txt, all blank"),
        ("a\nb\n\n", "c", r"the corpus is empty: 3 rows read .*1 blank, 2 that do not match corpus.pattern"),
        ("a\na\n", None, r"leaves too few distinct examples, 1 \(2 rows read .*1 duplicates.*at least 3 are needed"),
        ("a\nb\n", None, r"leaves too few distinct examples, 2 .*2 to hold out and one to choose from"),
    ],
)
def test_a_corpus_without_enough_examples_says_why(
    tmp_path: Path, content: str, pattern: str | None, message: str
) -> None:
    (tmp_path / "a.txt").write_text(content, encoding="utf-8")
    with Spool() as spool, pytest.raises(InputError, match=message):
        read_pool(CorpusConfig(path=str(tmp_path / "a.txt"), pattern=pattern), 0, spool)


def advice(error: InputError) -> float:
    return float(str(error).split("set it to ")[1].split(" ")[0])


@pytest.mark.parametrize("seed", range(5))
def test_where_nothing_is_held_out_the_advice_works(seed: int) -> None:
    with pytest.raises(InputError, match="holds out none of the 5 distinct examples, and intervals need 2") as caught:
        split(numbered(5), seed, held_out_fraction=1e-9)
    assert len(split(numbered(5), seed, held_out_fraction=advice(caught.value)).held_out) == 2


def test_a_share_of_0_leaves_everything_in_the_pool() -> None:
    pool = split(numbered(40), held_out_fraction=0)
    assert (len(pool.pool), len(pool.held_out)) == (40, 0)


def test_a_single_held_out_example_is_too_few() -> None:
    with pytest.raises(InputError, match="holds out 1 of the 40 distinct examples, and intervals need 2") as caught:
        split(numbered(40), held_out_fraction=0.06)
    assert len(split(numbered(40), held_out_fraction=advice(caught.value)).held_out) == 2


@pytest.mark.parametrize("seed", range(5))
def test_where_all_is_held_out_the_advice_works(seed: int) -> None:
    with pytest.raises(InputError, match="holds out all 5 distinct examples") as caught:
        split(numbered(5), seed, held_out_fraction=1 - 1e-9)
    assert len(split(numbered(5), seed, held_out_fraction=advice(caught.value)).pool) == 1


def test_a_row_that_cannot_be_stored_is_named() -> None:
    rows = [Row({"text": "x", "image": object()}, "a.parquet", 3)]
    with Spool() as spool, pytest.raises(InputError, match=r"a.parquet:3: field 'image' holds"):
        split_pool(rows, CorpusConfig(path="a.parquet"), 0, ReadCounts(), spool)
