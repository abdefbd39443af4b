"""Lineage, both ways: what an artifact came from, and what was made from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence


def _unknown(_: str) -> Sequence[str]:
    return ()


class Lineage:
    """Which artifacts, by "kind/key", came from which.

    Args:
        sources: what each artifact was made from, in one step.
        look_up: gives that for an artifact which is not among them, such as one made since.
    """

    def __init__(self, sources: Mapping[str, Sequence[str]], look_up: Callable[[str], Sequence[str]] = _unknown):
        self._sources = dict(sources)
        self._look_up = look_up
        self._made_from = dict[str, list[str]]()
        for name, its_sources in sources.items():
            for source in its_sources:
                self._made_from.setdefault(source, []).append(name)

    def sources(self, name: str) -> Sequence[str]:
        """What an artifact was made from, in one step."""
        if name not in self._sources:
            self._sources[name] = self._look_up(name)
        return self._sources[name]

    def needs(self, names: Iterable[str]) -> set[str]:
        """These artifacts and all that they came from, over any number of steps."""
        return _reached(names, self.sources)

    def dependents(self, name: str) -> set[str]:
        """All that was made from an artifact, over any number of steps."""
        return _reached([name], lambda made: self._made_from.get(made, ())) - {name}


def _reached(names: Iterable[str], neighbours: Callable[[str], Sequence[str]]) -> set[str]:
    reached = set(names)
    ahead = list(reached)
    while ahead:
        fresh = set(neighbours(ahead.pop())) - reached
        reached |= fresh
        ahead.extend(fresh)
    return reached
