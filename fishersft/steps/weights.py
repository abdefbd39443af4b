"""Where a training's weights are: an artifact where they are kept, or beside the store until they are measured."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fishersft.data.claims import claimed
from fishersft.data.store import Store
from fishersft.errors import InputError

KIND = "fine-tuned-model"
_MODEL, _FACTS = "model", "training.json"


def write_aside(store: Store, training: str, facts: dict[str, Any]) -> None:
    """Completes weights that were written to `folder_aside`: from now on they count.

    Args:
        training: the training's key.
        facts: small results of the training, for its record.
    """
    place = _aside(store, training)
    unfinished = place / f"{_FACTS}.unfinished"
    unfinished.write_text(json.dumps(facts), encoding="utf-8")
    os.replace(unfinished, place / _FACTS)


def new_folder_aside(store: Store, training: str) -> Path:
    """An empty folder on this machine for weights that are not kept; what a killed training left there is gone."""
    drop_weights(store, training)
    folder = _aside(store, training) / _MODEL
    folder.mkdir(parents=True)
    return folder


def facts_aside(store: Store, training: str) -> dict[str, Any] | None:
    """What `write_aside` noted; None where there are no whole weights beside the store."""
    try:
        facts: dict[str, Any] = json.loads((_aside(store, training) / _FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return facts


def has_weights(store: Store, training: str) -> bool:
    """Whether a training's weights are there, kept or not."""
    return facts_aside(store, training) is not None or store.find(KIND, training) is not None


def weights_folder(store: Store, training: str) -> Path:
    """A local folder with a training's weights.

    Raises:
        InputError: they are neither in the store nor beside it, or a file in the store does not match its manifest.
    """
    if facts_aside(store, training) is not None:
        return _aside(store, training) / _MODEL
    if store.find(KIND, training) is None:
        raise InputError(
            f"the weights of training {training} were removed after they were measured; run again, which trains again "
            "where it has to, or set finetune.keep_weights"
        )
    return store.fetch(KIND, training)


def drop_weights(store: Store, training: str) -> None:
    """Removes a training's weights from beside the store; those that are an artifact stay."""
    place = _aside(store, training)
    (place / _FACTS).unlink(missing_ok=True)  # first, so that half of the weights never count
    shutil.rmtree(place, ignore_errors=True)


@contextmanager
def until_measured(store: Store, training: str) -> Iterator[None]:
    """A block in which a training is trained and measured; at its end `drop_weights`.

    Runs that share a training come one after the other here, so that none removes what another measures. Where the
    block fails or the process is killed, the weights stay for the next run.
    """
    with claimed(store.files, "weights", training, lambda: False):
        yield
        drop_weights(store, training)


def _aside(store: Store, training: str) -> Path:
    return store.scratch(f"weights-{training}")
