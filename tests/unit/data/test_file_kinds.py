"""CSV, compressed files and folders of mixed files are read as the libraries behind them read them, or refused."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fishersft.config import CorpusConfig, CurateConfig
from fishersft.data.card import CardFacts
from fishersft.data.curated import write_curated
from fishersft.data.formats import example_of
from fishersft.data.pool import read_pool
from fishersft.data.readers import ReadCounts, Row, file_signatures, read_rows
from fishersft.data.spool import Spool
from fishersft.errors import InputError


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": zstd,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
ROWS = [{"text": f"row {i} — é", "n": i} for i in range(3000)]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def read(path: Path | str, **settings: Any) -> tuple[list[Row], ReadCounts]:
    counts = ReadCounts()
    return list(read_rows(CorpusConfig(path=str(path), **settings), counts)), counts


def written(folder: Path, name: str, content: bytes | str) -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def data_of(path: Path | str, **settings: Any) -> list[dict[str, Any]]:
    return [row.data for row in read(path, **settings)[0]]


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2", ".xz", ".GZ"])
@pytest.mark.parametrize("kind", [".jsonl", ".ndjson", ".json"])
def test_compressed_json_gives_its_rows(tmp_path: Path, kind: str, suffix: str) -> None:
    content = json.dumps(ROWS).encode() if kind == ".json" else JSONL
    compress = COMPRESS[suffix.lower()]
    assert data_of(written(tmp_path, f"d{kind}{suffix}", compress(content))) == ROWS


@pytest.mark.parametrize("suffix", list(COMPRESS))
def test_compressed_text_and_csv_give_their_rows(tmp_path: Path, suffix: str) -> None:
    compress = COMPRESS[suffix]
    for kind in (".txt", ".md"):
        assert data_of(written(tmp_path, f"d{kind}{suffix}", compress(b"one\n\ntwo\n"))) == [
            {"text": "one"},
            {"text": "two"},
        ]
    assert data_of(written(tmp_path, f"d.csv{suffix}", compress(b"text\none\n"))) == [{"text": "one"}]
    assert data_of(written(tmp_path, f"d.tsv{suffix}", compress(b"a\ttext\n1,2\tone\n"))) == [
        {"a": "1,2", "text": "one"}
    ]


def test_a_gzip_file_of_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    halves = gzip.compress(JSONL[:1000]) + gzip.compress(JSONL[1000:])
    assert data_of(written(tmp_path, "d.jsonl.gz", halves)) == ROWS


@pytest.mark.parametrize("suffix", list(COMPRESS))
def test_a_compressed_file_that_is_cut_short_or_mislabelled_is_named(tmp_path: Path, suffix: str) -> None:
    whole = COMPRESS[suffix](JSONL)
    for content in (whole[: len(whole) // 2], JSONL):
        file = written(tmp_path, f"d.jsonl{suffix}", content)
        with pytest.raises(InputError, match=rf"d.jsonl{suffix} cannot be read as \w+: .*is it whole") as caught:
            read(file)
        assert "iconv" not in str(caught.value)


def test_a_compressed_remote_file_is_read_like_a_local_one() -> None:
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/packed/a.jsonl.gz", gzip.compress(JSONL))
    filesystem.pipe("/packed/b.jsonl.zst", zstd(JSONL))
    assert data_of("memory://packed") == ROWS + ROWS
    filesystem.rm("/packed", recursive=True)


@pytest.mark.parametrize("name", ["a.parquet.gz", "a.gz", "a.tar.gz", "a.zst"])
def test_compressed_files_of_no_known_content_are_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=name):
        read(written(tmp_path, name, gzip.compress(b"x")))


def test_ndjson_is_json_lines(tmp_path: Path) -> None:
    (row,) = data_of(written(tmp_path, "d.ndjson", '{"id": 1, "text": "x"}\n'))
    assert row == {"id": 1, "text": "x"}


def test_values_of_csv_stay_the_text_that_stands_there(tmp_path: Path) -> None:
    content = '\ufeffid,text,note\r\n007,"a, ""b""\r\nc",\r\n\r\n1e3,d,NA\r\n'
    rows, counts = read(written(tmp_path, "d.csv", content))
    assert [(row.number, row.data) for row in rows] == [
        (2, {"id": "007", "text": 'a, "b"\r\nc', "note": ""}),
        (5, {"id": "1e3", "text": "d", "note": "NA"}),
    ]
    assert (counts.rows_read, counts.blank) == (3, 1)


_VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=8)


@given(st.lists(st.tuples(_VALUES, _VALUES), max_size=8), st.sampled_from([(".csv", ","), (".tsv", "\t")]))
def test_whatever_pythons_csv_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[str, str]], kind: tuple[str, str]
) -> None:
    extension, delimiter = kind
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows([("a", "text"), *values])
    file = written(tmp_path_factory.mktemp("csv"), f"d{extension}", out.getvalue())
    assert data_of(file) == [{"a": a, "text": text} for a, text in values]


def test_csv_without_quoted_line_ends_is_what_datasets_reads(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    file = written(tmp_path, "d.csv", 'text,n\n"one, two",007\n"say ""hi""",8\n5" pipe,\n')
    expected = pandas.read_csv(file, dtype=str, keep_default_na=False).to_dict("records")
    assert data_of(file) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,n\na,1\nb\n", "d.csv:3 has 1 values, but the header has 2 columns"),
        ('text,n\n"a\nb",1\nc,2,3\n', "d.csv:4 has 3 values, but the header has 2 columns"),
        ("text,n,text\na,1,b\n", "d.csv:1 has several columns of the name 'text'"),
        ('text\n"one\n', "d.csv:2 cannot be read as CSV: unexpected end of data"),
        ('text\n"one"two\n', "d.csv:2 cannot be read as CSV: ',' expected"),
        (b"text\ncaf\xe9\n", "d.csv:2 is not valid UTF-8 at byte 8"),
    ],
)
def test_a_broken_csv_names_file_and_row(tmp_path: Path, content: bytes | str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(written(tmp_path, "d.csv", content))


def test_a_file_of_another_name_is_csv_on_request(tmp_path: Path) -> None:
    assert data_of(written(tmp_path, "d.dat", "text\none\n"), format="csv") == [{"text": "one"}]


def test_parquet_with_two_columns_of_one_name_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["text", "text"]), file)
    with pytest.raises(InputError, match=r"a.parquet has several columns of the name 'text'; rename or drop"):
        read(file)
    twins = pa.StructArray.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["role", "role"])
    pq.write_table(pa.table({"messages": pa.ListArray.from_arrays([0, 1], twins)}), file)
    with pytest.raises(InputError, match=r"a.parquet, messages has several columns of the name 'role'"):
        read(file)


