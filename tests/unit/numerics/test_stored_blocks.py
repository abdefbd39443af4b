from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import block_lists
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks, select
from fishersft.numerics.stored import StoredBlocks, _Shard

AMPLE = 1 << 20
LENGTHS = [[3, 0, 2], [], [0], [5, 1, 1, 4]]  # of the blocks of four shards
INDICES = [[6, 1, 3, 0], [4], [5, 4, 4, 2, 5], [1], [], list(range(8))]


def a_shard(lengths: list[int], dim: int = 3, dtype: torch.dtype = torch.float32, seed: int = 0) -> TokenBlocks:
    values = torch.randn(sum(lengths), dim, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return TokenBlocks(values, torch.tensor([0, *lengths]).cumsum(0))


def write(shards: list[TokenBlocks], folder: Path) -> list[Path]:
    paths = [folder / f"shard-{number}.safetensors" for number in range(len(shards))]
    for shard, path in zip(shards, paths, strict=True):
        save_file({"values": shard.values, "offsets": shard.offsets}, path)
    return paths


def memory_for(rows: int, blocks: StoredBlocks) -> int:
    """For so many float32 rows beside the records of all blocks, as the docstring counts them."""
    return math.ceil((records_of(blocks) + rows * (4 * blocks.dim + 4)) / 0.3)


def records_of(blocks: StoredBlocks) -> int:
    return 16 * len(blocks) + 8 + 4 * int(blocks.offsets[-1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_blocks_on_disk_are_the_blocks_in_memory(
    dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [a_shard(lengths, dtype=dtype, seed=seed) for seed, lengths in enumerate(LENGTHS)]
    in_memory, on_disk = TokenBlocks.concatenate(shards), StoredBlocks(write(shards, tmp_path), AMPLE)
    assert len(on_disk) == len(in_memory) == 8
    assert (on_disk.dim, on_disk.dtype, on_disk.device) == (3, dtype, torch.device("cpu"))
    assert torch.equal(on_disk.offsets, in_memory.offsets)
    assert torch.equal(on_disk.lengths, in_memory.lengths)
    assert all(torch.equal(on_disk[i], in_memory[i]) for i in range(-8, 8))
    with pytest.raises(IndexError):
        on_disk[8]
    for indices in INDICES:
        rows = on_disk.rows_of(np.array(indices, dtype=np.int64))
        assert rows.dtype == dtype
        assert torch.equal(rows, in_memory.rows_of(np.array(indices, dtype=np.int64)))
    monkeypatch.setattr("fishersft.numerics.stored._CHUNK_ELEMENTS", 4 * 3)
    chunks = list(on_disk.chunks())
    assert [first for first, _ in chunks] == [0, 4, 8, 12]
    assert torch.equal(torch.cat([rows for _, rows in chunks]), in_memory.values)
    on_disk.check_finite()


@settings(max_examples=50, deadline=None)
@given(parts=st.lists(block_lists(max_dim=1), min_size=1, max_size=3), data=st.data())
def test_any_sequence_of_looks_gives_the_right_rows_from_a_cache_of_any_size(
    parts: list[list[np.ndarray]], data: st.DataObject
) -> None:
    shards = [TokenBlocks.from_sequence(part) for part in parts]
    whole = TokenBlocks.concatenate(shards)
    with tempfile.TemporaryDirectory() as folder:
        files = write(shards, Path(folder))
        rows = data.draw(st.integers(0, len(whole.values)))
        blocks = StoredBlocks(files, memory_for(rows, StoredBlocks(files, AMPLE)))
        for _ in range(8):
            indices = np.array(data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=6)), dtype=np.int64)
            assert torch.equal(blocks.rows_of(indices), whole.rows_of(indices))


def test_files_without_any_tokens_are_blocks_too(tmp_path: Path) -> None:
    blocks = StoredBlocks(write([a_shard([]), a_shard([0, 0])], tmp_path), AMPLE)
    assert len(blocks) == 2
    assert blocks.rows_of(np.array([1, 0])).shape == (0, 3)
    assert list(blocks.chunks()) == []
    blocks.check_finite()


def test_rows_are_copies_that_later_looks_leave_alone(tmp_path: Path) -> None:
    shard = a_shard([2, 3])
    blocks = StoredBlocks(write([shard], tmp_path), AMPLE)
    for _ in range(3):  # from disk, then from the cache
        blocks[1].zero_()
        assert torch.equal(blocks[1], shard[1])


def test_cached_blocks_are_not_read_again(tmp_path: Path) -> None:
    blocks = StoredBlocks(write([a_shard([4, 2, 3])], tmp_path), AMPLE)
    blocks.rows_of(np.array([2, 0]))
    assert blocks.bytes_read == (3 + 4) * 3 * 4
    blocks.rows_of(np.array([0, 2, 0]))
    assert blocks.bytes_read == (3 + 4) * 3 * 4
    blocks.rows_of(np.array([0, 1, 2]))
    assert blocks.bytes_read == (3 + 4 + 2) * 3 * 4


def test_the_blocks_used_last_stay_and_a_pass_over_all_rows_puts_none_out(tmp_path: Path) -> None:
    files = write([a_shard([2] * 20)], tmp_path)
    blocks = StoredBlocks(files, memory_for(8, StoredBlocks(files, AMPLE)))  # four blocks
    hot = np.array([3, 7])
    blocks.rows_of(hot)
    for other in range(8, 20):
        blocks.rows_of(np.array([other]))
        before = blocks.bytes_read
        blocks.rows_of(hot)
        assert blocks.bytes_read == before
    assert sum(len(rows) for _, rows in blocks.chunks()) == 40
    before = blocks.bytes_read
    blocks.rows_of(hot)
    assert blocks.bytes_read == before
    blocks.rows_of(np.array([8]))  # put out long ago
    assert blocks.bytes_read > before


def test_neighbours_on_disk_are_read_in_one_go_in_whatever_order_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[int, int]] = []
    read = _Shard.read

    def counting(shard: _Shard, first: int, destination: np.ndarray) -> None:
        reads.append((first, len(destination)))
        read(shard, first, destination)

    monkeypatch.setattr(_Shard, "read", counting)
    blocks = StoredBlocks(write([a_shard([1, 2, 0, 3, 4, 5])], tmp_path), AMPLE)
    blocks.rows_of(np.array([3, 5, 1, 2]))
    assert reads == [(1, 5), (10, 5)]


def test_a_block_longer_than_the_cache_is_read_each_time(tmp_path: Path) -> None:
    shard = a_shard([9, 2])
    files = write([shard], tmp_path)
    blocks = StoredBlocks(files, memory_for(4, StoredBlocks(files, AMPLE)))
    assert all(torch.equal(blocks[0], shard[0]) for _ in range(2))
    assert blocks.bytes_read == 2 * 9 * 3 * 4
    assert all(torch.equal(blocks[1], shard[1]) for _ in range(2))
    assert blocks.bytes_read == (2 * 9 + 2) * 3 * 4


def test_threads_share_one_object(tmp_path: Path) -> None:
    shards = [a_shard([1 + i % 7 for i in range(200)], dim=16, seed=seed) for seed in range(2)]
    whole, files = TokenBlocks.concatenate(shards), write(shards, tmp_path)
    blocks = StoredBlocks(files, memory_for(300, StoredBlocks(files, AMPLE)))
    together = threading.Barrier(4)

    def looks(seed: int) -> int:
        rng = np.random.default_rng(seed)
        together.wait()
        calls = [rng.integers(len(whole), size=rng.integers(1, 30)) for _ in range(200)]
        return sum(torch.equal(blocks.rows_of(indices), whole.rows_of(indices)) for indices in calls)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(looks, range(4))) == [200] * 4


