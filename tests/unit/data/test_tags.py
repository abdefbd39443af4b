"""Tags: names for what is to stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from fishersft.data.store import Store
from fishersft.data.tags import read_tags, remove_tag, write_tag
from fishersft.errors import InputError
from tests.stores import CORPUS


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def test_a_tag_stands_for_artifacts_until_it_is_taken_away(store: Store) -> None:
    write_tag(store.files, "paper-v1", "the corpus of the paper", [CORPUS])
    (name, tag), *others = read_tags(store.files).items()
    assert (name, tag.what, tag.roots, others) == ("paper-v1", "the corpus of the paper", [CORPUS], [])
    remove_tag(store.files, "paper-v1")
    assert read_tags(store.files) == {}


def test_a_tag_is_not_moved_by_accident(store: Store) -> None:
    write_tag(store.files, "paper", "x", [CORPUS])
    with pytest.raises(InputError, match="a tag paper already; `fishersft store untag paper`"):
        write_tag(store.files, "paper", "y", [CORPUS])


@pytest.mark.parametrize("name", ["", "..", "../paper", "a/b", "a b", "-rf", "é", "paper\n", "x" * 101])
def test_a_name_that_could_be_a_path_is_refused(store: Store, name: str) -> None:
    for change in (lambda: write_tag(store.files, name, "x", [CORPUS]), lambda: remove_tag(store.files, name)):
        with pytest.raises(InputError, match="is no name for a tag"):
            change()


def test_a_tag_that_is_not_there_is_named_with_those_that_are(store: Store) -> None:
    with pytest.raises(InputError, match="there is no tag paper; there are: none"):
        remove_tag(store.files, "paper")


@pytest.mark.parametrize(
    "content", [b"{", b"{}", b'{"roots": ["../x"], "what": "x", "created": "2026-01-01T00:00:00Z"}']
)
def test_a_hostile_tag_is_refused_by_its_file_name(store: Store, content: bytes) -> None:
    store.files.write(".tags/paper.json", content)
    with pytest.raises(InputError, match=r"\.tags/paper\.json in the store is no tag .* delete that file"):
        read_tags(store.files)


def test_files_that_are_no_tags_are_not_read(store: Store) -> None:
    store.files.write(".tags/.hidden.json", b"no tag")
    store.files.write(".tags/notes.txt", b"no tag")
    assert read_tags(store.files) == {}
