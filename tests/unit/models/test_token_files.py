"""Tokenised examples as a file."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fishersft.models.token_files import read_tokens, tokens_digest, write_tokens
from fishersft.models.tokenising import Tokenised

BASE = [Tokenised([5, 6, 7], [False, True, False], False), Tokenised([], [], False), Tokenised([9], [False], True)]


@st.composite
def sentences(draw: st.DrawFn) -> Tokenised:
    ids = draw(st.lists(st.integers(0, 2**31 - 1), max_size=8))
    return Tokenised(ids, draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))), draw(st.booleans()))


def test_what_is_written_is_read_whatever_it_is(tmp_path: Path) -> None:
    @given(st.lists(sentences(), max_size=6))
    def round_trip(some: list[Tokenised]) -> None:
        write_tokens(some, tmp_path / "tokens.safetensors")
        assert read_tokens(tmp_path / "tokens.safetensors") == some

    round_trip()


def test_the_digest_changes_with_all_that_a_model_sees_and_is_the_same_after_reading(tmp_path: Path) -> None:
    others = [
        [Tokenised([5, 6, 8], [False, True, False], False), *BASE[1:]],
        [Tokenised([5, 6, 7], [False, True, True], False), *BASE[1:]],
        [Tokenised([5, 6, 7], [False, True, False], True), *BASE[1:]],
        [Tokenised([5, 6], [False, True], False), Tokenised([7], [False], False), BASE[2]],
        [BASE[0], BASE[2], BASE[1]],
        BASE[:2],
        [],
    ]
    digests = [tokens_digest(some) for some in [BASE, *others]]
    assert len(set(digests)) == len(digests)
    write_tokens(BASE, tmp_path / "tokens.safetensors")
    assert tokens_digest(read_tokens(tmp_path / "tokens.safetensors")) == digests[0]
