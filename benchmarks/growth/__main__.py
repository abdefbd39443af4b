"""What a growing corpus costs: `make bench-growth`, or python -m benchmarks.growth.

python -m benchmarks.growth --quick     # small sizes, in half a minute: does it work?
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.growth.changes import CHANGES, Anew, Change, Corpus, plays
from benchmarks.growth.scale import Checked, Listed, Planned, check, list_again, plan
from benchmarks.selection.measure import in_fresh_process
from benchmarks.selection.table import machine_facts

_SHARD_ROWS = 48
_SECONDS, _SECONDS_CHECKED, _MEMORY = 180, 120, 24 << 30  # the targets for a million rows


def main(
    output: Annotated[Path, typer.Option(help="The tables as Markdown.")] = Path("build/bench-growth.md"),
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: a trial run.")] = False,
) -> None:
    """Change a corpus in each way and count what is new; plan a large one; tokenise it; list one of many files."""
    rows, times, many_rows, many_files = (2000, 2, 20_000, 200) if quick else (10_000, 10, 1_000_000, 10_000)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        corpus = Corpus(plays(rows), _SHARD_ROWS, Path(scratch))
        results = [(change, [corpus.anew(change, random.Random(n)) for n in range(times)]) for change in CHANGES]
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        planned = in_fresh_process(plan, many_rows, Path(scratch))
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        checked = in_fresh_process(check, many_rows, Path(scratch))
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        listed = in_fresh_process(list_again, many_files, Path(scratch))
    text = "\n".join(
        [
            f"{rows:,} speeches of Shakespeare, a file a play, in {corpus.shards} shards (`shard_rows` {_SHARD_ROWS}). "
            f"Each change {times} times at random places, each time of the same corpus; the most and the mean of what "
            "would be embedded anew. Tokens are counted as words.",
            "",
            *_changes_table(results),
            "",
            *_scale_lines(planned, checked, listed),
            "",
            "; ".join(f"{name}: {value}" for name, value in machine_facts().items()) + ".",
        ]
    )
    output.write_text(text + "\n", encoding="utf-8")
    typer.echo(f"{text}\n\n{output}")


def _changes_table(results: list[tuple[Change, list[Anew]]]) -> list[str]:
    lines = [
        "| change | shards anew, most | share of tokens, most | mean | target | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for change, found in results:
        shares = [anew.share for anew in found]
        met = sum(change.is_met(anew) for anew in found)
        lines.append(
            f"| {change.name} | {max(anew.shards for anew in found)} | {max(shares):.2%} | "
            f"{sum(shares) / len(shares):.2%} | {change.target} | reached {met} of {len(found)} times |"
        )
    return lines


def _scale_lines(planned: Planned, checked: Checked, listed: Listed) -> list[str]:
    memory = "unknown" if planned.resident is None else f"{planned.resident / 2**30:.2f} GiB"
    in_time = planned.seconds <= _SECONDS
    in_memory = planned.resident is not None and planned.resident <= _MEMORY
    return [
        f"{planned.rows:,} rows ({planned.bytes_read / 2**20:,.0f} MiB of JSONL) read, sharded and saved as "
        f"{planned.shards:,} shards in {planned.seconds:.1f} s (target {_SECONDS}: {_word(in_time)}), at the peak "
        f"{memory} resident (target {_MEMORY >> 30} GiB: {_word(in_memory)}).",
        "",
        f"{checked.rows:,} short rows ({checked.tokens / checked.rows:.0f} loss tokens each) tokenised and checked in "
        f"{checked.seconds:.1f} s (target {_SECONDS_CHECKED}: {_word(checked.seconds <= _SECONDS_CHECKED)}), and in "
        f"{checked.seconds_again:.1f} s when nothing has changed.",
        "",
        f"{listed.files:,} files read in {listed.seconds_read:.1f} s; listed again unchanged in "
        f"{listed.seconds_listed:.1f} s, {listed.opened} of them opened.",
    ]


def _word(reached: bool) -> str:
    return "reached" if reached else "missed"


if __name__ == "__main__":
    typer.run(main)