def mixed_folder(root: Path) -> None:
    for name in ("a.txt", "sub/b.txt.gz", "README.md", "LICENSE", "LICENSE.txt", "c.pdf", "sub/d.docx", ".hid.pdf"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(gzip.compress(b"packed\n") if name.endswith(".gz") else b"plain\n")


def test_a_local_folder_says_which_files_were_passed_over(tmp_path: Path) -> None:
    mixed_folder(tmp_path / "d")
    rows, counts = read(tmp_path / "d")
    assert [row.data["text"] for row in rows] == ["plain", "packed"]
    assert counts.passed_over == [f"{tmp_path}/d/c.pdf", f"{tmp_path}/d/sub/d.docx"]
    assert read(tmp_path / "d" / "a.txt")[1].passed_over == []
    assert read(tmp_path / "d" / "*.txt")[1].passed_over == []


def test_a_remote_folder_says_which_files_were_passed_over(tmp_path: Path) -> None:
    mixed_folder(tmp_path / "d")
    filesystem = fsspec.filesystem("memory")
    filesystem.put(str(tmp_path / "d"), "/mixed", recursive=True)
    rows, counts = read("memory://mixed")
    assert [row.data["text"] for row in rows] == ["plain", "packed"]
    assert counts.passed_over == ["memory:///mixed/c.pdf", "memory:///mixed/sub/d.docx"]
    filesystem.rm("/mixed", recursive=True)


def test_a_folder_of_a_package_says_which_files_were_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed_folder(tmp_path / "some_corpus" / "d")
    written(tmp_path / "some_corpus", "__init__.py", "")
    monkeypatch.syspath_prepend(tmp_path)
    rows, counts = read("package:some_corpus/d")
    assert [row.source for row in rows] == ["package:some_corpus/d/a.txt", "package:some_corpus/d/sub/b.txt.gz"]
    assert counts.passed_over == ["package:some_corpus/d/c.pdf", "package:some_corpus/d/sub/d.docx"]


def test_a_folder_without_data_names_what_it_holds(tmp_path: Path) -> None:
    written(tmp_path, "a.pdf", "x")
    with pytest.raises(InputError, match=r"nothing matches .*a\.pdf\); expected a file"):
        read(tmp_path)


def test_very_many_files_that_are_passed_over_are_counted(tmp_path: Path) -> None:
    written(tmp_path, "a.txt", "one\n")
    for number in range(130):
        written(tmp_path, f"{number:03}.png", "")
    passed_over = read(tmp_path)[1].passed_over
    assert (len(passed_over), passed_over[-1]) == (101, "… and 30 more")


def test_a_file_that_is_passed_over_is_noticed_without_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fishersft.data.locations._SETTLED_NANOSECONDS", 0)
    written(tmp_path, "a.txt", "one\n")
    config = CorpusConfig(path=str(tmp_path))
    before = file_signatures(config)
    written(tmp_path, "b.pdf", "x")
    assert before is not None and file_signatures(config) != before


BAD = (
    b'{"text": "one"}\n{"text": \n{"text": 3}\n7\n{"speech": "x"}\n\n{"text": "two"}\n{"text": "\\ud800"}\n'
    b'{"text": "three"}\n'
) + b'{"text": "caf\xe9"}\n'


def test_bad_rows_are_skipped_counted_and_listed_on_request(tmp_path: Path) -> None:
    file = written(tmp_path, "a.jsonl", BAD)
    config = CorpusConfig(path=str(file), on_bad_row="skip", held_out_fraction=0.67)
    with Spool() as spool:
        counts = read_pool(config, 1, spool).counts
    assert (counts.rows_read, counts.blank, counts.bad, counts.held_out + counts.pool) == (10, 1, 6, 3)
    assert counts.formats == {"text (text)": 3}
    expected = ["2 is not JSON", "4 holds a number", "8 holds", "10 is not valid UTF-8", "3: field 'text'", "5 fits no"]
    assert all(sum(f"a.jsonl:{text}" in bad for bad in counts.bad_rows) == 1 for text in expected)
    with Spool() as spool, pytest.raises(InputError, match=r"a.jsonl:2 is not JSON"):
        read_pool(CorpusConfig(path=str(file)), 1, spool)


def test_only_the_first_20_bad_rows_are_listed(tmp_path: Path) -> None:
    file = written(tmp_path, "a.csv", "text,n\n" + "x\n" * 30 + "a,1\nb,2\nc,3\nd,4\n")
    rows, counts = read(file, on_bad_row="skip")
    assert len(rows) == 4
    assert (counts.bad, len(counts.bad_rows), counts.rows_read) == (30, 20, 34)
    assert "a.csv:21 has 1 values" in counts.bad_rows[-1]


def test_where_all_rows_are_bad_the_first_one_is_told(tmp_path: Path) -> None:
    file = written(tmp_path, "a.jsonl", '{"speech": "x"}\n' * 3)
    with (
        Spool() as spool,
        pytest.raises(InputError, match=r"3 rows .*3 bad, first: .*a.jsonl:1 fits no format"),
    ):
        read_pool(CorpusConfig(path=str(file), on_bad_row="skip"), 0, spool)


def test_a_broken_file_is_an_error_also_where_bad_rows_are_skipped(tmp_path: Path) -> None:
    for name, content in (("a.json", '[{"text": "a"}, {"text'), ("a.parquet", "PAR1"), ("a.csv", 'text\n"a\n')):
        with pytest.raises(InputError, match=name):
            read(written(tmp_path, name, content), on_bad_row="skip")


@pytest.mark.parametrize("name", ["curated.jsonl", "curated.parquet"])
def test_the_curated_dataset_is_a_corpus(tmp_path: Path, name: str) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": "a", "name": "B"}, {"role": "assistant", "content": "b"}]},
        {
            "messages": [
                {"role": "user", "content": "c"},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "content": [{"type": "text", "text": "d"}]},
            ]
        },
    ]
    config = CurateConfig(corpus={"path": "x"})
    facts = CardFacts(config=config, pool_sentences=2, information_gain=1.0, version="1")
    write_curated(tmp_path, rows, ranks=[1, 2], gains=[1.0, 0.5], tokens=[1, 1], card=facts)
    again = read(tmp_path / name)[0]
    assert [set(row.data) for row in again] == [{"messages"}] * 2
    assert [example_of(row, config.corpus) for row in again] == [
        example_of(Row(row, "x", 1), config.corpus) for row in rows
    ]
    assert len(read(tmp_path)[0]) == 4


def test_formats_are_counted(tmp_path: Path) -> None:
    lines = [{"text": f"t{i}"} for i in range(4)] + [{"prompt": "a", "completion": f"c{i}"} for i in range(3)]
    file = written(tmp_path, "a.jsonl", "".join(json.dumps(line) + "\n" for line in [*lines, {"text": " "}]))
    with Spool() as spool:
        counts = read_pool(CorpusConfig(path=str(file), held_out_fraction=0.5), 0, spool).counts
    assert counts.formats == {"text (text)": 4, "prompt and completion": 3}
