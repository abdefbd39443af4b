"""The store: an artifact is there whole, or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from fishersft.data.keys import artifact_key
from fishersft.data.manifest import Manifest, manifest_bytes
from fishersft.data.store import Store, put_folder
from fishersft.errors import InputError

KEY = "0" * 64


def publish(store: Store, text: str = "thou", kind: str = "shard", key: str = KEY) -> None:
    with store.publish(kind, key, {"a": 1}, {"from": "b"}) as draft:
        (draft.folder / "rows.txt").write_text(text)
        draft.facts["rows"] = 1


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "s3":
        return Store(f"{request.getfixturevalue('bucket')}/store")
    return Store(str(tmp_path / "store") if request.param == "folder" else f"memory://{tmp_path}/store")


def test_what_was_published_is_found_and_fetched(store: Store) -> None:
    publish(store)
    manifest = store.get("shard", KEY)
    assert (manifest.params, manifest.inputs, manifest.facts) == ({"a": 1}, {"from": "b"}, {"rows": 1})
    assert [(entry.name, entry.size) for entry in manifest.files] == [("rows.txt", 4)]
    assert (store.fetch("shard", KEY) / "rows.txt").read_text() == "thou"


def test_what_was_not_published_is_not_there(store: Store) -> None:
    assert store.find("shard", KEY) is None
    with pytest.raises(InputError, match=f"no shard artifact {KEY}"):
        store.get("shard", KEY)


def test_an_error_while_making_leaves_no_artifact(store: Store) -> None:
    def fail_half_way() -> None:
        with store.publish("shard", KEY, {}, {}) as draft:
            (draft.folder / "rows.txt").write_text("half")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail_half_way()
    assert store.find("shard", KEY) is None


def test_no_drafts_are_left_behind(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    publish(store)
    with pytest.raises(RuntimeError), store.publish("shard", "1" * 64, {}, {}):
        raise RuntimeError
    assert list((tmp_path / ".drafts").iterdir()) == []


def test_publishing_again_with_other_bytes_keeps_the_artifact_whole(store: Store) -> None:
    publish(store, "thou")
    publish(store, "thee!")
    assert (store.fetch("shard", KEY) / "rows.txt").read_text() == "thee!"


def test_publishing_the_same_bytes_again_is_harmless(store: Store) -> None:
    publish(store)
    publish(store)
    assert (store.fetch("shard", KEY) / "rows.txt").read_text() == "thou"


@pytest.mark.parametrize("damage", ["thou art", "THOU", None])
def test_a_damaged_file_is_reported_with_artifact_file_and_remedy(tmp_path: Path, damage: str | None) -> None:
    publish(Store(str(tmp_path)))
    (file,) = tmp_path.rglob("rows.txt")
    file.unlink() if damage is None else file.write_text(damage)
    remedy = r"`fishersft store verify --repair` .* run again"
    with pytest.raises(InputError, match=rf"shard artifact {KEY}: file rows\.txt .* {remedy}"):
        Store(str(tmp_path)).fetch("shard", KEY)


def test_a_manifest_of_a_newer_format_asks_for_an_upgrade(tmp_path: Path) -> None:
    publish(Store(str(tmp_path)))
    (path,) = tmp_path.rglob("manifest.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(InputError, match=r"format 99.*upgrade fishersft"):
        Store(str(tmp_path)).find("shard", KEY)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"key": "b" * 64}, "is that of another artifact"),
        ({"content": "/etc"}, "names a folder that is no digest"),
        ({"files": [{"name": "../../escaped", "size": 1, "sha256": "0"}]}, "names a file outside of its folder"),
        ({"files": [{"name": "/escaped", "size": 1, "sha256": "0"}]}, "names a file outside of its folder"),
        ({"sources": ["../x"]}, "names sources that are no artifacts"),
    ],
)
def test_a_manifest_that_was_tampered_with_is_not_believed(store: Store, change: dict[str, object], fault: str) -> None:
    publish(store)
    name = f"shard/{KEY}/manifest.json"
    manifest = Manifest.model_validate_json(store.files.read(name)).model_dump() | change
    store.files.write(name, manifest_bytes(Manifest.model_validate(manifest)))
    with pytest.raises(InputError, match=rf"shard artifact {KEY}: its manifest {fault}.*verify --repair"):
        store.fetch("shard", KEY)


def test_a_manifest_that_is_no_manifest_is_named(tmp_path: Path) -> None:
    publish(Store(str(tmp_path)))
    (path,) = tmp_path.rglob("manifest.json")
    path.write_text("{}")
    with pytest.raises(InputError, match="not a manifest of FisherSFT"):
        Store(str(tmp_path)).find("shard", KEY)


def test_a_full_disk_gives_one_clear_error_and_no_artifact(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount], capture_output=True, check=False
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("needs the right to mount a tmpfs of one megabyte")
    try:
        store = Store(str(mount))
        with pytest.raises(InputError, match=r"no space left .* writing shard artifact"):
            publish(store, "x" * 2_000_000)
        assert store.find("shard", KEY) is None
    finally:
        subprocess.run(["umount", mount], check=True)


def test_an_object_store_without_credentials_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("s3fs")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"cannot be reached .* check credentials"):
        Store("s3://bucket/prefix").find("shard", KEY)


def test_a_store_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a folder")
    with pytest.raises(InputError, match="is a file, not a folder"):
        publish(Store(str(tmp_path / "store")))


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(InputError, match="expected a folder or a URL such as s3://"):
        Store("nonsense://bucket")


def test_a_key_holds_everything_that_determines_the_artifact() -> None:
    base = artifact_key("shard", 1, {"a": 1}, {"x": "y"})
    others = [
        artifact_key("selection", 1, {"a": 1}, {"x": "y"}),
        artifact_key("shard", 2, {"a": 1}, {"x": "y"}),
        artifact_key("shard", 1, {"a": 2}, {"x": "y"}),
        artifact_key("shard", 1, {"a": 1}, {"x": "z"}),
    ]
    assert len({base, *others}) == 5
    assert artifact_key("shard", 1, {"b": 2, "a": 1}, {}) == artifact_key("shard", 1, {"a": 1, "b": 2}, {})


def test_a_folder_is_put_below_a_url_with_its_subfolders(tmp_path: Path) -> None:
    (tmp_path / "from" / "figures").mkdir(parents=True)
    (tmp_path / "from" / "figures" / "a.svg").write_text("<svg/>")
    put_folder(tmp_path / "from", str(tmp_path / "to"))
    assert (tmp_path / "to" / "figures" / "a.svg").read_text() == "<svg/>"
