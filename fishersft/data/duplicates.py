"""Which of several copies of an example stays: decided by where they are in their files, never by the files' names."""

from __future__ import annotations

import hashlib

import numpy as np


def kept_occurrences(digests: np.ndarray, files: np.ndarray) -> np.ndarray:
    """One occurrence of each example, file by file in an order that follows content, and within a file as read.

    Copies that come later should move nothing, and only content tells which did. So of an example's occurrences

    1. within a file, the first stays;
    2. rows at the end of a file that other files hold too do not: they were appended as copies, or the whole file
       came as one. The longest such end goes first; of equal ones, the smaller file's;
    3. of what is left, the one that most rows of its file follow stays: copies among appended rows have few rows
       after them, and so have those in a small new file.

    Args:
        digests: (rows, 32), uint8; of examples, in the order read.
        files: (rows,), the file of each, numbered from 0.

    Returns:
        np.ndarray: (distinct examples,), int64; places in `digests`. Files are in the order of their least digests,
            which an edit seldom changes.

    Cost: sorting the rows twice.

    Example: the second file's end is a copy of the first file's beginning.
        >>> a, b, c, d = (bytes([value]) * 32 for value in (5, 1, 7, 3))
        >>> digests = np.frombuffer(a + b + c + d + a, dtype=np.uint8).reshape(-1, 32)
        >>> kept_occurrences(digests, np.array([0, 0, 0, 1, 1])).tolist()
        [0, 1, 2, 3]
    """
    if not len(files):
        return np.empty(0, dtype=np.int64)
    examples = numbered(digests)
    contents = _distinct_rows_of_files(examples, files)
    holders = np.bincount(np.concatenate([examples[rows] for rows in contents]))
    if holders.max() > 1:
        contents.sort(key=lambda rows: hashlib.sha256(digests[rows].tobytes()).digest())  # what is equal, by content
        contents = _without_copied_ends(contents, examples, holders)
        contents = _by_file(_most_followed(contents, examples), files)
    return np.concatenate(sorted(contents, key=lambda rows: int(examples[rows].min())))


def numbered(digests: np.ndarray) -> np.ndarray:
    """(rows,), int64; equal digests get the same number, in the order of the digests, from 0."""
    return np.unique(digests.reshape(-1).view("S32"), return_inverse=True)[1]  # 32 bytes each: padding is the same


def _distinct_rows_of_files(examples: np.ndarray, files: np.ndarray) -> list[np.ndarray]:
    pairs = files.astype(np.int64) * (int(examples.max()) + 1) + examples
    rows = np.sort(np.unique(pairs, return_index=True)[1])
    return _by_file(rows[np.argsort(files[rows], kind="stable")], files)


def _by_file(rows: np.ndarray, files: np.ndarray) -> list[np.ndarray]:
    return np.split(rows, np.flatnonzero(np.diff(files[rows])) + 1)


def _without_copied_ends(contents: list[np.ndarray], examples: np.ndarray, holders: np.ndarray) -> list[np.ndarray]:
    """`contents` by rule 2; `holders` counts the files that hold an example, and is brought up to date."""
    left = list(contents)
    ends = [_copied_end(holders[examples[rows]]) for rows in contents]
    for file in sorted(range(len(contents)), key=lambda file: (-ends[file], len(contents[file]))):
        held = examples[contents[file]]
        kept = len(held) - _copied_end(holders[held])
        holders[held[kept:]] -= 1
        left[file] = contents[file][:kept]
    return left


def _copied_end(holders: np.ndarray) -> int:
    """How many rows at the end other files hold too."""
    alone = np.flatnonzero(holders == 1)
    return len(holders) - (int(alone[-1]) + 1 if len(alone) else 0)


def _most_followed(contents: list[np.ndarray], examples: np.ndarray) -> np.ndarray:
    rows = np.concatenate(contents)
    following = np.concatenate([np.arange(len(rows_), 0, -1) for rows_ in contents])
    order = np.lexsort((np.arange(len(rows)), -following, examples[rows]))
    _, first = np.unique(examples[rows][order], return_index=True)
    return rows[np.sort(order[first])]
