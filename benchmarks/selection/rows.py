"""The rows of the table: which work, on what size, against what, and what is to be reached."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.selection import competitors, growth, published
from benchmarks.selection.gpu import select_on_gpu
from benchmarks.selection.measure import Measured, in_fresh_process
from benchmarks.selection.ours import select_from, select_from_files
from benchmarks.selection.pools import (
    embed_speeches,
    single_vectors,
    stored_blocks_of,
    synthetic_blocks,
    write_shards,
)
from benchmarks.selection.table import Row, agreement
from fishersft.numerics import TokenBlocks

_GIB = 2**30


@dataclass(frozen=True)
class Sizes:
    """How large each row is."""

    sentences: int
    sentence_dim: int
    sentence_picks: int
    published_rounds: int
    pairs: tuple[int, ...]  # vectors against submodlib, whose kernel holds all pairs
    vectors: int
    vector_dim: int
    vector_picks: int
    stored: int
    stored_picks: int
    many: int
    many_dim: int
    many_picks: int
    gpu: int
    gpu_picks: int
    growth: growth.Size
    real: bool  # the sentences are Shakespeare's speeches, not synthetic


FULL = Sizes(
    sentences=3000, sentence_dim=576, sentence_picks=500, published_rounds=20,
    pairs=(5000, 10_000), vectors=100_000, vector_dim=128, vector_picks=200,
    stored=16_000, stored_picks=200, many=1_000_000, many_dim=64, many_picks=1000,
    gpu=1_000_000, gpu_picks=10_000, growth=growth.Size(2000, 50, 128, 16), real=True,
)  # fmt: skip
QUICK = Sizes(
    sentences=300, sentence_dim=64, sentence_picks=20, published_rounds=3,
    pairs=(300,), vectors=5000, vector_dim=16, vector_picks=20,
    stored=500, stored_picks=10, many=5000, many_dim=16, many_picks=20,
    gpu=2000, gpu_picks=20, growth=growth.Size(100, 5, 16, 4), real=False,
)  # fmt: skip


def published_rows(sizes: Sizes, store: str) -> list[Row]:
    """Real sentences: Algorithms 1 and 2 as published, an evaluation timed in the first rounds, times their number."""
    picks, rounds = sizes.sentence_picks, sizes.published_rounds
    pool: Callable[[], TokenBlocks]
    if sizes.real:
        files = in_fresh_process(embed_speeches, store, sizes.sentences)
        pool, what = partial(stored_blocks_of, files, sizes.sentences), "real"
    else:
        pool, what = partial(synthetic_blocks, sizes.sentences, sizes.sentence_dim), "synthetic"
    ours = in_fresh_process(select_from, pool, picks)
    dense = {
        "torch.linalg.slogdet": in_fresh_process(published.dense_by_torch, pool, rounds),
        "numpy.linalg.slogdet": in_fresh_process(published.dense_by_numpy, pool, rounds),
    }
    each = {name: run.seconds / run.facts["evaluations"] for name, run in dense.items()}
    best = min(each, key=lambda name: each[name])
    whole = in_fresh_process(published.replayed, pool, picks)
    evaluations = whole.facts["evaluations"]
    work = f"{sizes.sentences:,} {what} sentences, dim {sizes.sentence_dim}, {picks} picks"
    times = " and ".join(f"{1000 * seconds:.3g} ms with {name}" for name, seconds in each.items())
    timed = (
        f"Extrapolated: an evaluation takes {times} (means of the first {rounds} rounds of Algorithm 2); "
        "the faster counts"
    )
    naive = published.naive_evaluations(sizes.sentences, picks)
    return [
        _against(
            Row(
                work, ours.seconds, "Algorithm 2, as published", each[best] * evaluations,
                same_picks=f"{agreement(ours.picks, whole.picks)} (replayed)", memory=ours.memory,
                rival_memory=dense[best].memory,
                note=f"{timed}, times {evaluations:,} evaluations, counted by replaying its scan with gains by a "
                f"Cholesky factor. Ours: {ours.facts['evaluations']:,}.",
            ),
            100,
        ),
        _against(
            Row(
                work, ours.seconds, "Algorithm 1, as published", each[best] * naive,
                same_picks="not run", memory=ours.memory,
                note=f"{timed}, times the {naive:,} evaluations that it makes by definition.",
            ),
            2500,
        ),
    ]  # fmt: skip


def submodlib_rows(sizes: Sizes) -> list[Row]:
    """Single vectors: submodlib's lazy greedy on the same objective."""
    rows = []
    for count in sizes.pairs:
        work, rival = _vectors(count, sizes.vector_dim, sizes.vector_picks), "submodlib LogDeterminant, lazy"
        ours = _select_vectors(count, sizes.vector_dim, sizes.vector_picks)
        if not competitors.has_submodlib():
            why = "submodlib is not installed: pip install 'fishersft[baselines]' (x86-64, Python up to 3.12)."
            rows.append(Row(work, ours.seconds, rival, memory=ours.memory, note=why))
            continue
        its = in_fresh_process(competitors.submodlib_from, count, sizes.vector_dim, sizes.vector_picks)
        row = Row(
            work, ours.seconds, rival, its.seconds, [],
            agreement(ours.picks, its.picks), ours.memory, its.memory,
            note=f"From the vectors to the picks, the kernel of all pairs included; its search alone takes "
            f"{its.facts['search']:.2f} s, {its.facts['search'] / ours.seconds:,.1f} times ours.",
        )  # fmt: skip
        row = _against(row, 20)
        if ours.memory is not None and its.memory is not None:
            row.targets.append(("a tenth of its memory", ours.memory <= its.memory / 10))
        rows.append(row)
    return rows


