"""Planning a large corpus, tokenising one, and listing one of many files that did not change: seconds and memory."""

from __future__ import annotations

import json
import random
import string
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.growth.changes import plays
from benchmarks.selection.measure import measure
from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.steps.corpus import read_corpus
from fishersft.steps.models import prepare_model
from fishersft.steps.tokens import check_rows

_WORDS_A_ROW = 30  # about 200 characters
_WORDS_A_SHORT_ROW = 15
_FILES = 10


@dataclass(frozen=True)
class Planned:
    """A corpus read once: what came of it, and what that cost."""

    rows: int
    shards: int
    bytes_read: int
    seconds: float
    resident: int | None


@dataclass(frozen=True)
class Listed:
    """A corpus of many files that was read before: the second run."""

    files: int
    seconds_read: float
    seconds_listed: float
    opened: int


def plan(rows: int, folder: Path) -> Planned:
    """Generates so many rows and plans them: all of reading, sharding and saving. Run it in a fresh process."""
    corpus = folder / "corpus"
    _write(corpus, _FILES, rows // _FILES)
    store, config = _opened(corpus, folder / "store")
    outcome, measured = measure(lambda: read_corpus(store, config))
    size = sum(file.stat().st_size for file in corpus.iterdir())
    return Planned(rows, len(outcome.facts["shard_keys"]), size, measured.seconds, measured.resident)


@dataclass(frozen=True)
class Checked:
    """A corpus whose every row was tokenised and checked."""

    rows: int
    tokens: int
    seconds: float
    seconds_again: float


def check(rows: int, folder: Path) -> Checked:
    """Tokenises so many short rows, each 16 words of Shakespeare, for SmolLM2, in as many processes as there are cores.

    Run it in a fresh process.
    """
    corpus = folder / "corpus"
    _write_short(corpus, rows)
    store, config = _opened(corpus, folder / "store")
    prepare_model(store, config.model)
    key = read_corpus(store, config).key
    counts, first = measure(lambda: check_rows(store, config, [(config, key)]))
    _, second = measure(lambda: check_rows(store, config, [(config, key)]))
    return Checked(rows, counts[0].tokens, first.seconds, second.seconds)


def list_again(files: int, folder: Path) -> Listed:
    """Reads a corpus of so many files twice. Run it in a fresh process, as the hook that counts stays."""
    corpus = folder / "corpus"
    _write(corpus, files, 10)
    time.sleep(2.5)  # files of the last two seconds are not trusted
    _, first = measure(lambda: read_corpus(*_opened(corpus, folder / "store")))
    opened = list[str]()

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and str(arguments[0]).startswith(str(corpus.resolve())):
            opened.append(str(arguments[0]))

    sys.addaudithook(note)
    outcome, second = measure(lambda: read_corpus(*_opened(corpus, folder / "store")))
    assert outcome.hit
    return Listed(files, first.seconds, second.seconds, len(opened))


def _opened(corpus: Path, store: Path) -> tuple[Store, CurateConfig]:
    config = CurateConfig.model_validate({"corpus": {"path": str(corpus.resolve())}, "store": str(store.resolve())})
    return Store(config.store), config


def _write_short(folder: Path, rows: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    words = [word for play in plays(10_000).values() for speech in play for word in speech["text"].split()]
    with (folder / "short.jsonl").open("w", encoding="utf-8") as file:
        for row in range(rows):
            begin = draw.randrange(len(words) - _WORDS_A_SHORT_ROW)
            text = " ".join(words[begin : begin + _WORDS_A_SHORT_ROW])
            file.write(json.dumps({"text": f"{row} {text}"}) + "\n")


def _write(folder: Path, files: int, rows_a_file: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    words = ["".join(draw.choices(string.ascii_lowercase, k=draw.randint(2, 9))) for _ in range(5000)]
    for number in range(files):
        with (folder / f"{number:05}.jsonl").open("w", encoding="utf-8") as file:
            for row in range(rows_a_file):
                text = " ".join(draw.choices(words, k=_WORDS_A_ROW))
                file.write(json.dumps({"id": f"{number}-{row}", "text": text}) + "\n")
