"""Files under a root: the same on a folder and on a real S3 server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fishersft.data import files as files_module
from fishersft.data.files import Files
from fishersft.errors import InputError


@pytest.fixture(params=["folder", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return Files(str(tmp_path / "root") if request.param == "folder" else f"{request.getfixturevalue('bucket')}/root")


def test_what_was_written_is_read(files: Files) -> None:
    files.write("a/b.json", b"thou")
    files.write("a/b.json", b"thee")
    assert files.read("a/b.json") == b"thee"


def test_what_was_not_written_is_not_there(files: Files) -> None:
    files.write("a/b.json", b"thou")
    assert files.exists("a/b.json") and not files.exists("a") and not files.exists("a/c.json")
    with pytest.raises(FileNotFoundError):
        files.read("a/c.json")


def test_only_the_first_to_create_a_file_does(files: Files) -> None:
    assert files.create("claim", b"mine")
    assert not files.create("claim", b"yours")
    assert files.read("claim") == b"mine"


def test_a_listing_is_never_an_old_one(files: Files) -> None:
    assert list(files.list()) == []
    files.write("a/one", b"1")
    files.write("a/b/two", b"22")
    files.write("ab", b"")
    assert [(file.name, file.size) for file in files.list()] == [("a/b/two", 2), ("a/one", 1), ("ab", 0)]
    assert [file.name for file in files.list("a")] == ["a/b/two", "a/one"]
    assert all(file.modified.tzinfo for file in files.list())
    files.remove(["a/one", "never there"])
    assert [file.name for file in files.list("a")] == ["a/b/two"]


@pytest.mark.parametrize("size", [0, 5, (6 << 20) + 3])
def test_a_file_of_any_size_goes_there_and_back(
    files: Files, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "PART", 5 << 20)  # the smallest part that S3 takes
    (tmp_path / "from").write_bytes(os.urandom(size))
    files.upload(tmp_path / "from", "there/file")
    files.download("there/file", tmp_path / "back" / "file", size)
    assert (tmp_path / "back" / "file").read_bytes() == (tmp_path / "from").read_bytes()
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["file"]


def test_a_missing_bucket_is_one_clear_error(bucket: str) -> None:
    with pytest.raises(InputError, match=r"no bucket for x in s3://no-such-bucket/root: .*create it"):
        Files("s3://no-such-bucket/root").read("x")


def test_wrong_credentials_are_one_clear_error_that_does_not_tell_them(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with pytest.raises(InputError, match=r"refuses the credentials for x .*check or renew them") as raised:
        Files(bucket).read("x")
    assert "not-the-secret" not in str(raised.value)
