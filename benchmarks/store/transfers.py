"""What is timed: one file up or down, by the store and by s3fs alone, each in a fresh process."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from benchmarks.selection.measure import Measured, measure
from fishersft.data.files import PART, PARTS_AT_ONCE
from fishersft.data.store import Store

KEY = "0" * 64


def raw_put(source: Path, number: int) -> Measured:
    """Uploads the file by s3fs alone, in parts of the store's size and number."""
    files = _raw()
    return measure(
        lambda: files.put_file(str(source), f"bench/raw-{number}", chunksize=PART, max_concurrency=PARTS_AT_ONCE)
    )[1]


def raw_get(source: Path, number: int) -> Measured:
    """Downloads it by s3fs alone."""
    files, target = _raw(), source.with_name("raw")
    measured = measure(
        lambda: files.get_file(f"bench/raw-{number}", str(target), chunksize=PART, max_concurrency=PARTS_AT_ONCE)
    )[1]
    target.unlink()
    return measured


def publish(source: Path, number: int) -> Measured:
    """Publishes an artifact that holds the file: digest, upload, check, manifest."""
    store = Store(f"s3://bench/store-{number}")
    store.find("embeddings", KEY)  # connected, as s3fs is when its time begins

    def work() -> None:
        with store.publish("embeddings", KEY, {}, {}) as draft:
            os.link(source, draft.folder / "blocks")

    return measure(work)[1]


def fetch(source: Path, number: int) -> Measured:
    """Fetches it into an empty cache: download, digest."""
    shutil.rmtree(os.environ["XDG_CACHE_HOME"])
    store = Store(f"s3://bench/store-{number}")
    store.find("embeddings", KEY)
    return measure(lambda: store.fetch("embeddings", KEY))[1]


def _raw() -> Any:
    import s3fs

    files = s3fs.S3FileSystem(skip_instance_cache=True)
    files.ls("bench")
    return files
