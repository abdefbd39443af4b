"""gc removes what nobody needs, and nothing that a kept run, a tag or a run at work needs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from time import sleep

import pytest

from fishersft.data import runs
from fishersft.data.collecting import find_waste, remove_waste
from fishersft.data.runs import read_runs, recorded_run, store_time
from fishersft.data.store import Store
from fishersft.data.tags import write_tag
from fishersft.errors import InputError
from tests.stores import CORPUS, EMBEDDINGS, LINEAGE, OLD_SHARD, SELECTION, SHARD, publish, publish_all, published

ALL = timedelta(minutes=-1)  # also what was written just now
NEEDED = set(LINEAGE) - {OLD_SHARD}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "store"))
    publish_all(store)
    return store


@pytest.fixture(params=["folder", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "folder":
        return request.getfixturevalue("store")
    store = Store(request.getfixturevalue("bucket"))
    publish_all(store)
    sleep(1.1)  # its clock has whole seconds
    return store


def finish(store: Store, name: str, *artifacts: str) -> None:
    """A run of that name that used these artifacts, from start to end."""
    with recorded_run(store, name) as run:
        run.uses(*artifacts)


def collect(store: Store, keep_runs: int = 1, older_than: timedelta = ALL) -> set[str]:
    """Removes what nobody needs, and gives the names of the artifacts that are left."""
    list(remove_waste(store, find_waste(store, keep_runs, older_than)))
    return published(store)


def days_ago(store: Store, names: Iterable[str], days: int) -> None:
    for name in names:
        for file in list(store.files.list(name)):
            time = file.modified.timestamp() - 86_400 * days
            os.utime(store.files.local_path(file.name), (time, time))


def test_what_the_last_run_used_stays_with_all_that_it_came_from(any_store: Store) -> None:
    finish(any_store, "verses", SELECTION)
    assert collect(any_store) == NEEDED


def test_the_last_runs_of_every_name_are_kept(store: Store) -> None:
    for name, artifact in (("verses", OLD_SHARD), ("verses", EMBEDDINGS), ("verses", CORPUS), ("prose", CORPUS)):
        finish(store, name, artifact)
    assert collect(store, keep_runs=3) == {OLD_SHARD, EMBEDDINGS, CORPUS, SHARD}
    assert collect(store, keep_runs=2) == {EMBEDDINGS, CORPUS, SHARD}
    assert collect(store, keep_runs=1) == {CORPUS, SHARD}


def test_the_records_of_runs_that_are_not_kept_go_too(store: Store) -> None:
    for name in ("verses", "verses", "prose"):
        finish(store, name, SELECTION)
    last = [run.record.id for run in read_runs(store.files)][1:]
    collect(store)
    assert [run.record.id for run in read_runs(store.files)] == last


def test_a_run_that_failed_keeps_nothing(store: Store) -> None:
    finish(store, "verses", SELECTION)
    with suppress(RuntimeError), recorded_run(store, "verses") as run:
        run.uses(OLD_SHARD)
        raise RuntimeError
    assert collect(store) == NEEDED


def test_what_a_tag_names_stays_with_all_that_it_came_from(any_store: Store) -> None:
    write_tag(any_store.files, "paper", EMBEDDINGS, [EMBEDDINGS])
    assert collect(any_store) == {EMBEDDINGS, SHARD}


def test_what_is_younger_than_the_limit_stays(store: Store) -> None:
    finish(store, "verses", CORPUS)
    days_ago(store, [OLD_SHARD], 31)
    days_ago(store, [SELECTION, EMBEDDINGS], 29)
    assert collect(store, older_than=timedelta(days=30)) == NEEDED


def test_a_run_at_work_keeps_what_it_uses(any_store: Store) -> None:
    finish(any_store, "verses", SHARD)
    with recorded_run(any_store, "verses") as run:
        run.uses(EMBEDDINGS)
        assert collect(any_store) == {EMBEDDINGS, SHARD}


def test_a_run_at_work_keeps_all_that_was_written_since_it_began(store: Store) -> None:
    finish(store, "verses", SHARD)
    days_ago(store, LINEAGE, 1)
    made = f"shard/{'9' * 64}"
    half = f"shard/{'8' * 64}/{'a' * 32}/rows.txt"
    with recorded_run(store, "prose"):
        publish(store, made)
        store.files.write(half, b"put up, and no manifest yet")
        assert collect(store) == {SHARD, made}
        assert store.files.exists(half)
    assert collect(store) == {SHARD}
    assert not store.files.exists(half)


def test_a_dead_run_does_not_protect_for_ever(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(any_store, "verses", SHARD)
    with recorded_run(any_store, "verses") as run:
        run.uses(OLD_SHARD)
        assert collect(any_store) == {SHARD, OLD_SHARD}
        monkeypatch.setattr(runs, "LIVE_FOR", timedelta())
        assert collect(any_store) == {SHARD}


def test_finding_waste_removes_nothing(any_store: Store) -> None:
    finish(any_store, "verses", CORPUS)
    before = {file.name for file in any_store.files.list()}
    waste = find_waste(any_store, 1, ALL)
    assert [artifact.name for artifact in waste.artifacts] == [SELECTION, EMBEDDINGS, OLD_SHARD]
    assert {file.name for file in any_store.files.list()} == before


def test_a_run_that_begins_meanwhile_keeps_what_it_uses(any_store: Store) -> None:
    finish(any_store, "verses", SHARD)
    waste = find_waste(any_store, 1, ALL)
    with recorded_run(any_store, "verses") as run:
        run.uses(EMBEDDINGS)
        assert sum(gone for _, gone in remove_waste(any_store, waste)) == 3
    assert published(any_store) == {SHARD, EMBEDDINGS}


def test_a_run_that_began_and_ended_meanwhile_keeps_what_it_used(store: Store) -> None:
    finish(store, "verses", SHARD)
    waste = find_waste(store, 1, ALL)
    finish(store, "verses", EMBEDDINGS)
    list(remove_waste(store, waste))
    assert published(store) == {SHARD, EMBEDDINGS}


def test_what_a_run_makes_meanwhile_keeps_what_it_came_from(any_store: Store) -> None:
    finish(any_store, "verses", SHARD)
    waste = find_waste(any_store, 1, ALL)
    made = f"corpus/{'9' * 64}"
    with recorded_run(any_store, "verses") as run:
        publish(any_store, made, [OLD_SHARD])
        run.uses(made)
        list(remove_waste(any_store, waste))
    assert published(any_store) == {SHARD, OLD_SHARD, made}


def test_what_is_tagged_meanwhile_stays(store: Store) -> None:
    finish(store, "verses", SHARD)
    waste = find_waste(store, 1, ALL)
    write_tag(store.files, "paper", OLD_SHARD, [OLD_SHARD])
    list(remove_waste(store, waste))
    assert published(store) == {SHARD, OLD_SHARD}


def test_what_is_written_again_meanwhile_stays(store: Store) -> None:
    finish(store, "verses", SHARD)
    days_ago(store, LINEAGE, 2)
    waste = find_waste(store, 1, timedelta(days=1))
    publish(store, OLD_SHARD)
    list(remove_waste(store, waste))
    assert published(store) == {SHARD, OLD_SHARD}


def test_files_that_no_manifest_names_go_when_they_are_old(store: Store) -> None:
    finish(store, "verses", *LINEAGE)
    publish(store, SHARD, text="thee")
    half, young = (f"shard/{digit * 64}/{'a' * 32}/rows.txt" for digit in "89")
    for name in (half, young, ".drafts/shard-1/rows.txt", ".checkpoints/selection-1.json"):
        store.files.write(name, b"half")
    before = {file.name for file in store.files.list()}
    days_ago(store, ["shard", ".drafts", ".checkpoints"], 2)
    store.files.write(young, b"half")
    assert collect(store, older_than=timedelta(days=1)) == set(LINEAGE)
    gone = before - {file.name for file in store.files.list()}
    assert {half, ".drafts/shard-1/rows.txt", ".checkpoints/selection-1.json"} < gone and len(gone) == 4
    assert (store.fetch("shard", "1" * 64) / "rows.txt").read_text() == "thee"


def test_a_claim_that_is_not_renewed_goes_and_one_that_is_stays(store: Store) -> None:
    finish(store, "verses", *LINEAGE)
    stale, renewed = (f".claims/shard-{digit * 64}.json" for digit in "89")
    store.files.write(stale, b"{}")
    days_ago(store, [".claims"], 1)
    store.files.write(renewed, b"{}")
    collect(store, older_than=timedelta(days=30))
    assert [file.name for file in store.files.list(".claims")] == [renewed]


def test_no_empty_folders_are_left(store: Store) -> None:
    finish(store, "verses", CORPUS)
    collect(store)
    folders = [path for path in store.files.local_path().rglob("*") if path.is_dir()]
    assert {path.name for path in folders if not any(path.iterdir())} <= {".drafts", "selection", "embeddings"}


def test_manifests_go_before_the_files_that_they_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(store, "verses", SHARD)
    removed, remove = list[str](), store.files.remove

    def note(names: Iterable[str]) -> None:
        removed.extend(names := list(names))
        remove(names)

    monkeypatch.setattr(store.files, "remove", note)
    collect(store)
    manifests = [name.endswith("manifest.json") for name in removed if "rows.txt" in name or "manifest" in name]
    assert manifests == [True] * 4 + [False] * 4


def test_a_store_that_nobody_has_claimed_is_not_emptied(store: Store) -> None:
    with pytest.raises(InputError, match=r"no finished run and no tag .* run your configs first"):
        find_waste(store, 3, ALL)
    assert collect(store, keep_runs=0) == set()


def test_nothing_goes_where_a_manifest_a_record_or_a_tag_is_not_readable(store: Store) -> None:
    finish(store, "verses", SHARD)
    good = store.files.read(f"{CORPUS}/manifest.json")
    store.files.write(f"{CORPUS}/manifest.json", b"{")
    with pytest.raises(InputError, match=r"1 manifests are not readable.*verify --repair"):
        find_waste(store, 1, ALL)
    store.files.write(f"{CORPUS}/manifest.json", good)
    for name in (".tags/paper.json", f".runs/{store_time(store.files):%Y%m%dT%H%M%S.%fZ}-abcd.json"):
        store.files.write(name, b'{"roots": ["../../x"]}')
        with pytest.raises(InputError, match=rf"{name} in the store is no.* delete that file"):
            find_waste(store, 1, ALL)
        store.files.remove([name])
    assert published(store) == set(LINEAGE)


def test_a_run_that_stood_still_and_went_on_keeps_what_it_uses(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(store, "verses", SHARD)
    with recorded_run(store, "verses") as run:
        with monkeypatch.context() as patch:
            patch.setattr(runs, "LIVE_FOR", timedelta())
            waste = find_waste(store, 1, ALL)
        run.uses(OLD_SHARD)
        list(remove_waste(store, waste))
    assert published(store) == {SHARD, OLD_SHARD}


def test_a_tag_of_what_is_not_there_stops_gc(store: Store) -> None:
    write_tag(store.files, "paper", SELECTION, [SELECTION])
    store.files.remove([f"{SELECTION}/manifest.json"])
    with pytest.raises(InputError, match=rf"tag paper stands for {SELECTION}, which is not in this store.*untag paper"):
        collect(store)


def test_a_manifest_that_was_not_there_when_it_was_read_takes_no_files_along(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(store, "verses", SELECTION, CORPUS, EMBEDDINGS, SHARD)
    find = Store.find
    monkeypatch.setattr(Store, "find", lambda self, kind, key: None if kind == "corpus" else find(self, kind, key))
    waste = find_waste(store, 1, ALL)
    assert list(waste.folders()) == [OLD_SHARD]


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tag(store.files, "paper", SELECTION, [SELECTION])
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith(".tags"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"access denied for \.tags"):
        collect(store, keep_runs=0)
