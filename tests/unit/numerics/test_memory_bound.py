"""A selection from disk keeps within the memory that it is given, whatever is asked of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fishersft.data.block_files import write_blocks
from fishersft.numerics import TokenBlocks

MEMORY = 64 << 20
PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
import torch
from fishersft.numerics import TokenBlocks, select
from fishersft.numerics.mapped import WeightedBlocks
from fishersft.numerics.stored import StoredBlocks

def resident(line):
    return int(Path("/proc/self/status").read_text().split(line + ":")[1].split()[0]) * 1024

torch.set_num_threads(2)
file, memory, options = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
blocks = StoredBlocks([file], memory)
small = np.random.default_rng(0).normal(size=(40, 3, blocks.dim))
for name in ("target", "already_selected"):
    if name in options:
        options[name] = list(small[:options[name]])
weighted = options.pop("weighted", False)
select(list(small), 2, **options)  # what libraries load at their first use
before = resident("VmRSS")
blocks = StoredBlocks([file], memory)
if weighted:
    blocks = WeightedBlocks(blocks, torch.full((int(blocks.offsets[-1]),), 0.5))
Path("/proc/self/clear_refs").write_text("5")
chosen = select(blocks, 3, **options)
print(json.dumps([resident("VmHWM") - before, len(chosen)]))
"""
CASES = {
    "plain": (576, {}),
    "short rows": (16, {}),
    "weighted": (576, {"weighted": True}),
    "towards a target": (576, {"criterion": "v-optimal", "target": 9}),
    "extending, with the tighter proof": (576, {"already_selected": 9, "certificate": "frank-wolfe"}),
    "projected": (576, {"project_to": 128}),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """By dim, files of twice the memory, in blocks of 30 tokens."""
    folder, files = tmp_path_factory.mktemp("blocks"), {}
    for dim in (16, 576):
        rows = 2 * MEMORY // (4 * dim)
        values = torch.randn(rows, dim, generator=torch.Generator().manual_seed(dim))
        files[dim] = folder / f"{dim}.safetensors"
        write_blocks(TokenBlocks(values, torch.cat([torch.arange(0, rows, 30), torch.tensor([rows])])), files[dim])
    return files


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("case", CASES)
def test_a_selection_from_disk_keeps_within_its_memory(files: dict[int, Path], case: str) -> None:
    dim, options = CASES[case]
    command = [sys.executable, "-c", PROGRAM, str(files[dim]), str(MEMORY), json.dumps(options)]
    peak, picks = json.loads(subprocess.check_output(command, text=True))
    assert picks == 3
    assert peak <= MEMORY
