"""The corpora of experiments on mixed pools: how many texts of which domain, and none twice."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from fishersft.errors import InputError
from fishersft.steps.mixed_pools import write_half_good, write_mixed_domains

TEXTS = {name: [f"{name} text number {n}" for n in range(60)] for name in ("verse", "code", "manual")}


def rows(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_pool_has_so_many_texts_of_each_domain_and_the_rest_is_of_the_aims(tmp_path: Path) -> None:
    write_mixed_domains(TEXTS, {"verse": 10, "code": 20, "manual": 30}, "verse", 5, 7, tmp_path, seed=0)
    pool, target, held_out = (rows(tmp_path / f"{name}.jsonl") for name in ("pool", "target", "held-out"))
    assert Counter(row["domain"] for row in pool) == {"verse": 10, "code": 20, "manual": 30}
    assert [row["domain"] for row in pool] != sorted((row["domain"] for row in pool), reverse=True)
    assert (len(target), len(held_out)) == (5, 7)
    assert {row["domain"] for row in [*target, *held_out]} == {"verse"}
    assert all(row["text"].startswith(row["domain"]) for row in [*pool, *target, *held_out])
    assert len({row["text"] for row in [*pool, *target, *held_out]}) == 72


def test_the_seed_draws_them(tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_mixed_domains(TEXTS, {"verse": 10, "code": 20}, "verse", 5, 7, tmp_path / folder, seed)
    first, same, other = ((tmp_path / folder / "pool.jsonl").read_text() for folder in "abc")
    assert first == same != other


def test_too_few_texts_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'verse' has 60 texts of at least 3 words, expected 72"):
        write_mixed_domains(TEXTS, {"verse": 60}, "verse", 5, 7, tmp_path, seed=0)


def test_half_of_a_pool_is_told_apart_by_its_domain(tmp_path: Path) -> None:
    good = [f"{n} good words of many" for n in range(1200)]
    write_half_good("off-domain", good, [f"{n} other words" for n in range(800)], tmp_path, seed=0)
    pool = rows(tmp_path / "pool.jsonl")
    assert Counter(row["domain"] for row in pool) == {"good": 800, "other": 800}
    assert all(row["domain"] in row["text"] for row in pool)
    assert {row["domain"] for row in rows(tmp_path / "target.jsonl")} == {"good"}
