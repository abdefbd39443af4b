"""gc removes what nobody needs, and nothing that a kept run, a tag or a run at work needs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

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


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = Store(str(tmp_path / "store") if request.param == "folder" else f"memory://{tmp_path}/store")
    publish_all(store)
    return store


@pytest.fixture
def local_store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "local"))
    publish_all(store)
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


def test_what_the_last_run_used_stays_with_all_that_it_came_from(store: Store) -> None:
    finish(store, "verses", SELECTION)
    assert collect(store) == NEEDED


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


def test_what_a_tag_names_stays_with_all_that_it_came_from(store: Store) -> None:
    write_tag(store.files, "paper", EMBEDDINGS, [EMBEDDINGS])
    assert collect(store) == {EMBEDDINGS, SHARD}


def test_what_is_younger_than_the_limit_stays(local_store: Store) -> None:
    finish(local_store, "verses", CORPUS)
    days_ago(local_store, [OLD_SHARD], 31)
    days_ago(local_store, [SELECTION, EMBEDDINGS], 29)
    assert collect(local_store, older_than=timedelta(days=30)) == NEEDED


def test_a_run_at_work_keeps_what_it_uses(store: Store) -> None:
    finish(store, "verses", SHARD)
    with recorded_run(store, "verses") as run:
        run.uses(EMBEDDINGS)
        assert collect(store) == {EMBEDDINGS, SHARD}


def test_a_run_at_work_keeps_all_that_was_written_since_it_began(local_store: Store) -> None:
    finish(local_store, "verses", SHARD)
    days_ago(local_store, LINEAGE, 1)
    made = f"shard/{'9' * 64}"
    half = f"shard/{'8' * 64}/{'a' * 32}/rows.txt"
    with recorded_run(local_store, "prose"):
        publish(local_store, made)
        local_store.files.write(half, b"put up, and no manifest yet")
        assert collect(local_store) == {SHARD, made}
        assert local_store.files.exists(half)
    assert collect(local_store) == {SHARD}
    assert not local_store.files.exists(half)


def test_a_dead_run_does_not_protect_for_ever(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(store, "verses", SHARD)
    with recorded_run(store, "verses") as run:
        run.uses(OLD_SHARD)
        assert collect(store) == {SHARD, OLD_SHARD}
        monkeypatch.setattr(runs, "LIVE_FOR", timedelta())
        assert collect(store) == {SHARD}


def test_finding_waste_removes_nothing(store: Store) -> None:
    finish(store, "verses", CORPUS)
    before = {file.name for file in store.files.list()}
    waste = find_waste(store, 1, ALL)
    assert [artifact.name for artifact in waste.artifacts] == [SELECTION, EMBEDDINGS, OLD_SHARD]
    assert {file.name for file in store.files.list()} == before


def test_a_run_that_begins_meanwhile_keeps_what_it_uses(store: Store) -> None:
    finish(store, "verses", SHARD)
    waste = find_waste(store, 1, ALL)
    with recorded_run(store, "verses") as run:
        run.uses(EMBEDDINGS)
        assert sum(gone for _, gone in remove_waste(store, waste)) == 3
    assert published(store) == {SHARD, EMBEDDINGS}


def test_a_run_that_began_and_ended_meanwhile_keeps_what_it_used(store: Store) -> None:
    finish(store, "verses", SHARD)
    waste = find_waste(store, 1, ALL)
    finish(store, "verses", EMBEDDINGS)
    list(remove_waste(store, waste))
    assert published(store) == {SHARD, EMBEDDINGS}


def test_what_a_run_makes_meanwhile_keeps_what_it_came_from(store: Store) -> None:
    finish(store, "verses", SHARD)
    waste = find_waste(store, 1, ALL)
    made = f"corpus/{'9' * 64}"
    with recorded_run(store, "verses") as run:
        publish(store, made, [OLD_SHARD])
        run.uses(made)
        list(remove_waste(store, waste))
    assert published(store) == {SHARD, OLD_SHARD, made}


def test_what_is_tagged_meanwhile_stays(store: Store) -> None:
    finish(store, "verses", SHARD)
    waste = find_waste(store, 1, ALL)
    write_tag(store.files, "paper", OLD_SHARD, [OLD_SHARD])
    list(remove_waste(store, waste))
    assert published(store) == {SHARD, OLD_SHARD}


def test_what_is_written_again_meanwhile_stays(local_store: Store) -> None:
    finish(local_store, "verses", SHARD)
    days_ago(local_store, LINEAGE, 2)
    waste = find_waste(local_store, 1, timedelta(days=1))
    publish(local_store, OLD_SHARD)
    list(remove_waste(local_store, waste))
    assert published(local_store) == {SHARD, OLD_SHARD}


def test_files_that_no_manifest_names_go_when_they_are_old(local_store: Store) -> None:
    finish(local_store, "verses", *LINEAGE)
    publish(local_store, SHARD, text="thee")
    half, young = (f"shard/{digit * 64}/{'a' * 32}/rows.txt" for digit in "89")
    for name in (half, young, ".drafts/shard-1/rows.txt", ".checkpoints/selection-1.json"):
        local_store.files.write(name, b"half")
    before = {file.name for file in local_store.files.list()}
    days_ago(local_store, ["shard", ".drafts", ".checkpoints"], 2)
    local_store.files.write(young, b"half")
    assert collect(local_store, older_than=timedelta(days=1)) == set(LINEAGE)
    gone = before - {file.name for file in local_store.files.list()}
    assert {half, ".drafts/shard-1/rows.txt", ".checkpoints/selection-1.json"} < gone and len(gone) == 4
    assert (local_store.fetch("shard", "1" * 64) / "rows.txt").read_text() == "thee"


def test_no_empty_folders_are_left(local_store: Store) -> None:
    finish(local_store, "verses", CORPUS)
    collect(local_store)
    folders = [path for path in local_store.files.local_path().rglob("*") if path.is_dir()]
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
