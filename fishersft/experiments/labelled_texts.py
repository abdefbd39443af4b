"""Texts with a label each, from a folder with a file for each label."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

from fishersft.config import CorpusConfig
from fishersft.errors import InputError
from fishersft.experiments.domains import texts_of


class LabelledTexts(NamedTuple):
    """Texts, the number of the label of each, and the labels' names."""

    texts: list[str]
    labels: list[int]
    names: list[str]


def labelled_texts(folder: Path, fewest: int, most: int, seed: int) -> LabelledTexts:
    """A random sample of the texts in a folder, labels in the shares that they have there.

    Args:
        folder: of a file LABEL.txt for each label, with texts between blank lines. Texts are taken without repeats
            within a label, and only those of at least 3 words.
        fewest: labels with fewer texts are left out.
        most: texts in the sample; all where there are no more.
        seed: of the sample.

    Raises:
        InputError: a file cannot be read, or fewer than 2 labels are left.
    """
    of_label = {
        file.stem: texts_of(CorpusConfig(path=str(file), format="blocks")) for file in sorted(folder.glob("*.txt"))
    }
    names = [name for name, texts in of_label.items() if len(texts) >= fewest]
    if len(names) < 2:
        raise InputError(
            f"{folder} has {len(names)} labels of at least {fewest:,} texts among its {len(of_label)} files LABEL.txt; "
            "expected 2 or more. `benchmarks/labelled.sh FOLDER` writes such folders"
        )
    labelled = [(text, label) for label, name in enumerate(names) for text in of_label[name]]
    drawn = random.Random(seed).sample(labelled, min(most, len(labelled)))
    return LabelledTexts([text for text, _ in drawn], [label for _, label in drawn], names)
