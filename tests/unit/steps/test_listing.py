"""An unchanged corpus is found by the listing of its files; whatever might have changed is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fishersft.config import CurateConfig
from fishersft.data import locations
from fishersft.data.locations import Location
from fishersft.data.store import Store
from fishersft.steps import corpus as corpus_steps
from fishersft.steps.corpus import load_index, read_corpus, read_target, shard_rows


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as they are, however young."""
    monkeypatch.setattr(locations, "_SETTLED_NANOSECONDS", 0)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were opened."""
    names = list[str]()
    original = Location.open

    def noting(location: Location) -> Any:
        names.append(location.name)
        return original(location)

    monkeypatch.setattr(Location, "open", noting)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.txt").write_text("".join(f"{name} says {i:02}\n" for i in range(30)))
    return folder


@pytest.fixture
def config(tmp_path: Path, folder: Path) -> CurateConfig:
    return CurateConfig.model_validate(
        {"corpus": {"path": str(folder)}, "embedding": {"shard_rows": 8}, "store": str(tmp_path / "store")}
    )


def texts(store: Store, corpus: str) -> set[str]:
    index = load_index(store, corpus)
    return {row["text"] for shard in [*index.shards, index.held_out] for row in shard_rows(store, shard)}


@pytest.mark.usefixtures("settled")
def test_an_unchanged_corpus_is_found_without_opening_a_file(config: CurateConfig, opened: list[str]) -> None:
    first = read_corpus(Store(config.store), config)
    assert len(opened) == 3 and not first.hit
    opened.clear()
    again = read_corpus(Store(config.store), config)
    assert not opened
    assert again.hit and (again.key, again.facts) == (first.key, first.facts)


@pytest.mark.usefixtures("settled")
def test_a_changed_byte_is_noticed_though_size_and_modification_time_are_the_same(
    config: CurateConfig, folder: Path
) -> None:
    store = Store(config.store)
    first = read_corpus(store, config)
    file = folder / "b.txt"
    before = file.stat()
    file.write_text(file.read_text().replace("b says 07", "b said 07"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    second = read_corpus(store, config)
    assert second.key != first.key
    assert texts(store, second.key) - texts(store, first.key) == {"b said 07"}


def rename(folder: Path) -> None:
    (folder / "c.txt").rename(folder / "d.txt")


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "change",
    [lambda folder: (folder / "d.txt").write_text("d says\n"), lambda folder: (folder / "c.txt").unlink(), rename],
)
def test_a_file_more_or_less_or_renamed_is_noticed(
    config: CurateConfig, folder: Path, opened: list[str], change: Callable[[Path], Any]
) -> None:
    read_corpus(Store(config.store), config)
    opened.clear()
    change(folder)
    read_corpus(Store(config.store), config)
    assert opened == sorted(map(str, folder.iterdir()))


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 1},
        {"embedding": {"shard_rows": 16}},
        {"corpus": {"held_out_fraction": 0.5}},
        {"corpus": {"max_rows": 40}},
        {"corpus": {"pattern": "(?P<text>[^a].*)"}},
    ],
)
def test_other_settings_are_another_corpus(config: CurateConfig, settings: dict[str, Any]) -> None:
    store = Store(config.store)
    first = read_corpus(store, config)
    values = config.model_dump()
    for name, setting in settings.items():
        values[name] = {**values[name], **setting} if isinstance(setting, dict) else setting
    assert read_corpus(store, CurateConfig.model_validate(values)).key != first.key
    assert read_corpus(store, config).key == first.key


@pytest.mark.usefixtures("settled")
def test_a_corpus_and_a_target_of_the_same_files_are_two(config: CurateConfig, folder: Path) -> None:
    values = {**config.model_dump(), "selection": {"criterion": "v-optimal"}, "target": {"path": str(folder)}}
    aimed = CurateConfig.model_validate(values)
    store = Store(config.store)
    corpus, target = read_corpus(store, aimed), read_target(store, aimed)
    assert corpus.facts["held_out"] > 0 and target.facts["held_out"] == 0
    assert read_target(store, aimed).hit


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("kind", ["corpus", "shard"])
def test_what_the_store_has_lost_is_made_again(config: CurateConfig, kind: str) -> None:
    store = Store(config.store)
    first = read_corpus(store, config)
    key = first.key if kind == "corpus" else first.facts["shard_keys"][1]
    Path(config.store, kind, key, "manifest.json").unlink()
    again = read_corpus(Store(config.store), config)
    assert again.key == first.key
    assert Store(config.store).find(kind, key) is not None


def test_files_changed_just_now_are_read_again(config: CurateConfig, opened: list[str]) -> None:
    read_corpus(Store(config.store), config)
    opened.clear()
    assert read_corpus(Store(config.store), config).hit
    assert len(opened) == 3


@pytest.mark.usefixtures("settled")
def test_files_that_change_while_they_are_read_are_not_noted(
    config: CurateConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = corpus_steps.read_pool

    def interfered(*arguments: Any) -> Any:
        (folder / "d.txt").write_text("d says\n")
        return original(*arguments)

    monkeypatch.setattr(corpus_steps, "read_pool", interfered)
    first = read_corpus(Store(config.store), config)
    monkeypatch.setattr(corpus_steps, "read_pool", original)
    (folder / "d.txt").unlink()
    assert read_corpus(Store(config.store), config).key != first.key, "the listing is as before the first run"


@pytest.fixture
def bucket() -> Iterator[fsspec.AbstractFileSystem]:
    filesystem = fsspec.filesystem("memory")
    for name in ("a", "b"):
        filesystem.pipe(f"/bucket/{name}.txt", "".join(f"{name} says {i:02}\n" for i in range(30)).encode())
    yield filesystem
    filesystem.rm("/bucket", recursive=True)


def with_tags(filesystem: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch, prefix: str = "") -> None:
    """Lets the listing give ETags, as an object store's does."""
    original = type(filesystem).find

    def find(self: fsspec.AbstractFileSystem, path: str, **settings: Any) -> dict[str, Any]:
        entries = original(self, path, **settings)
        tags = {name: prefix + hashlib.md5(filesystem.cat(name)).hexdigest() for name in entries}
        return {name: {**entry, "ETag": tags[name]} for name, entry in entries.items()}

    monkeypatch.setattr(type(filesystem), "find", find)


