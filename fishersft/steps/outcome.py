"""What a step gives back, and the one way in which a step looks into the store before it computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from fishersft.data.claims import claimed
from fishersft.data.keys import artifact_key
from fishersft.data.manifest import Manifest
from fishersft.data.store import Draft, Store


class OnProgress(Protocol):
    """Is told how far a step is: what is done, of how much, and where there is more to say, a note."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


@dataclass(frozen=True)
class Outcome:
    """An artifact that a step found (`hit`) or made; `facts` are its small results."""

    kind: str
    key: str
    hit: bool
    seconds: float
    facts: dict[str, Any]


@dataclass(frozen=True)
class RunResult:
    """What a whole run leaves: its report's key, and the outcome of every step in order."""

    report: str
    steps: list[Outcome]

    @property
    def made(self) -> int:
        """How many artifacts were computed rather than found."""
        return sum(not step.hit for step in self.steps)


@lru_cache(maxsize=8)
def open_store(url: str) -> Store:
    """The store at a URL: one object a process, so that a file is verified once."""
    return Store(url)


def find_or_make(
    store: Store,
    kind: str,
    version: int,
    params: dict[str, Any],
    inputs: dict[str, Any],
    make: Callable[[Draft], None],
    sources: Sequence[str] = (),
) -> Outcome:
    """The artifact that `params` and `inputs` determine: found in the store, or made and published there.

    Args:
        sources: the artifacts that `make` reads, each as "kind/key", for who asks what came from what.
    """
    key = artifact_key(kind, version, params, inputs)
    found = store.find(kind, key)
    if found is not None:
        return used(store, found, hit=True)
    with claimed(store.files, kind, key, lambda: store.find(kind, key) is not None):
        found = store.find(kind, key)  # another may have made it meanwhile
        if found is None:
            with store.publish(kind, key, {"version": version, **params}, inputs, sources) as draft:
                make(draft)
    return used(store, found or store.get(kind, key), hit=found is not None)


@dataclass(frozen=True)
class Work:
    """An artifact that a step can make, before it is looked for; the fields are as `find_or_make` has them."""

    kind: str
    version: int
    params: dict[str, Any]
    inputs: dict[str, Any]
    make: Callable[[Draft], None]
    sources: Sequence[str]

    @property
    def key(self) -> str:
        return artifact_key(self.kind, self.version, self.params, self.inputs)

    def is_done(self, store: Store) -> bool:
        """Whether the store has it."""
        return store.find(self.kind, self.key) is not None

    def done(self, store: Store) -> Outcome:
        """It, found or made."""
        return find_or_make(store, self.kind, self.version, self.params, self.inputs, self.make, self.sources)


def used(store: Store, manifest: Manifest, hit: bool) -> Outcome:
    """The outcome of a step that found or made this artifact; who records the run is told."""
    for tell in store.on_use:
        tell(manifest.kind, manifest.key, hit)
    return Outcome(manifest.kind, manifest.key, hit, manifest.seconds, manifest.facts)
