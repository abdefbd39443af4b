"""Token blocks and picks as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from fishersft.data.block_files import (
    EMBEDDINGS_FILE,
    BlockWriter,
    bytes_of,
    read_blocks,
    read_weights,
    write_blocks,
    write_picks,
)
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.numerics import StoredBlocks, TokenBlocks, select

BLOCKS = TokenBlocks(torch.arange(12, dtype=torch.float32).reshape(6, 2), torch.tensor([0, 1, 4, 6]))


def test_blocks_survive_safetensors_and_an_artifacts_folder(tmp_path: Path) -> None:
    write_blocks(BLOCKS, tmp_path / EMBEDDINGS_FILE)
    for path in (tmp_path / EMBEDDINGS_FILE, tmp_path):
        again = read_blocks(path)
        assert torch.equal(again.values, BLOCKS.values) and torch.equal(again.offsets, BLOCKS.offsets)


def test_blocks_are_read_from_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "blocks.npz", values=BLOCKS.values.numpy(), offsets=BLOCKS.offsets.numpy())
    assert torch.equal(read_blocks(tmp_path / "blocks.npz").values, BLOCKS.values)


def test_weights_survive_beside_the_blocks_in_float32(tmp_path: Path) -> None:
    weights = torch.linspace(0, 1, 6, dtype=torch.float64)
    write_blocks(BLOCKS, tmp_path / EMBEDDINGS_FILE, weights)
    for path in (tmp_path / EMBEDDINGS_FILE, tmp_path):
        again = read_weights(path)
        assert again.dtype == torch.float32 and torch.equal(again, weights.float())
        assert torch.equal(read_blocks(path).values, BLOCKS.values)
    np.savez(tmp_path / "blocks.npz", weights=weights.numpy())
    assert torch.equal(read_weights(tmp_path / "blocks.npz"), weights)


def test_a_file_without_weights_says_where_they_come_from(tmp_path: Path) -> None:
    write_blocks(BLOCKS, tmp_path / "blocks.safetensors")
    with pytest.raises(
        InputError, match=r"expected weights \(tokens,\).*criterion: fisher-weighted, found \['offsets', 'values'\]"
    ):
        read_weights(tmp_path / "blocks.safetensors")


def test_an_npz_with_pickled_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "blocks.npz", values=np.array([{"a": 1}], dtype=object), offsets=np.array([0, 1]))
    with pytest.raises(InputError, match=r"not a readable \.npz"):
        read_blocks(tmp_path / "blocks.npz")


def test_blocks_are_read_from_an_artifacts_key_folder(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    other = TokenBlocks(BLOCKS.values + 1, BLOCKS.offsets)
    with store.publish("embeddings", "a" * 64, params={}, inputs={}) as draft:
        write_blocks(BLOCKS, draft.folder / EMBEDDINGS_FILE)
    key_folder = tmp_path / "store" / "embeddings" / ("a" * 64)
    # What another writer of the same key left behind: the manifest, not the folder, says what counts.
    (key_folder / "0000").mkdir()
    write_blocks(other, key_folder / "0000" / EMBEDDINGS_FILE)
    assert torch.equal(read_blocks(key_folder).values, BLOCKS.values)
    assert torch.equal(read_blocks(store.fetch("embeddings", "a" * 64)).values, BLOCKS.values)


@pytest.mark.parametrize("manifest", ["{", "[]", "{}"])
def test_a_folder_whose_manifest_names_no_content_is_refused(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(InputError, match=r"manifest.json: expected the manifest of an embeddings artifact"):
        read_blocks(tmp_path)


@pytest.mark.parametrize("kind", [np.float64, np.bool_])
def test_offsets_that_are_no_integers_are_refused(tmp_path: Path, kind: type) -> None:
    np.savez(tmp_path / "blocks.npz", values=np.zeros((1, 2)), offsets=np.array([0, 1.5]).astype(kind))
    with pytest.raises(InputError, match=r"expected offsets of an integer dtype such as int64, found torch\."):
        read_blocks(tmp_path / "blocks.npz")


def test_offsets_of_any_integer_dtype_are_taken(tmp_path: Path) -> None:
    np.savez(tmp_path / "blocks.npz", values=np.zeros((2, 2)), offsets=np.array([0, 1, 2], dtype=np.uint16))
    assert read_blocks(tmp_path / "blocks.npz").lengths.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing.npz", "no such file"), ("blocks.txt", r"expected a \.safetensors or \.npz")],
)
def test_other_paths_are_refused_with_what_was_expected(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "blocks.txt").write_text("x")
    with pytest.raises(InputError, match=message):
        read_blocks(tmp_path / name)


def test_a_file_without_offsets_says_what_it_has(tmp_path: Path) -> None:
    np.savez(tmp_path / "blocks.npz", values=np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"found \['values'\]"):
        read_blocks(tmp_path / "blocks.npz")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    write_blocks(BLOCKS, tmp_path / "blocks.safetensors")
    whole = (tmp_path / "blocks.safetensors").read_bytes()
    (tmp_path / "blocks.safetensors").write_bytes(whole[:-8])
    with pytest.raises(InputError, match=r"not a readable \.safetensors"):
        read_blocks(tmp_path / "blocks.safetensors")


def test_picks_are_written_in_the_order_chosen(tmp_path: Path) -> None:
    selection = select(BLOCKS, 2)
    write_picks(selection, tmp_path / "a" / "new folder" / "picks.parquet")
    columns = pq.read_table(tmp_path / "a" / "new folder" / "picks.parquet").to_pydict()
    assert columns["rank"] == [1, 2]
    assert columns["block"] == selection.indices.tolist()
    assert columns["gain"] == selection.gains.tolist()


def test_sizes_are_bytes_or_binary_multiples_of_them() -> None:
    assert [bytes_of(size) for size in ("100", "1.5K", "2M", "4G", "1T", "3KB", "7B")] == [
        100, 1536, 2 << 20, 4 << 30, 1 << 40, 3072, 7
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("pieces", [[7], [0, 3, 4], [1] * 7])
def test_rows_written_one_after_another_are_read_as_blocks_with_their_columns(
    tmp_path: Path, dtype: torch.dtype, pieces: list[int]
) -> None:
    values, weights = torch.randn(7, 3), torch.rand(7)
    with BlockWriter(tmp_path / "blocks.safetensors", [2, 0, 5], 3, dtype, ["weights", "nll"]) as writer:
        for rows, some in zip(values.split(pieces), weights.split(pieces), strict=True):
            writer.write(writer.as_stored(rows), weights=some, nll=2 * some)
    blocks = read_blocks(tmp_path / "blocks.safetensors")
    assert torch.equal(blocks.values, values.to(dtype)) and blocks.lengths.tolist() == [2, 0, 5]
    assert torch.equal(read_weights(tmp_path / "blocks.safetensors"), weights)
    stored = StoredBlocks([tmp_path / "blocks.safetensors"], 1 << 20)
    assert torch.equal(stored[2], values[2:].to(dtype))


def test_values_that_float16_cannot_hold_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"embeddings reach 70,000, more than F16 holds; set embedding\.storage"),
        BlockWriter(tmp_path / "blocks.safetensors", [1], 1, torch.float16) as writer,
    ):
        writer.as_stored(torch.tensor([[70_000.0]]))