def eager_rows(sizes: Sizes) -> list[Row]:
    """Single vectors: rank-one greedy in numpy, in the precision that is to be relied on, and in the faster one."""
    count, dim, picks = sizes.vectors, sizes.vector_dim, sizes.vector_picks
    ours = _select_vectors(count, dim, picks)
    table = []
    for dtype, note in (
        ("float64", "The precision in which its picks are to be relied on, as ours are in any."),
        ("float32", "Faster; nothing tells whether its rounding has changed a pick."),
    ):
        its = in_fresh_process(competitors.eager_from, count, dim, picks, dtype)
        row = Row(
            _vectors(count, dim, picks), ours.seconds, f"numpy, eager rank-one, {dtype}", its.seconds, [],
            agreement(ours.picks, its.picks), ours.memory, its.memory, note=note,
        )  # fmt: skip
        table.append(_against(row, 2))
    return table


def stored_rows(sizes: Sizes, scratch: Path) -> list[Row]:
    """Sentences in files, of which a quarter may be in memory, against all in memory."""
    work = f"{sizes.stored:,} synthetic sentences from disk, dim {sizes.sentence_dim}, {sizes.stored_picks} picks"
    if importlib.util.find_spec("fishersft.numerics.stored") is None:
        return [Row(work, note="This version of fishersft has no selection from disk.")]
    with TemporaryDirectory(dir=scratch) as folder:
        files = in_fresh_process(write_shards, sizes.stored, sizes.sentence_dim, 16, Path(folder))
        size = sum(file.stat().st_size for file in files)
        bound = size // 4
        in_memory = in_fresh_process(select_from, partial(stored_blocks_of, files, sizes.stored), sizes.stored_picks)
        ours = in_fresh_process(select_from_files, files, sizes.stored, bound, sizes.stored_picks)
    row = Row(
        work, ours.seconds, "the same in memory", in_memory.seconds,
        [("at most 2 times slower", ours.seconds <= 2 * in_memory.seconds)],
        agreement(ours.picks, in_memory.picks), ours.memory, in_memory.memory,
        note=f"{size / 2**20:,.0f} MiB of tokens, {bound / 2**20:,.0f} MiB allowed to the whole selection, "
        "cached tokens included; the file cache is emptied of them first. "
        "In memory: the tokens are there before the clock starts, and are not in its figure of memory.",
    )  # fmt: skip
    if ours.memory is not None:
        row.targets.append(("memory within the bound", ours.memory <= bound))
    return [row]


def many_rows(sizes: Sizes) -> list[Row]:
    """A million single vectors."""
    ours = _select_vectors(sizes.many, sizes.many_dim, sizes.many_picks)
    row = Row(_vectors(sizes.many, sizes.many_dim, sizes.many_picks), ours.seconds, memory=ours.memory)
    if ours.resident is not None:
        row.targets.append(("within 24 GiB", ours.resident <= 24 * _GIB))
    return [row]


def gpu_rows(sizes: Sizes) -> list[Row]:
    """A million sentences on a GPU, where there is one."""
    work = f"GPU: {sizes.gpu:,} sentences of about 30 tokens, dim 576, bfloat16, {sizes.gpu_picks:,} picks"
    if not torch.cuda.is_available():
        return [Row(work, note="No GPU here. On one: python -m benchmarks.selection.gpu")]
    ours = in_fresh_process(select_on_gpu, sizes.gpu, sizes.gpu_picks)
    facts = ours.facts
    note = (
        f"{facts['gpu']}: {facts['tflops']:.2f} TFLOP/s (evaluations x tokens x dim^2), "
        f"{facts['tflops'] / facts['limit_tflops']:.1%} of what a bfloat16 matrix product reaches there. "
        "Memory: the GPU's, data included."
    )
    return [Row(work, ours.seconds, targets=[("60 s", ours.seconds <= 60)], memory=facts["gpu_memory"], note=note)]


def growth_rows(sizes: Sizes, figure: Path) -> list[Row]:
    """The fitted exponents; draws the figure."""
    curves = growth.measured_curves(sizes.growth)
    growth.draw(curves, figure)
    base = sizes.growth
    note = (
        f"Synthetic: {base.sentences:,} sentences, {base.picks} picks, dim {base.dim}, {base.tokens} tokens a sentence "
        f"but for what is varied; the seconds are those of the largest; fitted to {len(growth.FACTORS)} points."
    )
    return [
        Row(
            f"growth with {curve.variable}, {curve.sizes[0]:,} to {curve.sizes[-1]:,}", curve.seconds[-1],
            ratio=f"{curve.variable}^{curve.exponent:.2f}", note=note,
        )
        for curve in curves
    ]  # fmt: skip


def _vectors(count: int, dim: int, picks: int) -> str:
    return f"{count:,} single vectors, dim {dim}, {picks:,} picks"


def _select_vectors(count: int, dim: int, picks: int) -> Measured:
    return in_fresh_process(select_from, partial(single_vectors, count, dim), picks)


def _against(row: Row, times: int) -> Row:
    """The row, with the target of being so many times faster."""
    assert row.seconds is not None and row.rival_seconds is not None
    row.targets.append((f"{times:,} times", row.rival_seconds >= times * row.seconds))
    return row
