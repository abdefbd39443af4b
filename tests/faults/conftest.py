"""A store on a real S3 server behind the fault proxy, with short pauses between tries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fishersft.data import faults
from tests.faults.proxy import FaultProxy, fault_proxy
from tests.seaweed import S3Server


@pytest.fixture
def proxy(s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """The proxy in front of the server; the environment points to it."""
    with fault_proxy(s3_server.endpoint) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.endpoint)
        monkeypatch.setattr(faults, "FIRST_PAUSE", 0.02)
        yield running


@pytest.fixture
def store_url(bucket: str, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty store behind the proxy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return f"{bucket}/store"
