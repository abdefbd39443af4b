"""Times lazy greedy against Algorithms 1 and 2 as published, on synthetic token blocks, on the CPU.

    python benchmarks/selection.py                                  # 3,000 sentences, 500 picks: some minutes
    python benchmarks/selection.py --sentences 500 --picks 50 --dim 128

Lazy greedy runs in full. Algorithm 2 runs for the first picks only and is extrapolated: its first round plus
the mean of its later rounds. Algorithm 1 is extrapolated from the time of one evaluation in those picks: the
same work. The blocks imitate embeddings of a language model: half of their energy is in the mean
direction, the rest in a decaying spectrum, partly shared within a sentence.
"""

from __future__ import annotations

import time
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from fishersft.numerics import TokenBlocks, select
from fishersft.numerics.reference import paper_greedy


def main(
    sentences: Annotated[int, typer.Option(help="How many token blocks.")] = 3000,
    picks: Annotated[int, typer.Option(help="How many to choose.")] = 500,
    dim: Annotated[int, typer.Option(help="Of the embeddings.")] = 576,
    reference_picks: Annotated[int, typer.Option(help="Algorithm 2 is timed for so many.", min=2)] = 5,
) -> None:
    """Print a table of seconds, evaluations and ratios."""
    blocks = synthetic_blocks(sentences, dim)
    started = time.perf_counter()
    lazy = select(blocks, picks, device="cpu")
    lazy_seconds = time.perf_counter() - started

    marks = [time.perf_counter()]
    reference = paper_greedy(blocks, reference_picks, on_progress=lambda done, total: marks.append(time.perf_counter()))
    if reference.indices != lazy.indices[:reference_picks].tolist():
        raise SystemExit("the picks differ")
    later_round = (marks[-1] - marks[1]) / (reference_picks - 1)
    paper_seconds = marks[1] - marks[0] + later_round * (picks - 1)
    naive_evaluations = sum(sentences - k for k in range(picks))
    evaluation = (marks[-1] - marks[0]) / reference.evaluations
    paper_evaluations = round(paper_seconds / evaluation)
    naive_seconds = evaluation * naive_evaluations

    table = Table(
        "algorithm",
        "seconds",
        "evaluations",
        "times lazy",
        title=f"{sentences:,} sentences, {len(blocks.values):,} tokens, dim {dim}, {picks} picks, "
        f"{torch.get_num_threads()} threads",
        caption=f"* extrapolated from {reference_picks} picks of Algorithm 2, {marks[-1] - marks[0]:.1f} s; "
        "the picks so far are the same",
    )
    table.add_row("lazy", f"{lazy_seconds:,.1f}", f"{lazy.evaluations:,}", "1")
    for name, seconds, evaluations in (
        ("Algorithm 2 (paper) *", paper_seconds, paper_evaluations),
        ("Algorithm 1 (naive) *", naive_seconds, naive_evaluations),
    ):
        table.add_row(name, f"{seconds:,.0f}", f"{evaluations:,}", f"{seconds / lazy_seconds:,.0f}")
    Console().print(table)


def synthetic_blocks(sentences: int, dim: int) -> TokenBlocks:
    """Blocks of about 27 tokens, at most 64, float32, of mean norm 43."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.empty(sentences).log_normal_(3.0, 0.8, generator=generator).clamp(2, 64).long()
    spectrum = torch.arange(1, dim + 1) ** -0.5
    spectrum *= 30 / spectrum.norm()
    mean = torch.randn(dim, generator=generator) * 30 / dim**0.5
    topics = torch.randn(sentences, dim, generator=generator).repeat_interleave(lengths, 0)
    tokens = torch.randn(int(lengths.sum()), dim, generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    return TokenBlocks(mean + spectrum * (0.8 * tokens + 0.6 * topics), offsets)


if __name__ == "__main__":
    typer.run(main)
