"""What a store holds: every file belongs to an artifact or is known to belong to none; names are checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fishersft.data.inventory import take_inventory
from fishersft.data.lineage import Lineage
from fishersft.data.manifest import Manifest, manifest_bytes
from fishersft.data.store import Store
from fishersft.errors import InputError
from tests.stores import CORPUS, EMBEDDINGS, LINEAGE, OLD_SHARD, SELECTION, SHARD, publish, publish_all


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def file_names(store: Store, name: str) -> list[str]:
    return [file.name.rpartition("/")[2] for file in take_inventory(store).artifacts[name].files]


def test_artifacts_come_after_what_they_are_made_of(store: Store) -> None:
    for name in (SELECTION, EMBEDDINGS, CORPUS, SHARD):
        publish(store, name, LINEAGE[name])
    assert list(take_inventory(store).artifacts) == [SHARD, CORPUS, EMBEDDINGS, SELECTION]


def test_an_artifact_has_its_files_and_their_size(store: Store) -> None:
    publish(store, SHARD, text="thou")
    artifact = take_inventory(store).artifacts[SHARD]
    assert file_names(store, SHARD) == ["manifest.json", "rows.txt"]
    assert artifact.size == artifact.files[0].size + 4


def test_files_without_a_manifest_and_of_earlier_bytes_are_orphans(store: Store) -> None:
    publish(store, SHARD, text="thou")
    publish(store, SHARD, text="thee")
    store.files.write(f"{CORPUS}/{'a' * 32}/corpus.json", b"half")
    orphans = take_inventory(store).orphans()
    assert set(orphans) == {SHARD, CORPUS}
    assert [store.files.read(file.name) for file in orphans[SHARD]] == [b"thou"]
    assert [store.files.read(file.name) for file in orphans[CORPUS]] == [b"half"]


def test_work_that_is_not_finished_is_counted_apart(store: Store) -> None:
    for name in (".drafts/shard-1/rows.txt", ".checkpoints/selection-1.json"):
        store.files.write(name, b"half")
    inventory = take_inventory(store)
    assert {what: len(files) for what, files in inventory.scratch.items() if files} == {"drafts": 1, "checkpoints": 1}
    assert inventory.artifacts == {} and inventory.folders == {}


def test_what_others_put_into_the_folder_is_not_looked_at(store: Store) -> None:
    for name in ("notes.txt", f"secrets/{'0' * 64}/manifest.json", "shard/readme/manifest.json", f"shard/{'0' * 64}"):
        store.files.write(name, b"{}")
    inventory = take_inventory(store)
    assert inventory.artifacts == {} and inventory.folders == {} and inventory.damaged == {}


def test_a_kind_whose_artifacts_are_all_gone_is_empty(bucket: str) -> None:
    store = Store(bucket)
    publish(store, SHARD)
    store.files.remove([file.name for file in store.files.list()])
    assert take_inventory(store).artifacts == {}
    assert list(store.files.list("shard")) == []


def test_a_key_is_found_by_its_first_digits(store: Store) -> None:
    publish_all(store)
    publish(store, f"shard/{'0' * 5}{'1' * 59}")
    inventory = take_inventory(store)
    assert inventory.artifact("2222").name == CORPUS
    for key, message in [
        ("222", "'222' is no key: expected its first 4 to 64 digits"),
        ("../../etc", "is no key"),
        ("abcd", "no artifact's key begins with abcd; `fishersft store ls`"),
        ("00000", "2 keys begin with 00000: .*; give more digits"),
    ]:
        with pytest.raises(InputError, match=message):
            inventory.artifact(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "f" * 64}, "is that of another artifact"),
        ({"kind": "corpus"}, "is that of another artifact"),
        ({"content": "../../../etc"}, "names a folder that is no digest"),
        ({"files": [{"name": "../../rows", "size": 1, "sha256": "0"}]}, "names a file outside of its folder"),
        ({"files": [{"name": "/etc/passwd", "size": 1, "sha256": "0"}]}, "names a file outside of its folder"),
        ({"sources": ["../../etc/passwd"]}, "names sources that are no artifacts"),
    ],
)
def test_a_manifest_that_claims_what_cannot_be_is_damaged(store: Store, change: dict[str, Any], message: str) -> None:
    publish(store, SHARD)
    said = {**store.get("shard", SHARD.partition("/")[2]).model_dump(), **change}
    store.files.write(f"{SHARD}/manifest.json", manifest_bytes(Manifest.model_validate(said)))
    inventory = take_inventory(store)
    assert list(inventory.damaged) == [SHARD] and message in inventory.damaged[SHARD]
    assert SHARD not in inventory.artifacts
    with pytest.raises(InputError, match=message):
        inventory.artifact("1111")


def test_a_manifest_that_is_none_does_not_hide_the_others(store: Store) -> None:
    publish_all(store)
    store.files.write(f"{SHARD}/manifest.json", b"{")
    inventory = take_inventory(store)
    assert list(inventory.damaged) == [SHARD] and CORPUS in inventory.artifacts


def test_a_manifest_of_a_newer_version_asks_for_an_upgrade(store: Store) -> None:
    publish(store, SHARD)
    manifest = json.loads(store.files.read(f"{SHARD}/manifest.json"))
    store.files.write(f"{SHARD}/manifest.json", json.dumps({**manifest, "format": 99}).encode())
    with pytest.raises(InputError, match="upgrade fishersft"):
        take_inventory(store)


def test_lineage_goes_both_ways_over_any_number_of_steps() -> None:
    lineage = Lineage(LINEAGE)
    assert lineage.needs([SELECTION]) == {SELECTION, CORPUS, EMBEDDINGS, SHARD}
    assert lineage.needs([CORPUS, OLD_SHARD]) == {CORPUS, SHARD, OLD_SHARD}
    assert lineage.dependents(SHARD) == {CORPUS, EMBEDDINGS, SELECTION}
    assert lineage.dependents(OLD_SHARD) == set()


def test_lineage_ends_where_a_store_claims_a_circle() -> None:
    assert Lineage({SHARD: [CORPUS], CORPUS: [SHARD]}).needs([SHARD]) == {SHARD, CORPUS}


def test_lineage_looks_up_what_it_does_not_know() -> None:
    asked = list[str]()

    def look_up(name: str) -> list[str]:
        asked.append(name)
        return [SHARD]

    assert Lineage({SHARD: []}, look_up).needs([CORPUS]) == {CORPUS, SHARD}
    assert asked == [CORPUS]