PEAK_PROGRAM = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from fishersft.numerics.stored import StoredBlocks

def resident(line):
    status = Path("/proc/self/status").read_text()
    return int(status.split(line + ":")[1].split()[0]) * 1024

def looks(seed):
    rng = np.random.default_rng(seed)
    for _ in range(150):
        blocks.rows_of(rng.integers(len(blocks), size=30))

before = resident("VmRSS")
blocks = StoredBlocks([Path(sys.argv[1])], memory=int(sys.argv[2]))
with ThreadPoolExecutor(2) as pool:
    list(pool.map(looks, range(2)))
blocks.check_finite()
print(resident("VmHWM") - before, resident("VmRSS") - before, blocks.bytes_read)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_memory_stays_within_the_bound_when_the_file_is_four_times_larger(tmp_path: Path) -> None:
    memory, beside = 64 << 20, 96 << 20  # beside: libraries that load later, and what malloc keeps of small pools
    rows = 4 * memory // (576 * 4)
    shard = TokenBlocks(torch.ones(rows, 576), torch.cat([torch.arange(0, rows, 40), torch.tensor([rows])]))
    (path,) = write([shard], tmp_path)
    command = [sys.executable, "-c", PEAK_PROGRAM, str(path), str(memory)]
    peak, at_the_end, bytes_read = map(int, subprocess.check_output(command, text=True).split())
    assert bytes_read > 8 * memory
    assert at_the_end > memory // 4  # blocks were kept
    assert peak < memory + beside < 4 * memory


def test_selection_from_disk_is_the_selection_from_memory(tmp_path: Path) -> None:
    shards = [a_shard([1 + i % 5 for i in range(60)], dim=8, seed=seed) for seed in range(2)]
    files = write(shards, tmp_path)
    blocks = StoredBlocks(files, memory_for(40, StoredBlocks(files, AMPLE)))
    in_memory, on_disk = select(TokenBlocks.concatenate(shards), 20), select(blocks, 20)
    assert on_disk.indices.tolist() == in_memory.indices.tolist()
    assert on_disk.gains == pytest.approx(in_memory.gains, rel=1e-9)


