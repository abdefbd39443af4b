"""One run, one table: `make bench-select`, or python -m benchmarks.selection.

python -m benchmarks.selection --quick     # every row small, in a minute or two: does it work?
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.selection import rows
from benchmarks.selection.table import Row, machine_facts, markdown, rich_table

FIGURE = "bench-select-growth.png"
STORE = Path("build/bench-store")
_WIDTH_IN_A_FILE = 160


def main(
    output: Annotated[Path, typer.Option(help="The table as Markdown; the figure goes beside it.")] = Path(
        "build/bench-select.md"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Every row small and synthetic: a trial run.")] = False,
) -> None:
    """Time fishersft.select beside its competitors and print the table."""
    os.environ["OMP_WAIT_POLICY"] = "passive"  # read by every process that is started from here
    output.parent.mkdir(parents=True, exist_ok=True)
    sizes = rows.QUICK if quick else rows.FULL
    sections: dict[str, Callable[[], list[Row]]] = {
        "Algorithms 1 and 2, as published": partial(rows.published_rows, sizes, str(STORE)),
        "submodlib": partial(rows.submodlib_rows, sizes),
        "numpy, eager rank-one": partial(rows.eager_rows, sizes),
        "from disk": partial(rows.stored_rows, sizes, output.parent),
        "many single vectors": partial(rows.many_rows, sizes),
        "GPU": partial(rows.gpu_rows, sizes),
        "growth": partial(rows.growth_rows, sizes, output.parent / FIGURE),
    }
    console = Console() if Console().is_terminal else Console(width=_WIDTH_IN_A_FILE)
    table: list[Row] = []
    for name, section in sections.items():
        with console.status(name):
            try:
                table += section()
            except BrokenProcessPool:
                table.append(Row(name, note="Its process was killed, most often for want of memory."))
    if quick:
        table = [replace(row, targets=[]) for row in table]  # they are for the full sizes
    console.print(rich_table(table))
    output.write_text(markdown(table, machine_facts(), FIGURE), encoding="utf-8")
    console.print(f"{output}, {output.parent / FIGURE}")


if __name__ == "__main__":
    typer.run(main)
