"""Pools that are half good text."""

from __future__ import annotations

from typing import get_args

import pytest

from fishersft.experiments.mixed_pools import MixedPool, mixed_pool

TEXTS = [f"verse {n} of my {word} heart" for n, word in enumerate(["own", "poor", "glad", "old", "merry"] * 8)]
CODE = [f"x_{n} = {n}" for n in range(60)]


@pytest.mark.parametrize("kind", sorted({*get_args(MixedPool)} - {"clean"}))
def test_half_of_a_pool_is_the_text_and_the_seed_says_what_the_other_half_is(kind: MixedPool) -> None:
    pool = mixed_pool(kind, TEXTS, CODE, seed=1)
    assert len(pool) == 2 * len(TEXTS)
    assert set(TEXTS) < set(pool)
    assert pool == mixed_pool(kind, TEXTS, CODE, seed=1)
    assert pool != mixed_pool(kind, TEXTS, CODE, seed=2)


def test_noise_has_the_letters_of_the_text() -> None:
    pool = mixed_pool("noise", TEXTS, [], seed=0)
    assert sorted(map(sorted, pool)) == sorted([*map(sorted, TEXTS)] * 2)


def test_copies_are_of_a_tenth_of_the_texts_and_lack_a_word() -> None:
    added = list(mixed_pool("copies", TEXTS, [], seed=0))
    for text in TEXTS:
        added.remove(text)
    assert {len(text.split()) for text in added} == {len(TEXTS[0].split()) - 1}
    assert len({number for text in added for number in text.split() if number.isdigit()}) <= len(TEXTS) // 10


def test_off_domain_text_comes_from_elsewhere() -> None:
    pool = mixed_pool("off-domain", TEXTS, CODE, seed=0)
    assert len(set(pool) & set(CODE)) == len(TEXTS)


def test_a_clean_pool_is_the_texts_in_any_order() -> None:
    pool = mixed_pool("clean", TEXTS, CODE, seed=0)
    assert sorted(pool) == sorted(TEXTS)
    assert pool != TEXTS
