"""Pools that are not all good text: half of them noise, near copies, or text of another kind; and the clean control."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

MixedPool = Literal["noise", "copies", "off-domain", "clean"]
_COPIED_SHARE = 0.1


def mixed_pool(kind: MixedPool, texts: Sequence[str], others: Sequence[str], seed: int) -> list[str]:
    """The texts, and but for a clean pool as many more of another kind, in any order.

    Args:
        kind: of what is mixed in. noise: texts of the pool, their letters in any order. copies: a tenth of the texts
            again and again, each time without another of their words. off-domain: `others`. clean: nothing.
        texts: of several words each.
        others: for off-domain, at least as many.
        seed: of what is drawn.
    """
    rng = random.Random(seed)
    if kind == "noise":
        added = ["".join(rng.sample(text, len(text))) for text in texts]
    elif kind == "copies":
        copied = rng.sample(list(texts), max(1, round(_COPIED_SHARE * len(texts))))
        added = [_without_a_word(rng.choice(copied), rng) for _ in texts]
    elif kind == "off-domain":
        added = rng.sample(list(others), len(texts))
    else:
        added = []
    return rng.sample([*texts, *added], len(texts) + len(added))


def _without_a_word(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    del words[rng.randrange(len(words))]
    return " ".join(words)