def test_remote_files_are_known_by_size_and_etag(
    config: CurateConfig, bucket: fsspec.AbstractFileSystem, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_tags(bucket, monkeypatch)
    remote = config.model_copy(update={"corpus": config.corpus.model_copy(update={"path": "memory://bucket"})})
    first = read_corpus(Store(config.store), remote)
    opened.clear()
    assert read_corpus(Store(config.store), remote).hit and not opened
    bucket.pipe("/bucket/a.txt", bucket.cat("/bucket/a.txt").replace(b"a says 07", b"a said 07"))
    assert read_corpus(Store(config.store), remote).key != first.key and len(opened) == 2


@pytest.mark.parametrize("prefix", [None, "W/"])
def test_remote_files_without_a_strong_etag_are_read_again(
    config: CurateConfig,
    bucket: fsspec.AbstractFileSystem,
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
    prefix: str | None,
) -> None:
    if prefix is not None:
        with_tags(bucket, monkeypatch, prefix)
    remote = config.model_copy(update={"corpus": config.corpus.model_copy(update={"path": "memory://bucket"})})
    read_corpus(Store(config.store), remote)
    opened.clear()
    assert read_corpus(Store(config.store), remote).hit and len(opened) == 2


def test_a_saved_dataset_is_read_again(config: CurateConfig, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list([{"text": f"says {i}"} for i in range(60)]).save_to_disk(tmp_path / "saved")
    saved = config.model_copy(update={"corpus": config.corpus.model_copy(update={"path": str(tmp_path / "saved")})})
    read_corpus(Store(config.store), saved)
    assert read_corpus(Store(config.store), saved).hit
    assert not list(Path(config.store).glob("listing/*"))
