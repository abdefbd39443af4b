"""Which held-out examples say the same as the pool."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fishersft.data.examples import Conversation, Example, PromptCompletion, TextExample
from fishersft.data.overlap import find_overlap, words_of

VERSE = "Rough winds do shake the darling buds of May, and summer's lease hath all too short a date"


def overlapping(held_out: list[Example], pool: list[Example], words: int = 5) -> list[bool]:
    return find_overlap(held_out, [pool], words).held_out.tolist()


def texts(*lines: str) -> list[Example]:
    return [TextExample(line) for line in lines]


def test_a_run_of_words_in_both_is_an_overlap_and_one_word_less_is_none() -> None:
    held_out = texts("he said: winds do shake the darling, and left", "he said: winds do shake the sweet buds")
    assert overlapping(held_out, texts(VERSE)) == [True, False]


def test_case_and_punctuation_do_not_count() -> None:
    assert words_of("Ay, my LORD's—all_too 'short'.") == ["ay", "my", "lords", "all", "too", "short"]
    assert overlapping(texts("And SUMMERS lease; hath... all!"), texts(VERSE)) == [True]


def test_the_order_of_words_does() -> None:
    assert overlapping(texts("shake do winds rough the"), texts("rough winds do shake the")) == [False]


def test_words_of_two_examples_make_no_run() -> None:
    assert overlapping(texts("one two three four five six"), texts("one two three", "four five six")) == [False]


def test_an_example_shorter_than_a_run_is_compared_as_a_whole() -> None:
    held_out = texts("Ay, my lord!", "my lord", "Rough winds do shake")
    assert overlapping(held_out, texts("ay my lord", "my dear lord", VERSE)) == [True, False, False]


def test_examples_without_a_word_are_not_all_the_same() -> None:
    assert overlapping(texts("!!!", "..."), texts("???")) == [False, False]


def test_turns_that_the_loss_leaves_out_are_no_overlap() -> None:
    verse = {"role": "assistant", "content": VERSE}
    answer = {"role": "assistant", "content": "Seven brides for seven brothers, and as many more."}
    held_out: list[Example] = [
        Conversation((verse, answer), uncounted=(0,)),
        Conversation((verse, answer), prompt_turns=1),
        Conversation(({"role": "assistant", "reasoning_content": VERSE, "content": "Yes."},)),
    ]
    assert find_overlap(held_out, [[TextExample(VERSE)]], words=4).held_out.tolist() == [False, False, True]


def test_a_prompt_that_many_examples_have_is_no_overlap() -> None:
    prompt = "Below is an instruction that describes a task. Write a response."
    held_out: list[Example] = [
        PromptCompletion(prompt, "Seven brides for seven brothers."),
        PromptCompletion(prompt, "Rough winds do shake the darling buds."),
        Conversation(
            ({"role": "system", "content": prompt}, {"role": "assistant", "content": "rough winds do shake the buds"})
        ),
    ]
    pool: list[Example] = [PromptCompletion(prompt, "Six."), PromptCompletion("Go on:", VERSE)]
    assert overlapping(held_out, pool) == [False, True, True]


def test_a_short_completion_overlaps_only_with_the_same_prompt() -> None:
    held_out: list[Example] = [PromptCompletion("Is it day?", "Yes."), PromptCompletion("Is it night?", "Yes.")]
    assert overlapping(held_out, [PromptCompletion("is it day", "yes")]) == [True, False]


def test_overlapping_examples_of_the_pool_are_counted_once_each_and_over_all_parts() -> None:
    parts = [texts(VERSE, "nothing of the kind at all"), texts(f"{VERSE}. {VERSE}"), []]
    found = find_overlap(texts(VERSE, "something else that is quite new"), parts, 5)
    assert (found.held_out.tolist(), found.pool) == ([True, False], 2)


def test_the_pool_is_read_a_part_at_a_time() -> None:
    read = []

    def parts() -> Iterator[list[Example]]:
        for number in range(3):
            read.append(number)
            yield texts(f"{VERSE} {number}")

    assert find_overlap(texts(VERSE), parts(), 5).pool == 3
    assert read == [0, 1, 2]


sentences = st.lists(st.sampled_from("abc"), max_size=12).map(" ".join)


@given(st.lists(sentences, max_size=5), st.lists(sentences, max_size=8), st.integers(1, 5), st.integers(1, 3))
def test_hashes_find_what_comparing_every_run_finds(
    held_out: list[str], pool: list[str], words: int, size: int
) -> None:
    def runs(text: str) -> set[tuple[str, ...]]:
        split = text.split()
        if len(split) < words:
            return {("whole", *split)} if split else set()
        return {tuple(split[i : i + words]) for i in range(len(split) - words + 1)}

    parts = [texts(*pool[start : start + size]) for start in range(0, len(pool), size)]
    found = find_overlap(texts(*held_out), parts, words)
    assert found.held_out.tolist() == [any(runs(text) & runs(other) for other in pool) for text in held_out]
    assert found.pool == sum(any(runs(text) & runs(other) for other in held_out) for text in pool)


@pytest.mark.parametrize("words", [1, 13])
def test_no_held_out_example_or_no_pool_is_no_overlap(words: int) -> None:
    assert find_overlap([], [texts(VERSE)], words).pool == 0
    assert find_overlap(texts(VERSE), [], words).held_out.tolist() == [False]
