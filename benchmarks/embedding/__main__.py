"""One run, one table: `make bench-embed`, or python -m benchmarks.embedding.

python -m benchmarks.embedding --sentences 60     # small, in a minute or two: does it work?
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.embedding import runs
from benchmarks.embedding.texts import speeches
from benchmarks.selection.measure import Measured, in_fresh_process
from benchmarks.selection.table import machine_facts

_ROUNDS = 2


def main(
    sentences: Annotated[int, typer.Option(help="How many of Shakespeare's speeches.")] = 1000,
    output: Annotated[Path, typer.Option(help="The table as Markdown.")] = Path("build/bench-embed.md"),
) -> None:
    """Time the extraction of embeddings beside the bare model and what people would write, and print the table."""
    os.environ["OMP_WAIT_POLICY"] = "passive"
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent) as scratch:
        lines = _lines(Path(scratch), sentences)
    facts = "; ".join(f"{name}: {value}" for name, value in machine_facts().items())
    text = "\n".join([*lines, "", f"{facts}.", ""])
    Console(width=160).print(text, markup=False)
    output.write_text(text, encoding="utf-8")


def _lines(scratch: Path, sentences: int) -> list[str]:
    texts = in_fresh_process(speeches, sentences)
    model = in_fresh_process(runs.prepared_model, scratch)
    jobs: dict[str, tuple[float | None, Callable[[], Measured]]] = {
        "ours": (None, partial(in_fresh_process, runs.ours, texts, scratch, "float32")),
        "the bare decoder at its best (the floor)": (0.9, partial(in_fresh_process, runs.floor, model, "float32")),
        "batches of 32 in corpus order": (1.5, partial(in_fresh_process, runs.in_corpus_order, texts, model)),
        "a plain loop, a sentence at a time": (3.0, partial(in_fresh_process, runs.one_at_a_time, texts, model)),
    }
    if importlib.util.find_spec("sentence_transformers") is not None:
        its = partial(in_fresh_process, runs.by_sentence_transformers, texts, model)
        jobs["sentence-transformers, token_embeddings"] = 1.3, its
    # in turns, so that a machine that is now faster, now slower, is so to all
    turns = [{name: job() for name, (_, job) in jobs.items()} for _ in range(_ROUNDS)]
    best = {name: max((turn[name] for turn in turns), key=_rate) for name in jobs}
    ours = best["ours"]
    rate = _rate(ours)
    lines = [
        f"{sentences:,} speeches of Shakespeare, at most {runs.MAX_TOKENS} tokens each, "
        f"{ours.facts['tokens']:,} in all, SmolLM2-135M, float32, the best of {_ROUNDS} turns: "
        f"`embed_shard`, artifacts written, {rate:,.0f} tokens/s.",
        "",
        "| beside | its tokens/s | ours is so many times as fast | target | |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for name, (target, _) in jobs.items():
        if target is not None:
            ratio = rate / _rate(best[name])
            lines.append(f"| {name} | {_rate(best[name]):,.0f} | {ratio:.2f} | {target} | {_met(ratio >= target)} |")
    floor = best["the bare decoder at its best (the floor)"]
    lines += ["", f"The floor's batch: {floor.facts['shape']}. {_where(ours)}"]
    lines += ["", *_bfloat16(scratch, texts, model, rate), "", _memory(scratch, texts, ours)]
    return lines


def _where(ours: Measured) -> str:
    spent = sorted(ours.facts["seconds"].items(), key=lambda item: -item[1])
    listed = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in spent)
    return f"Where {ours.seconds:.1f} s went (two threads, so they may overlap): {listed}."


def _bfloat16(scratch: Path, texts: list[str], model: Path, rate: float) -> list[str]:
    half = in_fresh_process(runs.ours, texts, scratch, "bfloat16")
    bare = in_fresh_process(runs.floor, model, "bfloat16")
    return [
        f"In bfloat16: {_rate(half):,.0f} tokens/s, {_rate(half) / rate:.2f} times float32's, and "
        f"{_rate(half) / bare.facts['tokens']:.2f} of the bare decoder's {bare.facts['tokens']:,.0f}."
    ]


def _memory(scratch: Path, texts: list[str], whole: Measured) -> str:
    tenth = in_fresh_process(runs.ours, texts[: len(texts) // 10], scratch, "float32")
    if tenth.memory is None or whole.memory is None:
        return "Memory: not told by this system."
    return (
        f"Memory beside the model at the peak: {tenth.memory / 2**20:,.0f} MiB for a tenth of the texts, "
        f"{whole.memory / 2**20:,.0f} MiB for all."
    )


def _rate(run: Measured) -> float:
    return run.facts["tokens"] / run.seconds


def _met(reached: bool) -> str:
    return "reached" if reached else "missed"


if __name__ == "__main__":
    typer.run(main)
