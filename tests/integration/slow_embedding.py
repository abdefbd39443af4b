"""The flow `embed-shards` of a worker that takes some seconds for a shard, so that a test can kill it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from fishersft.models import embedding
from flows.embed_shards import embed_shards

__all__ = ["embed_shards"]
SECONDS = 3.0

_embed = embedding.embed


def _slowly(*args: Any, **options: Any) -> Iterator[Any]:
    time.sleep(SECONDS)
    return _embed(*args, **options)


embedding.embed = _slowly  # type: ignore[assignment]
