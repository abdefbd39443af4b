"""Writing the corpora of an experiment on mixed pools: a pool, a target sample, and held-out text of its domain."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fishersft.errors import InputError
from fishersft.experiments.mixed_pools import MixedPool, mixed_pool

_GOOD, _TARGET, _HELD_OUT = 800, 200, 200
Row = Mapping[str, str]
_Text = tuple[str, str]  # domain, text


def write_mixed_domains(
    texts: Mapping[str, Sequence[str]],
    pool: Mapping[str, int],
    aim: str,
    target: int,
    held_out: int,
    folder: Path,
    seed: int,
) -> None:
    """Write `pool.jsonl`, `target.jsonl` and `held-out.jsonl`: rows with "text" and "domain", no text twice.

    Args:
        texts: of each domain.
        pool: how many texts of which domain the pool gets, in random order.
        aim: the domain of the target sample and of the held-out texts.
        target, held_out: how many texts those get.
        seed: draws all of them.

    Raises:
        InputError: a domain has too few texts.
    """
    rng = random.Random(seed)
    drawn = {
        domain: _sample(domain, texts[domain], count + (target + held_out if domain == aim else 0), rng)
        for domain, count in {aim: 0, **pool}.items()
    }
    mixed = [(domain, text) for domain, count in pool.items() for text in drawn[domain][:count]]
    rest = [(aim, text) for text in drawn[aim][pool.get(aim, 0) :]]
    _write(folder, rng.sample(mixed, len(mixed)), rest[:target], rest[target:])


def write_half_good(kind: MixedPool, good: Sequence[str], other: Sequence[str], folder: Path, seed: int) -> None:
    """Write the same files for a pool of which half is noise, near copies or text of another domain.

    Args:
        kind: of the pool.
        good: texts to draw the good half, the target and the held-out texts from.
        other: texts of another domain, for an off-domain pool.

    Raises:
        InputError: there are too few texts.
    """
    rng = random.Random(seed)
    drawn = _sample("good", good, _GOOD + _TARGET + _HELD_OUT, rng)
    others = _sample("other", other, _GOOD, rng) if kind == "off-domain" else []
    pool = mixed_pool(kind, drawn[:_GOOD], others, seed)
    known = set(drawn)
    rest = [("good", text) for text in drawn[_GOOD:]]
    mixed = [("good" if text in known else "other", text) for text in pool]
    _write(folder, mixed, rest[:_TARGET], rest[_TARGET:])


def write_splits(folder: Path, pool: Iterable[Row], target: Iterable[Row], held_out: Iterable[Row]) -> None:
    """Write rows as `pool.jsonl`, `target.jsonl` and `held-out.jsonl`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("pool", pool), ("target", target), ("held-out", held_out)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _write(folder: Path, pool: Sequence[_Text], target: Sequence[_Text], held_out: Sequence[_Text]) -> None:
    splits = ([{"text": text, "domain": domain} for domain, text in texts] for texts in (pool, target, held_out))
    write_splits(folder, *splits)


def _sample(domain: str, texts: Sequence[str], number: int, rng: random.Random) -> list[str]:
    if len(texts) < number:
        raise InputError(f"the domain {domain!r} has {len(texts):,} texts of at least 3 words, expected {number:,}")
    return rng.sample(texts, number)