def test_check_finite_names_the_file_and_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [a_shard([2, 2]), a_shard([1, 0, 4]), a_shard([1])]
    shards[1].values[3, 1] = float("nan")
    blocks = StoredBlocks(write(shards, tmp_path), AMPLE)
    message = r"shard-1.*: token block 4 \(number 2 of this file\) holds NaN or infinity.*its token 2"
    with pytest.raises(InputError, match=message):
        blocks.check_finite()
    monkeypatch.setattr("fishersft.numerics.stored._CHUNK_ELEMENTS", 3)
    with pytest.raises(InputError, match=message):
        blocks.check_finite()


@pytest.mark.parametrize("bad", [float("inf"), -float("inf"), 1e200, -1e200])
def test_check_finite_refuses_what_is_infinite_or_too_large(bad: float, tmp_path: Path) -> None:
    shard = a_shard([2, 2], dtype=torch.float64)
    shard.values[0, 2] = bad
    with pytest.raises(InputError, match="token block 0 "):
        StoredBlocks(write([shard], tmp_path), AMPLE).check_finite()


def test_an_index_out_of_range_is_refused(tmp_path: Path) -> None:
    blocks = StoredBlocks(write([a_shard([2, 2])], tmp_path), AMPLE)
    for indices, wrong in (([0, 2], 2), ([1, -1], -1)):
        with pytest.raises(IndexError, match=f"from 0 to 1; there is no {wrong}"):
            blocks.rows_of(np.array(indices))


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    (path,) = write([a_shard([20, 20])], tmp_path)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(InputError, match=r"shard-0.*cut short"):
        StoredBlocks([path], AMPLE)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 400)


def write_anew(path: Path) -> None:
    (other,) = write([a_shard([20, 20], seed=1)], path.parent)
    os.utime(other, ns=(1, 1))


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    other.replace(path)


@pytest.mark.parametrize("change", [cut_short, write_anew, replace, Path.unlink])
def test_a_file_that_changes_while_it_is_in_use_is_noticed(change: Callable[[Path], None], tmp_path: Path) -> None:
    (path,) = write([a_shard([20, 20])], tmp_path)
    blocks = StoredBlocks([path], AMPLE)
    assert len(blocks[0]) == 20
    change(path)
    with pytest.raises(InputError, match=r"shard-0.*(was changed or cut short|can no longer be read)"):
        blocks[1]


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"values": torch.zeros(2, 3)}, r"expected tensors values .* found \['values'\]"),
        ({"values": torch.zeros(2), "offsets": torch.tensor([0, 2])}, r"shape \(tokens, dim\), found \(2,\)"),
        ({"values": torch.zeros(2, 0), "offsets": torch.tensor([0, 2])}, r"shape \(tokens, dim\), found \(2, 0\)"),
        ({"values": torch.zeros(2, 3).int(), "offsets": torch.tensor([0, 2])}, "one of F16, .* found I32"),
        ({"values": torch.zeros(2, 3), "offsets": torch.tensor([0.0, 2.0])}, "expected int64 offsets"),
        ({"values": torch.zeros(2, 3), "offsets": torch.zeros(0, dtype=torch.int64)}, "expected int64 offsets"),
        ({"values": torch.zeros(2, 3), "offsets": torch.tensor([0, 1])}, "number of tokens, 2; they go from 0 to 1"),
        ({"values": torch.zeros(2, 3), "offsets": torch.tensor([0, 2, 1, 2])}, "fall in between"),
        ({"values": torch.zeros(2, 4), "offsets": torch.tensor([0, 2])}, r"dim 4 .* has dim 3"),
        ({"values": torch.zeros(2, 3).half(), "offsets": torch.tensor([0, 2])}, r"float16, .* torch.float32"),
    ],
)
def test_files_that_do_not_fit_are_refused_by_name(
    tensors: dict[str, torch.Tensor], message: str, tmp_path: Path
) -> None:
    good, bad = *write([a_shard([1])], tmp_path), tmp_path / "bad.safetensors"
    save_file(tensors, bad)
    with pytest.raises(InputError, match=rf"bad\.safetensors: .*{message}"):
        StoredBlocks([good, bad], AMPLE)


def test_what_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a line of text, and no tensors")
    for path, message in [("text", "no safetensors file"), ("missing", "cannot be read"), ("", "cannot be read")]:
        with pytest.raises(InputError, match=message):
            StoredBlocks([tmp_path / path], AMPLE)
    with pytest.raises(InputError, match="give at least one"):
        StoredBlocks([], AMPLE)


def test_memory_for_less_than_the_records_is_refused(tmp_path: Path) -> None:
    files = write([a_shard([2] * 100)], tmp_path)
    least = memory_for(0, StoredBlocks(files, AMPLE))
    assert len(StoredBlocks(files, least)[5]) == 2
    records = records_of(StoredBlocks(files, AMPLE))
    with pytest.raises(InputError, match=f"offsets and records alone take {records:,}"):
        StoredBlocks(files, least - 3)
