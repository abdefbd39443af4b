"""Artifact keys: the hash of everything that determines an artifact's bytes, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(value: Any) -> str:
    """The sha256 hex digest of a JSON value's canonical text."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def artifact_key(kind: str, version: int, params: dict[str, Any], inputs: dict[str, Any]) -> str:
    """The key of an artifact: 64 hex digits.

    Args:
        kind: the artifact's kind, such as "embeddings".
        version: the algorithm's version; raise it whenever the same inputs should give other bytes.
        params: the settings that change the bytes (not device, batch size or paths).
        inputs: the keys or fingerprints that the artifact is made from.
    """
    return digest_of({"kind": kind, "version": version, "params": params, "inputs": inputs})


def file_digest(path: Path) -> str:
    """The sha256 hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
