"""The table of the benchmark, on the terminal and as Markdown, with the facts of the machine."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from rich.table import Table

HEADINGS = ("work", "ours, s", "to beat", "its s", "times faster", "target", "same picks", "memory", "its memory")
_RIGHT = (1, 3, 4, 7, 8)
_GIB, _MIB = 2**30, 2**20


@dataclass(frozen=True)
class Row:
    """One piece of work, ours against another.

    Attributes:
        work: what is done.
        seconds: ours; None: not run, and `note` says why.
        rival: what is to beat.
        rival_seconds: its; None: nothing to compare with.
        targets: each a text and whether it was reached.
        same_picks: how far the picks agree.
        memory, rival_memory: bytes at the peak beyond imports and data.
        ratio: what stands in place of the quotient of the seconds.
        note: what a reader must know about how it was measured.
    """

    work: str
    seconds: float | None = None
    rival: str = ""
    rival_seconds: float | None = None
    targets: list[tuple[str, bool]] = field(default_factory=list)
    same_picks: str = ""
    memory: int | None = None
    rival_memory: int | None = None
    ratio: str = ""
    note: str = ""

    def cells(self, footnote: int | None) -> list[str]:
        """The row as text, one cell a heading."""
        quotient = None
        if self.seconds is not None and self.rival_seconds is not None:
            quotient = self.rival_seconds / self.seconds
        return [
            self.work + (f" [{footnote}]" if footnote else ""),
            _number(self.seconds),
            self.rival,
            _number(self.rival_seconds),
            self.ratio or _number(quotient),
            "; ".join(f"{text}: {'reached' if reached else 'missed'}" for text, reached in self.targets),
            self.same_picks,
            _bytes(self.memory),
            _bytes(self.rival_memory),
        ]


def agreement(ours: Sequence[int], theirs: Sequence[int]) -> str:
    """How far two lists of picks agree: in order, and else as sets. The shorter one counts.

    Example:
        >>> agreement([4, 2, 7], [4, 2]), agreement([4, 2, 7], [4, 7, 2])
        ('all 2', 'first 1 of 3; as sets 3')
    """
    length = min(len(ours), len(theirs))
    same = next((k for k in range(length) if ours[k] != theirs[k]), length)
    if same == length:
        return f"all {length:,}"
    return f"first {same:,} of {length:,}; as sets {len(set(ours[:length]) & set(theirs[:length])):,}"


def rich_table(rows: Sequence[Row]) -> Table:
    """The rows for the terminal; the notes below."""
    caption = "\n".join(_notes(rows))
    table = Table(title="fishersft.select, side by side", caption=caption, caption_justify="left", show_lines=True)
    for position, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if position in _RIGHT else "left")
    for row, footnote in zip(rows, _footnotes(rows), strict=True):
        table.add_row(*(cell.replace("[", r"\[") for cell in row.cells(footnote)))
    return table


def markdown(rows: Sequence[Row], facts: dict[str, str], growth_figure: str) -> str:
    """The same table, its notes, the machine, and a link to the figure, to be put into the docs."""
    lines = [" | ".join(HEADINGS), " | ".join("---:" if i in _RIGHT else "---" for i in range(len(HEADINGS)))]
    lines += [" | ".join(row.cells(footnote)) for row, footnote in zip(rows, _footnotes(rows), strict=True)]
    parts = ["\n".join(f"| {line} |" for line in lines)]
    parts += [note.replace("[", r"\[", 1) for note in _notes(rows)]
    parts.append("; ".join(f"{name}: {value}" for name, value in facts.items()) + ".")
    parts.append(f"![Seconds against sentences, picks, dim and tokens, with fitted powers]({growth_figure})")
    return "\n\n".join(parts) + "\n"


def machine_facts() -> dict[str, str]:
    """Date, processor, cores, threads, memory and versions."""
    packages = ("fishersft", "torch", "numpy", "submodlib-py")
    return {
        "date": str(datetime.date.today()),
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "torch threads": str(torch.get_num_threads()),
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
    } | {name: _version(name) for name in packages}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        if names:
            return names[0].split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _footnotes(rows: Sequence[Row]) -> list[int | None]:
    """The number of each row's note; rows with the same note share one."""
    numbers: dict[str, int] = {}
    for row in rows:
        if row.note:
            numbers.setdefault(row.note, len(numbers) + 1)
    return [numbers.get(row.note) for row in rows]


def _notes(rows: Sequence[Row]) -> list[str]:
    distinct = dict.fromkeys(row.note for row in rows if row.note)
    return [f"[{number}] {note}" for number, note in enumerate(distinct, start=1)]


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _bytes(value: int | None) -> str:
    if value is None:
        return "–"
    if value < _MIB:
        return "< 1 MiB"
    return f"{value / _GIB:.1f} GiB" if value >= _GIB else f"{value / _MIB:,.0f} MiB"
