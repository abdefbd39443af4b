"""Two files of texts that are to be compared row by row."""

from __future__ import annotations

from pathlib import Path

from fishersft.config import CorpusConfig
from fishersft.data.readers import ReadCounts, Row, read_rows
from fishersft.errors import InputError


def read_texts(place: str) -> list[str]:
    """The texts of a file: of each row its `text`, or its `prompt` and `completion` together.

    Args:
        place: JSONL, Parquet or lines of text, local or by URL; or the folder of a generations artifact.

    Raises:
        InputError: the file cannot be read, or a row has no such columns.
    """
    return [_text(row) for row in read_rows(CorpusConfig(path=_file(place)), ReadCounts())]


def read_compared(first: str, second: str) -> list[tuple[str, str]]:
    """The texts of two files in pairs, row by row.

    Raises:
        InputError: as `read_texts`; or the files hold different numbers of rows, or a row's prompts differ.
    """
    rows, other_rows = _rows(first), _rows(second)
    if len(rows) != len(other_rows):
        raise InputError(
            f"{first} has {len(rows):,} texts and {second} {len(other_rows):,}; expected as many in both, row by row "
            "for the same prompts"
        )
    for (row, _), (other, _) in zip(rows, other_rows, strict=True):
        if row.data.get("prompt") != other.data.get("prompt"):
            raise InputError(
                f"{row.place} and {other.place} have different prompts; texts are compared row by row, so put both "
                "files in the same order"
            )
    return [(text, other) for (_, text), (_, other) in zip(rows, other_rows, strict=True)]


def _rows(place: str) -> list[tuple[Row, str]]:
    """The rows of JSONL or Parquet, empty texts included, which lines of text could not tell from blank lines."""
    file = _file(place)
    config = CorpusConfig(path=file, format="parquet" if file.endswith(".parquet") else "jsonl")
    return [(row, _text(row)) for row in read_rows(config, ReadCounts())]


def _file(place: str) -> str:
    """The file itself, also where an artifact's folder is named."""
    if not Path(place).is_dir():
        return place
    tables = sorted(Path(place).rglob("generations.parquet"))
    if len(tables) != 1:
        raise InputError(
            f"{place}: expected a file, or the folder of one generations artifact; the folder holds {len(tables)} "
            "generations.parquet"
        )
    return str(tables[0])


def _text(row: Row) -> str:
    columns = ("prompt", "completion") if "completion" in row.data else ("text",)
    found = [row.data.get(column, "" if column == "prompt" else None) for column in columns]
    parts = [part for part in found if isinstance(part, str)]
    if len(parts) < len(found):
        raise InputError(
            f"{row.place}: expected a column `text`, or `prompt` and `completion`, that hold text; found "
            f"{', '.join(sorted(row.data)) or 'no columns'}"
        )
    return "".join(parts)
