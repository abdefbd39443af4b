"""The store behind a network and a server that fail: right bytes or one clear error, never anything else."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from time import sleep

import pytest

from fishersft.data import files as files_module
from fishersft.data.collecting import find_waste, remove_waste
from fishersft.data.copying import copy_artifacts
from fishersft.data.files import Files
from fishersft.data.inventory import take_inventory
from fishersft.data.store import Store
from fishersft.data.tags import write_tag
from fishersft.data.verifying import check_files
from fishersft.errors import InputError
from tests.faults.proxy import FAULTS, FaultProxy
from tests.stores import LINEAGE, OLD_SHARD, SELECTION, publish_all, published

BYTES = os.urandom((6 << 20) + 7)
SMALL = 20_000


def key(number: int) -> str:
    return f"{number:064d}"


def publish(store: Store, number: int, size: int = SMALL) -> None:
    with store.publish("shard", key(number), {}, {}) as draft:
        (draft.folder / "rows").write_bytes(BYTES[number : size + number])


@pytest.mark.parametrize("fault", FAULTS)
def test_artifacts_go_there_and_back_whatever_befalls_a_third_of_the_requests(
    store_url: str, proxy: FaultProxy, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "PART", 5 << 20)
    here, there = Store(store_url), Store(store_url)
    proxy.inject([fault], share=1 / 3, seed=3)
    for number, size in enumerate([6 << 20, SMALL, SMALL, SMALL]):
        publish(here, number, size)
        assert (there.fetch("shard", key(number)) / "rows").read_bytes() == BYTES[number : size + number]
    assert proxy.injected[fault] > 0


@pytest.mark.parametrize("fault", ["503", "500", "reset", "truncated"])
def test_a_fault_that_stays_is_one_clear_error_after_six_tries(store_url: str, proxy: FaultProxy, fault: str) -> None:
    publish(Store(store_url), 1)
    proxy.inject([fault], share=1)
    with pytest.raises(InputError, match=r"cannot be reached for shard/.*manifest\.json in s3://.*, 6 times within"):
        Store(store_url).find("shard", key(1))
    assert 6 <= proxy.injected[fault] <= 12  # aiohttp asks again by itself where a kept connection was cut


def test_an_upload_that_is_always_damaged_never_becomes_an_artifact(store_url: str, proxy: FaultProxy) -> None:
    proxy.inject(["flipped upload"], share=1)
    with pytest.raises(InputError, match="BadDigest"):
        publish(Store(store_url), 1)
    proxy.be_healthy()
    assert Store(store_url).find("shard", key(1)) is None


def test_a_file_that_always_arrives_damaged_is_named_with_the_remedy(store_url: str, proxy: FaultProxy) -> None:
    publish(Store(store_url), 1)
    files = Files(store_url)
    (name,) = [file.name for file in files.list() if file.name.endswith("rows")]
    files.write(name, BYTES[:SMALL])
    with pytest.raises(InputError, match=rf"shard artifact {key(1)}: file rows .*fishersft store verify --repair"):
        Store(store_url).fetch("shard", key(1))


def test_a_manifest_that_always_arrives_damaged_is_never_believed(store_url: str, proxy: FaultProxy) -> None:
    publish(Store(store_url), 1)
    files, name = Files(store_url), f"shard/{key(1)}/manifest.json"
    content = files.read(name)
    files.write(name, content.replace(b'"size": 20000', b'"size": 20001'))
    with pytest.raises(InputError, match=r"manifest .* damaged.*fishersft store verify --repair"):
        Store(store_url).find("shard", key(1))


@pytest.mark.parametrize(
    ("fault", "words"),
    [("denied", "access denied for .*check its permissions"), ("skewed", "this machine's clock is wrong; set it")],
)
def test_what_no_further_try_can_mend_is_one_clear_error_at_once(
    store_url: str, proxy: FaultProxy, fault: str, words: str
) -> None:
    proxy.inject([fault], share=1)
    with pytest.raises(InputError, match=words):
        publish(Store(store_url), 1)
    assert proxy.injected[fault] == 1


def test_verifying_takes_no_damage_on_the_way_for_damage_in_the_store(
    store_url: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "_DOWNLOADS", 8)  # so that not all of a file's are damaged by chance
    store = Store(store_url)
    for number in range(12):
        publish(store, number)
    artifacts = list(take_inventory(store).artifacts.values())
    proxy.inject(["flipped"], share=1 / 4, seed=5, only="rows")
    assert [checked.fault for checked in check_files(store.files, artifacts)] == [""] * 12
    assert proxy.injected["flipped"] > 0


def test_copies_are_whole_though_some_transfers_are_damaged(
    store_url: str, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "_DOWNLOADS", 8)  # so that not all of a file's are damaged by chance
    here, there = Store(store_url), Store(str(tmp_path / "there"))
    for number in range(12):
        publish(here, number)
    artifacts = list(take_inventory(here).artifacts.values())
    proxy.inject(["flipped"], share=1 / 4, seed=5, only="rows")
    assert len(list(copy_artifacts(here, there, artifacts))) == 12
    assert proxy.injected["flipped"] > 0
    for number in range(12):
        assert (there.fetch("shard", key(number)) / "rows").read_bytes() == BYTES[number : SMALL + number]


def test_gc_takes_nothing_that_a_damaged_listing_does_not_show(store_url: str, proxy: FaultProxy) -> None:
    store = Store(store_url)
    publish_all(store)
    write_tag(store.files, "paper", SELECTION, [SELECTION])
    sleep(1.1)  # the server's clock has whole seconds
    for seed in range(25):
        proxy.inject(["flipped"], share=1 / 4, seed=seed, only="list-type=2")
        with suppress(InputError):
            list(remove_waste(store, find_waste(store, 1, timedelta(minutes=-1))))
    assert proxy.injected["flipped"] > 25
    proxy.be_healthy()
    assert published(store) >= set(LINEAGE) - {OLD_SHARD}
