"""Which of several copies of an example stays: decided by where they are in their files, never by the files' names."""

from __future__ import annotations

import numpy as np

_SMALL = 10  # times as large is another file beside a small one


def kept_occurrences(digests: np.ndarray, files: np.ndarray) -> np.ndarray:
    """One occurrence of each example, file by file in an order that follows content, and within a file as read.

    Copies that come later should move nothing, and only content tells which did. So of an example's occurrences

    1. within a file, the first stays;
    2. rows at the end of a file that other files hold too do not: they were appended as copies, or the whole file
       came as one. The longest such end goes first; of equal ones, the smaller file's;
    3. of what is left, the one with fewest rows of its file before it stays, which appended rows do not change; but
       files under a tenth of the largest that holds the example do not count, so that small new ones take nothing
       from it.

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
        contents.sort(key=lambda rows: digests[rows].tobytes())  # decides what is equal; by first rows, as files grow
        contents = _without_copied_ends(contents, examples, holders)
        contents = _by_file(_once_each(contents, examples), files)
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


def _once_each(contents: list[np.ndarray], examples: np.ndarray) -> np.ndarray:
    """The places of `contents`, each example once, by rule 3."""
    rows = np.concatenate(contents)
    held = examples[rows]
    size = np.concatenate([np.full(len(rows_), len(rows_)) for rows_ in contents])
    before = np.concatenate([np.arange(len(rows_)) for rows_ in contents])
    largest = np.zeros(int(held.max()) + 1, dtype=np.int64)
    np.maximum.at(largest, held, size)
    order = np.lexsort((before, _SMALL * size < largest[held], held))
    _, first = np.unique(held[order], return_index=True)
    return rows[np.sort(order[first])]
