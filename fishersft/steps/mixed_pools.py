"""Writing the corpora of a robustness experiment: a mixed pool, good text to aim at, and what is measured on."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from fishersft.config import CorpusConfig
from fishersft.data.examples import as_text
from fishersft.data.formats import example_of
from fishersft.data.readers import ReadCounts, read_rows
from fishersft.errors import InputError
from fishersft.experiments.mixed_pools import MixedPool, mixed_pool

_GOOD, _TARGET, _HELD_OUT = 800, 200, 200


def write_corpora(kind: MixedPool, good: CorpusConfig, other: CorpusConfig, folder: Path, seed: int) -> None:
    """Writes `pool.jsonl`, `target.jsonl` and `held-out.jsonl`, no text in two of them but for near copies in the pool.

    Args:
        kind: of the pool.
        good: where good text is.
        other: where text of another kind is, for an off-domain pool.

    Raises:
        InputError: there are too few texts.
    """
    rng = random.Random(seed)
    drawn = _sample(good, _GOOD + _TARGET + _HELD_OUT, rng)
    others = _sample(other, _GOOD, rng) if kind == "off-domain" else []
    pool = mixed_pool(kind, drawn[:_GOOD], others, seed)
    folder.mkdir(parents=True, exist_ok=True)
    target, held_out = drawn[_GOOD : _GOOD + _TARGET], drawn[_GOOD + _TARGET :]
    for name, texts in (("pool", pool), ("target", target), ("held-out", held_out)):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def _sample(corpus: CorpusConfig, number: int, rng: random.Random) -> Sequence[str]:
    """So many different texts of a corpus, of several words."""
    examples = (example_of(row, corpus) for row in read_rows(corpus, ReadCounts()))
    read = (as_text(example) for example in examples if example is not None)
    texts = list(dict.fromkeys(text for text in read if len(text.split()) > 2))
    if len(texts) < number:
        raise InputError(f"{corpus.path} has {len(texts):,} texts of several words, and {number:,} are needed")
    return rng.sample(texts, number)
