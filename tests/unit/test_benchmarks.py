"""The selection benchmark: its competitors solve the same problem, and its table says what was measured."""

from __future__ import annotations

import doctest
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from benchmarks.selection import competitors, growth, pools, published, table
from benchmarks.selection.measure import in_fresh_process, measure
from benchmarks.selection.table import Row
from fishersft import select
from fishersft.numerics.greedy import Picks
from fishersft.numerics.reference import paper_greedy


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_numpy_competitor_makes_our_picks(dtype: str) -> None:
    vectors = pools.gaussian_vectors(400, 12)
    picks = competitors.eager_greedy(vectors.astype(dtype), 40)
    assert picks == select(pools.single_vectors(400, 12), 40, device="cpu").indices.tolist()


@pytest.mark.skipif(not competitors.has_submodlib(), reason="submodlib (the extra baselines) is not installed")
def test_submodlib_makes_our_picks() -> None:
    picks, _ = competitors.submodlib_greedy(pools.gaussian_vectors(100, 8), 10)
    assert picks == select(pools.single_vectors(100, 8), 10, device="cpu").indices.tolist()


def test_the_scans_that_are_timed_and_replayed_are_algorithm_2() -> None:
    blocks = pools.synthetic_blocks(60, 10, mean_tokens=4)
    reference = Picks(blocks.lengths.numpy(), blocks.dim, 12)
    paper_greedy(blocks, reference)
    arrays = [block.double().numpy() for block in blocks]
    expected = (list(reference.indices), reference.evaluations)
    assert published.algorithm_2(arrays, 12, published.DenseInformation(10)) == expected
    assert published.algorithm_2(list(blocks), 12, published.FactoredInformation(10)) == expected
    assert 60 < reference.evaluations < published.naive_evaluations(60, 12)


def test_synthetic_sentences_are_the_same_each_time_and_as_long_as_asked() -> None:
    blocks, again = pools.synthetic_blocks(2000, 8, mean_tokens=16), pools.synthetic_blocks(2000, 8, mean_tokens=16)
    assert blocks.values.equal(again.values) and blocks.offsets.equal(again.offsets)
    assert float(blocks.lengths.double().mean()) == pytest.approx(16, rel=0.1)
    assert int(blocks.lengths.min()) >= 1 and int(blocks.lengths.max()) <= 37
    assert float(pools.synthetic_blocks(300, 576).values.norm(dim=1).mean()) == pytest.approx(43, rel=0.1)


def test_shards_hold_the_synthetic_sentences_in_order(tmp_path: Path) -> None:
    files = pools.write_shards(10, 4, 3, tmp_path)
    blocks, whole = pools.stored_blocks_of(files, 10), pools.synthetic_blocks(10, 4)
    assert len(files) == 3
    assert blocks.values.equal(whole.values) and blocks.offsets.equal(whole.offsets)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux' /proc")
def test_the_peak_is_of_the_work_and_not_of_what_was_there_before() -> None:
    before = np.ones(8 << 20)  # 64 MiB
    _, idle = measure(lambda: None)
    _, busy = measure(lambda: np.ones(4 << 20).sum())  # 32 MiB, gone when it returns
    assert idle.memory is not None and idle.memory < 8 << 20
    assert busy.memory is not None and 30 << 20 < busy.memory < 48 << 20
    assert busy.resident is not None and busy.resident > busy.memory + before.nbytes // 2


def test_a_job_runs_in_another_process() -> None:
    assert in_fresh_process(published.naive_evaluations, 10, 3) == 27


def test_exponents_are_recovered_and_drawn(tmp_path: Path) -> None:
    base = growth.Size(100, 5, 16, 4)
    curves = [
        growth.Curve(name, base, [10, 20, 40, 80], [0.5 * size**power for size in (10, 20, 40, 80)])
        for name, power in (("sentences", 1.0), ("picks", 0.5), ("dim", 2.0), ("tokens", 0.0))
    ]
    assert [round(curve.exponent, 9) for curve in curves] == [1.0, 0.5, 2.0, 0.0]
    growth.draw(curves, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_states_ratios_targets_and_why_a_row_is_empty() -> None:
    rows = [
        Row(
            "work",
            2.0,
            "rival",
            300.0,
            [("100 times", True), ("a tenth", False)],
            "all 5",
            3 << 20,
            5 << 30,
            note="how",
        ),
        Row("more work", 0.5, ratio="dim^1.20", note="how"),
        Row("GPU", note="No GPU here."),
    ]
    text = table.markdown(rows, {"cores": "2"}, "growth.png")
    lines = text.splitlines()
    assert (
        lines[2]
        == "| work [1] | 2 | rival | 300 | 150 | 100 times: reached; a tenth: missed | all 5 | 3 MiB | 5.0 GiB |"
    )
    assert lines[3].startswith("| more work [1] | 0.5 |  | – | dim^1.20 |")
    assert lines[4].startswith("| GPU [2] | – |")
    assert text.count("how") == 1 and r"\[2] No GPU here." in text and "cores: 2." in text and "(growth.png)" in text
    assert {line.count("|") for line in lines[:5]} == {len(table.HEADINGS) + 1}
    assert table.rich_table(rows).row_count == 3


def test_the_machine_is_described() -> None:
    facts = table.machine_facts()
    assert all(facts.values()) and {"processor", "cores", "torch threads", "torch"} <= facts.keys()


@pytest.mark.parametrize("module", [growth, published, table])
def test_the_examples_in_the_docstrings_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0
