"""Copies of a remote store's artifacts on this machine."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from fishersft.data.fetched import cache_folder, forget_unused
from fishersft.data.store import Store
from tests.stores import EMBEDDINGS, SHARD, publish


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def fetched(store: Store, name: str) -> Path:
    kind, _, key = name.partition("/")
    return store.fetch(kind, key)


def test_copies_that_are_not_of_use_go_and_come_back_when_they_are_needed(bucket: str) -> None:
    publish(Store(bucket), SHARD)
    publish(Store(bucket), EMBEDDINGS, text="other")
    copies = [fetched(Store(bucket), name) for name in (SHARD, EMBEDDINGS)]
    month_ago = time.time() - 31 * 86_400
    for copy in (*copies, cache_folder() / "drafts"):
        os.utime(copy, (month_ago, month_ago))
    fetched(Store(bucket), EMBEDDINGS)  # of use again
    assert forget_unused(timedelta(days=30)) == 1
    assert [copy.exists() for copy in copies] == [False, True]
    assert (cache_folder() / "drafts").exists()
    assert (fetched(Store(bucket), SHARD) / "rows.txt").read_text() == "thou"


def test_where_nothing_was_fetched_there_is_nothing_to_forget() -> None:
    assert forget_unused(timedelta()) == 0
